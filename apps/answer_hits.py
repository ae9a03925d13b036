"""The hits that an answer is made of: searched, ranked again or scored, as was asked for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Event
from typing import Any

from unabridged.apps.rankers import OpenRanker
from unabridged.apps.rerank_hits import RerankedHits
from unabridged.apps.rerank_hits import rerank as reranked
from unabridged.apps.selector_names import load_selector
from unabridged.contracts import Hit, Level, Span
from unabridged.errors import UsageError
from unabridged.rankers.context.contracts import ContextPack
from unabridged.rankers.contracts import Spent, Status
from unabridged.rankers.select.cascade import BEHIND
from unabridged.rankers.select.checks import EMPTY
from unabridged.rankers.select.contracts import Passage, Scored, Selector
from unabridged.retrievers.opened import Index
from unabridged.retrievers.result import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordering:
    """What finds the hits, and what orders them again."""

    k: int
    mode: Mode
    rerank: str | OpenRanker | None
    depth: int
    select: str | Selector | None


@dataclass(frozen=True, slots=True)
class FoundHits:
    """Hits in their order, and what it took."""

    hits: Any
    sources: Any
    """Where their texts are read; None: the hits know, or bring them."""
    spent: Spent
    timings: Mapping[str, float]
    notes: tuple[str, ...] = ()
    """What of the order is not what was asked for, and why."""


def hits_for(question: str, opened: Any, sources: Any, order: Ordering, cancel: Event | None) -> FoundHits:
    """The hits in the order that was asked for."""
    timings: dict[str, float] = {}
    spent = Spent()
    notes: tuple[str, ...] = ()
    hits: Any = opened
    if isinstance(opened, ContextPack):
        return FoundHits(opened, None, spent, timings)
    if isinstance(opened, Index):
        clock = time.perf_counter()
        segments = order.mode is Mode.BM25 or opened.state.settings.level.has_segments
        hits = opened.search_one(question, k=order.k, mode=order.mode, level=Level.SEGMENT if segments else Level.DOC)
        timings["search_ms"] = _since(clock)
        sources = opened if sources is None else sources
    sources = getattr(hits, "sources", None) if sources is None else sources
    clock = time.perf_counter()
    if order.rerank is not None:
        given = [_hit(hit, rank) for rank, hit in enumerate(hits, 1)]
        ranked = reranked(question, given, model=order.rerank, depth=order.depth, mode=order.mode)
        hits, spent = ranked, ranked.ranking.spent
        notes = _unranked(ranked)
        timings["rerank_ms"] = _since(clock)
    elif order.select is not None:
        selector = load_selector(order.select) if isinstance(order.select, str) else order.select
        passages = [_passage(hit, "select") for hit in hits]
        scored = selector.score(question, passages, cancel=cancel) if passages else Scored(())
        # Those without a score come last in a pack, which sorts.
        hits, spent = list(zip(passages, scored.scores, strict=True)), scored.spent
        notes = _unscored(scored, selector.label)
        timings["select_ms"] = _since(clock)
    return FoundHits(hits, sources, spent, timings, notes)


def _unranked(found: RerankedHits) -> tuple[str, ...]:
    """A note where a ranker gave no order."""
    if not found.failed and found.ranking.status is not Status.PARTIAL:
        return ()
    part = "only a part of the order" if found.ranking.status is Status.PARTIAL else "no order"
    reasons = "; ".join(dict.fromkeys(step.reason for step in found.ranking.steps if step.reason))
    return (f"{found.model} gave {part}: the hits are in that of the search ({reasons[:300] or 'no reason told'})",)


def _unscored(scored: Scored, label: str) -> tuple[str, ...]:
    """A note for each reason why a selector gave passages no score; those that a first stage left behind have none."""
    reasons = Counter(one for one in scored.reasons if one and one not in (BEHIND, EMPTY))
    return tuple(
        f"{count:,} of {len(scored.scores):,} passages have no score by {label}, and come last: {reason[:300]}"
        for reason, count in reasons.most_common(3)
    )


def _hit(hit: Any, rank: int) -> Hit:
    """A hit as a ranker takes it; the order in which hits are given is that of a first stage."""
    if isinstance(hit, Hit):
        return hit
    one = _passage(hit, "rerank")
    return Hit(rank=rank, doc_id=one.doc_id, score=1.0 / rank, span=Span(one.start, one.end, one.text))


def _passage(hit: Any, option: str) -> Passage:
    """A hit with its text; :class:`UsageError` for one that does not bring it."""
    if isinstance(hit, tuple) and len(hit) == 2:
        hit = hit[0]
    if isinstance(hit, Passage):
        return hit
    try:
        if isinstance(hit, Mapping):
            start = hit.get("start", 0)
            return Passage(hit["doc_id"], start, hit.get("end", start + len(hit["text"])), hit["text"])
        span = getattr(hit, "span", hit)
        return Passage(hit.doc_id, span.start, span.end, span.text)
    except (AttributeError, KeyError, TypeError) as error:
        raise UsageError(
            f"{option} reads the text of each hit, and a {type(hit).__name__} has not all of doc_id, start, end and "
            f"text. Give hits of a search, passages or such mappings, or leave {option} out."
        ) from error


def _since(moment: float) -> float:
    return round((time.perf_counter() - moment) * 1000, 3)
