"""Spans of one text: merged, widened, and cut at sentences.  Pure functions."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from operator import itemgetter

import numpy as np

from unabridged.encoders.windows import SENTENCE, View
from unabridged.rankers.contracts import Characters

Group = tuple[int, int, tuple[int, ...]]
"""Start, end, and which of the spans are in it."""


def merged(spans: Sequence[Characters], text: str, join_gap: int = 0) -> list[Group]:
    """Disjoint groups in the order of the text: spans that overlap, touch, or have at most ``join_gap`` between them.

    White space alone is no gap: a segment and the next one are one span.
    """
    groups: list[Group] = []
    for place, (start, end) in sorted(enumerate(spans), key=itemgetter(1)):
        if groups:
            first, last, members = groups[-1]
            if start - last <= join_gap or text[last:start].isspace():
                groups[-1] = (first, max(last, end), (*members, place))
                continue
        groups.append((start, end, (place,)))
    return groups


def without(whole: Characters, parts: Iterable[Characters]) -> list[Characters]:
    """What of ``whole`` is in none of the ``parts``."""
    rest, at = [], whole[0]
    for start, end in sorted(parts):
        if start > at:
            rest.append((at, min(start, whole[1])))
        at = max(at, end)
        if at >= whole[1]:
            return [part for part in rest if part[0] < part[1]]
    return [part for part in [*rest, (at, whole[1])] if part[0] < part[1]]


def with_neighbours(span: Characters, segments: Sequence[Characters], count: int) -> Characters:
    """``span`` with ``count`` of the ``segments``, in their order, before and behind those that it lies in."""
    if not segments or count == 0:
        return span
    first = bisect_right([end for _, end in segments], span[0])
    last = bisect_left([start for start, _ in segments], span[1]) - 1
    start = segments[max(0, min(first, len(segments) - 1) - count)][0]
    end = segments[min(len(segments) - 1, max(last, 0) + count)][1]
    return min(span[0], start), max(span[1], end)


def with_margin(span: Characters, text: str, characters: int) -> Characters:
    """``span`` with at most so many characters before and behind it, words whole and no white space at the edges."""
    if characters == 0:
        return span
    start, end = max(0, span[0] - characters), min(len(text), span[1] + characters)
    while start < span[0] and (text[start].isspace() or (start > 0 and not text[start - 1].isspace())):
        start += 1
    while end > span[1] and (text[end - 1].isspace() or (end < len(text) and not text[end].isspace())):
        end -= 1
    return start, end


def sentence_ends(text: str, start: int, end: int) -> list[int]:
    """Where the sentences of ``text[start:end]`` end, behind their last visible character: rising places of the text.

    The last one is the end of what there is to see.
    """
    part = text[start:end]
    if not part or part.isspace():
        return []
    view = View(part)
    index = np.arange(view.size)
    begin = index[view.following[:-1] == index]
    begin = begin[(begin > 0) & (view.rank(begin) >= SENTENCE)]
    ends = {int(view.preceding[place]) + 1 for place in begin} | {len(part.rstrip())}
    return [start + one for one in sorted(ends) if one > 0]
