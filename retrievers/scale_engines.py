"""What each backend takes on each machine: memory, disk, GPUs, limits, and the reasons for which it does not fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from unabridged.errors import ResourceError, UsageError
from unabridged.index.backends.recipes import EngineIndex, milvus_index, pgvector_index
from unabridged.index.dense.factory import Factory, parse
from unabridged.index.dense.gpu.driver import Gpu
from unabridged.index.dense.gpu.kinds import CPU, kind_of
from unabridged.index.dense.gpu.placement import room_on
from unabridged.index.dense.gpu.sizes import MARGIN, PINNED, device_bytes, temporary_bytes
from unabridged.index.recipe import Recipe, base_operations, choose_recipe, gpu_factories
from unabridged.retrievers.rates import PG_COPY, PG_HNSW, PG_HNSW_ROWS, Rate
from unabridged.retrievers.scale_question import GIB, Load, Question, Sum

PLENTY = 1 << 100
MOST_TRIED = 100_000
"""Machines, and GPUs of one machine are at most 64."""
MEMORY_SHARE = 0.8
"""Part of a machine's memory that vectors and indexes may take; the rest is the system's and that of queries."""
ENGINE_LIMIT = 16_384
"""Hits of one search in Milvus, and asked of PostgreSQL by this package."""
PG_WIDEST, PG_WIDEST_INDEX = 16_000, 4_000
PG_PAGE, PG_ROW, PG_NODE = 8_168, 24 + 4 + 72, 72 + 8 + 8
"""PostgreSQL: bytes of a page for rows; of a row beside its vector (header, pointer, keys, spans, id); of an hnsw
element and its list of neighbours beside vector and links."""
PG_TOAST = 2_032
"""Rows above this keep their vector elsewhere, in pieces of about 2,000 bytes."""
PG_WORK_MEMORY = 4 * GIB
MILVUS_WIDEST = 32_768
DISKANN_SHARE = 0.225
"""Of the raw vectors in memory: Milvus's defaults of 0.125 for codes and 0.1 for a cache (its documentation)."""
DISKANN_EDGES = 56


@dataclass(slots=True)
class Need:
    """What one backend takes, for ``machines`` machines."""

    machines: int
    sums: list[Sum] = field(default_factory=list)
    build_seconds: Sum | None = None
    limits: list[str] = field(default_factory=list)
    against: list[str] = field(default_factory=list)
    """Why it does not fit."""
    recipes: dict[str, Any] = field(default_factory=dict)
    assumptions: list[Sum] = field(default_factory=list)


def need_of(question: Question, load: Load, build: Rate) -> Need:
    """The need with the machines that were asked for, or with the fewest that fit."""
    one: Callable[[int], Need] = {
        "local": lambda count: folders(question, load, count, build),
        "shards": lambda count: folders(question, load, count, build),
        "gpu": lambda count: on_gpus(question, load, count, build),
        "milvus": lambda count: milvus(question, load, count),
        "pgvector": lambda count: pgvector(question, load),
    }[question.backend]
    if question.machines is not None or question.backend in ("local", "gpu", "pgvector"):
        return one(question.machines or 1)
    return fewest(one)


def fewest(one: Callable[[int], Need]) -> Need:
    """The need with the fewest machines that fit; with one machine, where no number does."""
    high = 1
    while high <= MOST_TRIED and one(high).against:
        high *= 2
    if high > MOST_TRIED:
        return one(1)
    low = high // 2  # does not fit, or is 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if one(middle).against else (low, middle)
    return one(high)


