"""Windows of texts as the token sequences that a model gets, and PCW's chunks of them.

A sequence is a slice of the text's own tokens in its :class:`~unabridged.encoders._frame.Frame`.

Letters::

    U distinct texts     S windows of them     C sequences: the windows, or under PCW their chunks
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from unabridged.contracts import Floats, Rows
from unabridged.encoders import positions
from unabridged.encoders._frame import Frame
from unabridged.encoders._run import Packed
from unabridged.encoders._tokens import Tokens
from unabridged.encoders.extension import Plan, Weighting
from unabridged.encoders.pooling import finish
from unabridged.encoders.reading import Distinct, Reading
from unabridged.encoders.windows import check_overlap


@dataclass(frozen=True, slots=True)
class Sequences:
    """Satisfies :class:`unabridged.encoders._run.Work`."""

    reading: Reading
    tokens: Sequence[Tokens]  # U
    distinct: Distinct
    frame: Frame
    windows: Rows  # (C,) int64, the window of each sequence, never falling
    ranges: Rows  # (C, 2) int64, tokens [first, last) of the own text

    @classmethod
    def of(cls, reading: Reading, tokens: Sequence[Tokens], distinct: Distinct, frame: Frame) -> Sequences:
        """Every window as one sequence."""
        return cls(reading, tokens, distinct, frame, np.arange(len(reading.ranges)), reading.ranges)

    @property
    def owners(self) -> Rows:
        """The distinct text of each sequence, ``(C,)``."""
        owners: Rows = np.searchsorted(self.reading.offsets, self.windows, side="right") - 1
        return owners

    @property
    def prompts(self) -> Rows:
        """Tokens of prompt and header of each sequence, ``(C,)``."""
        prompts = np.fromiter((len(t.prompt) for t in self.tokens), dtype=np.int64, count=len(self.tokens))
        of_each: Rows = prompts[self.owners]
        headers = self.reading.headers
        if headers is None:
            return of_each
        return of_each + np.fromiter(map(len, headers), dtype=np.int64, count=len(headers))[self.windows]

    @property
    def lengths(self) -> Rows:
        """Tokens of each sequence, ``(C,)``."""
        return self.frame.lengths(self.ranges[:, 1] - self.ranges[:, 0], self.prompts)

    @property
    def outputs(self) -> int:
        """One vector for each sequence."""
        return len(self.ranges)

    def pack(self, rows: Rows) -> Packed:
        """``rows`` one after the other; with landmarks only their states take part."""
        parts, kept, lengths = [], [], []
        prompts = []
        start = 0
        headers = self.reading.headers
        for row, owner, (first, last) in zip(
            rows.tolist(), self.owners[rows].tolist(), self.ranges[rows].tolist(), strict=True
        ):
            own = self.tokens[owner]
            header = own.prompt[:0] if headers is None else headers[int(self.windows[row])]
            prompt = np.concatenate((own.prompt, header)) if len(header) else own.prompt
            ids, places = self.frame.wrap(prompt, own.ids[first:last])
            parts.append(ids)
            lengths.append(len(ids))
            prompts.append(len(prompt))
            if places is not None:
                kept.append(start + places)
            start += len(ids)
        offsets = _offsets(lengths)
        if kept:
            groups, lead = _offsets([len(places) for places in kept]), np.zeros(len(rows), dtype=np.int64)
            return Packed(np.concatenate(parts), offsets, groups, lead, rows, np.concatenate(kept))
        lead = np.array(prompts, dtype=np.int64) + len(self.frame.before)
        return Packed(np.concatenate(parts), offsets, offsets, lead, rows)

    def name(self, row: int) -> str:
        """For messages."""
        window = int(self.windows[row])
        start, end = self.reading.spans[window].tolist()
        return f"Text {self.distinct.first[self.owners[row]]}, characters {start} to {end},"

    def chunked(self, original: int) -> Sequences:
        """The same windows in chunks of at most ``original`` tokens, specials and prompt included: PCW.

        :class:`unabridged.errors.UsageError` if the prompt leaves no room.
        """
        rooms = [self.frame.capacity(original, prompt) for prompt in self.prompts.tolist()]
        check_overlap(min(rooms, default=1), 0)
        parts = [
            first + positions.chunks(last - first, room)
            for (first, last), room in zip(self.ranges.tolist(), rooms, strict=True)
        ]
        counts = [len(part) for part in parts]
        return replace(self, windows=np.repeat(self.windows, counts), ranges=np.concatenate([self.ranges[:0], *parts]))


def merge_chunks(vectors: Floats, work: Sequences, plan: Plan) -> Floats:
    """``(S, D)`` float32: the mean of each window's chunk vectors ``(C, D)``.

    A window of one chunk keeps its vector to the bit, unless chunks are normalised.
    """
    if plan.pcw_normalize:
        vectors = finish(vectors, truncate_dim=None, normalize=True)
    count = len(work.reading.ranges)
    starts = np.searchsorted(work.windows, np.arange(count + 1))
    weights = np.ones(len(vectors)) if plan.pcw_weights is Weighting.UNIFORM else _new_tokens(work)
    out = np.empty((count, vectors.shape[1]), dtype=np.float32)
    for window, (first, last) in enumerate(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)):
        if last - first == 1:
            out[window] = vectors[first]
        else:
            share = weights[first:last] / weights[first:last].sum()
            out[window] = share @ vectors[first:last].astype(np.float64)
    return out


def _new_tokens(work: Sequences) -> Floats:
    """Tokens of each chunk that the chunk before it has not read, ``(C,)``."""
    first, last = work.ranges.T
    follows = np.concatenate(([False], work.windows[1:] == work.windows[:-1]))
    before = np.where(follows, np.concatenate(([0], last[:-1])), first)
    new: Floats = (last - np.maximum(first, before)).astype(np.float64)
    return new


def _offsets(lengths: Sequence[int]) -> Rows:
    offsets: Rows = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    return offsets
