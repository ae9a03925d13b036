"""Batches that a lack of memory makes smaller: what is a lack of memory, and how many tokens may go together.

A cap falls to half of the batch that did not fit, holds for the rest of the run, and is raised in small steps after
many batches that fitted; each step that fails makes the next one wait twice as long.  So a run in which memory stays
short meets its limit a few times more at most (a number that grows with the logarithm of its batches), and one that
was disturbed for a moment comes back to its full speed.

The library's own types are recognised without being imported: what was never loaded cannot have run out.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import Any

PATIENCE = 16
"""Batches that fit, one after another, before the cap is raised for the first time."""
STEP = 5, 4
"""A raised cap is this many times the old one, as a fraction; twice the old one where so much has fitted before."""

SAID = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "cudaMalloc error out of memory",
    "MPS backend out of memory",
    "Cannot allocate memory (12)",
)
"""A lack of memory in the words of torch's and FAISS's RuntimeErrors, which have no type of their own for it."""
ONNX_SAID = ("bad_alloc", "bad allocation", "Failed to allocate memory", "BFCArena")
"""Likewise in those of onnxruntime."""


def ran_out(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out, of a device or of this machine.

    Any other error, above all any other RuntimeError, is a defect that a smaller batch would only hide.
    """
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    if type(error).__module__.startswith("onnxruntime"):
        return any(said in str(error) for said in ONNX_SAID)
    return isinstance(error, RuntimeError) and any(said in str(error) for said in SAID)


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """What memory did to the batches of one device: the plan as it came out."""

    device: str
    planned: int
    """Tokens of a batch at most, padding included, as the run began."""
    cap: int
    """Likewise now."""
    lowest: int
    """The lowest cap that there was."""
    halved: int
    """Batches that did not fit and were made smaller."""
    raised: int
    """How often the cap was raised again."""
    alone: int
    """Items that did not fit even alone."""
    free_bytes: int | None = None
    """Free memory as the run began; None where nobody tells."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        """For people."""
        fitted = f"{self.device}: {self.halved:,} batches did not fit into memory and were made smaller"
        caps = f"from {self.planned:,} tokens down to {self.lowest:,}, now {self.cap:,}"
        lost = f", {self.alone:,} items did not fit even alone" if self.alone else ""
        return f"{fitted}, {caps}{lost}"


@dataclass(slots=True)
class TokenCap:
    """How many tokens may go through one device together; safe to share by threads."""

    limit: int
    """Never more."""
    device: str = "cpu"
    free_bytes: int | None = None
    value: int = field(init=False)
    """The cap now."""
    _planned: int = field(init=False)
    _lowest: int = field(init=False)
    _halved: int = 0
    _raised: int = 0
    _alone: int = 0
    _patience: int = PATIENCE
    _fitted: int = 0
    _proven: int = 0
    """The largest cost that fitted since memory ran out the last time."""
    _best: int = 0
    """The largest cost that ever fitted."""
    _stepped: bool = False
    """Whether the cap was raised since memory ran out the last time."""
    _lock: Lock = field(default_factory=Lock, repr=False)

    def __post_init__(self) -> None:
        self.limit = max(1, self.limit)
        self.value = self._planned = self._lowest = self.limit

    @property
    def use(self) -> MemoryUse:
        """What happened so far."""
        with self._lock:
            return MemoryUse(
                self.device,
                self._planned,
                self.value,
                self._lowest,
                self._halved,
                self._raised,
                self._alone,
                self.free_bytes,
            )

    def bound(self, tokens: int) -> None:
        """Memory was measured to have room for ``tokens``: the limit is at most that, and at most what was planned."""
        with self._lock:
            self.limit = max(1, min(self._planned, tokens))
            self.value = min(self.value, self.limit)
            self._lowest = min(self._lowest, self.value)

    def ran_out(self, cost: int, half: int | None = None) -> None:
        """A batch of ``cost`` tokens did not fit: from now on less than ``cost`` go together.

        That is the most that fitted lately, if there is such a number, else ``half`` (of its items; None: of the cost).
        """
        with self._lock:
            proven = self._proven if self._proven < cost else 0
            self.value = max(1, min(self.value, max(cost // 2 if half is None else half, proven)))
            self._lowest = min(self._lowest, self.value)
            self._halved += 1
            if self._stepped:
                self._patience *= 2
            self._fitted = self._proven = 0
            self._stepped = False

    def failed_alone(self) -> None:
        """An item did not fit with nothing beside it, which says nothing about others."""
        with self._lock:
            self._alone += 1

    def fitted(self, cost: int) -> None:
        """A batch of ``cost`` tokens fitted; enough of them raise the cap.  Small ones say nothing about it."""
        with self._lock:
            self._best = max(self._best, cost)
            if self.value >= self.limit or 2 * cost < self.value:
                return
            self._proven = max(self._proven, min(cost, self.value))
            self._fitted += 1
            if self._fitted < self._patience:
                return
            up, down = (2, 1) if 2 * self.value <= self._best else STEP
            self._fitted = 0
            self._stepped = True
            self._raised += 1
            self.value = min(self.limit, max(self.value * up // down, self.value + 1))


def memory_report(worker: object) -> tuple[MemoryUse, ...]:
    """What memory did to the batches of an encoder, ranker or model; nothing where it does not tell."""
    tell = getattr(worker, "memory_report", None)
    return tuple(tell()) if callable(tell) else ()
