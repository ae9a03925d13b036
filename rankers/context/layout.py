"""Spans to text: merged, ordered, numbered, with headers and separators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from unabridged.rankers.context.arranging import arranged, default_order
from unabridged.rankers.context.contracts import Order
from unabridged.rankers.context.headings import headings_above
from unabridged.rankers.context.offered import Offer
from unabridged.rankers.context.sources import Reader
from unabridged.rankers.context.spans import merged
from unabridged.rankers.contracts import Characters

SEPARATOR = "\n\n"
"""Between two spans, and between them and the question."""
HEADING_CHARACTERS = 200
"""Of a heading in a header; a signature may have a screen of parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What a pack looks like."""

    question: str
    """Shown where ``place`` says."""
    place: str | None = None
    """``first``, ``last``, or None: the question is not shown."""
    headers: bool = True
    """A line with number and document in front of each span, not the number alone."""
    headings: bool = False
    """What a span stands under, in its header."""
    order: Order | None = None
    """None: by the number of documents."""
    join_gap: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """An offer that is to be in the pack, and what of it and around it."""

    offer: Offer
    own: Characters
    """Of the offer itself."""
    span: Characters
    """What is shown: wider by neighbours, or shorter by sentences."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """One numbered span of the pack."""

    doc_id: str
    start: int
    end: int
    members: tuple[Kept, ...]
    """The best first."""
    headings: tuple[Characters, ...] = ()


class Layout:
    """The text of any choice of offers: a pure function of them, so that it can be counted before it is decided."""

    def __init__(self, reader: Reader, style: Style) -> None:
        self._reader, self._style = reader, style

    @property
    def join_gap(self) -> int:
        """Characters between two spans that are filled up to make them one."""
        return self._style.join_gap

    def above(self, block: Block) -> tuple[Characters, ...]:
        """The headings that a span is shown with."""
        if not self._style.headings:
            return ()
        return tuple(headings_above(self._reader.text(block.doc_id).text, block.start))

    def order(self, kept: Sequence[Kept]) -> Order:
        """The order of these."""
        return self._style.order or default_order(len({one.offer.doc_id for one in kept}))

    def blocks(self, kept: Sequence[Kept]) -> list[Block]:
        """The spans of ``kept``, which come best first, in the order of the text."""
        documents: dict[str, list[int]] = {}
        for place, one in enumerate(kept):
            documents.setdefault(one.offer.doc_id, []).append(place)
        groups: list[tuple[int, Block]] = []
        for doc_id, places in documents.items():
            text = self._reader.text(doc_id).text
            for start, end, members in merged([kept[place].span for place in places], text, self._style.join_gap):
                own = sorted(places[member] for member in members)
                block = Block(doc_id, start, end, tuple(kept[place] for place in own))
                groups.append((own[0], replace(block, headings=self.above(block))))
        ranked = [block for _, block in sorted(groups, key=lambda group: group[0])]
        return arranged(ranked, self.order(kept), lambda block: block.doc_id, lambda block: block.start)

    def head(self, block: Block, number: int) -> str:
        """What stands in front of the text of a span."""
        if not self._style.headers and not block.headings:
            return f"[{number}] "
        source = self._reader.text(block.doc_id).text
        above = (_short(" ".join(source[start:end].split())) for start, end in block.headings)
        names = [one_line(block.doc_id)] if self._style.headers else []
        return f"[{number}] {' > '.join([*names, *above])}\n"

    def body(self, block: Block) -> str:
        """The text of a span, read from its source."""
        return self._reader.text(block.doc_id).text[block.start : block.end]

    def text(self, blocks: Sequence[Block]) -> tuple[str, list[int]]:
        """The text of the pack, and where in it the text of each span begins."""
        parts: list[str] = []
        places: list[int] = []
        length = 0
        shown = [("", self._style.question)] if self._style.place == "first" else []
        shown += [(self.head(block, number), self.body(block)) for number, block in enumerate(blocks, 1)]
        shown += [("", self._style.question)] if self._style.place == "last" else []
        for place, (head, body) in enumerate(shown):
            parts += [SEPARATOR] * (place > 0) + [head, body]
            length += len(SEPARATOR) * (place > 0) + len(head)
            places.append(length)
            length += len(body)
        first = int(self._style.place == "first")
        return "".join(parts), places[first : first + len(blocks)]


def _short(heading: str) -> str:
    return heading if len(heading) <= HEADING_CHARACTERS else f"{heading[:HEADING_CHARACTERS]} ..."


def one_line(name: str) -> str:
    """``name`` on one line: what cannot be printed is escaped, as line ends, which names of files may have."""
    return name if name.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in name)
