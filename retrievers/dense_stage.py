"""Dense retrieval over an opened index: segments by vector, documents by all of their segments.

Document ranking has two steps.  Candidates are the documents of the nearest segments and, where the index
keeps document vectors, the nearest documents.  Each candidate is then scored from *all* its segment
vectors, read exactly from the shards, so its score does not depend on how many of its segments happened
to be among the nearest, nor on an approximate index.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from unabridged.contracts import NO_HIT, Floats, Hits, Mask, Rows
from unabridged.retrievers.ranking import Ranking, ranked, unpadded
from unabridged.retrievers.rows import RowMap
from unabridged.retrievers.scoring import DocumentScoring, score_documents

POOL = 100
"""Candidate documents that are scored exactly, at least; as many as are asked for when that is more."""
SEGMENTS_PER_DOCUMENT = 4
"""Nearest segments fetched per wanted candidate at first; more when few documents own them all."""
GROWTH = 4


class Vectors(Protocol):
    """N stored vectors that can be searched: a :class:`~unabridged.index.dense.DenseIndex`, or an engine's."""

    def __len__(self) -> int: ...

    def search(self, queries: Floats, k: int, allow: Mask | None = None, *, complete: bool = True) -> Hits:
        """The best ``k`` rows, (Q, k), with exact scores."""

    def score(self, query: Floats, rows: Rows) -> Floats:
        """Exact scores (n,) of chosen rows."""


class DenseStage:
    """Search by vector.  ``segments`` or ``documents`` is None where the level of the index keeps none."""

    def __init__(
        self, rows: RowMap, segments: Vectors | None, documents: Vectors | None, scoring: DocumentScoring
    ) -> None:
        self.rows, self.segments, self.documents, self.scoring = rows, segments, documents, scoring

    def rank_segments(self, query: Floats, k: int, allow: Mask | None) -> Ranking:
        """The ``k`` nearest segments.  ``query`` is (D,); ``allow`` is over documents."""
        if self.segments is None:
            raise ValueError("the index keeps no segment vectors")
        hits = self.segments.search(query[None], k, None if allow is None else self.rows.segment_mask(allow))
        found, scores = unpadded(hits.rows[0], hits.scores[0])
        return Ranking(found, scores, found)

    def rank_documents(self, query: Floats, k: int, allow: Mask | None) -> Ranking:
        """The ``k`` best documents, each with its best segment."""
        pool = max(POOL, k)
        if self.segments is None:
            return self._by_document_vector(query, k, allow)
        found = self._owners_of_nearest(query, pool, allow)
        if self.documents is not None:
            nearest = self.documents.search(query[None], pool, allow)
            found = np.union1d(found, unpadded(nearest.rows[0], nearest.scores[0])[0])
        return self.score(query, found).top(k)

    def score(self, query: Floats, documents: Rows) -> Ranking:
        """All of ``documents`` ranked by their exact score."""
        if len(documents) == 0:
            return Ranking(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.int64))
        if self.segments is None:
            if self.documents is None:
                raise ValueError("the index keeps no vectors")
            scores = self.documents.score(query, documents)
            return ranked(documents, scores, np.full(len(documents), NO_HIT, np.int64))
        rows, offsets = self.rows.ranges(documents)
        similarities = self.segments.score(query, rows)
        whole = None if self.documents is None else self.documents.score(query, documents)
        scores, winners = score_documents(similarities, offsets, whole, self.scoring)
        return ranked(documents, scores, rows[winners])

    def _owners_of_nearest(self, query: Floats, wanted: int, allow: Mask | None) -> Rows:
        index = self.segments
        if index is None:
            raise ValueError("the index keeps no segment vectors")
        mask = None if allow is None else self.rows.segment_mask(allow)
        depth = min(len(index), wanted * SEGMENTS_PER_DOCUMENT)
        while True:
            hits: Hits = index.search(query[None], depth, mask, complete=depth == len(index))
            found, _ = unpadded(hits.rows[0], hits.scores[0])
            owners = self.rows.owners(found)
            first = np.sort(np.unique(owners, return_index=True)[1])
            if len(first) >= wanted or depth >= len(index) or len(first) >= self._possible(allow):
                return owners[first[:wanted]]
            depth = min(len(index), depth * GROWTH)

    def _possible(self, allow: Mask | None) -> int:
        """How many documents there are to find."""
        return self.rows.documents if allow is None else int(np.count_nonzero(allow))

    def _by_document_vector(self, query: Floats, k: int, allow: Mask | None) -> Ranking:
        if self.documents is None:
            raise ValueError("the index keeps no vectors")
        hits = self.documents.search(query[None], k, allow)
        found, scores = unpadded(hits.rows[0], hits.scores[0])
        return Ranking(found, scores, np.full(len(found), NO_HIT, np.int64))
