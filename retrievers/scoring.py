"""Document scores from segment scores, and fusion of ranked lists, as pure functions of arrays.

A candidate document comes with the exact scores of *all* its segments.  The defaults were chosen by measurement:
the forms on nine sets of long and of short documents (``benchmarks/results/document_score.md``), their numbers on eight
whole sets and checked on two others (``docs/results.md`` has fixed weights as a system of its own).

*   ``auto`` is ``combined`` where the index keeps document vectors, ``discounted`` where it does not.
*   ``combined``: alpha times the best segment plus the rest times the whole document, and of that mixture
    ``1 - lead`` plus ``lead`` times the first segment.  The whole is low for a long document about many things, which
    makes up for its many draws; the first segment says what most documents are about.  A document of one segment
    keeps its score, since all three are the same vector.
*   ``discounted``: with s_1 >= s_2 >= ... >= s_n the document's sorted segment scores and r the discount,

        score = sum r^(i-1) s_i / sum r^(i-1),    both over i = 1..n.

    r = 0 is the best segment alone (MaxP), r = 1 the mean: a lucky draw must be confirmed by the next best.
*   ``weighted`` fusion: each list's scores are brought to [0, 1] by their own range, then added with weights.
*   ``adaptive`` fusion: the same, and a list weighs more for a query whose first hit it sets far apart from its second.
    With g the distance of a list's first two scores as a share of its range, weights are proportional to
    ``weight * (g + floor)``; a list of one or two hits has g = 0 (:func:`lead_of_first`).  Words that one document
    alone has make BM25 certain, a question in other words than the text's makes it flat: neither list is the better
    one for every query.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Floats, Rows
from unabridged.errors import ShapeError, UsageError

Doubles: TypeAlias = NDArray[np.float64]
Ranked: TypeAlias = tuple[Rows, Floats]
"""Rows and scores of one ranked list, best first, no row twice, no padding."""

HYBRID_WEIGHTS = (0.72, 0.28)
"""Dense, BM25: what they weigh where both set their first hit equally far apart."""
WEIGHTED = ("weighted", "adaptive")
"""Fusions that add scores."""


@dataclass(frozen=True, slots=True)
class DocumentScoring:
    """How the segment scores of a document (and its whole-document score) become one score.

    Args:
        method: Key of :data:`METHODS`; ``auto`` is the measured default.
        discount: ``discounted``: weight of each further segment against the one before, 0 to 1.
        k: ``topk``: how many of the best segments are averaged; shorter documents average all they have.
        temperature: ``softmax``: in units of the scores, above 0; towards 0 it is the maximum.
        alpha: ``combined``: weight of the best segment; the rest goes to the whole-document score.
        lead: ``combined``: weight of the first segment against that mixture.
        draws: ``combined``: how much of the expected maximum of n draws is taken off the best segment.

    Raises:
        UsageError: an unknown method, or a parameter out of its range.
    """

    method: str = "auto"
    discount: float = 0.2
    k: int = 3
    temperature: float = 0.05
    alpha: float = 0.6
    lead: float = 0.1
    draws: float = 0.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"no document score {self.method!r}: choose one of {', '.join(METHODS)}")
        if not all(0.0 <= share <= 1.0 for share in (self.discount, self.alpha, self.lead)):
            raise UsageError(
                f"discount, alpha and lead are 0 to 1, got discount={self.discount}, alpha={self.alpha}, "
                f"lead={self.lead}"
            )
        if self.k < 1 or not 0.0 < self.temperature < float("inf") or not 0.0 <= self.draws < float("inf"):
            raise UsageError(
                "needs k >= 1, temperature > 0 and draws >= 0, "
                f"got k={self.k}, temperature={self.temperature}, draws={self.draws}"
            )


@dataclass(frozen=True, slots=True)
class Fusion:
    """How ranked lists are fused.

    Args:
        method: ``adaptive`` (scores by their range, weights by how far apart a list's first hit is), ``weighted``
            (scores by their range) or ``rrf`` (reciprocal ranks).
        k: ``rrf``: a row at rank r adds weight / (k + r).
        weights: One per list, in the order of the lists; None for :data:`HYBRID_WEIGHTS` where the scores of two lists
            are added, and for equal weights otherwise.
        floor: ``adaptive``: what is added to each distance; large values make it ``weighted``.

    Raises:
        UsageError: an unknown method, or a parameter out of its range.
    """

    method: str = "adaptive"
    k: int = 60
    weights: tuple[float, ...] | None = None
    floor: float = 0.05

    def __post_init__(self) -> None:
        if self.method not in (*WEIGHTED, "rrf"):
            raise UsageError(f"no fusion {self.method!r}: choose adaptive, weighted or rrf")
        if not 0.0 < self.floor < float("inf"):
            raise UsageError(f"the floor of adaptive fusion is finite and above 0, got {self.floor}")
        if self.k < 0:
            raise UsageError(f"k of reciprocal rank fusion is 0 or more, got {self.k}")
        if self.weights is not None and not all(0.0 <= weight < float("inf") for weight in self.weights):
            raise UsageError(f"fusion weights are finite and 0 or more, got {self.weights}")


def score_documents(
    segments: Floats, offsets: Rows, documents: Floats | None, scoring: DocumentScoring
) -> tuple[Floats, Rows]:
    """Scores (B,) float32, higher is better, and the packed position (B,) of each document's best segment.

    Of equal best segments the first wins.  Takes O(S log S) time and a few arrays of S doubles.

    Args:
        segments: (S,) scores of all segments of B documents, packed.
        offsets: (B + 1,) from 0 to S; no document is empty.
        documents: (B,) scores of the whole documents, or None; only ``auto`` and ``combined`` read them.
        scoring: Which method, with its parameters.

    Raises:
        ShapeError: offsets that do not fit, an empty document, or a score that is NaN or infinite.
        UsageError: ``combined`` without document scores.
    """
    _check(segments, offsets, documents)
    if len(offsets) == 1:
        return np.zeros(0, np.float32), np.zeros(0, np.int64)
    scores = METHODS[scoring.method](segments.astype(np.float64), offsets, documents, scoring)
    return scores.astype(np.float32), best_segments(segments, offsets)


def best_segments(segments: Floats, offsets: Rows) -> Rows:
    """Packed position (B,) of the highest score of each document; the first of equals."""
    tops = np.repeat(np.maximum.reduceat(segments, offsets[:-1]), np.diff(offsets))
    positions = np.where(segments == tops, np.arange(len(segments)), len(segments))
    return np.minimum.reduceat(positions, offsets[:-1])


def expected_maximum(n: Rows) -> Doubles:
    """Expected maximum of ``n`` standard normal draws; 0 for one draw.

    Source: Blom, Statistical Estimates and Transformed Beta-Variables, 1958: Phi^-1((n - 3/8) / (n + 1/4)).
    """
    sizes, inverse = np.unique(n, return_inverse=True)
    quantile = NormalDist().inv_cdf
    return np.array([quantile((size - 0.375) / (size + 0.25)) for size in sizes.tolist()])[inverse]


def fuse(rankings: Sequence[Ranked], fusion: Fusion) -> Ranked:
    """Rows and scores (float32) of the union of ranked lists, best first, equal scores by ascending row.

    Each list counts its ranks from 1 and is normalised alone, so the order of the lists matters only through
    ``weights``.  A row that a list lacks gets nothing from it, which for ``weighted`` is what that list's last
    row gets.  Bring lists of 100 rows or more: the range of a short list is not the range of its scores.

    Source of ``rrf``: Cormack, Clarke and Büttcher, SIGIR 2009 (k = 60), here with weights.

    Raises:
        ShapeError: rows and scores of different lengths, a row twice in a list, scores that rise, NaN.
        UsageError: another number of weights than of lists.
    """
    weights = _weights(len(rankings), fusion)
    for number, ranking in enumerate(rankings):
        _check_ranking(number, ranking)
    if not rankings:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    if fusion.method == "adaptive":
        weights = _adapted(weights, [scores for _, scores in rankings], fusion.floor)
    rows = np.unique(np.concatenate([found for found, _ in rankings])).astype(np.int64)
    # One column per list, summed in order of size: rounding must not depend on the order of the lists.
    parts = np.zeros((len(rows), len(rankings)))
    for number, (found, scores) in enumerate(rankings):
        gained = within_range(scores) if fusion.method in WEIGHTED else 1.0 / (fusion.k + 1 + np.arange(len(found)))
        parts[np.searchsorted(rows, found), number] = weights[number] * gained
    fused = np.sort(parts, axis=1).sum(axis=1).astype(np.float32)
    order = np.lexsort((rows, -fused))
    return rows[order], fused[order]


def within_range(scores: Floats) -> Doubles:
    """``scores`` moved to [0, 1] by their own lowest and highest; all 1 where these are equal."""
    values = scores.astype(np.float64)
    spread = np.ptp(values) if len(values) else 0.0
    return (values - values.min()) / spread if spread > 0 else np.ones(len(values))


def lead_of_first(scores: Floats) -> float:
    """How far the first of ``scores``, best first, is from the second, as a share of their range, 0 to 1.

    Of n scores it is taken times (n - 2) / (n - 1): the range of two scores *is* their distance, and a lone hit has
    nothing to be apart from, so neither says that the list is sure of itself.
    """
    n = len(scores)
    if n < 3:
        return 0.0
    first, second, last = (float(scores[place]) for place in (0, 1, -1))
    return (first - second) / (first - last) * (n - 2) / (n - 1) if first > last else 0.0


def _adapted(weights: Sequence[float], lists: Sequence[Floats], floor: float) -> tuple[float, ...]:
    """``weights`` times each list's distance of its first two plus ``floor``, with their sum kept.

    A list without a hit weighs nothing.
    """
    raw = [
        weight * (lead_of_first(scores) + floor) if len(scores) else 0.0
        for weight, scores in zip(weights, lists, strict=True)
    ]
    total = math.fsum(raw)
    return tuple(value * math.fsum(weights) / total for value in raw) if total else tuple(weights)


def _sums(values: Doubles, offsets: Rows) -> Doubles:
    return np.asarray(np.add.reduceat(values, offsets[:-1]))


def _maximum(segments: Doubles, offsets: Rows, documents: Floats | None, scoring: DocumentScoring) -> Doubles:
    return np.asarray(np.maximum.reduceat(segments, offsets[:-1]))


def _first(segments: Doubles, offsets: Rows, documents: Floats | None, scoring: DocumentScoring) -> Doubles:
    return segments[offsets[:-1]]


def _mean(segments: Doubles, offsets: Rows, documents: Floats | None, scoring: DocumentScoring) -> Doubles:
    return _sums(segments, offsets) / np.diff(offsets)


def _by_rank(segments: Doubles, offsets: Rows, weight: Callable[[Doubles], Doubles]) -> Doubles:
    """Weighted mean of each document's segments; ``weight`` maps ranks (S,), from 0, to weights."""
    lengths = np.diff(offsets)
    order = np.lexsort((-segments, np.repeat(np.arange(len(lengths)), lengths)))
    ranks = np.arange(len(segments)) - np.repeat(offsets[:-1], lengths)
    weights = weight(ranks.astype(np.float64))
    return _sums(weights * segments[order], offsets) / _sums(weights, offsets)


def _topk(segments: Doubles, offsets: Rows, documents: Floats | None, scoring: DocumentScoring) -> Doubles:
    return _by_rank(segments, offsets, lambda ranks: (ranks < scoring.k).astype(np.float64))


def _discounted(segments: Doubles, offsets: Rows, documents: Floats | None, scoring: DocumentScoring) -> Doubles:
    return _by_rank(segments, offsets, lambda ranks: np.power(scoring.discount, ranks))


def _softmax(segments: Doubles, offsets: Rows, documents: Floats | None, scoring: DocumentScoring) -> Doubles:
    """T log mean exp(s / T): the log of a mean, so that more segments do not raise it by themselves."""
    tops = np.maximum.reduceat(segments, offsets[:-1])
    lengths = np.diff(offsets)
    inside = np.exp((segments - np.repeat(tops, lengths)) / scoring.temperature)
    return np.asarray(tops + scoring.temperature * np.log(_sums(inside, offsets) / lengths))


def _combined(segments: Doubles, offsets: Rows, documents: Floats | None, scoring: DocumentScoring) -> Doubles:
    """(1 - lead) (alpha (max - draws * deviation * E_n) + (1 - alpha) whole) + lead first.

    The deviation is that of the S scores at hand, so it is the candidates', which is a little below the corpus'.
    """
    if documents is None:
        raise UsageError(
            "the combined document score needs document vectors, and the index keeps none: build it with --level both, "
            "or choose another score"
        )
    luck = scoring.draws * segments.std() * expected_maximum(np.diff(offsets))
    best = np.maximum.reduceat(segments, offsets[:-1]) - luck
    mixture = scoring.alpha * best + (1.0 - scoring.alpha) * documents.astype(np.float64)
    return np.asarray((1.0 - scoring.lead) * mixture + scoring.lead * segments[offsets[:-1]])


def _auto(segments: Doubles, offsets: Rows, documents: Floats | None, scoring: DocumentScoring) -> Doubles:
    return (_discounted if documents is None else _combined)(segments, offsets, documents, scoring)


METHODS: dict[str, Callable[[Doubles, Rows, Floats | None, DocumentScoring], Doubles]] = {
    "auto": _auto,
    "discounted": _discounted,
    "max": _maximum,
    "topk": _topk,
    "mean": _mean,
    "first": _first,
    "softmax": _softmax,
    "combined": _combined,
}
"""Document scores by name."""

DEFAULT_SCORING = DocumentScoring()


def _check(segments: Floats, offsets: Rows, documents: Floats | None) -> None:
    if segments.ndim != 1 or offsets.ndim != 1 or len(offsets) < 1:
        raise ShapeError(f"expected scores (S,) and offsets (B + 1,), got {segments.shape} and {offsets.shape}")
    if int(offsets[0]) != 0 or int(offsets[-1]) != len(segments):
        raise ShapeError(f"offsets must run from 0 to {len(segments)}, got {int(offsets[0])} to {int(offsets[-1])}")
    if bool(np.any(np.diff(offsets) < 1)):
        raise ShapeError(f"every document needs a segment, document {int(np.argmax(np.diff(offsets) < 1))} has none")
    if documents is not None and documents.shape != (len(offsets) - 1,):
        raise ShapeError(f"document scores must be ({len(offsets) - 1},), got {documents.shape}")
    if not np.isfinite(segments).all() or (documents is not None and not np.isfinite(documents).all()):
        raise ShapeError("scores must be finite, found NaN or infinity")


def _check_ranking(number: int, ranking: Ranked) -> None:
    rows, scores = ranking
    if rows.ndim != 1 or rows.shape != scores.shape:
        raise ShapeError(f"list {number}: rows {rows.shape} and scores {scores.shape} must share one (K,) shape")
    if len(np.unique(rows)) != len(rows):
        raise ShapeError(f"list {number} has a row twice")
    if not np.isfinite(scores).all() or bool(np.any(np.diff(scores) > 0)):
        raise ShapeError(f"list {number}: scores must be finite and never rise; hand it over best first, unpadded")


def _weights(lists: int, fusion: Fusion) -> tuple[float, ...]:
    if fusion.weights is None:
        return HYBRID_WEIGHTS if fusion.method in WEIGHTED and lists == len(HYBRID_WEIGHTS) else (1.0,) * lists
    if len(fusion.weights) != lists:
        raise UsageError(f"{lists} lists need {lists} weights, got {fusion.weights}")
    return fusion.weights
