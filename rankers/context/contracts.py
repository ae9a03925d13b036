"""A context pack: spans of sources under a budget, what was left out of it, and why.

Only the standard library is imported here.  Spans count characters of a document's source, half open.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from unabridged.contracts import JSON
from unabridged.rankers.contracts import Characters

if TYPE_CHECKING:
    from unabridged.rankers.context.citations import CitationReport

BUDGET = "budget"
"""With it the text would have had more tokens than allowed."""
DUPLICATE = "duplicate"
"""The same text as a span that is in the pack."""
NEAR_DUPLICATE = "near duplicate"
"""Nearly the same words as a span that is in the pack."""
MERGED = "overlap merged"
"""In the pack, as part of the span whose number is ``into``."""
EMPTY = "empty"
"""There is nothing to read in it."""
CHANGED = "changed source"
"""Its source is not the one it was found in."""
UNKNOWN = "unknown document"
"""There is no source with its id."""
OUTSIDE = "outside of its source"
"""The source has fewer characters."""
WHITE_SPACE = "white space"
"""Nothing else stands there, between spans of the pack and hits that were left out."""


class Order(str, Enum):
    """How spans follow each other.  A model that caches prefixes likes an order that stays: ``source``."""

    SOURCE = "source"
    """Documents by their best span, and each document's spans as they stand in it."""
    SCORE = "score"
    """Best first."""
    REVERSE = "reverse"
    """Best last."""
    TWO_STAGE = "two_stage"
    """Ranks 0, 2, 4, ... and then ..., 5, 3, 1: the best at both edges, as a middle is read with less attention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpan:
    """Characters ``[start, end)`` of a source, in a pack."""

    number: int
    """Of its citation, from 1, in the order of the text."""
    doc_id: str
    start: int
    end: int
    text: str
    """Read from the source at ``[start, end)``, white space and all."""
    sha256: str
    """Of the whole source in UTF-8."""
    score: float | None
    """Of the best hit in it."""
    at: int
    """Where its text begins in the text of the pack, in characters."""
    hits: tuple[int, ...]
    """Places in the list of hits, from 0, of all that are in it, the best first."""
    why: str
    """Why it was kept, for people."""
    cut: tuple[Characters, ...] = ()
    """Characters of its hits that are not shown."""
    headings: tuple[Characters, ...] = ()
    """Headings of the source that stand in front of it in the text, the outermost first."""

    def as_json(self) -> dict[str, JSON]:
        """Plain values; JSON has no infinite number, and such a score is null there."""
        return {
            "doc_id": self.doc_id,
            "start": self.start,
            "end": self.end,
            "sha256": self.sha256,
            "score": self.score if self.score is not None and math.isfinite(self.score) else None,
            "text": self.text,
            "number": self.number,
            "at": self.at,
            "hits": list(self.hits),
            "why": self.why,
            "cut": [list(part) for part in self.cut],
            "headings": [list(part) for part in self.headings],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A hit that has no span of its own in the pack, or a stretch of a source that was read and not offered."""

    hit: int | None
    """Its place in the list of hits, from 0; None of a stretch."""
    doc_id: str
    start: int
    end: int
    reason: str
    """One of the words of this module; of a stretch the reason why its passages were not offered."""
    into: int | None = None
    """The number of the span that has its text, of merged hits and of duplicates."""
    passages: int = 1
    """How many there are in a stretch."""

    def as_json(self) -> dict[str, JSON]:
        """Plain values."""
        body: dict[str, JSON] = {
            "doc_id": self.doc_id,
            "start": self.start,
            "end": self.end,
            "reason": self.reason,
        }
        if self.hit is None:
            return {**body, "passages": self.passages}
        return {**body, "hit": self.hit} | ({} if self.into is None else {"into": self.into})


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextPack:
    """A text for a language model, and where each part of it comes from.

    Each hit that was offered is the first of ``hits`` of one source, or in ``dropped``: together they are as many as
    the hits.  Of files that were read as a whole, ``dropped`` has the rest as well: together they are the files.
    """

    question: str
    text: str
    tokens: int
    """Of ``text``, counted on it as a whole; never above ``budget``."""
    budget: int
    tokenizer: str
    """By which ``tokens`` are counted."""
    order: Order
    sources: tuple[SourceSpan, ...]
    """In the order of the text."""
    dropped: tuple[Dropped, ...]
    """In the order of the hits, and then stretches of sources in theirs."""
    timings: Mapping[str, float]
    """Milliseconds."""

    def check_citations(self, answer: str) -> CitationReport:
        """Which spans ``answer`` cites, which citations are none, and which of its quotations are true."""
        from unabridged.rankers.context.citations import check

        return check(answer, self.sources)

    def as_json(self) -> dict[str, JSON]:
        """Plain values, as ``unabridged context --output json`` prints them."""
        return {
            "question": self.question,
            "text": self.text,
            "tokens": self.tokens,
            "sources": [source.as_json() for source in self.sources],
            "dropped": [dropped.as_json() for dropped in self.dropped],
            "timings": dict(self.timings),
            "budget": self.budget,
            "tokenizer": self.tokenizer,
            "order": self.order.value,
        }
