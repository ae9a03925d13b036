"""Several selectors as one, by the ranks that they give (Cormack et al. 2009, reciprocal rank fusion).

Scores of different methods have no common scale, ranks have.  Equal scores have equal ranks, their mean: the many
passages that hold no word of the question must not be ordered by where they stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event

import numpy as np

from unabridged.errors import UsageError
from unabridged.index.lexical.variants import Doubles
from unabridged.rankers.contracts import Spent
from unabridged.rankers.select.checks import check_asked
from unabridged.rankers.select.contracts import Cost, Passage, Scored, Selector

CONSTANT = 60.0


class FusedSelector:
    """Scores a passage by the weighted sum of ``1 / (60 + rank)`` over its selectors, ranks from 1."""

    def __init__(
        self, selectors: Sequence[Selector], *, weights: Sequence[float] | None = None, constant: float = CONSTANT
    ) -> None:
        """:class:`UsageError` for fewer than two selectors, or weights that are not one positive number each."""
        self.selectors = tuple(selectors)
        self.weights = tuple(weights) if weights is not None else (1.0,) * len(self.selectors)
        self.constant = constant
        if len(self.selectors) < 2 or len(self.weights) != len(self.selectors):
            raise UsageError(f"{len(self.weights)} weights for {len(self.selectors)} selectors: give two or more.")
        if not all(0.0 < one < float("inf") for one in self.weights) or not 0.0 < constant < float("inf"):
            raise UsageError(f"weights={self.weights} and constant={constant} are positive numbers.")

    @property
    def label(self) -> str:
        """Those of its selectors."""
        return "+".join(one.label for one in self.selectors)

    def cost(self, question: str, passages: Sequence[Passage]) -> Cost:
        """That of all selectors."""
        return sum((one.cost(question, passages) for one in self.selectors), Cost())

    def score(self, question: str, passages: Sequence[Passage], *, cancel: Event | None = None) -> Scored:
        """One score per passage, above 0; what only some selectors scored has the sum of these.

        A passage that none scored has none, with the reasons of all.  The scores compare passages of this call only.
        """
        check_asked(question, passages)
        each = [one.score(question, passages, cancel=cancel) for one in self.selectors]
        total = np.zeros(len(passages))
        known = np.zeros(len(passages), dtype=bool)
        for weight, found in zip(self.weights, each, strict=True):
            has = np.array([score is not None for score in found.scores])
            held = np.array([score for score in found.scores if score is not None], dtype=np.float64)
            total[has] += weight / (self.constant + mean_ranks(held))
            known |= has
        reasons = tuple(
            "" if known[row] else "; ".join(dict.fromkeys(one.reasons[row] for one in each if one.reasons))
            for row in range(len(passages))
        )
        scores = tuple(float(one) if has else None for one, has in zip(total, known, strict=True))
        return Scored(scores, reasons, spent=sum((one.spent for one in each), Spent()))


def mean_ranks(scores: Doubles) -> Doubles:
    """The rank of each score, (M,) float64 from 1 for the highest; equals share the mean of the ranks they take."""
    values, inverse, counts = np.unique(-scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means = last - (counts - 1) / 2.0 if len(values) else np.zeros(0)
    return np.asarray(means[inverse], dtype=np.float64)
