r"""Late chunking: a document goes through the model first, and is divided into segments afterwards.

A segment's vector is pooled from the states of its own tokens, which have seen the whole document or, beyond the
model's window, a macro-window of it (Günther et al. 2024, arXiv 2409.04701, and the authors' code)::

    document      [CLS] prompt  s0 s0 s0 s0  s1 s1 s1 s1  s2 s2 s2 s2  s3 s3 [SEP]
    pooled         \________ s0 ________/    \__ s1 __/   \__ s2 __/   \__ s3 __/

    macro-window  [CLS] prompt  s0 s0 s0 s0  s1 s1 s1 s1 [SEP]
    macro-window                [CLS] prompt  c  c  s2 s2 s2 s2  s3 s3 [SEP]     c: overlap, context only

Segments are the usual token-true windows, cut at sentences: their spans are a partition of the text, and each holds
at least one token.  As in the reference the first segment of a document also takes the leading special tokens and
the prompt (if the model pools its prompt), the last one the closing special token, and the states of the overlap are
dropped.  Unlike there a macro-window ends with a segment, and each has its own special tokens and prompt, as the model
knows them from training; those that are neither first nor last are dropped too.

The document vector is the mean of its segment vectors, weighted by the states that each pooled: for a mean-pooling
model whose window holds the document it is the model's own vector of the whole text.  This is also what "chunk-mean
pooling" would give as a single vector, so there is no pooling mode of that name: ask for level ``doc``.

Letters::

    U distinct texts     S segments of them     M macro-windows, each one sequence
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unabridged.contracts import JSON, Rows
from unabridged.encoders._frame import Frame
from unabridged.encoders._run import Packed
from unabridged.encoders._tokens import Tokens
from unabridged.encoders.reading import Distinct, Reading
from unabridged.errors import UsageError

OVERLAP_SHARE = 16
"""The default overlap is the window divided by this: 512 tokens of 8,192, as in the reference implementation."""

POOLINGS = ("mean", "max", "mean_sqrt_len", "weighted_mean")
"""What can be said of any run of tokens.  ``cls``, ``last`` and landmarks are single tokens that a segment lacks."""


@dataclass(frozen=True, slots=True)
class LateChunking:
    """How segments and macro-windows are made, in content tokens."""

    tokens: int
    """Of a segment, at most."""
    overlap: int
    """Read again before each later macro-window, at most, as context."""

    @classmethod
    def of(cls, tokens: int, overlap: int | None, window: int) -> LateChunking:
        """For an encoder whose window is ``window``; :class:`UsageError` for numbers that it cannot have."""
        if overlap is None:
            overlap = min(window // OVERLAP_SHARE, max(0, window - tokens - 2))
        if tokens < 1 or overlap < 0:
            raise UsageError(f"late_tokens must be at least 1 and late_overlap at least 0, got {tokens} and {overlap}.")
        late = cls(tokens, overlap)
        late.check(window)
        return late

    def check(self, room: int) -> None:
        """:class:`UsageError` unless a segment and the overlap before it fit ``room`` tokens."""
        if self.tokens + self.overlap > room:
            raise UsageError(
                f"late_tokens={self.tokens} and late_overlap={self.overlap} need {self.tokens + self.overlap} tokens "
                f"of text at a time, the window has room for {room}. Late chunking is for windows of several "
                "segments: choose smaller ones, a larger max_tokens, or extend the model's reach."
            )

    @property
    def facts(self) -> dict[str, JSON]:
        """For the passport."""
        return {"late_tokens": self.tokens, "late_overlap": self.overlap}


def check_poolings(modes: Sequence[str]) -> None:
    """:class:`UsageError` for a pooling that needs a token which a segment does not have."""
    unfit = [mode for mode in modes if mode not in POOLINGS]
    if unfit:
        raise UsageError(
            f"Late chunking pools the states of each segment, and {unfit[0]!r} pooling takes special tokens, which "
            f"segments do not have. Pass pooling= with one of {', '.join(POOLINGS)}, for queries too."
        )


def macro_windows(ranges: Rows, room: int, overlap: int) -> Rows:
    """``(m, 3)`` int64: first segment, segment after the last, first token that is read; of one text.

    ``ranges`` ``(s, 2)`` are the token ranges of its segments, one after the other.  Each macro-window takes as many
    as fit ``room`` tokens behind at most ``overlap`` tokens of what comes before; a text that fits is one.
    """
    ends = ranges[:, 1]
    found = []
    first = 0
    while first < len(ranges):
        read = max(0, int(ranges[first, 0]) - overlap)
        last = max(first + 1, int(np.searchsorted(ends, read + room, side="right")))
        found.append((first, last, read))
        first = last
    return np.array(found, dtype=np.int64).reshape(-1, 3)


@dataclass(frozen=True, slots=True)
class LateSequences:
    """Satisfies :class:`unabridged.encoders._run.Work`: M sequences that give S vectors."""

    reading: Reading  # its windows are the segments
    tokens: Sequence[Tokens]  # U
    distinct: Distinct
    frame: Frame
    owners: Rows  # (M,) int64, the distinct text of each
    macros: Rows  # (M, 3) int64, as macro_windows gives them, segments as rows of the reading

    @classmethod
    def of(
        cls,
        reading: Reading,
        tokens: Sequence[Tokens],
        distinct: Distinct,
        frame: Frame,
        *,
        window: int,
        overlap: int,
    ) -> LateSequences:
        """The macro-windows of every text."""
        owners: list[Rows] = []
        macros: list[Rows] = [np.zeros((0, 3), dtype=np.int64)]
        for owner, own in enumerate(tokens):
            first, last = reading.offsets[owner : owner + 2].tolist()
            found = macro_windows(reading.ranges[first:last], frame.capacity(window, len(own.prompt)), overlap)
            macros.append(found + np.array([first, first, 0]))
            owners.append(np.full(len(found), owner, dtype=np.int64))
        none = np.zeros(0, dtype=np.int64)
        return cls(reading, tokens, distinct, frame, np.concatenate([none, *owners]), np.concatenate(macros))

    @property
    def lengths(self) -> Rows:
        """Tokens of each macro-window, ``(M,)``."""
        own = self.reading.ranges[self.macros[:, 1] - 1, 1] - self.macros[:, 2]
        prompts = np.fromiter((len(t.prompt) for t in self.tokens), dtype=np.int64, count=len(self.tokens))
        return self.frame.lengths(own, prompts[self.owners])

    @property
    def outputs(self) -> int:
        """One vector for each segment."""
        return len(self.reading.ranges)

    @property
    def _places(self) -> Rows:
        """``(S, 2)``: leading and closing tokens that each segment takes besides its own."""
        extra = np.zeros((self.outputs, 2), dtype=np.int64)
        has = np.flatnonzero(np.diff(self.reading.offsets))
        prompts = [len(self.tokens[b].prompt) for b in has.tolist()]
        extra[self.reading.offsets[has], 0] = np.array(prompts, dtype=np.int64) + len(self.frame.before)
        extra[self.reading.offsets[has + 1] - 1, 1] = len(self.frame.after)
        return extra

    def weights(self, *, include_prompt: bool) -> Rows:
        """How many states each segment pools, ``(S,)``."""
        extra = self._places
        weights: Rows = self.reading.tokens + extra[:, 1] + (extra[:, 0] if include_prompt else 0)
        return weights

    def pack(self, rows: Rows) -> Packed:
        """``rows`` one after the other, and the states of each segment in them."""
        extra = self._places
        parts, lengths = [], []
        kept, sizes, outputs = [], [], []
        start = 0
        for owner, (first, last, read) in zip(self.owners[rows].tolist(), self.macros[rows].tolist(), strict=True):
            own = self.tokens[owner]
            ids, _ = self.frame.wrap(own.prompt, own.ids[read : int(self.reading.ranges[last - 1, 1])])
            text = start + len(self.frame.before) + len(own.prompt) - read
            for row in range(first, last):
                (a, b), (lead, tail) = self.reading.ranges[row].tolist(), extra[row].tolist()
                kept.append(np.arange(text + a - lead, text + b + tail))
                sizes.append(len(kept[-1]))
            outputs.append(np.arange(first, last))
            parts.append(ids)
            lengths.append(len(ids))
            start += len(ids)
        segments = np.concatenate(outputs)
        offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
        groups = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
        return Packed(np.concatenate(parts), offsets, groups, extra[segments, 0], segments, np.concatenate(kept))

    def name(self, row: int) -> str:
        """For messages."""
        first, last, _ = self.macros[row].tolist()
        start, end = int(self.reading.spans[first, 0]), int(self.reading.spans[last - 1, 1])
        return f"Text {self.distinct.first[self.owners[row]]}, characters {start} to {end},"
