"""Token-true windows over a text: where to cut, and which characters each window stands for.

Pure functions of a text and its tokens' character offsets; numpy only.  A window is a half-open range of the
document's *own* tokens, so the model is fed slices of one tokenisation and nothing is decoded and tokenised again.

Letters::

    T tokens of one text      W windows of it      C capacity, tokens per window      O overlap, tokens

Laws: the union of the token ranges is ``[0, T)``; no range is longer than C; the union of the spans is the
whole text, and without overlap the spans are a partition of it.  Characters between two windows (white space)
belong to the earlier one, characters before the first token to the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Mask, Rows
from unabridged.errors import UsageError

Ids: TypeAlias = NDArray[np.int32]

WHOLE = "whole"
"""The note of a text that fits one window: there was nothing to choose."""

WINDOWS_VERSION = 1
"""Rises whenever the same text would be cut elsewhere: it is part of every passport."""

# How good a place between two tokens is for a cut; a higher rank is always better.
IN_CHARACTER, IN_WORD, WORD, LINE, SENTENCE, PARAGRAPH, HEADING = range(-1, 6)

LOOK_BACK = 64
"""Characters of context before the first place that is ranked: longer runs of white space are not followed."""
LOOK_AHEAD = 200
"""Characters of context behind the last place that is ranked: room to see that a line is a title."""
TITLE_LENGTH = 80
"""Characters: a longer line that stands alone is a paragraph and no title."""
_JOINER = 0x200D

# What a character is, as bits, so that one look-up answers all questions about it.
_SPACE, _END, _WIDE_END, _CLOSER, _NO_TITLE, _IDEOGRAPH, _JOINS, _SMALL = (np.uint8(1 << bit) for bit in range(8))


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of one text, in reading order."""

    ranges: Rows  # (W, 2) int64, tokens [first, last)
    spans: Rows  # (W, 2) int64, characters [start, end)
    note: str = ""
    """How and why the text was cut so, where that is to be recorded."""
    headers: tuple[Ids, ...] | None = None
    """W rows of token ids, read in front of each window as its context; None: nowhere any."""


def split(text: str, offsets: Rows, capacity: int, overlap: int = 0) -> Windows:
    """The windows of ``text``, whose tokens stand at the character ``offsets`` ``(T, 2)``.

    A cut is made at the best place in the last quarter of a window (heading, paragraph, sentence, line, word; the
    latest of equals); inside a word only where its last half has no other place.  A tail shorter than a
    quarter is balanced with the window before it, so that no vector stands for a handful of tokens.
    A text without tokens has no window.  :class:`UsageError` if ``overlap`` is not below half the capacity.
    """
    check_overlap(capacity, overlap)
    if len(offsets) <= capacity:
        return whole(len(text), len(offsets))
    return divide(Cutter(text, offsets), capacity, overlap)


def divide(cutter: Cutter, capacity: int, overlap: int = 0) -> Windows:
    """The windows of a text of more than ``capacity`` tokens, cut where ``cutter`` says."""
    text, total = cutter.text, len(cutter.starts)
    ranges: list[tuple[int, int]] = []
    spans: list[tuple[int, int]] = []
    first, start, cut = 0, 0, 0
    room = cutter.room(first, capacity)
    while total - first > room:
        # With an overlap the balanced last windows could end where the one before ended: each must bring a token.
        cut, end = cutter.cut(max(first, cut), max(cut + 1, _aim(first, total, room)), first, room)
        end = max(start, end)
        ranges.append((first, cut))
        spans.append((start, end))
        first = max(first + 1, cutter.restart(cut, overlap))
        start = end if first == cut else cutter.character(first)
        room = cutter.room(first, capacity)
    ranges.append((first, total))
    spans.append((start, len(text)))
    return Windows(np.array(ranges, dtype=np.int64), np.array(spans, dtype=np.int64))


def head(text: str, offsets: Rows, capacity: int) -> Windows:
    """The first ``capacity`` tokens as one window: what a truncating encoder reads, and the characters it read."""
    total = len(offsets)
    if total <= capacity:
        return whole(len(text), total)
    end = int(offsets[:capacity, 1].max())
    return Windows(np.array([[0, capacity]], dtype=np.int64), np.array([[0, end]], dtype=np.int64))


def whole(characters: int, tokens: int) -> Windows:
    """One window over everything; none if there is no token."""
    if tokens == 0:
        return Windows(np.zeros((0, 2), dtype=np.int64), np.zeros((0, 2), dtype=np.int64))
    return Windows(np.array([[0, tokens]], dtype=np.int64), np.array([[0, characters]], dtype=np.int64))


