"""What is read of a batch of texts: windows, spans and coverage under an overflow policy.

The one place that applies the policy, so that every encoder keeps the same promise: nothing is left out
without a record.  Numpy only, no vectors here.

Letters::

    B texts     S windows of them, packed     U distinct texts
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from unabridged.contracts import Coverage, Encoded, Floats, OverflowPolicy, Rows
from unabridged.encoders.windows import WHOLE, Ids, Windows, check_overlap, head, split, whole
from unabridged.errors import Overflow, UsageError

logger = logging.getLogger(__name__)

SHOWN = 60
"""Characters of a text that a message quotes."""


class Divide(Protocol):
    """What cuts a text into windows of at most ``capacity`` tokens; ``offsets`` are its tokens' characters (T, 2)."""

    def __call__(self, text: str, offsets: Rows, capacity: int, overlap: int = 0) -> Windows:
        """The windows; without overlap their spans are a partition of the text."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The windows of B texts; window ``s`` of text ``b`` is row ``offsets[b] + s``."""

    offsets: Rows  # (B + 1,) int64
    ranges: Rows  # (S, 2) int64, tokens [first, last) of the own text
    spans: Rows  # (S, 2) int64, characters [start, end) of the own text
    total: Rows  # (B,) int64, content tokens
    seen: Rows  # (B,) int64
    notes: tuple[str, ...] | None = None
    """B notes on how each text was cut, where that is a choice made text by text."""
    headers: tuple[Ids, ...] | None = None
    """S rows of tokens that are read in front of each window, as its context; None: no window has any."""
    left_out: Rows | None = None  # (B,) int64
    """Tokens left out because that was asked for, of ``total``; the ranges count the others.  None: nothing may be."""

    @property
    def tokens(self) -> Rows:
        """Content tokens in each window, ``(S,)``."""
        lengths: Rows = self.ranges[:, 1] - self.ranges[:, 0]
        return lengths

    @property
    def coverage(self) -> Coverage:
        """What the ledger records."""
        return Coverage(self.total, self.seen, self.notes, self.left_out)

    def take(self, rows: Rows) -> tuple[Reading, Rows]:
        """The reading of texts ``rows`` (repeats allowed), and for each of its windows the row it has here."""
        counts = np.diff(self.offsets)[rows]
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        windows: Rows = np.repeat(self.offsets[rows] - offsets[:-1], counts) + np.arange(offsets[-1])
        taken = Reading(
            offsets,
            self.ranges[windows],
            self.spans[windows],
            self.total[rows],
            self.seen[rows],
            None if self.notes is None else tuple(self.notes[row] for row in rows),
            None if self.headers is None else tuple(self.headers[window] for window in windows),
            None if self.left_out is None else self.left_out[rows],
        )
        return taken, windows


@dataclass(frozen=True, slots=True)
class Tokenised:
    """A text as the reader needs it: ``characters`` gives the offsets ``(T, 2)`` and is called only for long texts."""

    row: int
    """Where the text stands in the caller's list, for messages."""
    text: str
    tokens: int
    """Those that are to be read."""
    capacity: int
    """Tokens of text per window, after special tokens and prompt."""
    characters: Callable[[], Rows]
    segment: int | None = None
    """Late chunking: tokens that get a vector of their own, in windows of ``capacity``; None: the whole window."""
    left_out: int | None = None
    """Tokens of the text beside ``tokens``, left out because that was asked for; None: nothing may be."""
    note: str = ""
    """What is to be noted if the text fits one window; empty: that it does."""


def read(
    items: Sequence[Tokenised], *, overlap: int, policy: OverflowPolicy, divide: Divide = split, noted: bool = False
) -> Reading:
    """The windows of ``items`` under ``policy``, cut by ``divide``; a text without tokens has one window of none.

    With ``noted`` the notes of ``divide`` are kept, one for each text.

    :class:`Overflow` under the policy ``error`` if a text does not fit, naming the first one; one log record of
    level WARNING under ``warn``.
    """
    long = [row for row, item in enumerate(items) if item.tokens > item.capacity]
    if long and policy is OverflowPolicy.ERROR:
        raise Overflow(_refusal(items[long[0]], long))
    if long and policy is OverflowPolicy.WARN:
        lost = sum(items[row].tokens - items[row].capacity for row in long)
        logger.warning("%d of %d texts are longer than the window: %d tokens not read", len(long), len(items), lost)
    cut = policy in (OverflowPolicy.WARN, OverflowPolicy.TRUNCATE)
    windows = [_windows(item, overlap, cut, divide) for item in items]
    counts = np.array([len(w.ranges) for w in windows], dtype=np.int64)
    own = np.array([item.tokens for item in items], dtype=np.int64)
    left_out = np.array([item.left_out or 0 for item in items], dtype=np.int64)
    capacity = np.array([item.capacity for item in items], dtype=np.int64)
    none = np.zeros((0, 2), dtype=np.int64)
    return Reading(
        offsets=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        ranges=np.concatenate([none, *(w.ranges for w in windows)]),
        spans=np.concatenate([none, *(w.spans for w in windows)]),
        total=own + left_out,
        seen=np.minimum(own, capacity) if cut else own,
        notes=tuple(_note(item, w) for item, w in zip(items, windows, strict=True)) if noted else None,
        headers=_headers(windows),
        left_out=left_out if any(item.left_out is not None for item in items) else None,
    )