def folders(
    question: Question, load: Load, machines: int, build: Rate, recipes: Mapping[str, str] | None = None
) -> Need:
    """An index folder on each machine, over an equal part of the documents; ``recipes`` by set, where given."""
    need = Need(machines)
    ram = disk = operations = 0.0
    # Where every document is one segment both sets are the same vectors, and one index serves them.
    sets = {"segments": load.segments} if len(set(load.sets.values())) < len(load.sets) else load.sets
    for name, rows in sets.items():
        part = -(-rows // machines)
        recipe = _recipe(question, (recipes or {}).get(name, question.recipe), part, need)
        need.recipes[name] = recipe.as_json()
        ram = max(ram, recipe.build_ram)  # one after the other
        disk += max(recipe.build_disk, recipe.file_bytes)
        operations += 0.0 if recipe.is_flat else _operations(recipe)
        need.sums += _of_recipe(name, recipe, part)
        if not recipe.is_flat and recipe.file_bytes > MEMORY_SHARE * question.ram:
            need.limits.append(
                f"{name}: {_size(recipe.file_bytes)} of lists are more than a machine holds in memory: they "
                "are read from disk as queries visit them"
            )
    own = -(-load.folder_bytes // machines)
    need.sums += [
        Sum("memory to build", ram, "bytes per machine", "the larger of the sets: sample, centres, codes held"),
        Sum("disk", own + disk, "bytes per machine", f"folder {own:,} + approximate indexes {disk:,.0f}"),
    ]
    _check("memory", ram, question.ram, need)
    _check("disk", own + disk, question.disk, need)
    need.build_seconds = Sum(
        "building", operations / build.value, "seconds", f"{operations:,.3g} operations / {build.value:,.3g}/s"
    )
    if machines > 1:
        need.limits.append(
            f"every query is asked of {machines:,} folders and the hits are merged by score; beyond about four "
            "machines an engine that does this itself is less work"
        )
    return need


def on_gpus(question: Question, load: Load, machines: int, build: Rate) -> Need:
    """Vectors of one machine on its GPUs: the first kind, by falling recall, that fits the GPUs there are."""
    gpus = max(1, question.gpus)
    room = room_on([Gpu(0, "", (9, 0), question.vram, question.vram)], [])[0]
    reserved = temporary_bytes(question.vram) + MARGIN
    held, least, found = 0, 0, {}
    for name, rows in load.sets.items():
        tries = _on_gpu(rows, question.dim, gpus)
        found[name] = text, size = next((one for one in tries if held + one[1] <= room), tries[-1])
        least += min(size for _, size in tries) * gpus
        held += size
    # The file stays that of the CPU: it has the codes that the GPU holds.
    need = folders(question, load, machines, build, {name: text or "flat" for name, (text, _) in found.items()})
    if not question.gpus:
        need.against.append("backend gpu needs --gpus, found 0: give the number in the machine")
    need.sums += [
        Sum(
            "FAISS's own",
            reserved,
            "bytes per GPU",
            f"temporary {temporary_bytes(question.vram):,} + margin {MARGIN:,}",
        ),
        Sum("pinned memory", PINNED * gpus, "bytes per machine", f"{PINNED:,} x {gpus} GPUs"),
    ]
    for name, (text, size) in found.items():
        shown, rows = text or "Flat float16", load.sets[name]
        need.recipes[f"{name} on GPU"] = shown
        need.sums.append(Sum(f"{name} on GPU", size, "bytes per GPU", f"{rows:,} rows as {shown} over {gpus} GPUs"))
    need.sums.append(Sum("GPU memory", held + reserved, "bytes per GPU", "the sets + FAISS's own"))
    if held > room:
        wanted = -(-least // room) if room > 0 else 0
        more = (
            f"about {wanted:,} GPUs like this would hold the smallest kind" if wanted else "no such GPU holds anything"
        )
        need.against.append(
            f"the vectors take {_size(held)} of each GPU, and {_size(max(room, 0))} of {_size(question.vram)} are free "
            f"for them: {more}"
        )
    if question.k > 2_048:
        need.limits.append(
            f"k {question.k:,} is above 2,048, FAISS's limit on GPUs: such queries are searched on the CPU"
        )
    need.limits.append("at most 2,048 lists are visited by a query on a GPU; HNSW and RaBitQ stay on the CPU")
    return need


def _on_gpu(rows: int, dim: int, gpus: int) -> list[tuple[str, int]]:
    """Kinds by falling recall, each with its bytes on one of ``gpus`` that share the rows."""
    part, found = -(-rows // gpus), []
    for text in gpu_factories(rows, dim):
        factory = parse(text, dim) if text else None
        kind = kind_of(factory, dim)
        if kind.name != CPU:
            size = device_bytes(kind, factory, part, dim, float16=True)
            found.append((text, size))
    return found


def milvus(question: Question, load: Load, machines: int) -> Need:
    """A cluster of Milvus with ``machines`` query nodes; vectors are float32 there."""
    need = Need(machines)
    memory = disk = 0.0
    raw = 4 * question.dim
    for name, rows in load.sets.items():
        index = _asked(partial(milvus_index, question.recipe, rows, question.dim), need)
        need.recipes[name] = {"kind": index.kind, "build": dict(index.build), "search": dict(index.search)}
        per, how = _milvus_row(index, question.dim)
        nlist = index.build.get("nlist", 0)
        size = rows * per + 4.0 * question.dim * nlist
        held = DISKANN_SHARE * raw * rows if index.kind == "DISKANN" else size
        memory += held
        disk += size + rows * raw
        need.sums.append(Sum(f"{name} {index.kind}", size, "bytes", f"{rows:,} x {per:,.0f} ({how})"))
        if index.note:
            need.limits.append(index.note)
    usable = MEMORY_SHARE * question.ram
    need.sums += [
        Sum("memory of query nodes", memory, "bytes", "all indexes held in memory, one copy"),
        Sum("memory", memory / machines, "bytes per machine", f"/ {machines:,} query nodes"),
        Sum("object storage", disk, "bytes", "indexes + float32 vectors, before Milvus's own copies"),
        Sum(
            "folder",
            load.folder_bytes,
            "bytes",
            "the index folder stays: texts, spans and exact scores are read from it",
        ),
    ]
    _check("memory", memory / machines, usable, need)
    if question.dim > MILVUS_WIDEST:
        need.against.append(f"Milvus holds vectors up to {MILVUS_WIDEST:,} wide, these are {question.dim:,}")
    _hits(question, need, "Milvus")
    need.limits.append("Milvus Lite is one process, for up to about 100,000 vectors: this needs a server or a cluster")
    need.build_seconds = _loading(
        question,
        load,
        "no server of Milvus was measured: give --load-rows-per-second, as a load of some shards tells it",
    )
    return need


def _milvus_row(index: EngineIndex, dim: int) -> tuple[float, str]:
    links = index.build.get("M", 0)
    graph = 8 * links + 16
    return {
        "FLAT": (4.0 * dim, "4 x width"),
        "HNSW": (4.0 * dim + graph, f"4 x width + {graph} of links"),
        "HNSW_SQ": (dim + graph, f"width + {graph} of links"),
        "IVF_FLAT": (4.0 * dim + 8, "4 x width + 8"),
        "IVF_SQ8": (dim + 8.0, "width + 8"),
        "IVF_PQ": (index.build.get("m", dim / 8) + 8.0, "codes + 8"),
        "IVF_RABITQ": (dim / 8 + 16.0, "width / 8 + 16"),
        "DISKANN": (4.0 * dim + 4 * DISKANN_EDGES, f"4 x width + {4 * DISKANN_EDGES} of edges, on disk"),
        "GPU_CAGRA": (4.0 * dim + 256, "4 x width + 256 of edges"),
    }.get(index.kind, (4.0 * dim + 8, "4 x width + 8"))


def pgvector(question: Question, load: Load) -> Need:
    """One PostgreSQL server; vectors are half precision there."""
    need = Need(1)
    dim, tables, indexes, seconds = question.dim, 0.0, 0.0, 0.0
    for name, rows in load.sets.items():
        index = _asked(partial(pgvector_index, question.recipe, rows, dim, PG_WIDEST_INDEX), need)
        need.recipes[name] = {"kind": index.kind, "build": dict(index.build), "search": dict(index.search)}
        table, how = pg_table(rows, dim)
        size, what = pg_index(index, rows, dim)
        tables, indexes = tables + table, indexes + size
        need.sums += [
            Sum(f"{name} table", table, "bytes", how),
            Sum(f"{name} {index.kind}", size, "bytes", what),
        ]
        seconds += rows * dim / PG_COPY.value
        if index.kind == "hnsw":
            seconds += rows * dim / PG_HNSW.value * max(1.0, math.log(max(rows, 2)) / math.log(PG_HNSW_ROWS))
        if index.note:
            need.limits.append(index.note)
        if size > PG_WORK_MEMORY:
            need.limits.append(
                f"{name}: the index of {_size(size)} is above maintenance_work_mem ({_size(PG_WORK_MEMORY)}): the rest "
                "is linked on disk, many times slower than the time given"
            )
    need.sums += [
        Sum("memory", indexes, "bytes", "search indexes held by the system's cache"),
        Sum("disk", tables + indexes, "bytes", "tables + search indexes"),
        Sum(
            "folder",
            load.folder_bytes,
            "bytes",
            "the index folder stays: texts, spans and exact scores are read from it",
        ),
    ]
    _check("memory", indexes, MEMORY_SHARE * question.ram, need)
    _check("disk", tables + indexes, question.disk, need)
    if dim > PG_WIDEST:
        need.against.append(f"pgvector holds half-precision vectors up to {PG_WIDEST:,} wide, these are {dim:,}")
    elif dim > PG_WIDEST_INDEX:
        need.against.append(
            f"pgvector indexes half-precision vectors up to {PG_WIDEST_INDEX:,} wide (2,000 in full precision), these "
            f"are {dim:,}: every search would be a scan"
        )
    _hits(question, need, "the adapter for PostgreSQL")
    if question.k > 1_000:
        need.limits.append("above 1,000 hits hnsw.ef_search ends and the scan goes on iteratively")
    need.assumptions += [
        Sum("copying", PG_COPY.value, "numbers/s", PG_COPY.source),
        Sum("linking", PG_HNSW.value, "numbers/s", PG_HNSW.source),
    ]
    need.build_seconds = (
        Sum("loading", seconds, "seconds", "copying + linking, which slows with the logarithm of the rows")
        if question.load_rows_per_second is None
        else _loading(question, load, "")
    )
    return need


def pg_table(rows: int, dim: int) -> tuple[float, str]:
    """Bytes of a table with one half-precision vector in each row, in whole pages."""
    vector = 2 * dim + 8
    if PG_ROW + vector <= PG_TOAST:
        fitting = PG_PAGE // (PG_ROW + vector)
        return math.ceil(rows / fitting) * 8192.0, f"{fitting} rows of {PG_ROW + vector:,} bytes in a page of 8,192"
    pieces = math.ceil(vector / 1_996)
    per = PG_ROW + 24 + vector + pieces * 60
    return rows * per * 8192 / PG_PAGE, f"{rows:,} x {per:,} bytes, vectors in {pieces} pieces beside the rows"


def pg_index(index: EngineIndex, rows: int, dim: int) -> tuple[float, str]:
    """Bytes of a search index in whole pages, and why."""
    vector = 2 * dim + 8
    if index.kind == "hnsw":
        links = index.build.get("m", 16)
        node = PG_NODE + vector + 12 * links
        if node <= PG_PAGE:
            fitting = PG_PAGE // node
            return math.ceil(rows / fitting) * 8192.0, f"{fitting} nodes of {node:,} bytes in a page of 8,192"
        return rows * 2 * 8192.0, "one page for the vector and one for the links of a row"
    if index.kind == "ivfflat":
        fitting = max(1, PG_PAGE // (vector + 24))
        lists = index.build.get("lists", 1)
        return (
            math.ceil(rows / fitting) + lists
        ) * 8192.0, f"{fitting} rows in a page, and a page for each of {lists} lists"
    return 0.0, "no search index: an exact scan"


def _recipe(question: Question, name: str, rows: int, need: Need) -> Recipe:
    """The recipe for one set of a machine; where nothing fits, the smallest, with the reason."""

    def chosen(name: str, ram: int, disk: int) -> Recipe:
        return choose_recipe(
            name,
            n=rows,
            dim=question.dim,
            ram_bytes=ram,
            disk_bytes=disk,
            recall_target=question.recall_target,
        )

    try:
        return chosen(name, question.ram, question.disk)
    except ResourceError as error:
        need.against.append(str(error))
        return chosen("ivf-pq" if name == "auto" else name, PLENTY, PLENTY)


def _asked(ask: Callable[[], EngineIndex], need: Need) -> EngineIndex:
    """The engine's index; one that it does not have stands against the plan."""
    try:
        return ask()
    except UsageError as error:
        need.against.append(str(error))
        return EngineIndex("FLAT")


def _operations(recipe: Recipe) -> float:
    factory: Factory = parse(recipe.factory, recipe.dim)
    return base_operations(factory, recipe.rows, recipe.dim)


def _of_recipe(name: str, recipe: Recipe, rows: int) -> list[Sum]:
    text = recipe.factory or "exact scan of the stored vectors"
    how = f"{rows:,} rows as {text}: {recipe.bytes_per_vector:,.1f} bytes each"
    return [Sum(f"{name} index", recipe.file_bytes, "bytes per machine", how)]


def _check(what: str, value: float, room: float, need: Need) -> None:
    if value > room:
        need.against.append(f"{what}: {_size(value)} are needed, and a machine has {_size(room)} for it")


def _hits(question: Question, need: Need, who: str) -> None:
    if question.k > ENGINE_LIMIT:
        need.against.append(f"k is {question.k:,}, and {who} returns at most {ENGINE_LIMIT:,} hits")
    else:
        need.limits.append(f"{who} returns at most {ENGINE_LIMIT:,} hits of one search")


def _loading(question: Question, load: Load, why: str) -> Sum:
    rate = question.load_rows_per_second
    if rate is None:
        return Sum("loading", None, "seconds", why)
    return Sum("loading", load.rows / rate, "seconds", f"{load.rows:,} vectors / {rate:,g}/s")


def _size(count: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} PB"
