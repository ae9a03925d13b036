"""How much of each candidate is shown: all where it fits, otherwise its best segments, and a record of it.

Letters::

    N candidates     L most tokens of one candidate
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from unabridged.rankers.contracts import CHANGED, CUT, SEGMENTS, Candidate, Characters
from unabridged.rankers.listwise.inert import inert
from unabridged.rankers.listwise.labels import Labels
from unabridged.rankers.listwise.segments import LexicalSegments, SegmentSelector

JOINT = " \u2026 "
"""Between two segments that do not touch."""
SEGMENTS_PER_TEXT = 4
"""Into so many segments the room of a candidate is divided: several places can be shown, each with its context."""


class TokenCounter(Protocol):
    """What counts and cuts texts; every :class:`~unabridged.rankers.lm.contracts.LanguageModel` is one."""

    def count_texts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text alone."""
        ...

    def cut(self, text: str, tokens: int) -> str:
        """The longest beginning of ``text`` of at most ``tokens`` tokens."""
        ...


@dataclass(frozen=True, slots=True)
class Piece:
    """A candidate as it is shown."""

    text: str
    spans: tuple[Characters, ...]
    tokens: int
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitter:
    """Shows candidates of one model's prompts within a number of tokens."""

    model: TokenCounter
    labels: Labels
    selector: SegmentSelector | None = None
    """Where a candidate brings no segments; None: by the query's words."""
    controls: tuple[str, ...] = ()

    def totals(self, candidates: Sequence[Candidate]) -> list[int]:
        """Tokens of each whole text."""
        return self.model.count_texts([one.text for one in candidates]) if candidates else []

    def piece(self, query: str, candidate: Candidate, total: int, limit: int | None) -> Piece:
        """``candidate`` in at most ``limit`` tokens; None: all of it."""
        text, changed = inert(candidate.text, self.labels, self.controls)
        flags = (CHANGED,) if changed else ()
        if limit is None or total <= limit:
            return Piece(text, ((0, len(text)),) if text else (), total, flags)
        ranked = candidate.segments
        if not ranked:
            selector = self.selector or LexicalSegments()
            ranked = selector.select(query, text, max(1e-6, min(1.0, limit / SEGMENTS_PER_TEXT / total)))
        spans = self._chosen(text, ranked, limit)
        if spans:
            joined = _joined(text, spans)
            return Piece(joined, spans, self.model.count_texts([joined])[0], (SEGMENTS, *flags))
        start, end = ranked[0] if ranked else (0, len(text))
        head = self.model.cut(text[start:end], limit)
        spans = ((start, start + len(head)),) if head else ()
        return Piece(head, spans, self.model.count_texts([head])[0], (SEGMENTS, CUT, *flags))

    def _chosen(self, text: str, ranked: Sequence[Characters], limit: int) -> tuple[Characters, ...]:
        """As many of the best spans as fit together, in the order of the text; overlaps are shown once."""
        if not ranked:
            return ()
        sizes = self.model.count_texts([text[start:end] for start, end in ranked])
        taken: list[Characters] = []
        room = limit
        for span, size in zip(ranked, sizes, strict=True):
            if size <= room:
                taken.append(span)
                room -= size
        # Joints cost tokens, and tokens merge or part at seams: what is worst goes until the whole fits.
        while taken:
            spans = merged(taken)
            if self.model.count_texts([_joined(text, spans)])[0] <= limit:
                return spans
            taken.pop()
        return ()


def fit(
    fitter: Fitter,
    query: str,
    candidates: Sequence[Candidate],
    limit: int | None,
    floor: int,
    over: Callable[[Sequence[Piece]], int],
) -> list[tuple[int, Piece]] | None:
    """Tokens of each whole candidate, and what is shown of it; None where it would be less than ``floor`` tokens.

    ``limit`` is the most of one candidate to begin with; it falls until ``over``, the tokens by which a prompt of the
    pieces is too long, is 0 or less.
    """
    totals = fitter.totals(candidates)
    while True:
        pieces = [fitter.piece(query, one, total, limit) for one, total in zip(candidates, totals, strict=True)]
        more = over(pieces)
        if more <= 0:
            return list(zip(totals, pieces, strict=True))
        sizes = [piece.tokens for piece in pieces]
        limit = lowered(sizes, more)
        if limit < floor:
            return None


def lowered(sizes: Sequence[int], over: int) -> int:
    """The most tokens of a candidate with which the group loses ``over``; always below its largest."""
    # A limit that does not fall would be tried again for ever.
    return min(level(sizes, sum(sizes) - over), max(sizes, default=0) - 1)


def merged(spans: Sequence[Characters]) -> tuple[Characters, ...]:
    """The union of ``spans`` as disjoint ranges in rising order; those that touch are one."""
    found: list[Characters] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return tuple(found)


def level(totals: Sequence[int], room: int) -> int:
    """The largest L with ``sum(min(total, L)) <= room``; 0 where there is no room.

    Short candidates stay whole and long ones share what is left, so that nothing is taken from those that need little.
    """
    left = max(0, room)
    for place, total in enumerate(sorted(totals)):
        share = left // (len(totals) - place)
        if total > share:
            return share
        left -= total
    return max(totals, default=0)


def _joined(text: str, spans: Sequence[Characters]) -> str:
    return JOINT.join(text[start:end] for start, end in spans)
