"""Top-down partition: a pivot from the head of the list, against which everything else is held at once."""

from __future__ import annotations

from dataclasses import dataclass

from unabridged.errors import UsageError
from unabridged.rankers.listwise.plans import Ask, Order, Plan
from unabridged.rankers.listwise.sliding import slide

LEVELS = 8
"""Partitions one inside the other before windows take over: a judge who always prefers what is not the pivot would
otherwise ask in the order of N^2 / w times.  In simulations with 100 items three levels were the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopDown:
    """Top-down partition (Parry et al. 2024, arXiv 2405.14589), corrected.

    The first window gives a pivot, its ``cut``-th item; each other item is compared with it in groups that are
    independent of each other; those that beat it are partitioned again.  Differences from the published code: the
    losers of a deeper level stand before those of the level above, for they beat that level's pivot; no call is made
    for a single item; and by default every document is read (``exhaustive``), so that with a perfect judge the best
    ``cut`` are exact.  Otherwise the reading stops when ``buffer`` items are found, and what was not read is flagged.
    """

    window: int = 20
    cut: int = 10
    buffer: int = 20
    exhaustive: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.cut < self.window or self.buffer < self.cut:
            raise UsageError(
                f"window={self.window}, cut={self.cut}, buffer={self.buffer}: the cut lies between 1 and window - 1, "
                "the buffer is at least the cut, as in 20, 10 and 20."
            )

    @property
    def label(self) -> str:
        """``topdown:20:10``, with the buffer behind it where not everything is read."""
        return f"topdown:{self.window}:{self.cut}" + ("" if self.exhaustive else f":{self.buffer}")

    def width(self, n: int) -> int:
        """The window, or all where they are fewer."""
        return min(self.window, n) if n > 1 else 0

    def plan(self, n: int) -> Plan:
        """About ``2 + (N - w) / (w - 1)`` calls in three rounds, more where the first stage is bad."""
        return (yield from self._partition(tuple(range(n)), LEVELS))

    def _partition(self, items: Order, levels: int) -> Plan:
        if len(items) < 2:
            return items
        if len(items) <= self.window:
            [order] = yield (Ask(items),)
            return order
        if levels == 0:
            return (yield from slide(items, self.window, self.window - self.cut))
        [head] = yield (Ask(items[: self.window]),)
        pivot, better, worse = head[self.cut - 1], head[: self.cut - 1], head[self.cut :]
        beaten = len(better)
        rest = items[self.window :]
        while rest and (self.exhaustive or len(better) < self.buffer):
            size = self.window - 1
            taken = rest if self.exhaustive else rest[:size]
            rest = rest[len(taken) :]
            asks = tuple(Ask((pivot, *taken[at : at + size])) for at in range(0, len(taken), size))
            for order in (yield asks):
                place = order.index(pivot)
                better, worse = better + order[:place], worse + order[place + 1 :]
        if len(better) > beaten:
            better = yield from self._partition(better, levels - 1)
        return (*better, pivot, *worse, *rest)
