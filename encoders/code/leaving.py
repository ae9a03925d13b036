"""Which tokens of a text are read where comments or docstrings are left out.

Left out is a token that stands in a comment and holds nothing visible besides: what is kept are the tokens with
something to see outside, and the white space around comments.  The spans of blocks stay those of the whole text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from unabridged.contracts import Mask, Rows
from unabridged.encoders.reading import Tokenised
from unabridged.encoders.windows import View


@dataclass(frozen=True, slots=True)
class Selection:
    """What is read of one text of T tokens."""

    kept: Rows  # (n,) int64, rising, tokens
    left_out: int
    """The others."""
    note: str
    """Of a text that fits one window: that comments could not be told from code, and why; empty otherwise."""

    @classmethod
    def of(cls, text: str, offsets: Rows, ranges: Rows) -> Selection:
        """The tokens at the characters ``offsets`` ``(T, 2)`` that do not lie in ``ranges`` ``(n, 2)`` of ``text``."""
        left = in_ranges(text, offsets, ranges)
        return cls(np.flatnonzero(~left), int(left.sum()), "")

    @classmethod
    def everything(cls, tokens: int, note: str) -> Selection:
        """All ``tokens``."""
        return cls(np.arange(tokens), 0, note)

    def mark(self, item: Tokenised) -> Tokenised:
        """``item``, whose tokens are those that are kept, with the record of the others."""
        return replace(item, left_out=self.left_out, note=self.note)


def in_ranges(text: str, offsets: Rows, ranges: Rows) -> Mask:
    """For each token whether it lies in ``ranges``, ``(T,)`` bool; see the module."""
    size = len(text)
    steps = np.zeros(size + 1, dtype=np.int64)
    np.add.at(steps, ranges[:, 0], 1)
    np.add.at(steps, ranges[:, 1], -1)
    covered = np.cumsum(steps)[:size] > 0
    visible = View(text).following[:size] == np.arange(size)
    starts, ends = np.clip(offsets, 0, size).T

    def count(where: Mask) -> Rows:
        sums = np.concatenate(([0], np.cumsum(where)))
        found: Rows = sums[ends] - sums[starts]
        return found

    shown = count(visible & covered)
    everywhere = (ends > starts) & (count(covered) == ends - starts)
    left: Mask = (shown == count(visible)) & ((shown > 0) | everywhere)
    return left


def without(text: str, start: int, end: int, ranges: Rows) -> str:
    """``text[start:end]`` without what lies in ``ranges``, each replaced by a space."""
    parts, place = [], start
    for first, last in ranges[(ranges[:, 0] < end) & (start < ranges[:, 1])].tolist():
        parts.append(text[place : max(place, first)])
        place = max(place, min(last, end))
    return " ".join([*parts, text[place:end]])
