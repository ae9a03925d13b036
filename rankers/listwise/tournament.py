"""Tournaments: groups from which the best go on, with a point for each stage that is survived."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

from unabridged.errors import UsageError
from unabridged.rankers.listwise.plans import Ask, Order, Plan, Round

SHARES = (1 / 2, 2 / 5, 1 / 2, 1 / 2, 2 / 5)
"""What goes on from each stage of the published scheme, 100 to 50, 20, 10, 5, 2; it begins again for larger N."""
LAST = 2
"""Items from which there is no further stage."""


@dataclass(frozen=True, slots=True)
class Stage:
    """From ``items`` items in ``groups`` groups, ``kept`` go on."""

    items: int
    groups: int
    kept: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tournament:
    """TourRank (Chen et al. 2024, arXiv 2406.11678) for any N.

    Groups take every G-th item, so that each has a share of good ones, and are shuffled by ``seed``.  ``repeats``
    tournaments run side by side and their points are summed; ties keep first-stage order.  The published scheme knows
    N = 100 only; here its shares are applied to any N, in equal groups of at most ``group``.  Lists that fit one group
    are ordered by one call.
    """

    repeats: int = 1
    group: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if self.repeats < 1 or self.group < 4:
            raise UsageError(f"repeats={self.repeats}, group={self.group}: at least 1, and groups of at least 4.")

    @property
    def label(self) -> str:
        """``tournament:10`` for ten of them."""
        return f"tournament:{self.repeats}"

    def width(self, n: int) -> int:
        """The largest group."""
        return min(self.group, n) if n > 1 else 0

    def plan(self, n: int) -> Plan:
        """13 calls in 5 rounds for each tournament of 100 items."""
        items = tuple(range(n))
        if n < 2:
            return items
        if n <= self.group:
            [order] = yield (Ask(items),)
            return order
        points = [0] * n
        shuffles = [random.Random(f"{self.seed}:{number}") for number in range(self.repeats)]
        fields = [items] * self.repeats
        for stage in stages(n, self.group):
            rounds = [_asks(field, stage, shuffle) for field, shuffle in zip(fields, shuffles, strict=True)]
            answers = iter((yield tuple(itertools.chain.from_iterable(rounds))))
            for number, asks in enumerate(rounds):
                survivors = [one for ask in asks for one in next(answers)[: ask.expected]]
                for one in survivors:
                    points[one] += 1
                fields[number] = tuple(sorted(survivors))
        return tuple(sorted(items, key=lambda one: -points[one]))


def stages(n: int, group: int = 20) -> tuple[Stage, ...]:
    """The stages for ``n`` items: ``(100, 5, 50), (50, 5, 20), (20, 1, 10), (10, 1, 5), (5, 1, 2)`` for 100."""
    found: list[Stage] = []
    left = n
    first = -(-n // group)
    shares = itertools.cycle(SHARES)
    while (kept := max(LAST, round(left * next(shares)))) < left:
        # As many groups as in the first stage, as published, unless they would be smaller than half a group.
        groups = 1 if left <= group else max(-(-left // group), min(first, -(-2 * left // group), kept))
        found.append(Stage(left, groups, kept))
        left = kept
    return tuple(found)


def _asks(field: Order, stage: Stage, shuffle: random.Random) -> Round:
    asks = []
    for number in range(stage.groups):
        prior = field[number :: stage.groups]
        # What does not divide evenly goes to the first groups, which are also the larger ones.
        kept = stage.kept // stage.groups + (number < stage.kept % stage.groups)
        shown = list(prior)
        shuffle.shuffle(shown)
        asks.append(Ask(tuple(shown), kept, prior))
    return tuple(asks)