def _note(item: Tokenised, windows: Windows) -> str:
    """How a text was cut; that of a text cut off is in its coverage."""
    return windows.note or ((item.note or WHOLE) if item.tokens <= item.capacity else "")


def _headers(windows: Sequence[Windows]) -> tuple[Ids, ...] | None:
    """One row of tokens for each window of all texts, None if none has any."""
    if all(w.headers is None for w in windows):
        return None
    none = np.zeros(0, dtype=np.int32)
    return tuple(ids for w in windows for ids in (w.headers if w.headers is not None else [none] * len(w.ranges)))


@dataclass(frozen=True, slots=True)
class Distinct:
    """The U distinct texts of a call, so that a text that comes twice is read and encoded once."""

    texts: list[str]  # U, in order of first appearance
    first: Rows  # (U,) int64, where each stood first
    index: Rows  # (B,) int64, the distinct text of each row

    @classmethod
    def of(cls, texts: Sequence[str]) -> Distinct:
        """The distinct texts among ``texts``; :class:`UsageError` for a single string, whose letters are no texts."""
        if isinstance(texts, str):
            raise UsageError("Texts are given as a list, and this is one string: put it into a list.")
        rows: dict[str, int] = {}
        index = np.fromiter((rows.setdefault(text, len(rows)) for text in texts), dtype=np.int64, count=len(texts))
        first = np.zeros(len(rows), dtype=np.int64)
        first[index[::-1]] = np.arange(len(texts))[::-1]
        return cls(list(rows), first, index)


def _windows(item: Tokenised, overlap: int, cut: bool, divide: Divide) -> Windows:
    check_overlap(item.capacity, overlap)
    if not item.tokens:
        return Windows(np.zeros((1, 2), dtype=np.int64), np.array([[0, len(item.text)]], dtype=np.int64))
    if item.segment is not None:
        return _segments(item, item.segment, cut, divide)
    if item.tokens <= item.capacity:
        return whole(len(item.text), item.tokens)
    if cut:
        return head(item.text, item.characters(), item.capacity)
    return divide(item.text, item.characters(), item.capacity, overlap)


def _segments(item: Tokenised, size: int, cut: bool, divide: Divide) -> Windows:
    """The segments of at most ``size`` tokens of the whole text, or of what the first window holds of it."""
    if item.tokens <= size:
        return whole(len(item.text), item.tokens)
    text, characters = item.text, item.characters()
    if cut and item.tokens > item.capacity:
        first = head(text, characters, item.capacity)
        text, characters = text[: int(first.spans[0, 1])], characters[: item.capacity]
    return divide(text, characters, size)


def _refusal(item: Tokenised, long: Sequence[int]) -> str:
    shown = item.text[:SHOWN] + ("..." if len(item.text) > SHOWN else "")
    more = f" (and {len(long) - 1} more)" if len(long) > 1 else ""
    return (
        f"Text {item.row}{more} has {item.tokens} tokens and the window holds {item.capacity}: {shown!r}. "
        "Use overflow='split' to read all of it, or raise max_tokens if the model allows it."
    )


def encoded(reading: Reading, distinct: Distinct, *, segments: Floats | None, documents: Floats | None) -> Encoded:
    """The vectors of the U distinct texts as those of the B texts of the call, with spans and coverage."""
    if len(distinct.texts) < len(distinct.index):
        reading, rows = reading.take(distinct.index)
        segments = None if segments is None else segments[rows]
        documents = None if documents is None else documents[distinct.index]
    return Encoded(reading.offsets, reading.spans, reading.tokens, reading.coverage, segments, documents)
