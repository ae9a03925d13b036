"""What is asked of a model, in which order: plans over item numbers, without any model.

A plan is a generator.  It yields a *round*, a tuple of :class:`Ask` that may be answered side by side; it receives one
order per ask; it returns the final order of the items ``0 .. N - 1``, which are the candidates in first-stage order.
Whoever drives it may be a model, a test's comparator or nobody: :func:`cost` counts the calls of a plan by running it.

Letters::

    N candidates of one query     w window     s step     k wanted depth
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from unabridged.errors import UsageError, ValidationError

Order: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ask:
    """One group of items to be put in order, in the order in which they are shown."""

    items: Order
    most: int | None = None
    """Only so many items, the best ones, are needed (1: a choice); None: the order of all."""
    prior: Order | None = None
    """The order to keep where no answer comes; None: the order in which they are shown."""

    def __post_init__(self) -> None:
        if len(self.items) < 2 or len(set(self.items)) != len(self.items):
            raise UsageError(f"A group needs two different items or more, got {self.items}.")
        if self.most is not None and not 1 <= self.most <= len(self.items):
            raise UsageError(f"most={self.most} of a group of {len(self.items)}: it lies between 1 and its size.")
        if self.prior is not None and sorted(self.prior) != sorted(self.items):
            raise UsageError(f"The prior order {self.prior} has other items than the group {self.items}.")

    @property
    def kept(self) -> Order:
        """The order without an answer."""
        return self.items if self.prior is None else self.prior

    @property
    def expected(self) -> int:
        """Items that an answer names."""
        return len(self.items) if self.most is None else self.most


Round: TypeAlias = tuple[Ask, ...]
Plan: TypeAlias = Generator[Round, Sequence[Order], Order]
Comparator: TypeAlias = Callable[[Ask], Order]


class Strategy(Protocol):
    """A family of plans, one for each N."""

    @property
    def label(self) -> str:
        """How it is named in reports and on the command line."""
        ...

    def width(self, n: int) -> int:
        """Size of the largest group among ``n`` items; 0 where nothing is asked."""
        ...

    def plan(self, n: int) -> Plan:
        """The plan for ``n`` items."""
        ...


@dataclass(frozen=True, slots=True)
class Cost:
    """What a plan asks for."""

    calls: int
    rounds: int
    """Calls that must wait for one another."""
    shown: int
    """Items in all prompts together; an item counts once for each prompt it is in."""
    labels: int
    """Items named in all answers together."""
    width: int
    """Items of the largest group."""


def as_shown(ask: Ask) -> Order:
    """The comparator that keeps what it is shown."""
    return ask.kept


def drive(plan: Plan, compare: Comparator) -> Order:
    """The order that ``plan`` returns when each group is answered by ``compare``."""
    answers: list[Order] | None = None
    while True:
        try:
            asks = next(plan) if answers is None else plan.send(answers)
        except StopIteration as done:
            return checked(done.value)
        answers = [compare(ask) for ask in asks]


def cost(strategy: Strategy, n: int, compare: Comparator = as_shown) -> Cost:
    """What ``strategy`` asks for over ``n`` items, counted by running its plan.

    Plans that depend on the answers (:class:`~unabridged.rankers.listwise.topdown.TopDown`,
    :class:`~unabridged.rankers.listwise.setwise.Setwise`) are counted as if the answers were those of ``compare``; by
    default, as if the first-stage order were right.
    """
    calls = rounds = shown = labels = width = 0
    plan = strategy.plan(n)
    answers: list[Order] | None = None
    while True:
        try:
            asks = next(plan) if answers is None else plan.send(answers)
        except StopIteration:
            return Cost(calls, rounds, shown, labels, width)
        answers = [compare(ask) for ask in asks]
        rounds += 1
        calls += len(asks)
        shown += sum(len(ask.items) for ask in asks)
        labels += sum(ask.expected for ask in asks)
        width = max(width, *(len(ask.items) for ask in asks))


def checked(order: Order) -> Order:
    """``order``, or :class:`ValidationError` unless it holds each of its ``N`` numbers once."""
    if sorted(order) != list(range(len(order))):
        raise ValidationError(f"An order of {len(order)} items must hold 0 to {len(order) - 1} once each, got {order}.")
    return order


def check_window(window: int, step: int) -> None:
    """:class:`UsageError` unless windows overlap and move."""
    if not 0 < step < window:
        raise UsageError(f"window={window} and step={step}: a step lies between 1 and window - 1, as in 20 and 10.")
