"""Where code stands in what a model wrote: between fences, and between backticks in a line of prose."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator

from unabridged.rankers.context.headings import fenced
from unabridged.rankers.contracts import Characters

_TICKS = re.compile(r"`+")
_BLANK = re.compile(r"\n[ \t\r]*\n")
_COVER = "x"


def without_code(text: str) -> str:
    """``text`` of the same length, with another letter for all of its code."""
    if "`" not in text and "~~~" not in text:
        return text
    parts, at = [], 0
    for start, end in code_spans(text):
        parts += [text[at:start], _COVER * (end - start)]
        at = end
    return "".join([*parts, text[at:]])


def code_spans(text: str) -> list[Characters]:
    """Code with its marks, in the order of the text; a fence that is not closed reaches to the end.

    As in Markdown as many backticks close as opened, in the same paragraph; others are characters like any.
    """
    fences = fenced(text)
    found: list[Characters] = []
    at = 0
    for start, end in [*fences, (len(text), len(text))]:
        found += _inline(text, at, start)
        found += [(start, end)] if start < end else []
        at = end
    return found


def _inline(text: str, first: int, last: int) -> Iterator[Characters]:
    ticks = [match.span() for match in _TICKS.finditer(text, first, last)]
    by_length: dict[int, list[int]] = {}
    for row, (start, end) in enumerate(ticks):
        by_length.setdefault(end - start, []).append(row)
    breaks = [match.start() for match in _BLANK.finditer(text, first, last)]
    row = 0
    while row < len(ticks):
        start, end = ticks[row]
        same = by_length[end - start]
        place = bisect_left(same, row) + 1
        closing = same[place] if place < len(same) else None
        row += 1
        if closing is not None and bisect_left(breaks, end) == bisect_left(breaks, ticks[closing][0]):
            yield start, ticks[closing][1]
            row = closing + 1
