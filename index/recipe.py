"""Which index suits how many vectors: a pure function of rows, width, memory and disk, with its sums shown."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from unabridged.contracts import JSON
from unabridged.errors import ResourceError, UsageError
from unabridged.index.dense.factory import Factory, parse

NAMES = ("auto", "flat", "hnsw", "ivf", "ivf-sq8", "ivf-pq", "rabitq")
"""Recipes by name; any factory string of :mod:`unabridged.index.dense.factory` may be given instead."""

FLAT_ROWS = 65_536
"""Up to here an exact scan takes milliseconds and needs no extra file."""

HNSW_LISTS = 16_384
"""From this many lists on, the nearest lists are found through a graph over their centres."""

GPU_FLAT_ROWS = 2_000_000
"""Up to here an exact scan on a GPU is fast enough to need no lists."""

GPU_SUBVECTORS = (96, 64, 48, 32)
"""Bytes per code of product quantizers to choose from on GPUs; fewer leave too little of a vector."""

LIST_ROUNDS = 10
"""Rounds of k-means over the lists' centres, as FAISS has it for inverted files."""

LINK_DISTANCES = 28_000
"""What linking one row of a graph of 32 links takes, in distances of a dense product (100,000 x 384)."""

ASSIGN_DISTANCES = 4_000
"""What finding a row's list through a graph over the centres takes, in the same."""

EXPECTED = {"flat": 1.0, "hnsw": 0.99, "ivf": 0.99, "ivf-sq8": 0.98, "rabitq": 0.95, "ivf-pq": 0.9}
"""Name -> recall at 10 to expect before anything is measured, candidates rescored with the stored vectors.
Rounded down from 30,000 x 384 clustered unit vectors; real embeddings are harder, so the builder measures."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One index, planned.  ``flat`` has no factory string and no file: the shards themselves are searched."""

    name: str
    factory: str
    rows: int
    dim: int
    search: Mapping[str, int] = field(default_factory=dict)
    """Search settings to start with: nprobe, efSearch, k_factor (candidates per hit that are rescored)."""
    bytes_per_vector: float = 0.0
    """Bytes of the index file per row, beside the stored vectors."""
    file_bytes: int = 0
    build_ram: int = 0
    """Bytes of memory that the build takes beyond the interpreter."""
    build_disk: int = 0
    """Bytes of disk that the build takes at its peak, pieces included."""
    train_points: int = 0
    expected_recall: float | None = None
    """Recall at 10 to expect before it is measured; None for a string that nobody has measured."""

    @property
    def is_flat(self) -> bool:
        """Whether there is nothing to build."""
        return not self.factory

    def as_json(self) -> dict[str, JSON]:
        """All fields, for a plan that is printed or stored."""
        return dataclasses.asdict(self)


def choose_recipe(
    name: str, *, n: int, dim: int, ram_bytes: int, disk_bytes: int, recall_target: float = 0.95
) -> Recipe:
    """The recipe of that ``name`` for ``n`` rows of width ``dim``, or for ``auto`` the best that fits.

    ``auto`` takes the first of a list ordered by falling expected recall that fits both memory and disk, so
    more memory never lowers the recall to expect.  A named recipe is given smaller variants, too, but never
    another kind.

    Raises:
        UsageError: an unknown name, a string that does not fit ``dim``, too few rows, or numbers out of range.
        ResourceError: nothing fits; the message has the smallest need.
    """
    if n < 0 or dim < 1 or not 0 < recall_target <= 1:
        raise UsageError(f"need n >= 0, dim >= 1 and 0 < recall_target <= 1, found {n}, {dim}, {recall_target}")
    if name == "flat" or name == "Flat" or (name == "auto" and n <= FLAT_ROWS):
        return Recipe("flat", "", n, dim, expected_recall=EXPECTED["flat"])
    candidates = list(_candidates(name, n, dim, recall_target))
    for recipe in candidates:
        if recipe.build_ram <= ram_bytes and recipe.build_disk <= disk_bytes:
            return recipe
    least = min(candidates, key=lambda recipe: recipe.build_ram)
    raise ResourceError(
        f"recipe {name!r} for {n:,} rows of width {dim} needs at least {least.build_ram:,} bytes of memory and "
        f"{least.build_disk:,} of disk, found {ram_bytes:,} and {disk_bytes:,}; "
        "'flat' needs neither and searches slower"
    )


def predicted_bytes(factory: str, rows: int, dim: int) -> int:
    """Size of the file that FAISS writes for a factory string (within 10 %)."""
    return parse(factory, dim).file_bytes(rows, dim)


