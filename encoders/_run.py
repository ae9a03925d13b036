"""Sequences through one or several backends, in batches that become smaller when memory runs out.

Batch ``i`` always goes to backend ``i mod n``, so a run places the same work on the same device every time.  The plan
follows from the lengths and the cap that was stated; free memory takes part only where it is short, so that equal runs
have equal batches on any machine that has room for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Protocol

import numpy as np

from unabridged.contracts import Floats, Rows
from unabridged.encoders._tokens import Ids
from unabridged.encoders.backend import Backend
from unabridged.encoders.batching import (
    CPU_BATCH_TOKENS,
    GPU_BATCH_TOKENS,
    batch_cost,
    in_batches,
    plan_batches,
    room,
)
from unabridged.errors import OutOfMemory, ResourceError
from unabridged.halving import MemoryUse, TokenCap, ran_out
from unabridged.room import Peak, free_bytes

if TYPE_CHECKING:
    import torch

GATHERED_BYTES = 1 << 26
"""Of vectors that wait on a device, at most; then they are copied together."""

Reduce = Callable[["torch.Tensor", Rows, Rows], "torch.Tensor"]
"""States ``(P, H)``, offsets of N groups of them, leading tokens of each group -> vectors ``(N, D)``."""


@dataclass(frozen=True, slots=True)
class Packed:
    """B sequences for a backend, and the N groups of their states that become one vector each.

    Mostly a sequence is one group.  Late chunking makes several of it, landmark pooling leaves states out.
    """

    ids: Ids  # (T,) int32
    offsets: Rows  # (B + 1,) int64, of the sequences in ids
    groups: Rows  # (N + 1,) int64, of the groups among the states that take part
    lead: Rows  # (N,) int64, special and prompt tokens in front of each group's text
    rows: Rows  # (N,) int64, the row of the result that each group becomes
    kept: Rows | None = None  # (P,) int64, the states that take part; None: all

    def states(self, hidden: torch.Tensor) -> torch.Tensor:
        """Those of the states ``(T, H)`` that take part, ``(P, H)``."""
        if self.kept is None:
            return hidden
        from unabridged.encoders._torch import put

        return hidden.index_select(0, put(self.kept, hidden.device))


class Work(Protocol):
    """S sequences to encode, as N vectors."""

    @property
    def lengths(self) -> Rows: ...  # (S,) tokens, specials and prompt included
    @property
    def outputs(self) -> int: ...  # N
    def pack(self, rows: Rows) -> Packed: ...
    def name(self, row: int) -> str: ...  # of a sequence, for messages


class Runner:
    """Keeps the batch size that memory allowed: what was learned in one call holds for the next.

    ``token_bytes`` is what a token is thought to take of memory, None: not known.  On a GPU it is measured.
    """

    def __init__(
        self, backends: Sequence[Backend], batch_tokens: int | None = None, token_bytes: int | None = None
    ) -> None:
        self.backends = list(backends)
        self._asked = batch_tokens
        self._token_bytes = token_bytes
        self._caps: dict[int, TokenCap] = {}
        self._lock = Lock()

    @property
    def cap(self) -> int:
        """Tokens per batch before anything was learned."""
        if self._asked is not None:
            return self._asked
        stated = getattr(self.backends[0], "batch_tokens", None)
        if stated is not None:
            return int(stated)
        return CPU_BATCH_TOKENS if self.backends[0].device == "cpu" else GPU_BATCH_TOKENS

    def memory_report(self) -> tuple[MemoryUse, ...]:
        """What memory did to the batches so far, for each backend that was used."""
        return tuple(cap.use for _, cap in sorted(self._caps.items()))

    def run(self, work: Work, heads: Sequence[Reduce], width: int) -> Floats:
        """``(N, width)`` float32.

        :class:`OutOfMemory` names a sequence that does not fit even alone, :class:`ResourceError` a device that has no
        room for the weights.
        """
        out = np.zeros((work.outputs, width), dtype=np.float32)
        batches = plan_batches(work.lengths, self.cap)
        lanes = range(min(len(self.backends), len(batches)))
        if len(lanes) <= 1:
            for lane in lanes:
                self._lane(lane, batches, work, heads[lane], out)
            return out
        with ThreadPoolExecutor(len(lanes), thread_name_prefix="encode") as pool:
            jobs = [
                pool.submit(self._lane, lane, batches[lane :: len(self.backends)], work, heads[lane], out)
                for lane in lanes
            ]
            for job in jobs:
                job.result()
        return out

    def _lane(self, lane: int, batches: Sequence[Rows], work: Work, head: Reduce, out: Floats) -> None:
        import torch

        backend, cap, lengths = self.backends[lane], self._cap(lane), work.lengths
        gathered = _Gathered(out)

        def run(rows: Rows) -> tuple[Rows, torch.Tensor]:
            peak = Peak.start(cap.device)
            packed = work.pack(rows)
            states = packed.states(backend.hidden(packed.ids, packed.offsets))
            found = packed.rows, head(states, packed.groups, packed.lead)
            if peak is not None and (used := peak.bytes()) is not None:
                self._learn(cap, used // batch_cost(lengths, rows) + 1)
            return found

        def alone(row: int, lack: Exception) -> tuple[Rows, torch.Tensor]:
            raise OutOfMemory(
                f"{work.name(row)} does not fit into the memory of {cap.device} even alone ({int(lengths[row])} "
                "tokens). Use a smaller max_tokens, a lower precision or another device."
            ) from lack

        with torch.inference_mode():
            for _, (rows, vectors) in in_batches(batches, lengths, cap, run, alone, relief=gathered.one_by_one):
                gathered.add(rows, vectors)
            gathered.copy()

    def _cap(self, lane: int) -> TokenCap:
        """The cap of a backend, from the free memory of its device once its weights are there."""
        with self._lock:
            if lane not in self._caps:
                backend = self.backends[lane]
                _load(backend)
                free = free_bytes(backend.device)
                cap = TokenCap(self.cap, backend.device, free)
                most = room(free, self._token_bytes, backend.device)
                if most is not None:
                    cap.bound(most)
                self._caps[lane] = cap
            return self._caps[lane]

    @staticmethod
    def _learn(cap: TokenCap, token_bytes: int) -> None:
        """A batch took ``token_bytes`` for each of its tokens, more than any before: others may as well."""
        most = room(free_bytes(cap.device), token_bytes, cap.device)
        if most is not None:
            cap.bound(most)


@dataclass(slots=True)
class _Gathered:
    """Vectors that wait on their device: a copy per batch would make a GPU wait for the CPU's next batch."""

    out: Floats
    _rows: list[Rows] = field(default_factory=list)
    _vectors: list[torch.Tensor] = field(default_factory=list)
    _bytes: int = 0

    def add(self, rows: Rows, vectors: torch.Tensor) -> None:
        """``vectors`` are those of ``rows`` of the result."""
        self._rows.append(rows)
        self._vectors.append(vectors)
        self._bytes += vectors.nbytes
        if self._bytes >= GATHERED_BYTES:
            self.copy()

    def copy(self) -> None:
        """Into the result; from a GPU as one piece."""
        import torch

        if self._vectors and self._vectors[0].device.type != "cpu":
            try:
                whole = torch.cat(self._vectors)
            except Exception as error:
                if not ran_out(error):
                    raise
            else:
                self._rows, self._vectors = [np.concatenate(self._rows)], [whole]
        self.one_by_one()

    def one_by_one(self) -> None:
        """Likewise, without memory for putting them together."""
        for rows, vectors in zip(self._rows, self._vectors, strict=True):
            self.out[rows] = vectors.cpu().numpy()
        self._rows, self._vectors, self._bytes = [], [], 0


def _load(backend: Backend) -> None:
    """Loads the weights of a backend that can do so by itself; :class:`ResourceError` where there is no room."""
    load = getattr(backend, "load", None)
    if not callable(load):
        return
    try:
        load()
    except Exception as error:
        if not ran_out(error):
            raise
        raise ResourceError(
            f"The weights of the model do not fit into the memory of {backend.device} ({free_bytes(backend.device)} "
            "bytes are free). Use a lower precision, another device or a smaller model."
        ) from error
