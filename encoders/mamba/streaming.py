"""Streams through a model in blocks, with the state carried on: memory does not grow with length.

What is held besides the model: the activations of one block, and the states of the streams in it.

A document's vector under ``last`` is the state of the closing token.  A segment's vector is what the document's would
be if its text ended there: the state at the segment's end is forked, the fork reads the closing tokens, and the
document goes on without them.  Under ``mean`` states are summed by group as they pass.

Letters::

    T tokens of a block     B pieces in it     N groups of all streams     H hidden width
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Rows
from unabridged.encoders._tokens import Ids
from unabridged.encoders.mamba.scratch import Scratch
from unabridged.encoders.mamba.streams import Piece, Reader, Schedule, Stream
from unabridged.errors import OutOfMemory, ShapeError
from unabridged.halving import MemoryUse, ran_out
from unabridged.room import release

if TYPE_CHECKING:
    import torch

    from unabridged.encoders.mamba.model import MambaModel
    from unabridged.encoders.mamba.state import State

SMALLEST_BLOCK = 64
"""Tokens: below this a block is not halved any more when memory runs out."""
CPU_STATE_BYTES = 1 << 28
"""Of the states of a round, at most: 90 streams of mamba-130m, 13 of mamba2-130m."""
GPU_STATE_BYTES = 1 << 31


@dataclass(slots=True)
class Streaming:
    """One model's way through streams; ``block`` keeps what memory allowed from one run to the next."""

    model: MambaModel
    device: str
    closing: Ids  # what a fork reads
    pooling: str
    block: int
    """Tokens of a block, at most."""
    scratch: Scratch = field(default_factory=lambda: Scratch(reused=True))
    _planned: int = field(init=False)
    _halved: int = field(init=False, default=0)
    _alone: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self._planned = self.block

    def run(self, streams: Sequence[Stream], out: NDArray[np.float64], *, segments: bool) -> None:
        """Fills the rows of ``streams`` in ``out`` ``(N, H)``.

        Without ``segments`` and under ``last`` only the last row of each stream is filled.

        Raises:
            ShapeError: a vector with NaN or infinite values, by the name of its text.
            OutOfMemory: not even a small block of one stream fits.
        """
        import torch

        at_groups = self.pooling == "last"
        schedule = Schedule.of(streams, self.block, self._most(), at_groups=at_groups)
        states: dict[int, State] = {}
        while pieces := schedule.next():
            try:
                with torch.inference_mode():
                    after = self._round(pieces, states, out, forks=segments and at_groups)
            except Exception as error:
                if not ran_out(error):
                    raise
                self._halved += 1
                if self.block <= SMALLEST_BLOCK:
                    self._alone += 1
                    raise OutOfMemory(
                        f"{pieces[0].reader.stream.name(0)} does not fit into the memory of {self.device}, even in "
                        f"blocks of {self.block} tokens. Use a lower precision or another device."
                    ) from error
                self.block = max(SMALLEST_BLOCK, self.block // 2)
                self.scratch = Scratch(reused=True)  # its room is for the block that did not fit
                schedule.block, schedule.most = self.block, max(1, schedule.most // 2)
            else:
                for piece in pieces:
                    states.pop(id(piece.reader), None)
                schedule.advance(pieces)
                states.update(after)
                continue
            # Outside of the handler, in which the traceback still holds the block's memory.
            release(self.device)

    @property
    def use(self) -> MemoryUse:
        """What memory did to the blocks; a block that was made smaller stays so."""
        return MemoryUse(self.device, self._planned, self.block, self.block, self._halved, 0, self._alone)

    def _most(self) -> int:
        bytes_ = CPU_STATE_BYTES if self.device == "cpu" else GPU_STATE_BYTES
        return max(1, bytes_ // max(1, self.model.state(1).nbytes))

    def _round(
        self, pieces: Sequence[Piece], states: dict[int, State], out: NDArray[np.float64], *, forks: bool
    ) -> dict[int, State]:
        """The states behind the pieces of streams that go on; the pieces' vectors go into ``out``."""
        offsets = np.concatenate(([0], np.cumsum([piece.end - piece.start for piece in pieces]))).astype(np.int64)
        ids = np.concatenate([piece.ids for piece in pieces])
        hidden, after = self._hidden(pieces, ids, offsets, self._before(pieces, states))
        if self.pooling == "mean":
            self._sum(pieces, offsets, hidden, out)
        else:
            ended = [row for row, piece in enumerate(pieces) if piece.end == piece.reader.stream.length]
            self._put([pieces[row] for row in ended], hidden[_rows(offsets[1:][ended] - 1, hidden)], out)
            if forks:
                self._fork(pieces, after, out)
        return {
            id(piece.reader): after.take([row])
            for row, piece in enumerate(pieces)
            if piece.end < piece.reader.stream.length
        }

    def _before(self, pieces: Sequence[Piece], states: dict[int, State]) -> State | None:
        from unabridged.encoders.mamba.state import State

        known = [states.get(id(piece.reader)) for piece in pieces]
        if all(state is None for state in known):
            return None
        return State.join([self.model.state(1) if state is None else state for state in known])

    def _hidden(
        self, pieces: Sequence[Piece], ids: Ids, offsets: Rows, state: State | None
    ) -> tuple[torch.Tensor, State]:
        """As the model's, one sequence for each piece; :class:`ShapeError` names its text."""
        import torch

        from unabridged.encoders.mamba.finite import NonFinite

        try:
            own = torch.from_numpy(ids.astype(np.int64)).to(self.device)
            return self.model.hidden(own, offsets, state, scratch=self.scratch)
        except NonFinite as error:
            reader = pieces[error.sequence].reader
            raise _not_finite(reader, reader.group) from error

    def _fork(self, pieces: Sequence[Piece], after: State, out: NDArray[np.float64]) -> None:
        """The vectors of segments that end with a piece and do not end their document."""
        rows = [
            row
            for row, piece in enumerate(pieces)
            if piece.end < piece.reader.stream.length and piece.end == piece.reader.stream.ends[piece.reader.group]
        ]
        if not rows:
            return
        offsets = np.arange(len(rows) + 1, dtype=np.int64) * len(self.closing)
        forked = [pieces[row] for row in rows]
        hidden, _ = self._hidden(forked, np.tile(self.closing, len(rows)), offsets, after.take(rows))
        self._put(forked, hidden[_rows(offsets[1:] - 1, hidden)], out)

    def _put(self, pieces: Sequence[Piece], vectors: torch.Tensor, out: NDArray[np.float64]) -> None:
        found = vectors.float().cpu().numpy()
        for piece, vector in zip(pieces, found, strict=True):
            _check(piece.reader, piece.reader.group, vector)
            out[piece.reader.stream.first + piece.reader.group] = vector

    def _sum(self, pieces: Sequence[Piece], offsets: Rows, hidden: torch.Tensor, out: NDArray[np.float64]) -> None:
        """Adds each group's share of its mean."""
        import torch

        runs = [run for piece in pieces for run in _runs(piece)]
        lengths = torch.tensor([end - start for _, _, start, end in runs], device=hidden.device)
        sums = torch.segment_reduce(hidden.float(), "sum", lengths=lengths).cpu().numpy()
        for (reader, group, _, _), total in zip(runs, sums, strict=True):
            if group < 0:
                continue
            _check(reader, group, total)
            out[reader.stream.first + group] += total.astype(np.float64) / int(reader.stream.sizes[group])


def _runs(piece: Piece) -> list[tuple[Reader, int, int, int]]:
    """The piece as runs of one group each: reader, group (-1: not pooled), first token, token behind the last."""
    reader = piece.reader
    found = []
    at = piece.start
    if at < reader.stream.start:
        end = min(piece.end, reader.stream.start)
        found.append((reader, -1, at, end))
        at = end
    group = reader.group
    while at < piece.end:
        end = min(piece.end, int(reader.stream.ends[group]))
        found.append((reader, group, at, end))
        at, group = end, group + 1
    return found


def _check(reader: Reader, group: int, vector: NDArray[np.float32]) -> None:
    if not np.isfinite(vector).all():
        raise _not_finite(reader, group)


def _not_finite(reader: Reader, group: int) -> ShapeError:
    return ShapeError(
        f"{reader.stream.name(group)} gives states with NaN or infinite values. The model's weights may be damaged, or "
        "the precision too low: try precision='float32'."
    )


def _rows(rows: Rows, hidden: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.from_numpy(rows).to(hidden.device)
