"""Which rows of a position matrix the tokens of a batch take, and how far between two of them.

Letters::

    T tokens, packed over B sequences     P rows of the position matrix
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Floats, Rows
from unabridged.encoders.extension import Plan


@dataclass(frozen=True, slots=True)
class MatrixRows:
    """Row ``low`` for each token, and the part of the way to the row after it; no row is left out of range."""

    low: Rows  # (T,) int64
    between: Floats | None = None
    """``(T,)`` float32 in [0, 1), or None where every token takes a row as it is."""

    def slice(self, start: int, end: int) -> MatrixRows:
        """Those of the tokens ``[start, end)``."""
        return MatrixRows(self.low[start:end], None if self.between is None else self.between[start:end])


def counted(offsets: Rows) -> Rows:
    """``(T,)`` int64: each token's place in its own sequence, from 0."""
    places: Rows = np.arange(int(offsets[-1]), dtype=np.int64) - np.repeat(offsets[:-1], np.diff(offsets))
    return places


def counted_without_pads(ids: NDArray[np.int32], offsets: Rows, pad: int) -> Rows:
    """As :func:`counted`, where tokens ``pad`` take no place and have -1: RoBERTa's rule."""
    real = ids != pad
    total = np.cumsum(real)
    starts = np.repeat(offsets[:-1], np.diff(offsets))
    before = total[starts] - real[starts]
    return np.where(real, total - before - 1, -1).astype(np.int64)


def planned(plan: Plan, places: Rows, offsets: Rows, first: int) -> MatrixRows:
    """The rows of tokens that stand at ``places`` ``(T,)``; -1 is a pad, and its row is ``first - 1``.

    Sequences of whole rows only (every short one, GP, RP) come without fractions, so that their vectors are those
    of the unextended model to the bit.
    """
    lengths = np.diff(offsets)
    if not plan.changes_positions or (plan.rows_per_position == 1 and not bool((lengths > plan.original).any())):
        return MatrixRows(places + first)
    tables = {length: plan.rows(length) for length in set(lengths.tolist())}
    table = np.concatenate([tables[length] for length in lengths.tolist()])
    rows = table[np.repeat(offsets[:-1], lengths) + np.maximum(places, 0)]
    low = np.floor(rows)
    between = np.where(places < 0, 0.0, rows - low).astype(np.float32)
    whole = np.where(places < 0, first - 1, low.astype(np.int64) + first)
    return MatrixRows(whole, between if bool(between.any()) else None)
