"""Building inverted files with a GPU: centres are found and rows are put into lists there, the file is the CPU's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unabridged.contracts import JSON, Floats, Rows
from unabridged.errors import UnabridgedError
from unabridged.index.dense._faiss import load_faiss
from unabridged.index.dense._kernels import as_metric, faiss_metric, wrapped
from unabridged.index.dense._lists import PieceWriter
from unabridged.index.dense.factory import Factory
from unabridged.index.dense.gpu import graph
from unabridged.index.dense.gpu.devices import Device, alone_on, device, held
from unabridged.index.dense.gpu.driver import Gpu
from unabridged.index.dense.gpu.kinds import CAGRA, CPU, Kind, kind_of
from unabridged.index.dense.gpu.lists import copying_options, flat_centres
from unabridged.index.dense.gpu.machine import find_machine, may_have_gpu, usable
from unabridged.index.dense.gpu.placement import SMALL_FLOATS, room_on
from unabridged.index.dense.gpu.request import DeviceRequest
from unabridged.index.dense.gpu.sizes import device_bytes

PIECE_BYTES = 1 << 30
"""Bytes of codes that a GPU collects before they are copied to the CPU and to disk: each piece costs a copy of every
list, and as much memory of the machine."""


@dataclass(frozen=True, slots=True)
class Help:
    """What a GPU does for one build; without ``on`` nothing, for ``reason``."""

    on: Device | None = None
    kind: Kind = Kind(CPU)  # noqa: RUF009 - frozen
    reason: str = ""
    dim: int = 0

    @property
    def adds(self) -> bool:
        """Whether rows are put into lists there; centres are found there in any case."""
        return self.on is not None and self.kind.name not in (CPU, CAGRA)

    @property
    def graphs(self) -> bool:
        """Whether the index is a graph that is built there."""
        return self.on is not None and self.kind.name == CAGRA

    def alone(self) -> AbstractContextManager[None]:
        """The GPU for the caller alone, as long as FAISS uses it from C++."""
        return nullcontext() if self.on is None else alone_on([self.on])

    def centres(self, dim: int, metric: int) -> Any:
        """An empty flat index to run k-means with, on the GPU."""
        faiss = load_faiss()
        if self.on is None:
            return faiss.IndexFlat(dim, metric)
        config = faiss.GpuIndexFlatConfig()
        config.device, config.useFloat16, config.use_cuvs = self.on.number, False, False
        with alone_on([self.on]):
            return faiss.GpuIndexFlat(self.on.resources, dim, metric, config)

    def as_facts(self) -> dict[str, JSON]:
        """What the GPU did, for the facts of the index."""
        if self.on is None:
            return {}
        facts = {"built_on": f"cuda:{self.on.number}"}
        if self.graphs:
            return {**facts, "graph": CAGRA}
        return facts if self.adds else {**facts, "built_on_reason": f"centres only: {self.kind.reason}"}

    def write_graph(self, chunks: Iterator[Floats], rows: int, plan: Factory, metric: str, path: Path) -> None:
        """A graph with as many edges for each row as the plan's has in its lowest layer, in the CPU's form."""
        faiss = load_faiss()
        if self.on is None:
            raise ValueError("there is no GPU to build a graph on")
        vectors, at = np.empty((rows, self.dim), np.float32), 0
        for chunk in chunks:
            vectors[at : at + len(chunk)] = chunk
            at += len(chunk)
        index = graph.built(vectors, faiss_metric(as_metric(metric)), 2 * plan.links, self.on)
        faiss.write_index(index, str(path))

    def writer(self, index: Any, folder: Path, piece_bytes: int) -> PieceWriter:
        """What puts the rows of a trained and empty ``index`` into lists, and writes them."""
        if self.on is None or not self.adds:
            return PieceWriter(index, folder, piece_bytes)
        return DevicePieceWriter(index, folder, max(piece_bytes, PIECE_BYTES), self.on, self.kind)


def help_for(request: DeviceRequest, plan: Factory, rows: int, dim: int) -> Help:
    """The GPU for a build of ``rows`` rows by ``plan``, or none and why: a decision by sizes, free memory and FAISS.

    Raises:
        MissingExtra, ResourceError, UsageError: a GPU was asked for by ``cuda`` and there is none that FAISS can use.
    """
    if request.kind == "cpu":
        return Help()
    if not request.is_forced and (rows * dim <= SMALL_FLOATS or not may_have_gpu()):
        return Help()
    machine = find_machine()
    try:
        gpus = usable(machine, request)
    except UnabridgedError:
        if request.is_forced:
            raise
        return Help()
    room = room_on(gpus, held())
    best = max(gpus, key=lambda gpu: room[gpu.number])
    # Graphs of CAGRA have another shape than those of HNSW, so they are built for whoever asks for a GPU.
    graph = CAGRA if plan.code == "Flat" and machine.cagra and request.is_forced else ""
    reason, kind = chosen(plan, rows, dim, best, room[best.number], cuvs=machine.cuvs, graph=graph)
    return Help(None, kind, reason, dim) if reason else Help(device(best.number), kind, "", dim)


def chosen(
    plan: Factory, rows: int, dim: int, gpu: Gpu, room: int, *, cuvs: bool = False, graph: str = ""
) -> tuple[str, Kind]:
    """Why ``gpu`` with ``room`` bytes for vectors is of no use for a build (empty: it is), and what it can hold.

    Inverted files of codes that a GPU does not have still find their centres there.
    """
    kind = kind_of(plan, dim, cuvs=cuvs, shared=gpu.shared, graph=graph)
    if kind.name == CAGRA:
        need = 2 * device_bytes(kind, plan, rows, dim, float16=False)  # the graph is twice as wide while it is built
        return _lacking(need, room), kind
    if not plan.nlist:
        return kind.reason or f"{plan.text} has no lists for a GPU to fill", Kind(CPU, kind.reason)
    need = 2 * (4 * dim * plan.nlist)
    if kind.name != CPU and plan.streams:
        row = max(1.0, plan.code_bytes(dim))
        need += device_bytes(kind, plan, min(rows, round(PIECE_BYTES / row)), dim, float16=False)
    else:
        kind = Kind(CPU, kind.reason or f"{plan.text} is written in one piece, from memory")
    return _lacking(need, room), kind


def _lacking(need: int, room: int) -> str:
    if need <= room:
        return ""
    return f"the build takes {need / 2**30:.1f} GiB of a GPU, and {max(room, 0) / 2**30:.1f} GiB are free for it"


class DevicePieceWriter(PieceWriter):
    """A :class:`PieceWriter` whose rows find their lists, and become codes, on a GPU."""

    def __init__(self, index: Any, folder: Path, piece_bytes: int, on: Device, kind: Kind) -> None:
        super().__init__(index, folder, piece_bytes)
        faiss = load_faiss()
        outer = wrapped(index)[0]
        self._rotation = outer.chain.at(0) if isinstance(outer, faiss.IndexPreTransform) else None
        self._on = on
        options = copying_options(faiss.GpuClonerOptions(), cuvs=kind.cuvs, half_tables=kind.half_tables)
        with flat_centres(self._ivf), alone_on([on]):
            self._moved = faiss.index_cpu_to_gpu(on.resources, on.number, self._ivf, options)

    @property
    def _held(self) -> int:
        return int(self._moved.ntotal)

    def _add(self, block: Floats, ids: Rows) -> None:
        with alone_on([self._on]):
            self._moved.add_with_ids(block if self._rotation is None else self._rotation.apply(block), ids)

    def _whole(self) -> Any:
        faiss = load_faiss()
        with alone_on([self._on]):
            return faiss.index_gpu_to_cpu(self._moved)  # owned; a downcast of it would outlive it

    def _empty(self) -> None:
        with alone_on([self._on]):
            self._moved.reset()
