"""The orders of a pack, as permutations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from unabridged.rankers.context.contracts import Order

T = TypeVar("T")


def two_stage(ranked: Sequence[T]) -> list[T]:
    """Ranks 0, 2, 4, ..., and then ..., 5, 3, 1: the best in front, the second best at the end.

    Source: the reordering of LongLLMLingua (Jiang et al. 2023) against the loss of what stands in the middle.
    """
    return [*ranked[::2], *ranked[1::2][::-1]]


BY_RANK: Mapping[Order, Callable[[Sequence[T]], list[T]]] = {
    Order.SCORE: list,
    Order.REVERSE: lambda ranked: list(ranked[::-1]),
    Order.TWO_STAGE: two_stage,
}
"""Best first to the order; the order of the source needs documents and places, see :func:`arranged`."""


def default_order(documents: int) -> Order:
    """As in the source where there is one document, best at both edges where there are several."""
    return Order.SOURCE if documents <= 1 else Order.TWO_STAGE


def arranged(ranked: Sequence[T], order: Order, document: Callable[[T], str], start: Callable[[T], int]) -> list[T]:
    """``ranked``, best first, in ``order``: a permutation of it."""
    if order is not Order.SOURCE:
        return BY_RANK[order](ranked)
    first: dict[str, int] = {}
    for place, one in enumerate(ranked):
        first.setdefault(document(one), place)
    return sorted(ranked, key=lambda one: (first[document(one)], start(one)))
