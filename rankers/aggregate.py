"""Scores of a document's passages to the score of the document, and which passages made it.

Letters::

    P passages of one document, in the order of its text
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from unabridged.contracts import Floats
from unabridged.errors import ShapeError, UsageError

Aggregate = Literal["max", "first", "sum", "mean-top"]
TOP = 3
"""Passages of ``mean-top``, where nothing else is said."""


def check_aggregate(how: str, top: int) -> None:
    """:class:`UsageError` unless ``how`` is an :data:`Aggregate` and ``top`` a number of passages."""
    if how not in get_args(Aggregate) or top < 1:
        raise UsageError(f"aggregate={how!r}, top={top}: it is one of {', '.join(get_args(Aggregate))}, of 1 or more.")


def aggregate(scores: Floats, how: Aggregate = "max", top: int = TOP) -> tuple[float, tuple[int, ...]]:
    """The document's score, and the passages that made it, best first; equals in the order of the text.

    ``scores`` (P,) float32, higher is better.  ``max``: the best passage (MaxP, Dai & Callan 2019, arXiv 1905.09217);
    ``first``: the first (FirstP); ``sum``: SumP over ``1 / (1 + e^-s)``, for sums of logits of any sign would punish
    length; ``mean-top``: the mean of the best ``top``.  :class:`ShapeError` without passages or with a NaN.
    """
    check_aggregate(how, top)
    if scores.ndim != 1 or not len(scores) or bool(np.isnan(scores).any()):
        raise ShapeError(f"A document needs the scores of one passage or more, and numbers: got {scores!r}.")
    best = tuple(int(place) for place in np.argsort(-scores, kind="stable"))
    if how == "first":
        return float(scores[0]), (0,)
    if how == "max":
        return float(scores[best[0]]), best[:1]
    if how == "sum":
        return float(np.sum(1.0 / (1.0 + np.exp(-scores.astype(np.float64))))), best
    chosen = best[:top]
    return float(np.mean(scores[list(chosen)].astype(np.float64))), chosen
