"""Texts that were read, as streams for the model.

Letters::

    U distinct texts     S segments of them
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from unabridged.contracts import Rows
from unabridged.encoders._tokens import Ids
from unabridged.encoders.mamba.streams import Stream
from unabridged.encoders.reading import Reading


@dataclass(frozen=True)
class Texts:
    """U texts, and the segments that are read of them."""

    reading: Reading
    ids: Sequence[Ids]  # U
    prompts: Sequence[Ids]  # U, as they are tokenised in front of each text
    numbers: Rows  # (U,) int64, where each stands in the caller's list
    frame: tuple[Ids, Ids]
    include_prompt: bool
    """Whether special and prompt tokens take part in pooling."""

    def carried(self) -> list[Stream]:
        """One stream for each text, its segments the groups of it."""
        return [
            self._stream(text, 0, self.reading.offsets[text].item(), self.reading.offsets[text + 1].item())
            for text in range(len(self.ids))
        ]

    def windows(self) -> list[Stream]:
        """One stream for each segment."""
        owners = np.repeat(np.arange(len(self.ids)), np.diff(self.reading.offsets))
        return [
            self._stream(text, self.reading.ranges[row, 0].item(), row, row + 1)
            for row, text in enumerate(owners.tolist())
        ]

    @property
    def states(self) -> Rows:
        """Tokens that each segment pools where a text is one stream, ``(S,)`` int64."""
        return np.concatenate([np.zeros(0, np.int64), *(stream.sizes for stream in self.carried())])

    def _stream(self, text: int, start: int, first: int, last: int) -> Stream:
        """The tokens from ``start`` to the end of the segment before row ``last``, in segments from ``first`` on."""
        lead = len(self.frame[0]) + len(self.prompts[text])
        ends = self.reading.ranges[first:last, 1] - start + lead
        length = int(ends[-1]) + len(self.frame[1])
        ends[-1] = length
        return Stream(
            ids=partial(self._ids, text, start, int(self.reading.ranges[last - 1, 1])),
            length=length,
            ends=ends,
            start=0 if self.include_prompt else lead,
            first=first,
            name=self._namer(text, first),
        )

    def _ids(self, text: int, start: int, end: int) -> Ids:
        before, after = self.frame
        return np.concatenate((before, self.prompts[text], self.ids[text][start:end], after))

    def _namer(self, text: int, first: int) -> Callable[[int], str]:
        def name(group: int) -> str:
            start, end = self.reading.spans[first + group].tolist()
            return f"Text {self.numbers[text]}, characters {start} to {end},"

        return name
