"""Cutters for code: which place of a window's range ends it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Rows
from unabridged.encoders.code.headers import Headers
from unabridged.encoders.code.syntax import Syntax
from unabridged.encoders.windows import LINE, WORD, Cutter, View


class LatestCutter(Cutter):
    """The latest place of a rank of at least ``least``, or where there is none from a quarter of the window on, less.

    With ``headers`` each window has room for less, by the tokens of its own.  ``left`` are the characters ``(n, 2)`` of
    comments that are not read: those above the first line of a window are part of its span.
    """

    __slots__ = ("_before", "headers", "least", "left")

    def __init__(
        self, text: str, offsets: Rows, least: int, headers: Headers | None = None, left: Rows | None = None
    ) -> None:
        super().__init__(text, offsets)
        self.least, self.headers, self.left = least, headers, left
        self._before: Rows = np.concatenate(([0], np.maximum.accumulate(self.ends)))
        """The character after the last one of all tokens before each token."""

    def room(self, first: int, capacity: int) -> int:
        """What the header of a window that starts with the token ``first`` leaves."""
        return capacity if self.headers is None else capacity - len(self.headers.at(int(self.starts[first])))

    def rank(self, first: int, last: int) -> tuple[NDArray[np.int8], Rows]:
        """As for prose up to lines."""
        ranks, characters = super().rank(first, last)
        opening = np.flatnonzero(ranks == LINE)
        self._value(ranks, opening, characters[opening])
        return ranks, characters

    def _ranked(self, view: View, begin: Rows) -> NDArray[np.int8]:
        return view.plain(begin)

    def character(self, token: int) -> int:
        """Where a window that starts with ``token`` begins: a line with its indentation."""
        ranks, characters = self.rank(token, token)
        return self._opening(token, int(ranks[0]), int(characters[0]))

    def _opening(self, token: int, rank: int, begin: int) -> int:
        """The character before which a cut of that ``rank`` is made, where ``token`` begins at ``begin``."""
        if rank < LINE:
            return begin
        low = int(self._before[token])
        line = max(low, self.text.rfind("\n", low, begin) + 1)
        return line if self.left is None else self._above(low, line, self.left)

    def _above(self, low: int, line: int, left: Rows) -> int:
        """The beginning, behind ``low``, of the lines of comments that stand directly above the ``line``."""
        row = int(np.searchsorted(left[:, 0], line)) - 1
        cursor = line
        while row >= 0 and left[row, 0] >= low:
            start, end = left[row].tolist()
            between = self.text[end:cursor]
            opening = max(low, self.text.rfind("\n", low, start) + 1)
            if between.strip() or between.count("\n") > 1 or opening == low:
                break
            cursor = start
            if not self.text[opening:start].strip():
                line = opening
            row -= 1
        return line

    def _value(self, ranks: NDArray[np.int8], opening: Rows, begin: Rows) -> None:
        """Raises the ranks of the places ``opening``, lines that begin with the characters ``begin``."""

    def cut(self, after: int, last: int, first: int, capacity: int) -> tuple[int, int]:
        """The latest place that is good enough."""
        low = min(last, max(after + 1, first + (capacity + 3) // 4))
        ranks, characters = self.rank(low, last)
        place = int(np.flatnonzero(ranks >= min(self.least, int(ranks.max())))[-1])
        return low + place, self._opening(low + place, int(ranks[place]), int(characters[place]))

    def restart(self, cut: int, overlap: int) -> int:
        """The first token of the next window: a line's, else a word's, at most ``overlap`` tokens before ``cut``."""
        if overlap == 0:
            return cut
        earliest = max(0, cut - overlap)  # a first window may be shorter than the overlap
        ranks, _ = self.rank(earliest, cut - 1)
        good = np.flatnonzero(ranks >= min(LINE, max(WORD, int(ranks.max()))))
        return earliest + (int(good[0]) if len(good) else 0)


class SyntaxCutter(LatestCutter):
    """The best place of the second half of a window; an earlier one where that keeps a definition in one piece."""

    __slots__ = ("_bounds", "syntax")

    def __init__(
        self, text: str, offsets: Rows, syntax: Syntax, headers: Headers | None = None, left: Rows | None = None
    ) -> None:
        super().__init__(text, offsets, LINE, headers, left)
        self.syntax = syntax
        starts, ends = syntax.definitions.T
        first = np.searchsorted(self._before[1:], starts, side="right")
        self._bounds: Rows = np.column_stack((first, np.searchsorted(self.starts, ends, side="left")))
        """Tokens [first, last) of each definition."""

    def _value(self, ranks: NDArray[np.int8], opening: Rows, begin: Rows) -> None:
        """A line that begins with a node of the tree is worth what the node is."""
        places = self.syntax.places
        if len(places):
            at = np.minimum(np.searchsorted(places, begin), len(places) - 1)
            known = places[at] == begin
            ranks[opening[known]] = self.syntax.ranks[at[known]]

    def cut(self, after: int, last: int, first: int, capacity: int) -> tuple[int, int]:
        """The latest of the best places; behind ``last``, which balances the last windows, only a better one."""
        low = min(last, max(after + 1, (first + last + 1) // 2))
        ranks, characters = self.rank(low, max(last, min(first + capacity, len(self.starts) - 1)))
        best = int(ranks.max())
        if best < LINE:
            return super().cut(after, last, first, capacity)
        balanced = ranks[: last - low + 1]
        place = int(np.flatnonzero(balanced == best)[-1] if best in balanced else np.flatnonzero(ranks == best)[-1])
        earlier = self._whole(low + place, max(after + 1, first + (capacity + 3) // 4), low, capacity)
        if earlier is not None:
            return earlier, self.character(earlier)
        return low + place, self._opening(low + place, best, int(characters[place]))

    def _whole(self, cut: int, low: int, high: int, capacity: int) -> int | None:
        """The token before the largest definition that begins in ``[low, high)``, fits a window and holds ``cut``."""
        first, end = self._bounds.T
        fits = (low <= first) & (first < high) & (first < cut) & (cut < end) & (end - first <= capacity)
        for token in np.sort(first[fits])[:1].tolist():
            if self.rank(token, token)[0][0] > LINE:
                return int(token)
        return None
