"""Sequences through one or several backends, in batches that are halved when memory runs out.

Batch ``i`` always goes to backend ``i mod n``, so a run places the same work on the same device every time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from unabridged.contracts import Floats, Rows
from unabridged.encoders._tokens import Ids
from unabridged.encoders.backend import Backend
from unabridged.encoders.batching import CPU_BATCH_TOKENS, GPU_BATCH_TOKENS, plan_batches
from unabridged.errors import OutOfMemory

if TYPE_CHECKING:
    import torch

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
        import torch

        return hidden[torch.from_numpy(self.kept).to(hidden.device)]


class Work(Protocol):
    """S sequences to encode, as N vectors."""

    @property
    def lengths(self) -> Rows: ...  # (S,) tokens, specials and prompt included
    @property
    def outputs(self) -> int: ...  # N
    def pack(self, rows: Rows) -> Packed: ...
    def name(self, row: int) -> str: ...  # of a sequence, for messages


class Runner:
    """Keeps the batch size that memory allowed: what was learned in one call holds for the next."""

    def __init__(self, backends: Sequence[Backend], batch_tokens: int | None = None) -> None:
        self.backends = list(backends)
        self._asked = batch_tokens
        self._learned: list[int | None] = [None] * len(self.backends)

    @property
    def cap(self) -> int:
        """Tokens per batch before anything was learned."""
        if self._asked is not None:
            return self._asked
        stated = getattr(self.backends[0], "batch_tokens", None)
        if stated is not None:
            return int(stated)
        return CPU_BATCH_TOKENS if self.backends[0].device == "cpu" else GPU_BATCH_TOKENS

    def run(self, work: Work, heads: Sequence[Reduce], width: int) -> Floats:
        """``(N, width)`` float32.  :class:`OutOfMemory` names a sequence that does not fit even alone."""
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

        done: list[tuple[Rows, torch.Tensor]] = []
        with torch.inference_mode():
            for rows in batches:
                done.extend(self._batch(lane, rows, work, head))
            # Copied at the end: a copy per batch would make a GPU wait for the CPU's next batch.
            for rows, vectors in done:
                out[rows] = vectors.cpu().numpy()

    def _batch(self, lane: int, rows: Rows, work: Work, head: Reduce) -> list[tuple[Rows, torch.Tensor]]:
        from unabridged.encoders._torch import is_out_of_memory

        cost = int(work.lengths[rows].max()) * len(rows)
        learned = self._learned[lane]
        if learned is None or cost <= learned or len(rows) == 1:
            packed = work.pack(rows)
            try:
                states = packed.states(self.backends[lane].hidden(packed.ids, packed.offsets))
                return [(packed.rows, head(states, packed.groups, packed.lead))]
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if len(rows) == 1:
                    raise OutOfMemory(
                        f"{work.name(int(rows[0]))} does not fit into the memory of {self.backends[lane].device} even "
                        f"alone ({cost} tokens). Use a smaller max_tokens, a lower precision or another device."
                    ) from error
            # Outside of the handler, so that the traceback no longer holds the failed batch's memory.
            self._learned[lane] = max(1, min(cost // 2, learned or cost))
        half = len(rows) // 2
        return self._batch(lane, rows[:half], work, head) + self._batch(lane, rows[half:], work, head)
