"""The variants of BM25 as pure functions of one formula.

    score(q, d) = sum over terms t of q, repeats included, of  idf(df_t, N) * weight(tf_td, norm_d)
    norm_d      = 1 - b + b * length_d / average length

The sum runs over the terms that ``d`` has.  Where ``everywhere`` is set it runs over all terms of the query
that the collection has, with ``weight(0, ...)`` for those that ``d`` lacks: that is a constant per query.

================== ============================== =================================================
ours               equals                         published as
================== ============================== =================================================
lucene             bm25s ``lucene``               Kamphuis et al., ECIR 2020, table 1 (accurate)
robertson          bm25s ``robertson``            Robertson et al., TREC-3, 1994; IDF never below 0
atire              bm25s ``atire``                Trotman et al., OSIR 2012
okapi              rank_bm25 ``BM25Okapi``        the same weight, IDF floored at epsilon * average
bm25l              (the paper)                    Lv and Zhai, SIGIR 2011: delta only where t occurs
bm25plus           (the paper)                    Lv and Zhai, CIKM 2011: delta only where t occurs
bm25l-everywhere   bm25s ``bm25l``                Trotman et al., ADCS 2014
bm25plus-everywhere bm25s ``bm25+``, rank_bm25    Trotman et al., ADCS 2014
                   ``BM25Plus``
bm25l-rank         rank_bm25 ``BM25L``            bm25l times tf, as that package computes it
================== ============================== =================================================

The libraries add delta to documents without the term too; that turns the lower bound, which is the point
of both papers, into a constant, so the names without a suffix follow the papers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from unabridged.errors import UsageError

Doubles: TypeAlias = NDArray[np.float64]
Idf: TypeAlias = Callable[[Doubles, int], Doubles]
Weight: TypeAlias = Callable[[Doubles, Doubles, float, float], Doubles]

_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of the table above.

    Args:
        name: Key in :data:`VARIANTS`.
        idf: (df, N) to the inverse document frequency; df >= 1.
        weight: (tf, norm, k1, delta) to the weight of a term in a row.
        delta: Its default; 0 where the formula has none.
        everywhere: Whether rows without the term get ``weight(0)``.
        floored: Whether a negative IDF becomes epsilon times the average IDF of the vocabulary.
    """

    name: str
    idf: Idf
    weight: Weight
    delta: float = 0.0
    everywhere: bool = False
    floored: bool = False


def idf_lucene(df: Doubles, n: int) -> Doubles:
    """log(1 + (N - df + 0.5) / (df + 0.5)): never negative."""
    return np.asarray(np.log1p((n - df + 0.5) / (df + 0.5)))


def idf_okapi(df: Doubles, n: int) -> Doubles:
    """log((N - df + 0.5) / (df + 0.5)): negative for a term in more than half of the rows."""
    return np.asarray(np.log((n - df + 0.5) / (df + 0.5)))


def idf_robertson(df: Doubles, n: int) -> Doubles:
    """``idf_okapi``, with 0 for what is negative."""
    return np.asarray(np.maximum(idf_okapi(df, n), 0.0))


def idf_atire(df: Doubles, n: int) -> Doubles:
    """log(N / df)."""
    return np.asarray(np.log(n / df))


def idf_bm25l(df: Doubles, n: int) -> Doubles:
    """log((N + 1) / (df + 0.5))."""
    return np.asarray(np.log((n + 1) / (df + 0.5)))


def idf_bm25plus(df: Doubles, n: int) -> Doubles:
    """log((N + 1) / df)."""
    return np.asarray(np.log((n + 1) / df))


def weight_saturated(tf: Doubles, norm: Doubles, k1: float, delta: float) -> Doubles:
    """Tf / (tf + k1 norm)."""
    return tf / (tf + k1 * norm)


def weight_atire(tf: Doubles, norm: Doubles, k1: float, delta: float) -> Doubles:
    """(k1 + 1) tf / (tf + k1 norm)."""
    return (k1 + 1) * tf / (tf + k1 * norm)


def weight_bm25l(tf: Doubles, norm: Doubles, k1: float, delta: float) -> Doubles:
    """(k1 + 1) (c + delta) / (k1 + c + delta) with c = tf / norm."""
    c = tf / norm + delta
    return (k1 + 1) * c / (k1 + c)


def weight_bm25l_rank(tf: Doubles, norm: Doubles, k1: float, delta: float) -> Doubles:
    """Tf times ``weight_bm25l``."""
    return tf * weight_bm25l(tf, norm, k1, delta)


def weight_bm25plus(tf: Doubles, norm: Doubles, k1: float, delta: float) -> Doubles:
    """(k1 + 1) tf / (tf + k1 norm) + delta."""
    return weight_atire(tf, norm, k1, delta) + delta


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("lucene", idf_lucene, weight_saturated),
        Variant("robertson", idf_robertson, weight_saturated),
        Variant("atire", idf_atire, weight_atire),
        Variant("okapi", idf_okapi, weight_atire, floored=True),
        Variant("bm25l", idf_bm25l, weight_bm25l, delta=0.5),
        Variant("bm25plus", idf_bm25plus, weight_bm25plus, delta=1.0),
        Variant("bm25l-everywhere", idf_bm25l, weight_bm25l, delta=0.5, everywhere=True),
        Variant("bm25plus-everywhere", idf_bm25plus, weight_bm25plus, delta=1.0, everywhere=True),
        Variant("bm25l-rank", idf_bm25l, weight_bm25l_rank, delta=0.5),
    )
}


@dataclass(frozen=True, slots=True)
class Formula:
    """A variant with its constants.

    Args:
        variant: Key in :data:`VARIANTS`.
        k1: Saturation of the term frequency, >= 0.
        b: Weight of the length, 0 to 1.
        delta: Lower bound of the weight; None for the variant's own.
        epsilon: Floor of a negative IDF relative to the average IDF (``okapi`` only), as in rank_bm25.

    Raises:
        UsageError: an unknown variant or a constant out of its range.
    """

    variant: str = "lucene"
    k1: float = 1.5
    b: float = 0.75
    delta: float | None = None
    epsilon: float = 0.25

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise UsageError(f"no BM25 variant {self.variant!r}: choose one of {', '.join(VARIANTS)}")
        if not (0.0 <= self.b <= 1.0 and 0.0 <= self.k1 < float("inf")):
            raise UsageError(f"BM25 needs k1 >= 0 and 0 <= b <= 1, got k1={self.k1}, b={self.b}")
        if self.delta is not None and not 0.0 <= self.delta < float("inf"):
            raise UsageError(f"BM25 needs delta >= 0, got {self.delta}")

    @property
    def rule(self) -> Variant:
        """The variant's functions."""
        return VARIANTS[self.variant]

    @property
    def bound(self) -> float:
        """The delta in use."""
        return self.rule.delta if self.delta is None else self.delta

    def weight(self, tf: Doubles, norm: Doubles) -> Doubles:
        """The variant's weight under these constants."""
        return self.rule.weight(tf, norm, self.k1, self.bound)

    def absent(self) -> float:
        """The weight of a term in a row that lacks it; it depends on no length, since tf is 0."""
        if not self.rule.everywhere:
            return 0.0
        k1 = max(self.k1, _TINY)  # with k1 = 0 the formula would be 0 / 0; its limit is meant
        return float(self.rule.weight(np.zeros(1), np.ones(1), k1, self.bound)[0])
