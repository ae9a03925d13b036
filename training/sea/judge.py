"""How well held-out questions find their code among all candidates: mean reciprocal rank by an exact search.

Every candidate is split and aggregated by one rule, which knows nothing of what is right.

Letters::

    E questions     C candidates     S blocks of them, packed     H width of a vector
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import JSON, Floats, Rows
from unabridged.encoders.pooling import finish, mean_windows
from unabridged.encoders.sea.aggregators import Aggregator
from unabridged.errors import CorpusError
from unabridged.training.sea.blocks import BlockVectors
from unabridged.training.sea.data import PairTexts
from unabridged.training.shelf import rows_of

MEASURE = "MRR"
Embed = Callable[[Rows], Floats]
"""Numbers of texts ``(n,)`` to vectors ``(n, H)``, of any norm."""


@dataclass(frozen=True)
class Judge:
    """E questions among C candidates; :class:`CorpusError` if no question is held out."""

    data: PairTexts
    blocks: BlockVectors

    def __post_init__(self) -> None:
        if not len(self.data.held_queries):
            raise CorpusError("There is no held-out question to judge by.")

    @property
    def candidates(self) -> Rows:
        """Rows of the texts among which they are, ``(C,)``."""
        return self.data.candidates

    @cached_property
    def long(self) -> NDArray[np.bool_]:
        """Questions whose right answers all have more than one block, ``(E,)``."""
        counts = self.blocks.counts
        each = range(len(self.data.held_queries))
        return np.array([bool((counts[rows_of(self.data.held_positives, e)] > 1).all()) for e in each])

    def ranks(self, embed: Embed) -> NDArray[np.float64]:
        """1 / rank of the best right answer of each question, ``(E,)``; higher is better.

        Candidates are compared by cosine.  A wrong one with the same score is counted as before the right one.
        """
        asked, found = (
            finish(embed(rows), truncate_dim=None, normalize=True) for rows in (self.data.held_queries, self.candidates)
        )
        return self._ranks(asked @ found.T)

    def mean(self, ranks: NDArray[np.float64]) -> float:
        """MRR of the long questions; of all of them if there is no long one."""
        return float(ranks[self.long].mean() if self.long.any() else ranks.mean())

    def aggregated(self, aggregator: Aggregator) -> NDArray[np.float64]:
        """1 / rank with documents that ``aggregator`` makes of their blocks."""
        return self.ranks(lambda rows: self._aggregated(aggregator, rows))

    def baselines(self) -> dict[str, NDArray[np.float64]]:
        """1 / rank without any training: what an aggregator has to be better than.

        ``first block`` is what truncation reads, ``best block`` the largest score over a document's blocks, ``mean by
        tokens`` weighs a block by its tokens, as an encoder's own vector of a whole document does.
        """
        rows, offsets = self.blocks.rows(self.candidates)
        asked = np.asarray(self.blocks.vectors[self.blocks.offsets[self.data.held_queries]])
        each = asked @ np.asarray(self.blocks.vectors[rows]).T
        best = np.maximum.reduceat(each, offsets[:-1], axis=1)
        weights = np.maximum(self.blocks.tokens, 1)

        def by_tokens(texts: Rows) -> Floats:
            own, ends = self.blocks.rows(texts)
            return mean_windows(np.asarray(self.blocks.vectors[own]), ends, weights[own])

        return {
            "first block": self.ranks(lambda texts: np.asarray(self.blocks.vectors[self.blocks.offsets[texts]])),
            "best block": self._ranks(best),
            "mean of blocks": self.aggregated(Aggregator("mean")),
            "mean by tokens": self.ranks(by_tokens),
            "max of blocks": self.aggregated(Aggregator("max")),
        }

    @property
    def facts(self) -> dict[str, JSON]:
        """For reports."""
        return {
            "questions": len(self.data.held_queries),
            "long": int(self.long.sum()),
            "candidates": len(self.candidates),
            "blocks": int(self.blocks.counts[self.candidates].sum()),
        }

    def said(self, ranks: NDArray[np.float64]) -> Mapping[str, float]:
        """MRR of all questions and of the long ones."""
        return {"all": float(ranks.mean()), "long": self.mean(ranks)}

    def _aggregated(self, aggregator: Aggregator, texts: Rows) -> Floats:
        rows, offsets = self.blocks.rows(texts)
        return aggregator(np.asarray(self.blocks.vectors[rows]), offsets)

    def _ranks(self, scores: Floats) -> NDArray[np.float64]:
        """``scores`` ``(E, C)``."""
        found = np.zeros(len(scores))
        for e, own in enumerate(scores):
            columns = np.searchsorted(self.candidates, rows_of(self.data.held_positives, e))
            before = own >= own[columns].max()
            before[columns] = False
            found[e] = 1.0 / (1 + int(before.sum()))
        return found
