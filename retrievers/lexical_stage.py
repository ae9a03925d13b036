"""BM25 retrieval over an opened index."""

from __future__ import annotations

import numpy as np

from unabridged.contracts import NO_HIT, Level, Mask
from unabridged.index.lexical.searcher import LexicalIndex
from unabridged.retrievers.ranking import Ranking, unpadded
from unabridged.retrievers.rows import RowMap


class LexicalStage:
    """Search by words over whole documents or over segments."""

    def __init__(self, rows: RowMap, index: LexicalIndex) -> None:
        self.rows, self.index = rows, index

    def rank(self, query: str, k: int, level: Level, allow: Mask | None) -> Ranking:
        """The ``k`` best documents, or segments for level ``segment``; ``allow`` is over documents."""
        granularity = Level.SEGMENT if level is Level.SEGMENT else Level.DOC
        hits = self.index.search([query], k, level=granularity, allow=allow)
        found, scores = unpadded(hits.rows[0], hits.scores[0])
        segments = found if granularity is Level.SEGMENT else np.full(len(found), NO_HIT, np.int64)
        return Ranking(found, scores, segments)
