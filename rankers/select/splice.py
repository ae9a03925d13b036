"""Kept passages as one text: in the order of their sources, what overlaps only once, within a number of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unabridged.rankers.listwise.fitting import merged
from unabridged.rankers.select.contracts import Passage

JOINT = "\n\n"
"""Between two spans that do not touch, and in front of the question."""


@dataclass(frozen=True, slots=True)
class Spliced:
    """Spans of the sources, as they follow each other."""

    spans: tuple[Passage, ...]
    """Disjoint, in the order of the sources and within each by start; no character is in two of them."""
    text: str


def spliced(passages: Sequence[Passage], order: Sequence[str]) -> Spliced:
    """``passages`` as one text; ``order`` names the documents in theirs.  Nothing is counted here."""
    spans: list[Passage] = []
    by_document: dict[str, list[Passage]] = {}
    for one in passages:
        by_document.setdefault(one.doc_id, []).append(one)
    for name in order:
        own = sorted(by_document.get(name, ()), key=lambda one: (one.start, one.end))
        at = 0
        for start, end in merged([(one.start, one.end) for one in own]):
            first = at
            while at < len(own) and own[at].start <= end:
                at += 1
            spans.append(Passage(name, start, end, _text(own[first:at], start)))
    return Spliced(tuple(spans), JOINT.join(one.text.strip() for one in spans))


def most_that_fit(count: int, fits: Callable[[int], bool]) -> int:
    """The largest n up to ``count`` for which ``fits(n)`` holds, where with each n all smaller ones fit; 0 if none.

    Found by doubling, then halving: no text is tried that is much longer than what fits.

    Joints can make one passage more a token less: the n returned may then not be the largest, but
    it is one that was tried and fits.
    """
    low, step = 0, 1
    while low < count and fits(min(count, step)):
        low, step = min(count, step), 2 * step
    high = max(low, min(count, step) - 1) if low < count else count
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _text(own: Sequence[Passage], start: int) -> str:
    """The source's characters from ``start`` on that ``own`` cover, in order and without a gap."""
    parts: list[str] = []
    at = start
    for one in own:
        if one.end > at:
            parts.append(one.text[max(0, at - one.start) :])
            at = one.end
    return "".join(parts)
