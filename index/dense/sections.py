"""An approximate base that is searched in the memory of a few of its lists, whatever its size and the query."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from unabridged.contracts import JSON, NO_HIT, Floats, Hits, Mask, Rows
from unabridged.index.dense._faiss import load_faiss
from unabridged.index.dense._kernels import Metric
from unabridged.index.dense.base import FaissBase

SECTION_BYTES = 4 << 20
"""Bytes of an inverted file that are mapped at a time."""

PROBES = 1 << 15
"""Visits of a list by a query that are planned at a time, 12 bytes each and as much again for a section's part."""


class SectionedBase(FaissBase):
    """The hits of :class:`FaissBase`, for measuring: lists are visited section by section, by all queries at once.

    Maps count as memory of the process for as long as they are open, and queries that visit many lists touch most
    of the file.  So the file is opened anew for each section, and what a section found is merged.  Meant for
    hundreds of queries: each section costs an opening, whoever asks.  Kinds of index that are not mapped list by
    list are searched as ever.
    """

    def __init__(self, folder: Path, facts: Mapping[str, JSON]) -> None:
        opened = FaissBase.open(folder, facts)
        super().__init__(opened._index, opened._factory, opened.settings)
        self._place = (folder, facts)

    def _search_once(self, queries: Floats, k: int, settings: Mapping[str, int], allow: Mask | None) -> Hits:
        if not self._factory.streams or allow is not None:
            return super()._search_once(queries, k, settings, allow)
        step = max(1, PROBES // min(settings.get("nprobe", 1), self._factory.nlist))
        parts = [self._by_sections(queries[at : at + step], k, settings) for at in range(0, len(queries), step)]
        return Hits(np.concatenate([part.rows for part in parts]), np.concatenate([part.scores for part in parts]))

    def _by_sections(self, queries: Floats, k: int, settings: Mapping[str, int]) -> Hits:
        vectors, lists, distances = self._probes(queries, settings)
        rows = np.full((len(queries), 0), NO_HIT, np.int64)
        scores = np.zeros((len(queries), 0), np.float32)
        for first, last in self._sections():
            inside = (lists >= first) & (lists < last)
            if not inside.any():
                continue
            found = self._visit(vectors, k, np.where(inside, lists, -1), distances)
            rows, scores = np.hstack([rows, found.rows]), np.hstack([scores, found.scores])
            best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            rows, scores = np.take_along_axis(rows, best, 1), np.take_along_axis(scores, best, 1)
        return Hits(rows, scores)

    def _probes(self, queries: Floats, settings: Mapping[str, int]) -> tuple[Floats, Rows, Floats]:
        """The queries as the lists see them (Q, D'), the lists that each visits (Q, nprobe), and their distances."""
        faiss = load_faiss()
        ivf = self._parts[-1]
        vectors = queries if self._parts[0] is ivf else self._parts[0].chain.at(0).apply(queries)
        probes = min(settings.get("nprobe", 1), int(ivf.nlist))
        quantizer = faiss.downcast_index(ivf.quantizer)
        params = faiss.SearchParametersHNSW(efSearch=max(64, 2 * probes)) if self._factory.coarse_links else None
        distances, lists = quantizer.search(vectors, probes, params=params)
        return vectors, lists, distances

    def _visit(self, vectors: Floats, k: int, lists: Rows, distances: Floats) -> Hits:
        """What ``lists`` (Q, nprobe) hold, in a map that is given back; a list of -1 is left out."""
        opened = FaissBase.open(*self._place)
        ivf = opened._parts[-1]
        ivf.nprobe = lists.shape[1]
        scores, rows = ivf.search_preassigned(vectors, k, lists, distances)
        if self.metric is Metric.L2:
            np.negative(scores, out=scores)
        scores[rows < 0] = -np.inf
        return Hits(rows, scores)

    def _sections(self) -> Iterator[tuple[int, int]]:
        """Ranges of lists that fill a section, or one list that is larger."""
        lists = self._parts[-1].invlists
        row = int(lists.code_size) + 8
        ends = np.cumsum([lists.list_size(number) * row for number in range(int(lists.nlist))])
        cuts = [0]
        while cuts[-1] < len(ends):
            before = int(ends[cuts[-1] - 1]) if cuts[-1] else 0
            cuts.append(max(cuts[-1] + 1, int(np.searchsorted(ends, before + SECTION_BYTES, side="right"))))
        return itertools.pairwise(cuts)
