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
        return not self.beside(doc_id, span)

    def beside(self, doc_id: str, span: Characters) -> list[Characters]:
        """What was taken that would be shown as one with ``span``, rising."""
        first, last, _ = self._joined(doc_id, span)
        return self._spans.get(doc_id, [])[first:last]

    def add(self, doc_id: str, span: Characters) -> Characters:
        """Takes a span; the one that it is in now."""
        first, last, whole = self._joined(doc_id, span)
        spans = self._spans.setdefault(doc_id, [])
        del spans[first:last]
        insort(spans, whole)
        return whole

    def _joined(self, doc_id: str, span: Characters) -> tuple[int, int, Characters]:
        """The places of those that ``span`` joins, half open, and what they are together."""
        spans = self._spans.get(doc_id, [])
        start, end = span
        first = last = bisect_right(spans, span)
        text = self._reader.text(doc_id).text if spans else ""
        while first and self._one(text, spans[first - 1][1], start):
            first -= 1
            start, end = min(start, spans[first][0]), max(end, spans[first][1])
        while last < len(spans) and self._one(text, end, spans[last][0]):
            end = max(end, spans[last][1])
            last += 1
        return first, last, (start, end)

    def _one(self, text: str, last: int, start: int) -> bool:
        return start - last <= self._join_gap or text[last:start].isspace()
