"""Setwise sorting: a choice of the best of a few, as the comparison of a sorting algorithm."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal

from unabridged.errors import UsageError
from unabridged.rankers.listwise.plans import Ask, Order, Plan, Round


@dataclass(frozen=True, slots=True, kw_only=True)
class Setwise:
    """The best ``top`` by choices among ``children + 1`` items (Zhuang et al. 2024, arXiv 2310.09497).

    ``heapsort`` builds a heap whose nodes have ``children`` children.  ``insertion`` (after arXiv 2504.10509) trusts
    the first stage: its ``top`` items are sorted first, then each group of later items is held against the last of
    them, and only what beats it is inserted, by halving.  What is not among the best keeps first-stage order.  With a
    perfect judge both give the exact best ``top``.  ``children=1`` compares pairs, in a heap of two children.
    """

    children: int = 3
    top: int = 10
    method: Literal["heapsort", "insertion"] = "heapsort"

    def __post_init__(self) -> None:
        if self.children < 1 or self.top < 1 or self.method not in ("heapsort", "insertion"):
            raise UsageError(
                f"children={self.children}, top={self.top}, method={self.method!r}: both numbers are at least 1, the "
                "method is heapsort or insertion."
            )

    @property
    def label(self) -> str:
        """``setwise:3:10`` or ``setwise-insertion:3:10``."""
        return f"setwise{'-insertion' if self.method == 'insertion' else ''}:{self.children}:{self.top}"

    def width(self, n: int) -> int:
        """A node and its children."""
        return min(self.children + 1, n) if n > 1 else 0

    def plan(self, n: int) -> Plan:
        """About ``N / c + k log_c N`` calls, nearly all of them one after the other."""
        items = tuple(range(n))
        if self.method == "heapsort":
            best = yield from _heapsort(items, min(self.top, n), self.children)
        else:
            best = yield from self._inserted(items)
        taken = set(best)
        return (*best, *(one for one in items if one not in taken))

    def _inserted(self, items: Order) -> Plan:
        size = min(self.top, len(items))
        best = list((yield from _heapsort(items[:size], size, self.children)))
        rest = list(items[size:])
        while rest:
            group = rest[: self.children]
            winner = yield from _best_of((best[-1], *group), self.children)
            if winner == best[-1]:
                rest = rest[len(group) :]
                continue
            rest.remove(winner)
            low, high = 0, size - 1
            while low < high:
                middle = (low + high) // 2
                if winner == (yield from _best_of((best[middle], winner), self.children)):
                    high = middle
                else:
                    low = middle + 1
            best.insert(low, winner)
            best.pop()
        return tuple(best)


def _best_of(items: Order, children: int) -> Generator[Round, Sequence[Order], int]:
    """The best of ``items``; only pairs (one child) need more than one call for a family."""
    best, rest = items[0], items[1:]
    while rest:
        family = (best, *rest[:children])
        # Without an answer the first stage decides: who is first in a heap says nothing.
        [order] = yield (Ask(family, 1, tuple(sorted(family))),)
        best, rest = order[0], rest[children:]
    return best


def _arity(children: int) -> int:
    """Children of a node: a heap of one child each would be a list."""
    return max(2, children)


def _heapsort(items: Order, top: int, children: int) -> Plan:
    """The best ``top`` of ``items``, best first."""
    heap = list(items)
    for root in range((len(heap) - 2) // _arity(children), -1, -1):
        yield from _sink(heap, root, children)
    best: list[int] = []
    while heap and len(best) < top:
        best.append(heap[0])
        last = heap.pop()
        if heap:
            heap[0] = last
            if len(best) < top:
                yield from _sink(heap, 0, children)
    return tuple(best)


def _sink(heap: list[int], root: int, children: int) -> Generator[Round, Sequence[Order], None]:
    """Moves the item at ``root`` down until it is the best of its family."""
    arity = _arity(children)
    while (first := root * arity + 1) < len(heap):
        family = (heap[root], *heap[first : first + arity])
        best = yield from _best_of(family, children)
        if best == heap[root]:
            return
        child = first + family.index(best) - 1
        heap[root], heap[child] = heap[child], heap[root]
        root = child
