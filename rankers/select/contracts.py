"""What every segment selector takes and gives: passages in, scored passages out.

Letters::

    M passages of one question, numbered 0 .. M - 1 in the order given

Only the standard library is imported here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Protocol, runtime_checkable

from unabridged.errors import ShapeError
from unabridged.rankers.contracts import Spent


@dataclass(frozen=True, slots=True)
class Passage:
    """Characters ``[start, end)`` of the source of document ``doc_id``, with their text."""

    doc_id: str
    start: int
    end: int
    text: str

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end or len(self.text) != self.end - self.start:
            raise ShapeError(
                f"Passage [{self.start}, {self.end}) of {self.doc_id!r} comes with {len(self.text)} characters."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What scoring will take, known before it starts; adds up."""

    calls: int = 0
    """Passages that go through a language model or cross-encoder, or requests to a server."""
    tokens: int = 0
    """Tokens that they read, the question's included; of the scorer's own tokenizer."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(calls=self.calls + other.calls, tokens=self.tokens + other.tokens)


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of M passages, higher is better whatever the method; comparable within one question and selector."""

    scores: tuple[float | None, ...]  # (M,)
    """None: this passage has no score, and ``reasons`` says why.  Never NaN."""
    reasons: tuple[str, ...] = ()  # (M,) or ()
    """Why a passage has no score, in a few stable words; "" for those that have one."""
    bounds: tuple[tuple[float, float] | None, ...] = ()  # (M,) or ()
    """Lowest and highest possible score, where it is known only within bounds."""
    spent: Spent = field(default_factory=Spent)

    def __post_init__(self) -> None:
        for name, values in (("reasons", self.reasons), ("bounds", self.bounds)):
            if values and len(values) != len(self.scores):
                raise ShapeError(f"{len(values)} {name} for {len(self.scores)} passages.")
        if any(score is not None and math.isnan(score) for score in self.scores):
            raise ShapeError("A score is not a number. A passage without a score has None.")


@runtime_checkable
class Selector(Protocol):
    """Passages to scores, each passage independent of its neighbours in the list unless the selector says so."""

    @property
    def label(self) -> str:
        """What it is, for reports."""
        ...

    def cost(self, question: str, passages: Sequence[Passage]) -> Cost:
        """What :meth:`score` would take; computed without any forward pass or request."""
        ...

    def score(self, question: str, passages: Sequence[Passage], *, cancel: Event | None = None) -> Scored:
        """One score per passage, in order; once ``cancel`` is set the rest have none, with the reason ``cancelled``."""
        ...
