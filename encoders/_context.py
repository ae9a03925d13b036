"""What a batch tells the layers of an extended model: the facts of its sequences, for the time of one forward pass."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn

from unabridged.contracts import Rows
from unabridged.encoders.methods import LogN, Method
from unabridged.encoders.plan import Plan

Table = tuple[torch.Tensor, torch.Tensor]
"""Cosines and sines, each ``(L, R)`` float32."""


@dataclass(frozen=True, slots=True)
class Turns:
    """SelfExtend: how to turn queries and keys, by ordinary positions and by the two grouped ones."""

    plain: Table
    far: Table
    near: Table
    neighbours: int
    """w."""


@dataclass(frozen=True, slots=True)
class Batch:
    """B sequences, padded on the right to L tokens.  None means: as the model does it."""

    factors: torch.Tensor | None = None
    """What queries are multiplied by, ``(B, L or 1)`` float32."""
    temperature: float = 1.0
    """What scores that do not come from queries (relative positions) are divided by."""
    places: torch.Tensor | None = None
    """Rotary positions ``(B, L)`` float32, fractions included; padding has 0."""
    bases: torch.Tensor | None = None
    """Multipliers of the rotary base, ``(B,)`` float64."""
    neighbourhood: tuple[int, int] | None = None
    """SelfExtend's ``(g, w)``: then every sequence is a long one."""
    turns: dict[str, Turns] = field(default_factory=dict)
    """Left here by the rotary module for attention, by kind of layer."""

    def to(self, device: torch.device) -> Batch:
        """The same with its numbers on ``device``, so that layers copy nothing."""

        def moved(values: torch.Tensor | None) -> torch.Tensor | None:
            return None if values is None else values.to(device)

        return replace(self, factors=moved(self.factors), places=moved(self.places), bases=moved(self.bases))


class Context(threading.local):
    """One model's current batch.  Each thread has its own, so that one model can serve several."""

    batch: Batch | None = None
    seen: list[nn.Module] | None = None
    """Modules of ours that ran, while somebody counts."""

    def note(self, module: nn.Module) -> None:
        """Counts ``module`` where somebody counts."""
        if self.seen is not None:
            self.seen.append(module)

    @contextlib.contextmanager
    def reading(self, batch: Batch) -> Iterator[None]:
        """Layers see ``batch``."""
        before, self.batch = self.batch, batch
        try:
            yield
        finally:
            self.batch = before

    @contextlib.contextmanager
    def counting(self) -> Iterator[list[nn.Module]]:
        """The modules of ours that run inside."""
        found: list[nn.Module] = []
        before, self.seen = self.seen, found
        try:
            yield found
        finally:
            self.seen = before


def facts_of(plan: Plan, lengths: Rows, *, rotary: bool) -> Batch:
    """What ``plan`` means for sequences of ``lengths`` ``(B,)``.

    Everything depends on each sequence's own length.  Under SelfExtend the lengths must be all long or all not.
    """
    places = bases = near = None
    longest = int(lengths.max())
    if rotary and plan.method in (Method.GP, Method.PI) and any(plan.is_long(int(n)) for n in lengths):
        table = np.zeros((len(lengths), longest), dtype=np.float32)
        for row, length in enumerate(lengths.tolist()):
            table[row, :length] = plan.places(length)
        places = torch.from_numpy(table)
    if rotary and plan.method is Method.NTK:
        values = np.array([plan.base(int(length)) for length in lengths])
        bases = torch.from_numpy(values) if bool(np.any(values != 1.0)) else None
    if rotary:
        near = plan.neighbourhood(longest)
    return Batch(_factors(plan, lengths), plan.temperature, places, bases, near)


def _factors(plan: Plan, lengths: Rows) -> torch.Tensor | None:
    if plan.logn is LogN.PER_POSITION:
        values = np.asarray(plan.query_factor(int(lengths.max())), dtype=np.float32)[None]
    elif plan.logn is LogN.PER_SEQUENCE or plan.temperature != 1.0:
        values = plan.factors(lengths).astype(np.float32)[:, None]
    else:
        return None
    return torch.from_numpy(values) if bool(np.any(values != 1.0)) else None