def check_overlap(capacity: int, overlap: int) -> None:
    """Raises :class:`UsageError` unless every window brings new tokens."""
    if capacity < 1:
        raise UsageError(
            f"The window leaves room for {capacity} tokens of text after special tokens and prompt, at least 1 is "
            "needed. Raise max_tokens or shorten the prompt."
        )
    if not 0 <= overlap < max(1, (capacity + 1) // 2):
        raise UsageError(
            f"overlap={overlap} tokens does not fit windows of {capacity} tokens: it must be at least 0 and below "
            f"{max(1, (capacity + 1) // 2)}, half of the window."
        )


def _aim(first: int, total: int, capacity: int) -> int:
    """The latest token before which the window that starts at ``first`` may end."""
    rest = total - first
    if rest <= capacity + capacity // 4:
        return first + min(capacity, (rest + 1) // 2 + capacity // 8)
    return first + capacity


class Cutter:
    """Ranks places of one text, as prose; looks only at the characters around the places it is asked for."""

    __slots__ = ("ends", "starts", "text")

    def __init__(self, text: str, offsets: Rows) -> None:
        self.text = text
        # A few tokenizers give zero-width or stepping-back offsets; a cut must never step back.
        self.starts: Rows = np.maximum.accumulate(np.clip(offsets[:, 0], 0, len(text)))
        self.ends: Rows = np.clip(offsets[:, 1], 0, len(text))

    def cut(self, after: int, last: int, first: int, capacity: int) -> tuple[int, int]:
        """The token before which the window from ``first`` to ``last`` at most ends, and its character.

        It lies behind the token ``after``, and where the text allows at least half a window on.
        """
        low = max(after + 1, last - capacity // 4)
        ranks, characters = self.rank(low, last)
        best = int(ranks.max())
        if best < WORD:
            half = max(after + 1, min(last, first + (capacity + 1) // 2))
            if half < low:
                low = half
                ranks, characters = self.rank(low, last)
                best = min(int(ranks.max()), WORD)
        place = int(np.flatnonzero(ranks >= best)[-1])
        return low + place, int(characters[place])

    def room(self, first: int, capacity: int) -> int:
        """The tokens of text that a window starting with the token ``first`` may hold, of ``capacity``."""
        return capacity

    def restart(self, cut: int, overlap: int) -> int:
        """The first token of the next window: at most ``overlap`` tokens before ``cut``, at a word if there is one."""
        if overlap == 0:
            return cut
        ranks, _ = self.rank(cut - overlap, cut - 1)
        words = np.flatnonzero(ranks >= WORD)
        return cut - overlap + (int(words[0]) if len(words) else 0)

    def character(self, token: int) -> int:
        """Where a window that starts with ``token`` begins in the text."""
        return int(self.rank(token, token)[1][0])

    def rank(self, first: int, last: int) -> tuple[NDArray[np.int8], Rows]:
        """Rank and character of the places before the tokens ``first`` to ``last``, the last one included."""
        starts, ends = self.starts[first : last + 1], self.ends[first : last + 1]
        low = max(0, int(starts[0]) - LOOK_BACK)
        view = View(self.text[low : int(starts[-1]) + LOOK_AHEAD])
        at = starts - low
        begin = view.following[at]
        # A token of white space begins where it begins; any other token begins at its first visible character.
        begin = np.where(begin >= ends - low, at, begin)
        ranks = self._ranked(view, begin)
        if first > 0:
            ranks[starts < self.ends[first - 1 : last]] = IN_CHARACTER
        return ranks, begin + low

    def _ranked(self, view: View, begin: Rows) -> NDArray[np.int8]:
        return view.rank(begin)


class View:
    """The characters of a slice as code points, with what is needed to rank places between them."""

    __slots__ = ("codes", "following", "kinds", "lines", "preceding", "size")

    def __init__(self, text: str) -> None:
        # One sentinel at the end, so that places at the very end need no special case.
        self.codes: NDArray[np.uint32] = np.frombuffer((text + "\0").encode("utf-32-le", "surrogatepass"), dtype="<u4")
        self.size = len(text)
        index = np.arange(self.size + 1)
        self.kinds = _kind(self.codes)
        space = (self.kinds & _SPACE) != 0
        self.following: Rows = np.minimum.accumulate(np.where(space, self.size, index)[::-1])[::-1]
        last = np.maximum.accumulate(np.where(space, -1, index))
        self.preceding: Rows = np.concatenate(([-1], last))
        """The last visible character before each place, -1 if there is none."""
        self.lines: Rows = np.concatenate(([0], np.cumsum(self.codes == ord("\n"))))
        """How many line ends stand before each place."""

    def rank(self, begin: Rows) -> NDArray[np.int8]:
        """The rank of cutting before each character ``begin``."""
        ranks = self.plain(begin)
        before = self.preceding[begin]
        lines = self.lines[begin] - self.lines[before + 1]
        ranks[self._sentence(begin, before, begin - before > 1)] = SENTENCE
        ranks[lines > 1] = PARAGRAPH
        ranks[self._heading(begin, lines)] = HEADING
        return ranks

    def plain(self, begin: Rows) -> NDArray[np.int8]:
        """The same by lines, words and characters alone."""
        before = self.preceding[begin]
        gap = begin - before > 1
        lines = self.lines[begin] - self.lines[before + 1]
        ranks = np.full(len(begin), IN_WORD, dtype=np.int8)
        left = np.maximum(begin - 1, 0)
        ranks[((self.kinds[begin] & _JOINS) != 0) | (self.codes[left] == _JOINER)] = IN_CHARACTER
        ideographs = ((self.kinds[left] | self.kinds[begin]) & _IDEOGRAPH) != 0
        ranks[gap | ideographs | (self.following[begin] != begin)] = WORD
        ranks[lines > 0] = LINE
        return ranks

    def _sentence(self, begin: Rows, before: Rows, gap: Mask) -> Mask:
        """Whether a sentence ends at the last visible character, closing quotes and brackets left aside."""
        at = np.maximum(before, 0)
        for _ in range(2):
            at = np.where((self.kinds[at] & _CLOSER) != 0, np.maximum(at - 1, 0), at)
        end = self.kinds[at]
        # "e.g. this": a small letter does not open a sentence.
        small = (self.kinds[begin] & _SMALL) != 0
        ends: Mask = (((end & _END) != 0) & gap & ~small) | ((end & _WIDE_END) != 0)
        return ends & (before >= 0)

    def _heading(self, begin: Rows, lines: Rows) -> Mask:
        """Whether a Markdown heading, or a short line that stands alone without a full stop, begins here."""
        found: Mask = (lines > 0) & (self.codes[begin] == ord("#"))
        for place in np.flatnonzero(lines > 1):
            start = int(begin[place])
            ends = np.flatnonzero(self.codes[start : start + TITLE_LENGTH + 1] == ord("\n"))
            if not len(ends):
                continue
            end = start + int(ends[0])
            alone = self.lines[self.following[end]] - self.lines[end] > 1
            found[place] |= bool(alone) and not self.kinds[self.preceding[end]] & _NO_TITLE
        return found


@cache
def _kinds() -> NDArray[np.uint8]:
    """The bits of every code point of the basic plane; one more row stands for emoji, one for rare ideographs."""
    kinds = np.zeros(0x10002, dtype=np.uint8)
    for code in range(0x3001):  # no white space above
        kinds[code] |= _SPACE if chr(code).isspace() else np.uint8(0)
    groups = {
        _END: ".!?\u2026\u203d\u061f\u0964",
        _WIDE_END: "\u3002\uff01\uff1f\uff61",
        _CLOSER: "\"')]}\u2019\u201d\u00bb\u300d\u300f\uff09",
        _NO_TITLE: ".,;!?\u3002",
        _SMALL: "abcdefghijklmnopqrstuvwxyz",
    }
    for bit, characters in groups.items():
        kinds[[ord(character) for character in characters]] |= bit
    # Chinese and Japanese: words stand next to each other without a space.
    for first, last in ((0x3041, 0x30FF), (0x3400, 0x9FFF), (0x10001, 0x10001)):
        kinds[first : last + 1] |= _IDEOGRAPH
    # Drawn on the character before: combining marks, joiner, variation selectors.
    for first, last in ((0x300, 0x36F), (_JOINER, _JOINER), (0xFE00, 0xFE0F)):
        kinds[first : last + 1] |= _JOINS
    return kinds


def _kind(codes: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """The bits of each character."""
    if int(codes.max()) <= 0xFFFF:
        return _kinds()[codes]
    ideograph = (codes >= 0x20000) & (codes <= 0x3FFFF)
    kinds = _kinds()[np.where(ideograph, 0x10001, np.minimum(codes, 0x10000))]
    kinds[(codes >= 0x1F3FB) & (codes <= 0x1F3FF)] |= _JOINS  # skin tones
    return kinds
