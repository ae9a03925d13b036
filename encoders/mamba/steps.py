"""Ragged sequences in lock step: the first pieces of all, then the second pieces, without padding between sequences.

Sequences stand in the order of their number of pieces, the longest first, so that those that still run are always the
first ones: a step is a slice of the pieces, and its states are a slice of the states.

Letters::

    B sequences   T packed tokens   M pieces   S steps   Q tokens of a piece, at most
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Rows


@dataclass(frozen=True, slots=True)
class Steps:
    """The pieces of every sequence; an empty sequence has none."""

    order: Rows
    """``(B,)``: which sequence stands where."""
    starts: Rows
    """``(M,)`` first token of each piece, step by step."""
    ends: Rows
    """``(M,)`` behind the last token of each piece."""
    active: Rows
    """``(S,)`` pieces of each step; never rising."""

    @classmethod
    def of(cls, offsets: Rows, size: int) -> Steps:
        """Of the sequences ``offsets`` ``(B + 1,)`` in pieces of ``size`` tokens; the last of each may be shorter."""
        lengths = np.diff(offsets)
        pieces = -(-lengths // size)
        order = np.argsort(-pieces, kind="stable")
        counts = pieces[order]
        rank = np.repeat(np.arange(len(order)), counts)
        step = np.arange(len(rank)) - np.repeat(np.cumsum(counts) - counts, counts)
        by_step = np.lexsort((rank, step))
        rank, step = rank[by_step], step[by_step]
        starts = offsets[:-1][order][rank] + step * size
        ends = np.minimum(starts + size, offsets[1:][order][rank])
        return cls(order, starts, ends, np.bincount(step, minlength=0).astype(np.int64))

    def slices(self, most: int) -> Iterator[tuple[slice, Rows]]:
        """Runs of whole steps of together at most ``most`` pieces, or of one step: the pieces, and how many a step."""
        first = piece = 0
        while first < len(self.active):
            last = first + 1
            count = int(self.active[first])
            while last < len(self.active) and count + int(self.active[last]) <= most:
                count += int(self.active[last])
                last += 1
            yield slice(piece, piece + count), self.active[first:last]
            first, piece = last, piece + count

    def rows(self, pieces: slice, size: int, missing: int) -> NDArray[np.int64]:
        """``(M', size)``: the token of each place of some pieces, ``missing`` behind the end of a piece."""
        found: NDArray[np.int64] = self.starts[pieces, None] + np.arange(size)
        return np.where(found < self.ends[pieces, None], found, missing)
