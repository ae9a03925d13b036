"""Lexical search over a list of immutable folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from unabridged.contracts import NO_HIT, Floats, Hits, Level, Mask
from unabridged.errors import ShapeError, UsageError
from unabridged.index.lexical.analyzer import Analyzer
from unabridged.index.lexical.collection import Collection
from unabridged.index.lexical.folder import LexicalFolder
from unabridged.index.lexical.scorer import Scorer
from unabridged.index.lexical.variants import Formula

CACHE_BYTES = 256 << 20
"""For the contributions of recent terms, per granularity: 16 bytes a posting, so 16 million postings."""


@dataclass(frozen=True, slots=True)
class LexicalStats:
    """What the living documents of an index amount to; ``vocabulary`` and ``postings`` count the dead too."""

    documents: int
    segments: int
    average_document: float  # terms
    average_segment: float  # terms
    vocabulary: int
    postings: int


class LexicalIndex:
    """BM25 over documents or over segments; documents and segments are numbered through the folders in order.

    Opening maps files and computes nothing.  An index never changes: after an addition or a deletion open
    another one, which costs milliseconds.  Threads may share it.
    """

    def __init__(
        self, folders: Sequence[LexicalFolder], analyzer: Analyzer, formula: Formula, alive: Mask | None
    ) -> None:
        documents = sum(folder.documents for folder in folders)
        self.analyzer = analyzer
        self.formula = formula
        self.documents = documents
        """Rows of documents, the dead included."""
        self.segments = sum(folder.segments for folder in folders)
        """Rows of segments, those of dead documents included."""
        self._folders = tuple(folders)
        if alive is not None:
            alive = None if _checked("alive_documents", alive, documents).all() else alive.copy()
        self._alive = alive

    @classmethod
    def open(
        cls,
        folders: Sequence[Path],
        analyzer: Analyzer,
        *,
        variant: str = "lucene",
        k1: float = 1.5,
        b: float = 0.75,
        delta: float | None = None,
        alive_documents: Mask | None = None,
    ) -> LexicalIndex:
        """Maps finished folders; N, lengths and document frequencies count only ``alive_documents``.

        Args:
            folders: In the order that numbers their documents.
            analyzer: The one they were written with.
            variant: Key of :data:`unabridged.index.lexical.VARIANTS`.
            k1: Saturation of the term frequency.
            b: Weight of the length.
            delta: Lower bound of the weight where the variant has one; None for its default.
            alive_documents: (N,) bool, or None where nothing was deleted.

        Raises:
            ManifestMismatch: a folder that is not whole, or was written with another analyzer.
            ShapeError: a mask of another length than the number of documents.
            UsageError: an unknown variant, or a constant out of range.
        """
        formula = Formula(variant, k1, b, delta)
        return cls([LexicalFolder.open(folder, analyzer) for folder in folders], analyzer, formula, alive_documents)

    def search(self, queries: Sequence[str], k: int, *, level: Level = Level.DOC, allow: Mask | None = None) -> Hits:
        """The best ``k`` rows (Q, K) of each query, higher is better, ties by ascending row.

        Rows are documents or segments, by ``level``; each granularity has its own statistics.  Rows without
        any term of the query are no hits, whatever ``k`` is.  A term that a query repeats counts as often.

        Args:
            queries: Texts.
            k: 1 or more; beyond the last hit stand NO_HIT and -inf.
            level: DOC or SEGMENT.
            allow: (N,) bool, per document also for segments: others are not returned.  Scores stay the same.
        """
        if k < 1:
            raise UsageError(f"k must be 1 or more, got {k}")
        if allow is not None:
            _checked("allow", allow, self.documents)
        scorer = self._scorer(level)
        rows = np.full((len(queries), k), NO_HIT, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        for q, query in enumerate(queries):
            found, values = scorer.search(self.analyzer.analyze(query), k, allow)
            rows[q, : len(found)], scores[q, : len(found)] = found, values
        return Hits(rows, scores)

    def segment_scores(self, query: str, document_row: int) -> Floats:
        """The scores (S,) of one document's segments, equal to those of a segment search; 0 without a match."""
        return self.segment_scores_of(query, [document_row])[0]

    def segment_scores_of(self, query: str, document_rows: Sequence[int]) -> list[Floats]:
        """:meth:`segment_scores` of several different documents, looking each term up once."""
        for row in document_rows:
            if not 0 <= row < self.documents:
                raise UsageError(f"document row must be 0 to {self.documents - 1}, got {row}")
        if not document_rows:
            return []
        return self._by_segment.within(self.analyzer.analyze(query), document_rows)

    @property
    def stats(self) -> LexicalStats:
        """Counts and averages."""
        documents, segments = self._by_document.collection, self._by_segment.collection
        return LexicalStats(
            documents.n,
            segments.n,
            documents.average if documents.n else 0.0,
            segments.average if segments.n else 0.0,
            documents.vocabulary(),
            sum(folder.postings for folder in self._folders),
        )

    def _scorer(self, level: Level) -> Scorer:
        if level is Level.BOTH:
            raise UsageError("lexical search ranks documents or segments: level must be doc or segment")
        return self._by_document if level is Level.DOC else self._by_segment

    @cached_property
    def _by_document(self) -> Scorer:
        return Scorer(Collection(self._folders, Level.DOC, self._alive), self.formula, CACHE_BYTES)

    @cached_property
    def _by_segment(self) -> Scorer:
        return Scorer(Collection(self._folders, Level.SEGMENT, self._alive), self.formula, CACHE_BYTES)


def _checked(name: str, mask: Mask, documents: int) -> Mask:
    if mask.dtype != np.bool_ or mask.shape != (documents,):
        raise ShapeError(f"{name} must be ({documents},) bool, got {mask.shape} {mask.dtype}")
    return mask