def base_operations(factory: Factory, rows: int, dim: int) -> float:
    """Floating-point operations of training and filling, as dense products would do them in the same time."""
    width = factory.rotation if factory.rotation > 0 else dim
    if factory.links:
        return 2.0 * rows * LINK_DISTANCES * factory.links / 32 * dim
    points = factory.train_points(rows)
    assigned = ASSIGN_DISTANCES if factory.coarse_links else factory.nlist
    graph = LINK_DISTANCES * factory.coarse_links / 32 * factory.nlist
    codes = 25 * min(points, 65_536) * 2**factory.bits if factory.code == "PQ" else 0
    coded = rows * 2**factory.bits if factory.code == "PQ" else 0
    distances = LIST_ROUNDS * points * factory.nlist + rows * assigned + graph + codes + coded
    return 2.0 * distances * width


def gpu_factories(rows: int, dim: int) -> list[str]:
    """What to hold ``rows`` rows as on GPUs, in the order to try; the bytes of a row fall.

    Empty stands for flat float16 vectors.  They are exact after the stored vectors score the hits again, and up to two
    million rows a scan is fast; beyond, lists of the same precision come first.  Graphs, RaBitQ and fast-scan codes are
    not implemented on GPUs.
    """
    if rows < 256:
        return [""]
    lists = f"IVF{lists_for(rows)}"
    codes = [f"PQ{m}np" for m in GPU_SUBVECTORS if dim % m == 0 and dim <= 32 * m and dim >= 4 * m]
    first = [f"{lists},SQfp16"] if rows > GPU_FLAT_ROWS else []
    return [*first, "", f"{lists},SQ8", *(f"{lists},{code}" for code in codes)]


def lists_for(rows: int) -> int:
    """Lists of an inverted file: four times the root of the rows, and at least 30 rows for each."""
    return max(1, min(round(4 * math.sqrt(rows)), rows // 30))


def _candidates(name: str, n: int, dim: int, target: float) -> Iterator[Recipe]:
    """The recipes to try, in order; expected recall never rises along them."""
    if name not in NAMES:
        yield _plan(name, parse(name, dim), n, dim, target)
        return
    if name != "auto":
        kinds = [name]
    elif n <= 10_000_000:
        kinds = ["ivf", "ivf-sq8", "ivf-pq"]
    elif n <= 100_000_000:
        kinds = ["ivf-sq8", "ivf-pq"]
    else:
        kinds = ["rabitq", "ivf-pq"]
    for kind in kinds:
        for text in _texts(kind, n, dim):
            yield _plan(kind, parse(text, dim), n, dim, target)


def _texts(kind: str, n: int, dim: int) -> Iterator[str]:
    """Factory strings of one kind, the smaller variant with a quarter of the lists last."""
    if kind == "hnsw":
        yield "HNSW32"
        yield "HNSW16"
        return
    code = {"ivf": "SQfp16", "ivf-sq8": "SQ8", "ivf-pq": f"PQ{_subvectors(dim)}np", "rabitq": "RaBitQfs,Refine(SQ8)"}[
        kind
    ]
    lists = lists_for(n)
    for nlist in dict.fromkeys((lists, max(1, lists // 4))):
        coarse = "_HNSW32" if nlist >= HNSW_LISTS else ""
        yield f"IVF{nlist}{coarse},{code}"


def _subvectors(dim: int) -> int:
    """The largest divisor of the width that keeps at least eight dimensions per byte."""
    return max(m for m in range(1, max(dim // 8, 1) + 1) if dim % m == 0)


def _plan(name: str, factory: Factory, n: int, dim: int, target: float) -> Recipe:
    if n < factory.trained_on:
        raise UsageError(
            f"recipe {factory.text!r} learns from at least {factory.trained_on:,} rows, found {n:,}; "
            "use 'flat' for so few"
        )
    size = factory.file_bytes(n, dim)
    return Recipe(
        name=name if name in NAMES else factory.text,
        factory=factory.text,
        rows=n,
        dim=dim,
        search=_search_defaults(factory, target),
        bytes_per_vector=size / max(n, 1),
        file_bytes=size,
        build_ram=factory.build_ram(n, dim),
        build_disk=size * (2 if factory.streams else 1),
        train_points=factory.train_points(n),
        expected_recall=EXPECTED.get(name),
    )


def _search_defaults(factory: Factory, target: float) -> dict[str, int]:
    """Settings to start with; tuning on the user's own vectors replaces them."""
    settings: dict[str, int] = {}
    if factory.nlist:
        share = 64 if target <= 0.95 else 32 if target <= 0.99 else 16
        settings["nprobe"] = min(factory.nlist, max(8, round(factory.nlist / share)))
    if factory.links:
        settings["efSearch"] = 64 if target <= 0.95 else 128 if target <= 0.99 else 256
    bits = {"PQ": 8, "RaBitQ": 16 if factory.bits == 1 else 4, "SQ4": 4, "SQ6": 2, "SQ8": 2}
    settings["k_factor"] = 8 if factory.refine else bits.get(factory.code, 1)
    return settings
