"""The queries of one search, put to a GPU together: alone each would use a small part of it.

What documents and segments are nearest is asked for all queries at once, in the very calls that a dense stage makes for
each of them; the stage then finds the answers here.  Another call (a deeper one, for a query whose nearest segments
belong to few documents) goes to the index itself.  Hits do not depend on the company of a query.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np

from unabridged.contracts import Floats, Hits, Level, Mask, Rows
from unabridged.index.dense.index import DenseIndex
from unabridged.retrievers.dense_stage import POOL, SEGMENTS_PER_DOCUMENT, DenseStage


class Answered(DenseIndex):
    """A dense index with the answers to one kind of call for Q queries at hand."""

    def __init__(self, index: DenseIndex, vectors: Floats, k: int, allow: Mask | None, *, complete: bool) -> None:
        super().__init__(index.base, index.exact)
        self.placement = index.placement
        self._index, self._call = index, (k, complete)
        unique, lines = np.unique(vectors, axis=0, return_index=True)
        self._lines = {unique[at].tobytes(): at for at in range(len(lines))}
        self._hits = index.search(unique, k, allow, complete=complete)

    def search(
        self,
        queries: Floats,
        k: int,
        allow: Mask | None = None,
        *,
        complete: bool = True,
        **rest: Any,
    ) -> Hits:
        """As :meth:`DenseIndex.search`, for the filter that the answers are for."""
        line = self._lines.get(queries[0].tobytes()) if len(queries) == 1 and not rest else None
        if line is None or (k, complete) != self._call:
            return self._index.search(queries, k, allow, complete=complete, **rest)
        return Hits(self._hits.rows[line : line + 1], self._hits.scores[line : line + 1])

    def score(self, query: Floats, rows: Rows) -> Floats:
        """As :meth:`DenseIndex.score`."""
        return self._index.score(query, rows)


def together(stage: DenseStage, vectors: Floats, k: int, level: Level, allow: Mask | None) -> DenseStage:
    """A stage that answers for the rows of ``vectors`` (Q, D) as ``stage`` does: ``k`` at ``level`` among ``allow``.

    Sets that no GPU holds are left as they are, and so is a stage for less than two queries.
    """
    if len(vectors) < 2 or not any(_on_gpu(index) for index in (stage.segments, stage.documents)):
        return stage
    segments, documents = stage.segments, stage.documents
    pool = max(POOL, k)
    if level is Level.SEGMENT:
        pool, documents = k, None
    if _on_gpu(segments):
        mask = None if allow is None else stage.rows.segment_mask(allow)
        depth = k if level is Level.SEGMENT else min(len(segments), pool * SEGMENTS_PER_DOCUMENT)
        complete = level is Level.SEGMENT or depth == len(segments)
        segments = Answered(segments, vectors, depth, mask, complete=complete)
    if _on_gpu(documents):
        documents = Answered(documents, vectors, k if segments is None else pool, allow, complete=True)
    return DenseStage(stage.rows, segments, stage.documents if documents is None else documents, stage.scoring)


def _on_gpu(index: object) -> TypeGuard[DenseIndex]:
    return isinstance(index, DenseIndex) and index.placement is not None and index.placement.on_gpu
