"""``assemble``: hits to a text for a language model, under a budget of tokens and with a record of everything."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unabridged.errors import UsageError
from unabridged.rankers.context.choosing import Chooser, Chosen, Wanted
from unabridged.rankers.context.contracts import MERGED, ContextPack, Dropped, Order, SourceSpan
from unabridged.rankers.context.counting import DEFAULT_TOKENIZER, token_counter
from unabridged.rankers.context.layout import Block, Layout, Style
from unabridged.rankers.context.offered import Offer, best_first, offers
from unabridged.rankers.context.same import Duplicates
from unabridged.rankers.context.sources import Fault, Reader
from unabridged.rankers.context.spans import without
from unabridged.rankers.contracts import Characters

BUDGET_TOKENS = 8_000


def assemble(  # noqa: PLR0913 - the front door: each option is documented below
    question: str,
    hits: Iterable[Any],
    *,
    budget: int = BUDGET_TOKENS,
    tokenizer: Any = DEFAULT_TOKENIZER,
    sources: Any = None,
    order: Order | str | None = None,
    join_gap: int = 0,
    neighbours: int = 0,
    margin: int = 0,
    headings: bool = False,
    headers: bool = True,
    show_question: str | None = None,
    duplicates: Duplicates | str = Duplicates.EXACT,
    similarity: float = 0.8,
    trim: bool = False,
    faults: str = "raise",
    recorded: Mapping[str, str] | None = None,
    network: bool = False,
) -> ContextPack:
    """The best of ``hits`` as a text of at most ``budget`` tokens, and where each part of it comes from.

    Hits are taken best first, each as it stands in its source: spans of one document that overlap or follow each other
    are read from it as one.  A hit that would not fit is left out, and the next one is tried.

    Args:
        question: What the text is for; shown in it only where ``show_question`` says so.
        hits: A search result, reranked hits, or a list of hits, of passages, of pairs of a passage and its score, or of
            mappings with ``doc_id``, ``start``, ``end``, and where known ``text``, ``score``, and ``sha256`` of the
            whole source.  Without scores they come best first.
        budget: Tokens of the whole text: numbers, headers, separators and a question that is shown included.
        tokenizer: What counts them, see :mod:`unabridged.rankers.context.counting`.
        sources: Where texts are read: an index, a mapping of ids to texts, a function; None: the index of the search.
        order: ``source``, ``score``, ``reverse`` or ``two_stage``; None: ``source`` where the spans are of one
            document, else ``two_stage``.
        join_gap: Characters between two spans of a document that are filled up to make them one.
        neighbours: Segments (of an index, else paragraphs) on both sides that are shown too, where they fit.
        margin: Characters on both sides that are shown too, where they fit.
        headings: Show what each span stands under: headings of prose, signatures of code.
        headers: A line with the document's id in front of each span; else the number alone.
        show_question: ``first`` or ``last``: where the question stands in the text; None: nowhere.
        duplicates: ``exact``, ``near`` or ``none``: which spans with the text of a better one are left out.
        similarity: With ``near``: the share of runs of four words that two such spans have in common.
        trim: Cut the first hit that does not fit at the end of a sentence.
        faults: ``raise``, or ``drop``: leave out, and record, hits whose document is unknown, changed or too short.
        recorded: SHA-256 of sources as they were indexed, by id.
        network: Whether a tokenizer may be downloaded.

    Raises:
        UsageError: an empty question, an unknown tokenizer or document, a span outside of its source.
        SourceChanged: a source is not the one that was indexed; names document and hashes.
        BudgetTooSmall: not one span fits; says the smallest budget with which one would.
    """
    began = time.perf_counter()
    style = _style(question, show_question, headers, headings, order, join_gap)
    wanted = _wanted(budget, neighbours, margin, trim, duplicates, similarity)
    if faults not in ("raise", "drop"):
        raise UsageError(f"faults={faults!r} is not one of raise, drop.")
    if recorded is not None and not isinstance(recorded, Mapping):
        raise UsageError(f"recorded is {type(recorded).__name__}; expected a mapping of ids to SHA-256, or None.")
    offered = offers(hits)
    reader = _reader(sources, hits, recorded, needed=bool(offered))
    counter = token_counter(tokenizer, network=network)
    timings = {"prepare_ms": _since(began)}

    clock = time.perf_counter()
    spans, reasons = _verified(offered, reader, drop=faults == "drop")
    timings["read_ms"] = _since(clock)

    clock = time.perf_counter()
    layout = Layout(reader, style)
    chooser = Chooser(layout, reader, counter, wanted)
    ranked = [(offer, spans[offer.hit]) for offer in best_first(offered) if offer.hit not in reasons]
    chosen = chooser.choose(ranked)
    blocks = layout.blocks(chosen.kept)
    text, places = layout.text(blocks)
    timings["choose_ms"] = _since(clock)

    clock = time.perf_counter()
    tokens = counter(text)
    timings["count_ms"] = _since(clock)
    timings["total_ms"] = _since(began)
    return ContextPack(
        question=question,
        text=text,
        tokens=tokens,
        budget=budget,
        tokenizer=counter.label,
        order=layout.order(chosen.kept),
        sources=tuple(
            _source(one, number, at, reader) for number, (one, at) in enumerate(zip(blocks, places, strict=True), 1)
        ),
        dropped=_dropped(offered, spans, reasons, chosen, blocks),
        timings=timings,
    )


def _style(
    question: str, place: str | None, headers: bool, headings: bool, order: Order | str | None, join_gap: int
) -> Style:
    if not isinstance(question, str) or not question.strip():
        raise UsageError(f"The question is {question!r}; expected at least one word.")
    if place not in (None, "first", "last"):
        raise UsageError(f"show_question={place!r} is not one of first, last, None.")
    try:
        chosen = None if order is None else Order(order)
    except ValueError as error:
        raise UsageError(f"order={order!r} is not one of {', '.join(one.value for one in Order)}.") from error
    _check_counts(join_gap=join_gap)
    return Style(question=question, place=place, headers=headers, headings=headings, order=chosen, join_gap=join_gap)


def _wanted(
    budget: int, neighbours: int, margin: int, trim: bool, duplicates: Duplicates | str, similarity: float
) -> Wanted:
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
        raise UsageError(f"budget={budget!r}; expected a positive whole number of tokens.")
    _check_counts(neighbours=neighbours, margin=margin)
    try:
        chosen = Duplicates(duplicates)
    except ValueError as error:
        raise UsageError(
            f"duplicates={duplicates!r} is not one of {', '.join(one.value for one in Duplicates)}."
        ) from error
    if isinstance(similarity, bool) or not isinstance(similarity, (int, float)) or not 0 < similarity <= 1:
        raise UsageError(f"similarity={similarity!r} is a share above 0 and at most 1.")
    return Wanted(
        budget=budget, neighbours=neighbours, margin=margin, trim=trim, duplicates=chosen, similarity=similarity
    )


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise UsageError(f"{name}={count!r}; expected a whole number from 0.")


def _reader(sources: Any, hits: Any, recorded: Mapping[str, str] | None, *, needed: bool) -> Reader:
    origin = getattr(hits, "sources", None)
    return Reader({} if sources is None and origin is None and not needed else sources, origin, recorded)


def _verified(offered: Sequence[Offer], reader: Reader, *, drop: bool) -> tuple[dict[int, Characters], dict[int, str]]:
    """The spans of offers that are what they are said to be, and the reasons of the others."""
    spans: dict[int, Characters] = {}
    reasons: dict[int, str] = {}
    for offer in offered:
        found = reader.checked(offer)
        if not isinstance(found, Fault):
            spans[offer.hit] = found
        elif drop:
            reasons[offer.hit] = found.reason
        else:
            raise found.error
    return spans, reasons


def _source(block: Block, number: int, at: int, reader: Reader) -> SourceSpan:
    read = reader.text(block.doc_id)
    best = block.members[0]
    cut = {part for one in block.members for part in without(one.own, [(block.start, block.end)])}
    return SourceSpan(
        number=number,
        doc_id=block.doc_id,
        start=block.start,
        end=block.end,
        text=read.text[block.start : block.end],
        sha256=read.sha256,
        score=best.offer.score,
        at=at,
        hits=tuple(one.offer.hit for one in block.members),
        why=_why(block),
        cut=tuple(sorted(cut)),
        headings=block.headings,
    )


def _why(block: Block) -> str:
    numbers = [f"{one.offer.hit + 1}" for one in block.members]
    hits = f"hit {numbers[0]}" if len(numbers) == 1 else f"hits {', '.join(numbers)} merged"
    notes = dict.fromkeys(one.why for one in block.members if one.why)
    return "; ".join([hits, *notes])


def _dropped(
    offered: Sequence[Offer],
    spans: Mapping[int, Characters],
    reasons: Mapping[int, str],
    chosen: Chosen,
    blocks: Sequence[Block],
) -> tuple[Dropped, ...]:
    number_of = {one.offer.hit: number for number, block in enumerate(blocks, 1) for one in block.members}
    why = {**reasons, **chosen.reasons}
    why |= {one.offer.hit: MERGED for block in blocks for one in block.members[1:]}
    found = []
    for offer in offered:
        if (reason := why.get(offer.hit)) is None:
            continue
        start, end = spans.get(offer.hit, (offer.start, offer.start if offer.end is None else offer.end))
        holder = chosen.same.get(offer.hit, offer.hit)
        found.append(
            Dropped(
                hit=offer.hit,
                doc_id=offer.doc_id,
                start=start,
                end=end,
                reason=reason,
                into=number_of.get(holder),
            )
        )
    return tuple(found)


def _since(moment: float) -> float:
    return round((time.perf_counter() - moment) * 1000, 3)
