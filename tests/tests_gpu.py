"""A stand-in for the GPU part of FAISS, for tests without a GPU: it records calls, and computes on the CPU.

What it refuses, a GPU index refuses too (limits, selectors, kinds, resources used by two threads at once), with errors
of the same words.  Float16 is rounded as on a GPU.  It is no part of the product.
"""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import faiss
import numpy as np
import pytest

from unabridged.index.dense.gpu import opening, training
from unabridged.index.dense.gpu.driver import Driver, Gpu
from unabridged.index.dense.gpu.machine import Machine
from unabridged.index.dense.gpu.sizes import GIB

LIMIT = 2_048
FULL = "StandardGpuResources: alloc fail type TemporaryMemoryOverflow (cudaMalloc error out of memory [2])"


class FakeGpus:
    """GPUs with ``free`` bytes each.  ``most`` queries fit into one call, ``room`` bytes of vectors on each GPU."""

    def __init__(self, *frees: int) -> None:
        self.gpus = tuple(Gpu(n, "Fake", (9, 0), 80 * GIB, free) for n, free in enumerate(frees))
        self.calls: list[tuple[Any, ...]] = []
        self.most: int | None = None
        self.room: int | None = None
        self.broken = ""
        self.busy: dict[int, bool] = {}
        self.overlaps = 0
        self.cuvs = False
        self._lock = threading.Lock()

    def said(self, name: str) -> list[tuple[Any, ...]]:
        """The calls of that name."""
        return [call for call in self.calls if call[0] == name]

    def machine(self) -> Machine:
        """What is found here."""
        words = {"GPU", "CUVS"} if self.cuvs else {"GPU"}
        return Machine(Driver(13_000, self.gpus), ("faiss-gpu",), frozenset(words), has_cagra=self.cuvs)

    def record(self, *call: Any) -> None:
        with self._lock:
            self.calls.append(call)

    def enter(self, numbers: tuple[int, ...]) -> None:
        with self._lock:
            self.overlaps += any(self.busy.get(number) for number in numbers)
            self.busy |= dict.fromkeys(numbers, True)

    def leave(self, numbers: tuple[int, ...]) -> None:
        with self._lock:
            self.busy |= dict.fromkeys(numbers, False)

    def searched(self, numbers: tuple[int, ...], queries: np.ndarray, k: int, probes: int = 1) -> None:
        """What every search checks first."""
        self.record("search", numbers, len(queries), k, probes)
        if self.broken:
            raise RuntimeError(self.broken)
        if not 0 < k <= LIMIT:
            raise RuntimeError(f"GPU index only supports min/max-K selection up to {LIMIT} (requested {k})")
        if not 0 < probes <= LIMIT:
            raise RuntimeError(f"GPU IVF index only supports nprobe selection up to {LIMIT} (requested {probes})")
        if self.most is not None and len(queries) > self.most:
            raise RuntimeError(FULL)


class Resources:
    """``StandardGpuResources``."""

    def __init__(self, gpus: FakeGpus) -> None:
        gpus.record("resources")


class Config(SimpleNamespace):
    """Any configuration or options: attributes that are set."""


