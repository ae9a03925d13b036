"""Offers taken best first while the text of all that is taken fits the budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from unabridged.errors import BudgetTooSmall
from unabridged.rankers.context.contracts import BUDGET, DUPLICATE, EMPTY, NEAR_DUPLICATE
from unabridged.rankers.context.counting import TokenCounter
from unabridged.rankers.context.layout import SEPARATOR, Block, Kept, Layout
from unabridged.rankers.context.offered import Offer
from unabridged.rankers.context.same import Duplicates, Seen
from unabridged.rankers.context.sources import Reader
from unabridged.rankers.context.spans import sentence_ends, with_margin, with_neighbours, without
from unabridged.rankers.context.taken import Taken
from unabridged.rankers.contracts import Characters

SLACK = 8
"""Tokens of a span by which the sum of its parts may differ from the whole text; within it the whole is counted."""


MOST_AGE = 16
"""Spans that may have come in since the whole was last counted."""
MOST_EXACT = 4_000_000
"""Offers times tokens of the budget up to which whole texts decide on each offer, should their parts have misled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is taken of an offer."""

    budget: int
    neighbours: int = 0
    margin: int = 0
    trim: bool = False
    duplicates: Duplicates = Duplicates.EXACT
    similarity: float = 0.8


@dataclass(slots=True)
class Chosen:
    """Which offers are in the pack, the best first, and why the others are not."""

    kept: list[Kept] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)
    """By the offer's place in the list of hits."""
    same: dict[int, int] = field(default_factory=dict)
    """Of duplicates: the hit that has their text."""
    cut: bool = False
    """Whether one was cut at a sentence: the budget is used up then but for crumbs."""


