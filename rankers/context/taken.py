"""Which characters of which sources are taken so far, to tell whether one more span would stand alone."""

from __future__ import annotations

from bisect import bisect_right, insort

from unabridged.rankers.context.sources import Reader
from unabridged.rankers.contracts import Characters


class Taken:
    """Disjoint spans by document; those that a pack would show as one are one."""

    def __init__(self, reader: Reader, join_gap: int) -> None:
        self._reader, self._join_gap = reader, join_gap
        self._spans: dict[str, list[Characters]] = {}

    def alone(self, doc_id: str, span: Characters) -> bool:
        """Whether nothing that was taken would be shown as one with ``span``."""
        spans = self._spans.get(doc_id)
        if not spans:
            return True
        text = self._reader.text(doc_id).text
        place = bisect_right(spans, span)
        before = spans[place - 1][1] if place else None
        behind = spans[place][0] if place < len(spans) else None
        return not (before is not None and self._one(text, before, span[0])) and not (
            behind is not None and self._one(text, span[1], behind)
        )

    def add(self, doc_id: str, span: Characters) -> None:
        """Takes a span."""
        spans = self._spans.setdefault(doc_id, [])
        text = self._reader.text(doc_id).text
        start, end = span
        place = bisect_right(spans, span)
        while place and self._one(text, spans[place - 1][1], start):
            place -= 1
            start, end = min(start, spans[place][0]), max(end, spans[place][1])
            del spans[place]
        while place < len(spans) and self._one(text, end, spans[place][0]):
            start, end = min(start, spans[place][0]), max(end, spans[place][1])
            del spans[place]
        insort(spans, (start, end))

    def _one(self, text: str, last: int, start: int) -> bool:
        return start - last <= self._join_gap or text[last:start].isspace()