class Flat(faiss.IndexFlat):
    """``GpuIndexFlat``: rounds to float16 where it is told to, and answers as FAISS on the CPU does.

    K-means in C++ sees the flat index that this is.
    """

    def __init__(self, gpus: FakeGpus, resources: Resources, dim: int, metric: int, config: Config) -> None:
        assert isinstance(resources, Resources)
        assert config.use_cuvs is False
        super().__init__(dim, metric)
        # FAISS guards its objects against new attributes
        self.__dict__ |= {"_gpus": gpus, "_half": config.useFloat16, "_number": config.device}
        gpus.record("flat", config.device, config.useFloat16)

    def _seen(self, x: np.ndarray) -> np.ndarray:
        return x.astype(np.float16).astype(np.float32) if self._half else x

    def add(self, x: np.ndarray) -> None:
        assert x.dtype == np.float32
        self._gpus.record("add", self._number, len(x))
        held = (self.ntotal + len(x)) * self.d * (2 if self._half else 4)
        if self._gpus.room is not None and held > self._gpus.room:
            raise RuntimeError(FULL)
        super().add(self._seen(x))

    def search(self, x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        self._gpus.enter((self._number,))
        try:
            assert k <= self.ntotal
            self._gpus.searched((self._number,), x, k)
            return super().search(self._seen(x), k)
        finally:
            self._gpus.leave((self._number,))


def copied(ivf: Any) -> Any:
    """A copy of an inverted file in memory, list by list, as it is copied to a GPU: mapped lists are only read."""
    lists, owned = ivf.invlists, ivf.own_invlists
    held = faiss.ArrayInvertedLists(ivf.nlist, ivf.code_size)
    for number in range(ivf.nlist):
        if size := lists.list_size(number):
            held.add_entries(number, size, lists.get_ids(number), lists.get_codes(number))
    ivf.own_invlists = False
    ivf.replace_invlists(held, False)
    try:
        return faiss.clone_index(ivf)  # owned; another name for it would not be
    finally:
        ivf.replace_invlists(lists, owned)


class Lists:
    """An inverted file on one GPU, or divided over several: a copy of the CPU's."""

    def __init__(self, gpus: FakeGpus, numbers: tuple[int, ...], index: Any, options: Config) -> None:
        inner = faiss.downcast_index(index)
        kinds = (faiss.IndexIVFFlat, faiss.IndexIVFPQ, faiss.IndexIVFScalarQuantizer)
        if not isinstance(inner, kinds) or not isinstance(faiss.downcast_index(inner.quantizer), faiss.IndexFlat):
            raise RuntimeError("This index type is not implemented on GPU.")
        if gpus.room is not None and inner.ntotal * inner.code_size / len(numbers) > gpus.room:
            raise RuntimeError(FULL)
        self._gpus, self._numbers = gpus, numbers
        self.index = copied(inner)
        gpus.record("lists", numbers, options.useFloat16, options.use_cuvs)

    @property
    def ntotal(self) -> int:
        return int(self.index.ntotal)

    def search(self, x: np.ndarray, k: int, params: Any = None) -> tuple[np.ndarray, np.ndarray]:
        self._gpus.enter(self._numbers)
        try:
            assert type(params) is faiss.SearchParametersIVF
            assert params.sel is None
            assert params.quantizer_params is None
            self._gpus.searched(self._numbers, x, k, params.nprobe)
            return self.index.search(x, k, params=params)
        finally:
            self._gpus.leave(self._numbers)

    def add_with_ids(self, x: np.ndarray, ids: np.ndarray) -> None:
        self._gpus.record("add_with_ids", self._numbers, len(x))
        if self._gpus.room is not None and (self.ntotal + len(x)) * self.index.code_size > self._gpus.room:
            raise RuntimeError(FULL)
        self.index.add_with_ids(x, ids)

    def reset(self) -> None:
        self._gpus.record("reset", self._numbers)
        self.index.reset()


class Cagra:
    """``GpuIndexCagra``: built once, from all vectors; its graph is that of the CPU's form."""

    def __init__(self, gpus: FakeGpus, resources: Resources, dim: int, metric: int, config: Config) -> None:
        assert isinstance(resources, Resources)
        assert config.intermediate_graph_degree >= config.graph_degree
        self._gpus, self._number = gpus, config.device
        self.index = faiss.IndexHNSWCagra(dim, config.graph_degree // 2, metric)
        gpus.record("cagra", config.device, config.graph_degree)

    @property
    def ntotal(self) -> int:
        return int(self.index.ntotal)

    def train(self, x: np.ndarray) -> None:
        assert self.ntotal == 0
        self.index.base_level_only = False
        self.index.add(x)
        self.index.base_level_only = True

    def search(self, x: np.ndarray, k: int, params: Any = None) -> tuple[np.ndarray, np.ndarray]:
        assert params.itopk_size >= k
        assert params.itopk_size % 32 == 0
        self._gpus.searched((self._number,), x, k)
        return self.index.search(x, k, params=faiss.SearchParametersHNSW(efSearch=params.itopk_size))


def graph_on(gpus: FakeGpus, resources: Resources, number: int, index: Any) -> Cagra:
    """A CPU graph of CAGRA on a GPU."""
    config = Config(device=number, graph_degree=64, intermediate_graph_degree=128)
    moved = Cagra(gpus, resources, index.d, index.metric_type, config)
    moved.index = faiss.clone_index(index)
    return moved


def install(monkeypatch: pytest.MonkeyPatch, gpus: FakeGpus) -> FakeGpus:
    """Puts the stand-in where FAISS's own classes and functions are, and its machine where the real one is found."""

    def to_gpu(resources: Resources, number: int, index: Any, options: Config) -> Any:
        assert isinstance(resources, Resources)
        if gpus.cuvs and isinstance(faiss.downcast_index(index), faiss.IndexHNSWCagra):
            return graph_on(gpus, resources, number, index)
        return Lists(gpus, (number,), index, options)

    def to_gpus(resources: list[Resources], index: Any, options: Config, numbers: list[int]) -> Lists:
        assert (options.shard, options.common_ivf_quantizer) == (True, False)
        assert len(resources) == len(numbers)
        return Lists(gpus, tuple(numbers), index, options)

    def to_cpu(index: Any) -> Any:
        gpus.record("to_cpu", index.ntotal)
        return index.index if isinstance(index, Cagra) else faiss.clone_index(index.index)

    for name, value in {
        "StandardGpuResources": lambda: Resources(gpus),
        "GpuIndexFlatConfig": Config,
        "GpuIndexCagraConfig": Config,
        "SearchParametersCagra": Config,
        "GpuIndexCagra": lambda *arguments: Cagra(gpus, *arguments),
        "GpuClonerOptions": Config,
        "GpuMultipleClonerOptions": Config,
        "GpuIndexFlat": lambda *arguments: Flat(gpus, *arguments),
        "index_cpu_to_gpu": to_gpu,
        "index_cpu_to_gpu_multiple_py": to_gpus,
        "index_gpu_to_cpu": to_cpu,
    }.items():
        monkeypatch.setattr(faiss, name, value, raising=False)
    for module in (opening, training):
        monkeypatch.setattr(module, "find_machine", gpus.machine)
        monkeypatch.setattr(module, "may_have_gpu", lambda: True)
    return gpus