class Chooser:
    """Counts what a choice would give, and chooses."""

    def __init__(self, layout: Layout, reader: Reader, count: TokenCounter, wanted: Wanted) -> None:
        self._layout, self._reader, self._count, self._wanted = layout, reader, count, wanted
        self._known: dict[str, int] = {}
        """Of short texts: heads, and what lies between two spans."""
        self._bodies: dict[tuple[str, int, int], int] = {}
        """Of the spans of sources that were looked at, in tokens; of one that was joined, the sum of what it was."""
        self._fixed: int | None = None
        self._measured = (-1, 0)
        """Of a choice of so many: its whole text less the sum of its parts, in tokens."""
        self._sum_of_kept = (0, 0)
        """Tokens of the parts of what is kept, and how many blocks these are."""
        self._taken = Taken(reader, layout.join_gap)

    def choose(self, ranked: Sequence[tuple[Offer, Characters]]) -> Chosen:
        """The choice of ``ranked`` offers with their spans, the best first.

        :class:`BudgetTooSmall` where there is something to read and not one span fits.
        """
        empty = self.tokens([])
        if empty > self._wanted.budget:
            smallest = self._smallest(ranked) or empty
            raise BudgetTooSmall(
                f"The question alone has {empty:,} tokens by {self._count.label}, the budget is "
                f"{self._wanted.budget:,}. It fits with {smallest:,}; or leave the question out of the text.",
                smallest=smallest,
            )
        # Parts are counted once each, the whole only where that decides; if that should miss, whole texts decide all.
        chosen = self._greedy(ranked, exact=False)
        missed = BUDGET in chosen.reasons.values() and not chosen.kept
        if missed or self.tokens(chosen.kept) > self._wanted.budget:
            if not missed and len(ranked) * self._wanted.budget > MOST_EXACT:
                self._shed(chosen)
            else:
                chosen = self._greedy(ranked, exact=True)
        if BUDGET in chosen.reasons.values() and not chosen.kept:
            smallest = self._smallest(ranked)
            raise BudgetTooSmall(
                f"No span of the {len(ranked):,} fits a budget of {self._wanted.budget:,} tokens by "
                f"{self._count.label}. With {smallest:,} one would"
                + ("." if self._wanted.trim else "; or cut spans at sentences with trim=True (--trim)."),
                smallest=smallest,
            )
        return chosen

    def tokens(self, kept: Sequence[Kept]) -> int:
        """Tokens of the whole text that ``kept`` would give."""
        return self._count(self._layout.text(self._layout.blocks(kept))[0])

    def _greedy(self, ranked: Sequence[tuple[Offer, Characters]], *, exact: bool) -> Chosen:
        chosen, seen = Chosen(), Seen(self._wanted.duplicates, self._wanted.similarity)
        self._measured = (-1, 0)
        if self._fixed is None:
            self._fixed = self._count(self._layout.text([])[0])
        self._sum_of_kept = self._fixed, 0
        self._taken = Taken(self._reader, self._layout.join_gap)
        for offer, own in ranked:
            text = self._reader.text(offer.doc_id).text[own[0] : own[1]]
            if not text.strip():
                chosen.reasons[offer.hit] = EMPTY
                continue
            overlapping = _overlapping(chosen.kept, offer, own)
            if (like := seen.like(text, overlapping)) is not None:
                chosen.reasons[offer.hit] = DUPLICATE if like[1] else NEAR_DUPLICATE
                chosen.same[offer.hit] = like[0]
                continue
            taken = self._take(chosen, Kept(offer, own, own), exact)
            if taken is None:
                chosen.reasons[offer.hit] = BUDGET
                continue
            self._keep(chosen, taken)
            seen.add(offer.hit, text)
        return chosen

    def _keep(self, chosen: Chosen, one: Kept) -> None:
        self._sum_of_kept, body = self._sum_with(one)
        doc_id = one.offer.doc_id
        self._bodies[(doc_id, *self._taken.add(doc_id, one.span))] = body
        chosen.kept.append(one)

    def _shed(self, chosen: Chosen) -> None:
        """Leaves out the last of what was taken until the rest fits."""
        while chosen.kept and self.tokens(chosen.kept) > self._wanted.budget:
            out = chosen.kept.pop().offer.hit
            for hit in [out, *(hit for hit, other in chosen.same.items() if other == out)]:
                chosen.reasons[hit] = BUDGET
                chosen.same.pop(hit, None)

    def _take(self, chosen: Chosen, bare: Kept, exact: bool) -> Kept | None:
        """The offer with its surroundings where that fits, else alone, else cut where that is wanted, else None."""
        for one in self._forms(bare):
            if self._fits(chosen.kept, one, exact):
                return one
        if not self._wanted.trim or chosen.cut:
            return None
        whole = self._reader.text(bare.offer.doc_id).text
        ends = sentence_ends(whole, *bare.own)[:-1]
        fitting, refused = 0, len(ends)
        best: Kept | None = None
        while fitting < refused:
            middle = (fitting + refused) // 2
            one = replace(bare, span=(bare.own[0], ends[middle]), why="cut at a sentence")
            if self._fits(chosen.kept, one, exact):
                best, fitting = one, middle + 1
            else:
                refused = middle
        chosen.cut = best is not None
        return best

    def _forms(self, bare: Kept) -> Iterator[Kept]:
        wanted, doc_id = self._wanted, bare.offer.doc_id
        if wanted.neighbours or wanted.margin:
            span = bare.own
            if wanted.neighbours:
                span = with_neighbours(span, self._reader.segments(doc_id), wanted.neighbours)
            span = with_margin(span, self._reader.text(doc_id).text, wanted.margin)
            if span != bare.own:
                yield replace(bare, span=span, why="with its surroundings")
                bare = replace(bare, why="its surroundings did not fit")
        yield bare

    def _fits(self, kept: Sequence[Kept], more: Kept, exact: bool) -> bool:
        """Whether the text of ``kept`` and one more is within the budget.

        It is counted as a whole where the sum of its parts does not decide.  The whole of ``kept`` is counted once, and
        from that to the whole with one more no more than the parts around it differ.
        """
        if exact:
            return self.tokens([*kept, more]) <= self._wanted.budget
        budget = self._wanted.budget
        total = self._sum_of_kept[0]
        (parts, _), _ = self._sum_with(more)
        # A block in front of others moves their numbers, of which few have a digit more then.
        if parts + SLACK * (len(kept) + 3) <= budget:
            return True
        age = len(kept) - self._measured[0] if self._measured[0] >= 0 else MOST_AGE + 1
        if age <= MOST_AGE and abs(parts + self._measured[1] - budget) > SLACK * (3 + age):
            return parts + self._measured[1] <= budget
        if age:
            before = self._layout.blocks(kept)
            self._measured = len(kept), self._count(self._layout.text(before)[0]) - total
        about = parts + self._measured[1]
        if abs(about - budget) > 3 * SLACK:
            return about <= budget
        return self.tokens([*kept, more]) <= budget

    def _sum_with(self, more: Kept) -> tuple[tuple[int, int], int]:
        """About what the text of all that is kept and one more counts, its blocks, and the body of the block it is in.

        No text is counted twice: of a block that grows what is new of it is.
        """
        total, blocks = self._sum_of_kept
        doc_id, (start, end) = more.offer.doc_id, more.span
        near = self._taken.beside(doc_id, more.span)
        if near:
            start, end = min(start, near[0][0]), max(end, *(last for _, last in near))
        body = sum(self._body(doc_id, part) for part in [*near, *without((start, end), near)])
        gone = sum(self._head(doc_id, part, blocks) + self._body(doc_id, part) for part in near)
        head = self._head(doc_id, (start, end), blocks + 1)
        return (total + head + body - gone, blocks + 1 - len(near)), body

    def _body(self, doc_id: str, span: Characters) -> int:
        key = (doc_id, *span)
        if key not in self._bodies:
            self._bodies[key] = self._count(self._reader.text(doc_id).text[span[0] : span[1]])
        return self._bodies[key]

    def _head(self, doc_id: str, span: Characters, number: int) -> int:
        block = Block(doc_id, *span, ())
        block = replace(block, headings=self._layout.above(block))
        # Numbers of as many digits are taken for one, so that few heads are counted.
        text = f"{SEPARATOR}{self._layout.head(block, int('1' * len(str(number))))}"
        if text not in self._known:
            self._known[text] = self._count(text)
        return self._known[text]

    def _smallest(self, ranked: Sequence[tuple[Offer, Characters]]) -> int:
        """The smallest budget with which one of the spans would be in the pack; 0 where there is nothing to read."""
        sizes = []
        for offer, own in ranked:
            text = self._reader.text(offer.doc_id).text
            if text[own[0] : own[1]].strip():
                ends = sentence_ends(text, *own) if self._wanted.trim else []
                sizes.append(self.tokens([Kept(offer, own, (own[0], ends[0]) if len(ends) > 1 else own)]))
        return min(sizes, default=0)


def _overlapping(kept: Sequence[Kept], offer: Offer, own: Characters) -> Iterator[int]:
    """The hits among ``kept`` that have characters of this one, but no more than these."""
    return (
        one.offer.hit for one in kept if one.offer.doc_id == offer.doc_id and one.own != own and _touch(one.span, own)
    )


def _touch(one: Characters, other: Characters) -> bool:
    return one[0] < other[1] and other[0] < one[1]
