"""An approximate FAISS index over the first M rows, opened from a file and searched with settings per call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from unabridged.contracts import JSON, Floats, Hits, Mask, Rows
from unabridged.errors import ManifestMismatch, UsageError
from unabridged.index.dense._faiss import load_faiss, reading_at_most, team_for
from unabridged.index.dense._kernels import (
    Metric,
    as_metric,
    check_queries,
    faiss_metric,
    pack,
    rank,
    selector,
    wrapped,
)
from unabridged.index.dense.exact import check_allow
from unabridged.index.dense.factory import Factory, parse

KNOBS = ("nprobe", "efSearch", "k_factor")
"""Search settings: lists visited, nodes kept in sight, candidates per hit that are scored again."""


class Base(Protocol):
    """What a dense index asks for candidates: rows 0 to M - 1, wherever they lie."""

    dim: int
    metric: Metric
    settings: dict[str, int]
    scores_are_exact: bool
    """Whether candidates come with the scores of the stored vectors, and need not be scored again."""

    def __len__(self) -> int: ...

    @property
    def knobs(self) -> dict[str, int]:
        """The settings that act, with their upper limits."""

    def oversampling(self, params: Mapping[str, int] | None = None) -> int:
        """Candidates to ask for per hit, to be scored again by the caller."""

    def candidates(
        self, queries: Floats, k: int, allow: Mask | None = None, params: Mapping[str, int] | None = None
    ) -> Hits:
        """About the best ``k`` rows, (Q, up to k), in no order, for checked arguments."""

    def passed_over(self, queries: int, *, all_are_hits: bool) -> None:
        """Takes note that the caller scanned the allowed rows: all of them are hits, or there are few."""


class FaissBase:
    """Rows 0 to M - 1, searched approximately.  The shared index is never changed, so threads may share it."""

    scores_are_exact = False

    def __init__(self, index: Any, factory: Factory, search: Mapping[str, int]) -> None:
        faiss = load_faiss()
        self._index = index
        self._parts = wrapped(index)
        self._factory = factory
        self._rows = int(index.ntotal)
        self.dim = int(index.d)
        self.metric = Metric.IP if index.metric_type == faiss.METRIC_INNER_PRODUCT else Metric.L2
        self.settings = _checked_settings(search, {})
        lists = faiss.downcast_InvertedLists(self._parts[-1].invlists) if factory.nlist else None
        if isinstance(lists, faiss.OnDiskInvertedLists):
            lists.prefetch_nthread = 0  # 32 threads for every query otherwise: ten times the search itself

    @classmethod
    def open(cls, folder: Path, facts: Mapping[str, JSON], *, mmap: bool = True) -> FaissBase:
        """The base that ``build_base`` wrote into ``folder`` and described by ``facts``; lists and codes are mapped.

        Raises:
            ManifestMismatch: the file is absent, has another size than the facts (checked before it is
                mapped, since a short map kills the process), cannot be read, or holds another index.
        """
        faiss = load_faiss()
        path = folder / str(facts["file"])
        size = path.stat().st_size if path.is_file() else -1
        if size != facts["bytes"]:
            found = "no file" if size < 0 else f"{size:,} bytes"
            raise ManifestMismatch(f"{path}: found {found}, expected {facts['bytes']:,} bytes; rebuild the index")
        plan = parse(str(facts["factory"]), int(facts["dim"]))
        mapped = faiss.IO_FLAG_MMAP if plan.streams else faiss.IO_FLAG_MMAP_IFC
        # tables of nlist * M KiB that product quantizers would compute at every open: inner products need none
        flags = (mapped if mmap else 0) | faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE
        try:
            with reading_at_most(max(int(facts["bytes"]), 1 << 20)):
                index = faiss.read_index(str(path), flags)
        except RuntimeError as error:
            raise ManifestMismatch(f"{path} is not a FAISS index that can be read: {error}; rebuild it") from error
        metric = faiss_metric(as_metric(str(facts["metric"])))
        found_facts = (int(index.d), int(index.ntotal), int(index.metric_type))
        expected = (int(facts["dim"]), int(facts["rows"]), metric)
        if found_facts != expected:
            raise ManifestMismatch(f"{path}: found (dim, rows, metric) {found_facts}, expected {expected}; rebuild it")
        return cls(index, plan, facts["search"])

    def __len__(self) -> int:
        return self._rows

    @property
    def knobs(self) -> dict[str, int]:
        """The settings that act on this index, with their upper limits."""
        limits = {"nprobe": self._factory.nlist, "efSearch": len(self) if self._factory.links else 0}
        return {**{name: limit for name, limit in limits.items() if limit}, "k_factor": max(len(self), 1)}

    def oversampling(self, params: Mapping[str, int] | None = None) -> int:
        """Candidates to ask for per hit, to be scored again by the caller.

        Two where the index itself scores k_factor candidates again, with refined and still inexact codes.
        """
        settings = _checked_settings(self.settings, params or {})
        return 2 if self._factory.refine else settings.get("k_factor", 1)

    def passed_over(self, queries: int, *, all_are_hits: bool) -> None:
        """Nothing: what the caller did instead ran in the same place."""

    def search(
        self, queries: Floats, k: int, *, allow: Mask | None = None, params: Mapping[str, int] | None = None
    ) -> Hits:
        """About the best ``k`` rows, (Q, k), with the scores of the index's codes, among ``allow`` (M,).

        A query may get fewer than ``k`` rows though more exist: those in the lists or the part of the graph
        it visited.  ``params`` overrides settings for this call only.
        """
        floats = check_queries(queries, self.dim, k)
        hits = self.candidates(floats, int(k), check_allow(allow, len(self)), params)
        return rank(hits.rows, hits.scores, int(k))

    def candidates(
        self, queries: Floats, k: int, allow: Mask | None = None, params: Mapping[str, int] | None = None
    ) -> Hits:
        """As :meth:`search`, for checked arguments, in no order and with at most ``k`` columns."""
        possible = len(self) if allow is None else int(np.count_nonzero(allow))
        wanted = min(k, possible)
        if not wanted or not len(queries):
            return Hits(np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32))
        settings = _checked_settings(self.settings, params) if params else self.settings
        if allow is None or possible == len(self):
            return self._search_once(queries, wanted, settings, None)
        if self._selects:
            return self._search_once(queries, wanted, settings, allow)
        return self._search_and_drop(queries, wanted, settings, allow)

    @property
    def _selects(self) -> bool:
        """Whether the search itself can be told which rows are allowed."""
        plan = self._factory
        return bool(plan.nlist or plan.links) or not (plan.code == "PQ" or plan.fast_scan)

    def _search_once(self, queries: Floats, k: int, settings: Mapping[str, int], allow: Mask | None) -> Hits:
        bits = None if allow is None else pack(allow)
        chosen = None if bits is None else selector(bits)
        params = _parameters(self._parts, settings, chosen, k)
        with team_for(float(queries.size) * self._visited(settings)):
            scores, rows = self._index.search(queries, k, params=params)
        if self.metric is Metric.L2:
            np.negative(scores, out=scores)
        missing: Rows = rows < 0
        scores[missing] = -np.inf
        return Hits(rows, scores)

    def _visited(self, settings: Mapping[str, int]) -> float:
        """Rows that a query is compared with, about."""
        plan = self._factory
        if plan.links:
            return 32.0 * settings.get("efSearch", 64)
        if plan.nlist:
            return plan.nlist + self._rows * min(settings.get("nprobe", 1), plan.nlist) / plan.nlist
        return float(self._rows)

    def _search_and_drop(self, queries: Floats, k: int, settings: Mapping[str, int], allow: Mask) -> Hits:
        """For codes without selectors: asks for more and drops what is not allowed, until ``k`` are left."""
        ask = k
        while True:
            ask = min(4 * ask, len(self))
            hits = self._search_once(queries, ask, settings, None)
            good = (hits.rows >= 0) & allow[hits.rows]
            if ask == len(self) or bool((good.sum(axis=1) >= k).all()):
                rows, scores = np.where(good, hits.rows, -1), np.where(good, hits.scores, np.float32(-np.inf))
                return rank(rows, scores, k)


def _checked_settings(defaults: Mapping[str, int], changes: Mapping[str, int]) -> dict[str, int]:
    for name, value in changes.items():
        if name not in KNOBS or isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise UsageError(f"found search setting {name}={value!r}, expected a whole number >= 1 for one of {KNOBS}")
    return {name: int(value) for name, value in {**defaults, **changes}.items()}


def _parameters(parts: Sequence[Any], settings: Mapping[str, int], chosen: Any, k: int) -> Any:
    """Search parameters for this call, nested as the index is; None where the kind takes none."""
    faiss = load_faiss()
    part = parts[0]
    extra = {} if chosen is None else {"sel": chosen}
    if isinstance(part, faiss.IndexPreTransform):
        return faiss.SearchParametersPreTransform(index_params=_parameters(parts[1:], settings, chosen, k))
    if isinstance(part, faiss.IndexRefine):
        factor = max(1, min(settings.get("k_factor", 1), int(part.ntotal) // k))
        inner = _parameters(parts[1:], settings, chosen, k)
        return faiss.IndexRefineSearchParameters(k_factor=factor, base_index_params=inner)
    if isinstance(part, faiss.IndexIVF):
        probes = min(settings.get("nprobe", 1), int(part.nlist))
        if isinstance(faiss.downcast_index(part.quantizer), faiss.IndexHNSW):
            extra["quantizer_params"] = faiss.SearchParametersHNSW(efSearch=max(64, 2 * probes))
        return faiss.SearchParametersIVF(nprobe=probes, **extra)
    if isinstance(part, faiss.IndexHNSW):
        return faiss.SearchParametersHNSW(efSearch=max(settings.get("efSearch", 64), k), **extra)
    return faiss.SearchParameters(**extra) if extra else None
