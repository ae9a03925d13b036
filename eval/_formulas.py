"""The value of one ranked list, for each measure.

``gains`` (K,) are the grades of the ranked documents, best first; unjudged and negative ones are 0.  ``ideal``
(J,) are the positive grades of all judged documents, falling, also of those never found.  ``cut`` is the depth
that counts; None is the whole list.  All are int64; values are in [0, 1], higher is better, and 0 for a query
without a relevant document.  The definitions are those of trec_eval 9.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Grades: TypeAlias = NDArray[np.int64]


def ndcg(gains: Grades, ideal: Grades, cut: int | None) -> float:
    """DCG@cut / the best DCG@cut that any ranking has; gain = grade, discount = log2(rank + 1).

    Source: Järvelin and Kekäläinen (2002), with the discount of Burges et al. (2005) at every rank.
    """
    return _dcg(gains[:cut]) / _dcg(ideal[:cut]) if len(ideal) else 0.0


def recall(gains: Grades, ideal: Grades, cut: int | None) -> float:
    """Relevant documents among the first / all relevant ones."""
    return float(np.count_nonzero(gains[:cut])) / len(ideal) if len(ideal) else 0.0


def precision(gains: Grades, ideal: Grades, cut: int | None) -> float:
    """Relevant documents among the first / ``cut``, also where the list is shorter."""
    places = len(gains) if cut is None else cut
    return float(np.count_nonzero(gains[:cut])) / places if places else 0.0


def average_precision(gains: Grades, ideal: Grades, cut: int | None) -> float:
    """Sum of the precisions at the ranks of relevant documents / all relevant ones."""
    ranks = np.flatnonzero(gains[:cut]) + 1
    return float(np.sum(np.arange(1, len(ranks) + 1) / ranks)) / len(ideal) if len(ideal) else 0.0


def reciprocal_rank(gains: Grades, ideal: Grades, cut: int | None) -> float:
    """1 / rank of the first relevant document, 0 without one."""
    places = np.flatnonzero(gains[:cut])
    return 1.0 / (int(places[0]) + 1) if len(places) else 0.0


def success(gains: Grades, ideal: Grades, cut: int | None) -> float:
    """1 where a relevant document is among the first, else 0."""
    return float(bool(gains[:cut].any()))


def _dcg(gains: Grades) -> float:
    places = np.flatnonzero(gains)
    return float(np.sum(gains[places] / np.log2(places + 2)))


Formula: TypeAlias = Callable[[Grades, Grades, int | None], float]
FORMULAS: MappingProxyType[str, Formula] = MappingProxyType({
    "nDCG": ndcg, "R": recall, "P": precision, "AP": average_precision, "RR": reciprocal_rank, "Success": success,
})  # fmt: skip
"""Name, as it is printed -> formula."""
