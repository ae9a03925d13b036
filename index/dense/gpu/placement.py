"""Where a vector set is searched: a pure function of its sizes, the GPUs' free memory and what the user asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from unabridged.contracts import JSON
from unabridged.index.dense.factory import Factory
from unabridged.index.dense.gpu.driver import Gpu
from unabridged.index.dense.gpu.kinds import CPU, FLAT, IVF_FLAT, IVF_PQ, IVF_SQ, Kind, kind_of
from unabridged.index.dense.gpu.request import DeviceRequest
from unabridged.index.dense.gpu.sizes import LEAST_PART, MARGIN, PINNED, device_bytes, temporary_bytes

SMALL_FLOATS = 1 << 25
"""Numbers (87,000 rows of 384) up to which ``auto`` stays on the CPU: an exact scan takes milliseconds there, and
starting a GPU about a second."""
ONE, REPLICATED, SHARDED = "one", "replicated", "sharded"


@dataclass(frozen=True, slots=True)
class Load:
    """The set to place: ``rows`` of width ``dim``, stored as float16 or not; without ``factory`` the rows alone."""

    rows: int
    dim: int
    half: bool = False
    factory: Factory | None = None
    graph: str = ""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a set is searched.  ``devices`` is empty on the CPU; sizes are bytes."""

    kind: str
    devices: tuple[int, ...] = ()
    spread: str = ""
    """``one``, ``replicated`` (queries are divided), ``sharded`` (rows are divided); empty on the CPU."""
    float16: bool = False
    cuvs: bool = False
    half_tables: bool = False
    bytes_per_device: int = 0
    host_bytes: int = 0
    """Memory of the machine pinned for copies."""
    limit: int = 0
    """Most hits per query and lists visited on the device."""
    reason: str = ""
    """Why it is not what one would take with more memory, or another FAISS; empty: nothing better is known."""

    @property
    def on_gpu(self) -> bool:
        """Whether any GPU is used."""
        return bool(self.devices)

    @property
    def as_kind(self) -> Kind:
        """The kind of index on the device."""
        return Kind(self.kind, self.reason, self.cuvs, self.half_tables)

    def as_json(self) -> dict[str, JSON]:
        """Plain values."""
        return {**asdict(self), "devices": [f"cuda:{number}" for number in self.devices]}

    def __str__(self) -> str:
        """For people."""
        if not self.on_gpu:
            return "CPU" + (f" ({self.reason})" if self.reason else "")
        numbers = ",".join(map(str, self.devices))
        words = [self.kind, *(["float16" if self.float16 else "float32"] if self.kind == FLAT else [])]
        words += [self.spread] if self.spread != ONE else []
        size = f"{self.bytes_per_device / 2**30:.2f} GiB" + (" on each" if len(self.devices) > 1 else "")
        why = f" ({self.reason})" if self.reason else ""
        return f"cuda:{numbers} {' '.join(words)}, {size}{why}"


def on_cpu(reason: str) -> Placement:
    """The CPU, and why."""
    return Placement(CPU, reason=reason)


def placements(
    load: Load, gpus: Sequence[Gpu], request: DeviceRequest, *, cuvs: bool = False, held: Sequence[int] = ()
) -> list[Placement]:
    """The places to try, best first; the last one is the CPU.

    One GPU is taken where the set fits, several where it does not; where the user named several, all of them.  Flat
    vectors are float32 where those fit, then float16, unless they are stored as float16.  ``held``: the GPUs on which
    FAISS has its memory for intermediate results already.
    """
    if request.kind == "cpu":
        return [on_cpu("asked for")]
    if load.rows == 0:
        return [on_cpu("there are no vectors")]
    if request.kind == "auto" and load.rows * load.dim <= SMALL_FLOATS:
        return [on_cpu(f"auto: {load.rows:,} vectors are searched on the CPU in milliseconds")]
    if not gpus:
        return [on_cpu("there is no GPU that FAISS can use")]
    shared = min(gpu.shared for gpu in gpus)
    kind = kind_of(load.factory, load.dim, cuvs=cuvs, shared=shared, graph=load.graph)
    if kind.name == CPU:
        return [on_cpu(kind.reason)]
    found = list(_tries(load, kind, room_on(gpus, held), request))
    least = _need(load, kind, 1, half=_precisions(load, kind, request)[-1])
    return [*found, on_cpu(_no_room(load, gpus, least, found))]


def _no_room(load: Load, gpus: Sequence[Gpu], least: int, found: Sequence[Placement]) -> str:
    if found:
        return "the memory of the GPUs was full when the vectors came there"
    free = ", ".join(f"{gpu.free / 2**30:.1f}" for gpu in gpus)
    return (
        f"{load.rows:,} vectors of width {load.dim:,} take {least / 2**30:.1f} GiB, and beside what FAISS needs "
        f"itself that is more than the GPUs have free ({free} GiB)"
    )


def room_on(gpus: Sequence[Gpu], held: Sequence[int]) -> dict[int, int]:
    """Bytes for vectors on each GPU, the roomiest first."""
    room = {gpu.number: gpu.free - MARGIN - (0 if gpu.number in held else temporary_bytes(gpu.total)) for gpu in gpus}
    return dict(sorted(room.items(), key=lambda pair: (-pair[1], pair[0])))


def _precisions(load: Load, kind: Kind, request: DeviceRequest) -> list[bool]:
    """Whether flat vectors are float16, in the order to try; one entry for the other kinds."""
    if kind.name != FLAT:
        return [False]
    if request.precision:
        return [request.precision == "float16"]
    return [True] if load.half else [False, True]


def _need(load: Load, kind: Kind, count: int, *, half: bool) -> int:
    """Bytes on each of ``count`` devices that share the rows."""
    rows = -(-load.rows // count)
    return device_bytes(kind, load.factory, rows, load.dim, float16=half) + (LEAST_PART if kind.name == FLAT else 0)


def _tries(load: Load, kind: Kind, room: dict[int, int], request: DeviceRequest) -> Iterator[Placement]:
    """Everything that fits, best first: few devices before many, then float32 before float16."""
    numbers = list(room)
    halves = _precisions(load, kind, request)
    everywhere = len(numbers) > 1 and (len(request.numbers) > 1 or request.spread == "replicate")
    may_shard = len(numbers) > 1 and request.spread != "replicate" and kind.name in (FLAT, IVF_FLAT, IVF_SQ, IVF_PQ)
    if request.spread != "shard" or not may_shard:
        for half in halves:
            need = _need(load, kind, 1, half=half)
            fitting = [number for number in numbers if room[number] >= need]
            if everywhere and fitting == numbers:
                yield _placed(kind, sorted(numbers), REPLICATED, half, need)
            elif not everywhere and fitting:
                yield _placed(kind, fitting[:1], ONE, half, need)
    if may_shard:
        least = len(numbers) if len(request.numbers) > 1 or request.spread == "shard" else 2
        for count in range(least, len(numbers) + 1):
            for half in halves:
                need = _need(load, kind, count, half=half)
                if room[numbers[count - 1]] >= need:
                    yield _placed(kind, sorted(numbers[:count]), SHARDED, half, need)


def _placed(kind: Kind, numbers: Sequence[int], spread: str, half: bool, size: int) -> Placement:
    return Placement(
        kind.name,
        tuple(numbers),
        spread,
        half,
        cuvs=kind.cuvs,
        half_tables=kind.half_tables,
        bytes_per_device=size,
        host_bytes=PINNED * len(numbers),
        limit=kind.limit,
    )
