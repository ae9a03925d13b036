"""The best rows of sparse sums, without touching the rows that hold nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import TypeAlias

import numpy as np

from unabridged.contracts import Floats, Mask, Rows
from unabridged.index.lexical.variants import Doubles

Keep: TypeAlias = Callable[[Rows], Mask]

_FEW = 1024
"""Below so many postings a bound costs more than it saves."""

_SPARE = 4
"""Accumulators kept for reuse; more threads than this allocate their own for one query."""


class Accumulators:
    """Arrays of ``rows`` zeros, 8 bytes each, lent to one query at a time and returned as zeros."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._spare: list[Doubles] = []
        self._lock = Lock()

    @contextmanager
    def lend(self, lists: Sequence[Rows]) -> Iterator[Doubles]:
        """An array of zeros; whoever takes it writes only to the rows of ``lists``."""
        with self._lock:
            sums = self._spare.pop() if self._spare else None
        if sums is None:
            sums = np.zeros(self._rows)
        yield sums  # after an error the array is dropped, not returned
        if 8 * sum(map(len, lists)) > self._rows:
            sums.fill(0.0)
        else:
            for rows in lists:
                sums[rows] = 0.0
        with self._lock:
            if len(self._spare) < _SPARE:
                self._spare.append(sums)


def best(sums: Doubles, lists: Sequence[Rows], k: int, constant: float, keep: Keep | None) -> tuple[Rows, Floats]:
    """The ``k`` best of the rows in ``lists``, best first, ties by ascending row.

    A row is left out where its sum is 0 or ``keep`` says no.  The score is float32 of sum + ``constant``, and
    it is these rounded scores that are ranked, so that equal printed scores are in row order.
    """
    total = sum(map(len, lists))
    bound = _bound(sums, lists, k, constant, keep) if total > max(_FEW, k) else -np.inf
    if 4 * total > len(sums):
        rows = np.flatnonzero(sums >= bound if bound > 0.0 else (sums != 0.0) & (sums >= bound))
    else:
        rows = _union([part[sums[part] >= bound] for part in lists])
        if bound <= 0.0:
            rows = rows[sums[rows] != 0.0]
    if keep is not None:
        rows = rows[keep(rows)]
    scores = (sums[rows] + constant).astype(np.float32)
    if len(rows) > k:
        chosen = scores >= np.partition(scores, len(rows) - k)[len(rows) - k]
        rows, scores = rows[chosen], scores[chosen]
    order = np.argsort(-scores, kind="stable")[:k]
    return rows[order], scores[order]


def _union(lists: Sequence[Rows]) -> Rows:
    """Every row of the lists once, ascending (``np.unique`` hashes integers, which is slower here)."""
    rows: Rows = np.concatenate([np.zeros(0, np.int64), *lists])
    rows.sort()
    first: Mask = np.concatenate((rows[:1] >= 0, rows[1:] != rows[:-1]))
    return rows[first]


def _bound(sums: Doubles, lists: Sequence[Rows], k: int, constant: float, keep: Keep | None) -> float:
    """A sum that all of the ``k`` best reach: the k-th best among the rows of the rarest term with k rows."""
    for rows in sorted(lists, key=len):
        if len(rows) >= k:
            seed = rows if keep is None else rows[keep(rows)]
            if len(seed) >= k:
                at = len(seed) - k
                score = np.float32(np.partition(sums[seed], at)[at] + constant)
                # One float32 step lower, so that a sum that only rounds to this score stays in.
                return float(np.nextafter(score, np.float32(-np.inf))) - constant
    return -np.inf
