"""What every ranker takes and gives: a query with candidates to a permutation of them, with a record.

Letters::

    N candidates of one query, numbered 0 .. N - 1 in first-stage order

Only the standard library is imported here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from threading import Event
from typing import Protocol, TypeAlias, runtime_checkable

from unabridged.errors import DuplicateId, ShapeError, UsageError
from unabridged.rankers.lm.contracts import Completion, Usage

Characters: TypeAlias = tuple[int, int]
"""A half-open range of characters of a candidate's text."""

SEGMENTS = "segments"
"""The text did not fit: its best segments were shown."""
CUT = "cut"
"""Not even one segment fitted: the end of the best one was left out."""
SHRUNK = "shrunk"
"""The model refused a longer prompt, so that less was shown than was planned."""
CHANGED = "changed"
"""Ids or control strings in the text were shown with look-alike characters."""
UNREAD = "unread"
"""The candidate was in no prompt."""
KEPT = "kept"
"""It was to be ranked and there was no answer: it kept the place that it had."""


class Status(str, Enum):
    """How much of a ranking is the model's own."""

    OK = "ok"
    """Every answer was whole."""
    REPAIRED = "repaired"
    """Answers were completed or asked for again; the order is the model's."""
    PARTIAL = "partial"
    """Part of the order is the model's, part is that of the first stage."""
    UNRANKED = "unranked"
    """The model gave no ranking: first-stage order."""
    FAILED = "failed"
    """No call succeeded: first-stage order."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document that the first stage found."""

    id: str
    text: str
    segments: tuple[Characters, ...] = ()
    """Its segments that answer best, best first, where the first stage knows them."""
    score: float | None = None
    """Of the first stage, higher is better."""

    def __post_init__(self) -> None:
        for start, end in self.segments:
            if not 0 <= start < end <= len(self.text):
                raise UsageError(f"Segment [{start}, {end}) of {self.id!r} is none of its {len(self.text)} characters.")


@dataclass(frozen=True, slots=True)
class Request:
    """A query and its candidates, best first by the first stage."""

    query: str
    candidates: tuple[Candidate, ...]
    id: str = ""

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for one in self.candidates:
            if one.id in seen:
                raise DuplicateId(f"Candidate {one.id!r} stands twice in the list for query {self.id or self.query!r}.")
            seen.add(one.id)


@dataclass(frozen=True, slots=True)
class Exposure:
    """What a model saw of one candidate; tokens are the model's own unless its counts are estimates."""

    total: int
    """Tokens of the whole text."""
    shown: int
    """Tokens of what was shown, the most of all prompts; joints between segments included."""
    spans: tuple[Characters, ...]
    """What was shown, in the order of the text."""
    prompts: int
    """How many prompts it was in."""
    flags: tuple[str, ...] = ()
    """Of :data:`SEGMENTS`, :data:`CUT`, :data:`SHRUNK`, :data:`CHANGED`, :data:`UNREAD`, :data:`KEPT`."""
    best: tuple[Characters, ...] = ()
    """The parts whose scores made the candidate's, best first, where parts are scored alone."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that did not go as planned: what was done about it, and why."""

    round: int
    """Of the plan, from 1."""
    items: tuple[int, ...]
    """The candidates of the group."""
    action: str
    """``repaired``, ``retry``, ``partial``, ``first-stage``, ``shrink``, ``split``, ``filtered``, ``stopped``."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What rankings cost; adds up."""

    calls: int = 0
    """Answers that were asked for, those from the cache included."""
    cached: int = 0
    """Of ``calls``: from the response cache."""
    failed: int = 0
    """Of ``calls``: without an answer."""
    unknown: int = 0
    """Of ``calls``: answered without a word on their usage, which is therefore more than ``usage``."""
    usage: Usage = field(default_factory=Usage.zero)
    seconds: float = 0.0
    """Of all calls one after the other."""

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            calls=self.calls + other.calls,
            cached=self.cached + other.cached,
            failed=self.failed + other.failed,
            unknown=self.unknown + other.unknown,
            usage=self.usage + other.usage,
            seconds=self.seconds + other.seconds,
        )

    @classmethod
    def of(cls, outcome: Completion | Exception) -> Spent:
        """The cost of one call."""
        if not isinstance(outcome, Completion):
            return cls(calls=1, failed=1)
        return cls(
            calls=1,
            cached=int(outcome.cached),
            unknown=int(outcome.usage is None),
            usage=outcome.usage or Usage.zero(),
            seconds=outcome.seconds,
        )


@dataclass(frozen=True, slots=True)
class Ranking:
    """A permutation of a request's candidates, best first, and how it was come by."""

    order: tuple[int, ...]  # (N,)
    status: Status
    scores: tuple[float | None, ...] | None = None
    """(N,), of the candidates in the order of ``order``, higher is better; None for a candidate without one, and in
    all where the ranker gives orders only.  Comparable within one ranker and query, no further."""
    exposures: tuple[Exposure, ...] = ()  # (N,), in the order of the request
    steps: tuple[Step, ...] = ()
    spent: Spent = field(default_factory=Spent)

    def __post_init__(self) -> None:
        if sorted(self.order) != list(range(len(self.order))):
            raise ShapeError(f"The order {self.order} is no permutation of 0 to {len(self.order) - 1}.")
        for name, values in (("scores", self.scores), ("exposures", self.exposures or None)):
            if values is not None and len(values) != len(self.order):
                raise ShapeError(f"{len(values)} {name} for {len(self.order)} candidates.")
        for score in self.scores or ():
            if score is not None and math.isnan(score):
                raise ShapeError("A score is not a number. A candidate without a score has None.")


@runtime_checkable
class Ranker(Protocol):
    """Requests to rankings, in the order of the requests."""

    @property
    def label(self) -> str:
        """What it is, for reports."""
        ...

    def rank(self, requests: Sequence[Request], *, cancel: Event | None = None) -> list[Ranking]:
        """One ranking per request; once ``cancel`` is set, what is not ranked keeps its order."""
        ...


def by_score(scores: Sequence[float | None]) -> tuple[int, ...]:
    """The permutation by falling score; equals and those without a score, which come last, keep their order."""
    known = [place for place, score in enumerate(scores) if score is not None]
    rest = [place for place, score in enumerate(scores) if score is None]
    return (*sorted(known, key=lambda place: -_number(scores[place])), *rest)


def run_scores(count: int) -> tuple[float, ...]:
    """``count .. 1``: scores for a run file, which fall strictly in every precision that evaluators read."""
    return tuple(float(count - place) for place in range(count))


def _number(score: float | None) -> float:
    return float("-inf") if score is None else score
