"""How far an encoder reads: accuracy by length and by depth, usable length, and positions that change nothing.

Letters::

    Q questions     N documents     P positions that were occluded     S vectors of one document     D width
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Floats, Rows
from unabridged.errors import ShapeError

TIE = 1e-6
"""Scores nearer than this are one score: a document that was not read to its fact scores as its neighbours do, and
rounding must not decide."""
USABLE_SHARE = 0.9
"""Of the shortest length's accuracy, what a usable length keeps."""
LEAST_ACCURACY = 0.5
"""Below this at the shortest length a model does not find the evidence at all, and length is not what fails."""
DEAD = 1e-6
"""A vector that moves by less, in cosine distance, has not seen the change: float32 rounding moves it as much."""


def credits_at_1(scores: Floats, relevant: Rows, tie: float = TIE) -> NDArray[np.float64]:
    """The chance ``(Q,)`` that the relevant document is drawn first when ties are broken at random.

    1 where it scores highest alone, ``1 / t`` where t documents share the highest score (within ``tie``), else 0.
    The mean is accuracy@1, and equals nDCG@1 with one relevant document per question.

    Args:
        scores: ``(Q, N)``, higher is better.
        relevant: ``(Q,)`` the row of each question's document.
        tie: Differences up to this are none.
    """
    if scores.ndim != 2 or relevant.shape != scores.shape[:1]:
        raise ShapeError(f"scores must be (Q, N) and relevant (Q,), got {scores.shape} and {relevant.shape}.")
    if not bool(np.isfinite(scores).all()):
        raise ShapeError("scores must be finite.")
    best = scores.max(axis=1, keepdims=True)
    among = scores >= best - tie
    won = np.take_along_axis(among, relevant[:, None], axis=1)[:, 0]
    gained: NDArray[np.float64] = np.where(won, 1.0 / among.sum(axis=1), 0.0)
    return gained


def accuracy_by_depth(
    gained: NDArray[np.float64], depths: NDArray[np.float64], bins: int = 10
) -> tuple[NDArray[np.float64], Rows]:
    """Mean credit ``(bins,)`` by where the evidence stands, NaN for an empty bin, and the count of each ``(bins,)``.

    ``depths`` ``(Q,)`` run from 0 to 1; a depth of exactly 1 belongs to the last bin.
    """
    if gained.shape != depths.shape or bool(((depths < 0) | (depths > 1)).any()):
        raise ShapeError("gained credits and depths must share one shape, and depths lie from 0 to 1.")
    place = np.minimum((depths * bins).astype(np.int64), bins - 1)
    counts = np.bincount(place, minlength=bins).astype(np.int64)
    sums = np.bincount(place, weights=gained, minlength=bins)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan), counts


def usable_length(accuracy: Mapping[int, float], share: float = USABLE_SHARE) -> int | None:
    """The largest length whose accuracy is at least ``share`` of the shortest length's.

    None without lengths, or where even the shortest is below :data:`LEAST_ACCURACY`.
    """
    if not accuracy:
        return None
    short = accuracy[min(accuracy)]
    if short < LEAST_ACCURACY:
        return None
    return max(length for length, value in accuracy.items() if value >= share * short - 1e-9)


def change(before: Floats, after: Floats) -> tuple[float, float]:
    """How far the vectors of a document moved: largest absolute difference of a component, and cosine distance.

    ``before`` ``(S, D)`` and ``after`` ``(S', D)`` are the vectors of one document before and after a change of its
    text, S = 1 for one vector.  Each vector after is compared with its nearest before, and the farthest move counts.
    A document without vectors that still has none has not moved.
    """
    if not len(before) or not len(after):
        return (0.0, 0.0) if len(before) == len(after) else (1.0, 1.0)
    cosines = _unit(after) @ _unit(before).T
    nearest = cosines.argmax(axis=1)
    largest = float(np.abs(after.astype(np.float64) - before[nearest]).max())
    # From the difference of unit vectors: 1 - cos loses all digits where vectors hardly move.
    moved = _unit(after) - _unit(before)[nearest]
    return largest, float((moved**2).sum(axis=1).max() / 2)


def dead_share(distances: NDArray[np.float64], dead: float = DEAD) -> float:
    """The share of P occluded positions whose change moved the vector by at most ``dead`` in cosine distance."""
    return float((distances <= dead).mean()) if len(distances) else 0.0


def _unit(vectors: Floats) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    unit: NDArray[np.float64] = wide / np.where(norms > 0, norms, 1.0)
    return unit
