"""Token sequences of any length, cut into blocks for a model that carries a state.

Pure planning: numpy only, no model here.

A stream is ``specials + prompt + own tokens + closing tokens``.  Its groups are the runs of tokens that get a vector
each: the segments of a document, or all of a window.  A round takes pieces of one or several streams, without
padding::

    round 1   | A A A A A A | B B B B B B | C C end |
    round 2   | A A A A A A | B B end | D D D D D D |      A carried on, B finished, D entered

Letters::

    T tokens of a stream     G groups of it
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from unabridged.contracts import Rows
from unabridged.encoders._tokens import Ids

SHORTEST = 16
"""Tokens: a piece that neither ends a stop nor is this long waits for the next round, unless it is the first."""
SHARE = 256
"""Tokens that a stream gets of a round while others wait: a scan over several streams goes through them abreast."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One sequence, and the groups of its tokens that become rows ``first`` to ``first + G - 1`` of the result."""

    ids: Callable[[], Ids]  # (T,) int32, made when the stream is entered
    length: int  # T
    ends: Rows  # (G,) int64, the token behind each group
    start: int
    """Where the first group begins: behind special tokens and prompt, if these are not pooled."""
    first: int
    name: Callable[[int], str]
    """Of group g, for messages."""

    @property
    def sizes(self) -> Rows:
        """Tokens of each group, ``(G,)``."""
        return np.diff(np.concatenate(([self.start], self.ends)))


@dataclass(slots=True)
class Reader:
    """A stream that is being read."""

    stream: Stream
    ids: Ids
    at: int = 0
    group: int = 0
    """The first group that is not complete."""

    @property
    def done(self) -> bool:
        """Whether all of it is read."""
        return self.at >= self.stream.length

    def stop(self, at_groups: bool) -> int:
        """How far a piece may go: to the end of the group, or of the stream.  The last group ends with it."""
        inner = at_groups and self.group < len(self.stream.ends) - 1
        return int(self.stream.ends[self.group]) if inner else self.stream.length


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens ``[start, end)`` of a reader, in a round."""

    reader: Reader
    start: int
    end: int

    @property
    def ids(self) -> Ids:
        """Its tokens."""
        return self.reader.ids[self.start : self.end]


@dataclass(slots=True)
class Schedule:
    """The rounds over several streams.  Those that were begun are read on before others are entered."""

    streams: Iterator[Stream]
    block: int
    """Tokens of a round, at most."""
    most: int
    """Streams of a round, at most: each has a state."""
    at_groups: bool
    """Whether pieces end where groups end, so that the state there is to be had."""
    readers: list[Reader] = field(default_factory=list)

    @classmethod
    def of(cls, streams: Sequence[Stream], block: int, most: int, *, at_groups: bool) -> Schedule:
        """Longest first: what takes the most rounds begins first, so that the last rounds are full too."""
        order = np.argsort([-stream.length for stream in streams], kind="stable")
        return cls((streams[row] for row in order.tolist()), block, most, at_groups)

    def next(self) -> list[Piece]:
        """The next round; empty when all is read.  It is the same again until :meth:`advance` is called."""
        pieces: list[Piece] = []
        room = self.block
        for reader in self._candidates():
            stop = reader.stop(self.at_groups)
            end = min(stop, reader.at + min(room, SHARE))
            if pieces and end < stop and end - reader.at < SHORTEST:
                break
            pieces.append(Piece(reader, reader.at, end))
            room -= end - reader.at
            if not room or len(pieces) == self.most:
                break
        return self._widened(pieces, room)

    def _widened(self, pieces: list[Piece], room: int) -> list[Piece]:
        """The same pieces, the first ones longer where room is left."""
        found = []
        for piece in pieces:
            end = min(piece.reader.stop(self.at_groups), piece.end + room)
            room -= end - piece.end
            found.append(replace(piece, end=end))
        return found

    def advance(self, pieces: Sequence[Piece]) -> None:
        """Notes that ``pieces`` were read."""
        for piece in pieces:
            reader = piece.reader
            reader.at = piece.end
            ends = reader.stream.ends
            while reader.group < len(ends) and ends[reader.group] <= reader.at:
                reader.group += 1
        self.readers = [reader for reader in self.readers if not reader.done]

    def _candidates(self) -> Iterator[Reader]:
        yield from list(self.readers)
        for stream in self.streams:
            reader = Reader(stream, stream.ids())
            self.readers.append(reader)
            yield reader
