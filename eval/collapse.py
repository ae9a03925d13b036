"""Length collapse: vectors of long texts become alike.  Measures of it, from arrays.

Zhou et al. (ACL 2025, arXiv 2410.24200): softmax attention is a low-pass filter that damps what differs between
tokens, more so the longer the text.  ``H = I - 11'/n`` takes the mean over tokens away; what is left is the high
frequency.

Letters::

    N documents     D width of vectors     L tokens of one text     B bins of length
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Floats, Rows
from unabridged.errors import ShapeError, UsageError


@dataclass(frozen=True, slots=True)
class Bin:
    """One range of lengths, ``first`` <= tokens < ``end``; None where fewer than two documents fall into it."""

    first: int
    end: int | None
    documents: int
    cosine: float | None
    variance: float | None


def mean_pairwise_cosine(vectors: Floats) -> float:
    """Mean cosine over the ``N (N - 1) / 2`` pairs of ``vectors`` ``(N, D)``; higher is more alike, 1 is collapsed.

    From the norm of the sum, so no pair is formed.  A zero vector has cosine 0 with all others.
    """
    count = len(vectors)
    if vectors.ndim != 2 or count < 2:
        raise ShapeError(f"a mean over pairs needs (N, D) with N >= 2, got {vectors.shape}.")
    wide = vectors.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    unit = wide / np.where(norms > 0, norms, 1.0)
    total = unit.sum(axis=0)
    own = float((unit**2).sum())
    return (float(total @ total) - own) / (count * (count - 1))


def total_variance(vectors: Floats) -> float:
    """Mean squared distance of ``vectors`` ``(N, D)`` from their mean: the trace of their covariance over N."""
    if vectors.ndim != 2 or not len(vectors):
        raise ShapeError(f"a variance needs (N, D) with N >= 1, got {vectors.shape}.")
    wide = vectors.astype(np.float64)
    return float(((wide - wide.mean(axis=0)) ** 2).sum(axis=1).mean())


def high_frequency(states: NDArray[np.floating]) -> float:
    """``||HX||_F / ||X||_F`` of the token states X ``(L, D)`` of one text: 0 where all tokens are equal, at most 1."""
    if states.ndim != 2 or not len(states):
        raise ShapeError(f"token states must be (L, D) with L >= 1, got {states.shape}.")
    wide = states.astype(np.float64)
    whole = float(np.linalg.norm(wide))
    return float(np.linalg.norm(wide - wide.mean(axis=0))) / whole if whole else 0.0


def by_length(vectors: Floats, tokens: Rows, edges: Sequence[int]) -> list[Bin]:
    """Cosine and variance of each bin of lengths.

    Args:
        vectors: ``(N, D)`` document vectors.
        tokens: ``(N,)`` length of each document.
        edges: Rising; bin ``b`` holds ``edges[b] <= tokens < edges[b + 1]``, the last one has no end.

    Raises:
        UsageError: Edges that are none, negative or not rising.
        ShapeError: Vectors and lengths of different number.
    """
    if not edges or edges[0] < 0 or any(b <= a for a, b in pairwise(edges)):
        raise UsageError(f"bins must be rising numbers of tokens from 0 on, got {list(edges)}.")
    if len(vectors) != len(tokens):
        raise ShapeError(f"{len(vectors)} vectors have {len(tokens)} lengths.")
    place = np.searchsorted(np.asarray(edges), tokens, side="right") - 1
    bins = []
    for at, first in enumerate(edges):
        own = vectors[place == at]
        enough = len(own) > 1
        bins.append(
            Bin(
                first,
                edges[at + 1] if at + 1 < len(edges) else None,
                len(own),
                mean_pairwise_cosine(own) if enough else None,
                total_variance(own) if enough else None,
            )
        )
    return bins
