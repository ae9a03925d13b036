"""``search --rerank``: the best hits ranked again, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from unabridged.apps.output import complain
from unabridged.apps.rankers import OpenRanker, load_ranker
from unabridged.apps.rerank_hits import RerankedHits, reordered
from unabridged.apps.rerank_options import pairs, ranker_options
from unabridged.apps.reranking import check_depth
from unabridged.contracts import JSON, Level
from unabridged.errors import EXIT_PARTIAL, UsageError
from unabridged.retrievers.opened import Index
from unabridged.retrievers.result import SearchResult


@dataclass(frozen=True, slots=True)
class Again:
    """A ranker for the best ``depth`` hits; ``k`` hits are shown."""

    ranker: OpenRanker
    depth: int
    k: int

    def widened(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The search that finds as many hits as are ranked."""
        return {**asked, "k": max(self.k, self.depth)}

    def applied(self, result: SearchResult, index: Index, level: Level) -> tuple[SearchResult, RerankedHits]:
        """The result in its new order, cut to ``k`` hits, and how it was come by.

        Segments are ranked by their own text, documents by the whole of theirs.
        """
        source = None if level is Level.SEGMENT else index
        found = reordered(self.ranker, result.query, result.hits, source, self.depth, result.mode)
        return replace(result, hits=found.hits[: self.k]), found


def again_of(model: str | None, depth: int, options: Iterable[str] | None, k: int) -> Again | None:
    """The second stage that the options name; None without one."""
    given = pairs(list(options or ()))
    if model is None:
        if given:
            raise UsageError("--rerank-option is for a reranker: name one with --rerank.")
        return None
    check_depth(depth, "--rerank-depth")
    if k < 1:
        raise UsageError(f"k is a positive whole number of hits, got {k}")
    return Again(load_ranker(model, options=ranker_options(given)), depth, k)


def in_json(body: dict[str, JSON], found: RerankedHits | None) -> dict[str, JSON]:
    """``body`` of a search, with how its order was come by."""
    if found is None:
        return body
    told = found.as_json()
    return {**body, "rerank": {**told, "shown": told["shown"][: len(body["hits"])]}}


def told(found: RerankedHits) -> str:
    """One line for people."""
    ranking, usage = found.ranking, found.ranking.spent.usage
    shown = [one for one in ranking.exposures if 0 < one.shown < one.total]
    parts = f", {len(shown):,} shown in part" if shown else ""
    text = (
        f"     reranked by {found.model}: {ranking.status.value}, {len(ranking.order):,} hits{parts}; "
        f"{ranking.spent.calls:,} calls, {usage.prompt + usage.completion:,} tokens"
    )
    return text + (f"; {ranking.steps[-1].action}: {ranking.steps[-1].reason}" if ranking.steps else "")


def end(found: Mapping[str, RerankedHits]) -> None:
    """Ends with exit code 7 where queries kept first-stage order, and names them."""
    failed = {name: one for name, one in found.items() if one.failed}
    if failed:
        for name, one in failed.items():
            complain(
                f"not reranked: {name}: {one.ranking.steps[-1].reason if one.ranking.steps else one.ranking.status}"
            )
        raise SystemExit(EXIT_PARTIAL)
