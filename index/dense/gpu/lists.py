"""Inverted files and graphs on GPUs: the CPU's index, copied; the CPU's own stays open for what a GPU refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from unabridged.contracts import NO_HIT, Floats, Hits, Mask
from unabridged.index.dense._faiss import load_faiss
from unabridged.index.dense._kernels import wrapped
from unabridged.index.dense.base import FaissBase
from unabridged.index.dense.gpu import graph
from unabridged.index.dense.gpu.copies import Copies, as_hits
from unabridged.index.dense.gpu.devices import Device, alone_on, device
from unabridged.index.dense.gpu.kinds import ALL_ARE_HITS, CAGRA, EXTRA, FEW_ALLOWED, FULL, GONE, refusal, to_ask
from unabridged.index.dense.gpu.memory import Batches, DeviceFull
from unabridged.index.dense.gpu.placement import REPLICATED, SHARDED, Placement
from unabridged.index.dense.gpu.trail import Trail

BY_NUMBER = 1
"""How FAISS divides lists over GPUs: by the rest of the row number, so that each has a part of every list."""


@dataclass(frozen=True, slots=True)
class ListsCopy:
    """An index on one device, or divided over several."""

    index: Any
    devices: tuple[Device, ...]
    higher: bool

    def search(self, queries: Floats, k: int, params: Any = None) -> Hits:
        """About the best ``k`` rows of each query, (Q, k)."""
        with alone_on(self.devices):
            scores, rows = self.index.search(queries, k, params=params)
        return as_hits(scores, rows, higher=self.higher)


def copy_to(index: Any, placement: Placement) -> Copies:
    """The inverted file or graph inside a CPU ``index``, on the devices of ``placement``.

    Raises:
        RuntimeError: FAISS could not allocate, or failed.
    """
    faiss = load_faiss()
    inner = wrapped(index)[-1]
    higher = inner.metric_type == faiss.METRIC_INNER_PRODUCT
    devices = [device(number) for number in placement.devices]
    with flat_centres(inner), alone_on(devices):
        if placement.spread == SHARDED:
            options = copying_options(
                faiss.GpuMultipleClonerOptions(), cuvs=placement.cuvs, half_tables=placement.half_tables
            )
            options.shard, options.shard_type = True, BY_NUMBER
            options.common_ivf_quantizer = False  # each GPU finds its lists itself, and none waits for another
            held = [one.resources for one in devices]
            moved = faiss.index_cpu_to_gpu_multiple_py(held, inner, options, list(placement.devices))
            return Copies([ListsCopy(moved, tuple(devices), higher)])
        # one by one: the replicas that FAISS makes of an index refuse search parameters
        options = copying_options(faiss.GpuClonerOptions(), cuvs=placement.cuvs, half_tables=placement.half_tables)
        chosen = devices if placement.spread == REPLICATED else devices[:1]
        made = [(faiss.index_cpu_to_gpu(one.resources, one.number, inner, options), one) for one in chosen]
        return Copies([ListsCopy(moved, (one,), higher) for moved, one in made])


def copying_options(options: Any, *, cuvs: bool, half_tables: bool) -> Any:
    """Copying options: 64-bit row numbers, and nothing rounded but the tables of codes that would not fit otherwise."""
    options.use_cuvs = cuvs
    options.useFloat16 = half_tables
    options.useFloat16CoarseQuantizer = False
    options.usePrecomputed = False
    return options


@contextmanager
def flat_centres(index: Any) -> Iterator[None]:
    """While the block runs, ``index`` finds its lists among flat centres: GPUs have no graph over them.

    The index must not be searched meanwhile.
    """
    faiss = load_faiss()
    centres = faiss.downcast_index(index.quantizer) if isinstance(index, faiss.IndexIVF) else None
    if not isinstance(centres, faiss.IndexHNSW):
        yield
        return
    owned, index.own_fields = index.own_fields, False
    index.quantizer = faiss.downcast_index(centres.storage)
    try:
        yield
    finally:
        index.quantizer = centres
        index.own_fields = owned


class DeviceLists(FaissBase):
    """The rows of a CPU base, searched on GPUs.  Calls that they cannot answer go to the CPU's, with the reason."""

    def __init__(self, base: FaissBase, copies: Copies, placement: Placement, trail: Trail) -> None:
        super().__init__(base._index, base._factory, base.settings)
        self.placement, self.trail = placement, trail
        self._copies = copies
        self._batches = Batches()

    def oversampling(self, params: Mapping[str, int] | None = None) -> int:
        """Candidates to ask for per hit.  Refined codes stay on the CPU: the stored vectors refine better."""
        return {**self.settings, **(params or {})}.get("k_factor", 1)

    def passed_over(self, queries: int, *, all_are_hits: bool) -> None:
        """Notes that the allowed rows were scanned on the CPU, and why."""
        self.trail.note(ALL_ARE_HITS if all_are_hits else FEW_ALLOWED, queries)

    def _search_once(self, queries: Floats, k: int, settings: Mapping[str, int], allow: Mask | None) -> Hits:
        allowed = len(self) if allow is None else int(np.count_nonzero(allow))
        ask = to_ask(k, allowed, len(self), spare=0 if allow is None else EXTRA)
        probes = min(settings.get("nprobe", 1), self._factory.nlist) if self._factory.nlist else 1
        why = refusal(self.placement.as_kind, ask, probes)
        if not why:
            try:
                return self._on_device(queries, k, ask, settings, allow)
            except DeviceFull:
                why = FULL
        self.trail.note(why, len(queries))
        return self._on_cpu(queries, k, settings, allow)

    def _on_device(self, queries: Floats, k: int, ask: int, settings: Mapping[str, int], allow: Mask | None) -> Hits:
        faiss = load_faiss()
        outer = self._parts[0]
        seen = outer.chain.at(0).apply(queries) if isinstance(outer, faiss.IndexPreTransform) else queries
        params = self._device_params(settings, ask)
        hits = self._batches.search(lambda part: self._copies.search(part, ask, params), seen)
        if allow is None:
            return hits
        full = hits.rows[:, -1] >= 0  # there was more to be had
        good = (hits.rows >= 0) & allow[hits.rows]
        found = Hits(np.where(good, hits.rows, NO_HIT), np.where(good, hits.scores, np.float32(-np.inf)))
        kept = _first(found, k)
        again = np.flatnonzero(full & (good.sum(axis=1) < k))
        if len(again):
            self.trail.note(GONE, len(again))
            more = self._on_cpu(queries[again], k, settings, allow)
            kept.rows[again], kept.scores[again] = more.rows, more.scores
        return kept

    def _device_params(self, settings: Mapping[str, int], k: int) -> Any:
        if self.placement.kind == CAGRA:
            return graph.search_params(settings.get("efSearch", 64), k)
        probes = min(settings.get("nprobe", 1), self._factory.nlist)
        return load_faiss().SearchParametersIVF(nprobe=probes)

    def _on_cpu(self, queries: Floats, k: int, settings: Mapping[str, int], allow: Mask | None) -> Hits:
        # as many candidates as hits: there were more asked for already
        settled = {**settings, "k_factor": 1} if self._factory.refine else settings
        return super()._search_once(queries, k, settled, allow)


def _first(hits: Hits, k: int) -> Hits:
    """The ``k`` highest scores of each line, in no order."""
    if hits.scores.shape[1] <= k:
        return hits
    keep = np.argpartition(-hits.scores, k - 1, axis=1)[:, :k]
    return Hits(np.take_along_axis(hits.rows, keep, 1), np.take_along_axis(hits.scores, keep, 1))
