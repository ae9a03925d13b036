"""All candidates in one prompt, and windows that move from the end of the list to its head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from unabridged.errors import UsageError
from unabridged.rankers.listwise.plans import Ask, Order, Plan, check_window


@dataclass(frozen=True, slots=True, kw_only=True)
class Full:
    """One prompt with all candidates (full ranking, arXiv 2412.14574: better than windows for fine-tuned models)."""

    most: int | None = None
    """Only the best so many are named, which saves answer tokens; the others keep their order behind them."""

    def __post_init__(self) -> None:
        if self.most is not None and self.most < 1:
            raise UsageError(f"most={self.most}: name at least one candidate, or None for all.")

    @property
    def label(self) -> str:
        """``full`` or ``full:10``."""
        return "full" if self.most is None else f"full:{self.most}"

    def width(self, n: int) -> int:
        """All of them."""
        return n if n > 1 else 0

    def plan(self, n: int) -> Plan:
        """One call, none for fewer than two items."""
        items = tuple(range(n))
        if n < 2:
            return items
        [order] = yield (Ask(items, None if self.most is None else min(self.most, n)),)
        return order


@dataclass(frozen=True, slots=True, kw_only=True)
class Sliding:
    """A window that moves from the end to the head, ``passes`` times (Sun et al. 2023, arXiv 2304.09542).

    With a perfect judge one pass brings the best ``window - step`` items to the head in order, whatever was there
    before; nothing is promised of the others.  Every item is in a window, whatever N.
    """

    window: int = 20
    step: int = 10
    passes: int = 1

    def __post_init__(self) -> None:
        check_window(self.window, self.step)
        if self.passes < 1:
            raise UsageError(f"passes={self.passes}: at least one.")

    @property
    def label(self) -> str:
        """``sliding:20:10``, with the number of passes behind it where there are several."""
        return f"sliding:{self.window}:{self.step}" + (f":{self.passes}" if self.passes > 1 else "")

    def width(self, n: int) -> int:
        """The window, or all where they are fewer."""
        return min(self.window, n) if n > 1 else 0

    def plan(self, n: int) -> Plan:
        """``1 + ceil(max(0, N - w) / s)`` calls a pass, one after the other; none for fewer than two items."""
        order: Order = tuple(range(n))
        for _ in range(self.passes):
            order = yield from slide(order, self.window, self.step)
        return order


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiPass:
    """Passes until the whole list is in order: complete labels (arXiv 2412.14574, section 4.1).

    Each pass settles the best ``window - step`` of what is left.  ``shrinking`` leaves them out of the next pass: 45
    calls for 100 items; without it every pass slides over the whole list: 81 calls, the same promise, and answers that
    may still correct what was settled.  With a perfect judge both give the exact order.
    """

    window: int = 20
    step: int = 10
    shrinking: bool = True

    def __post_init__(self) -> None:
        check_window(self.window, self.step)

    @property
    def label(self) -> str:
        """``multipass:20:10`` or ``multipass-whole:20:10``."""
        return f"multipass{'' if self.shrinking else '-whole'}:{self.window}:{self.step}"

    def width(self, n: int) -> int:
        """The window, or all where they are fewer."""
        return min(self.window, n) if n > 1 else 0

    def plan(self, n: int) -> Plan:
        """Passes over what is left, or over all."""
        settled = self.window - self.step
        order: Order = tuple(range(n))
        done = 0
        while n > 1:
            tail = yield from slide(order[done:] if self.shrinking else order, self.window, self.step)
            order = order[:done] + tail if self.shrinking else tail
            if n - done <= self.window:
                break
            done += settled
        return order


def windows(n: int, window: int, step: int) -> Iterator[tuple[int, int]]:
    """The half-open windows over ``n`` places, last one first; the head is always in the last window."""
    end = n
    while n > 1:
        start = max(end - window, 0)
        yield start, end
        if start == 0:
            return
        end -= step


def slide(order: Order, window: int, step: int) -> Plan:
    """One pass over ``order``, from its end to its head."""
    places = list(order)
    for start, end in windows(len(places), window, step):
        [answer] = yield (Ask(tuple(places[start:end])),)
        places[start:end] = answer
    return tuple(places)
