"""What a reranking will take, and what it took: calls, tokens, seconds and, with the user's prices, money."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unabridged.apps.advising import aligned
from unabridged.apps.ranker_names import ATTENTION
from unabridged.apps.rankers import OpenRanker
from unabridged.apps.ranking_json import spent_json
from unabridged.apps.reranking import Reranked
from unabridged.contracts import JSON
from unabridged.rankers.contracts import Request, Spent
from unabridged.rankers.lm.budget import Prices
from unabridged.rankers.lm.contracts import Usage
from unabridged.rankers.pointwise import PointwiseRanker


def estimated(ranker: OpenRanker, requests: Iterable[Request], prices: Prices | None = None) -> dict[str, JSON]:
    """Queries, candidates, calls and tokens of ranking ``requests``, as if nothing were in the cache.

    Tokens are counted for listwise strategies, prompt by prompt (:meth:`ListwiseRanker.estimate`); None: not known
    before.  ``exact_tokens`` says whether the counts are the model's own.
    """
    queries = candidates = 0
    total: Spent | None = Spent()
    for request in requests:
        queries += 1
        candidates += len(request.candidates)
        spent = _of(ranker, request)
        total = None if spent is None or total is None else total + spent
    counted = ranker.listwise is not None and total is not None
    usage = total.usage if counted and total is not None else None
    return {
        "queries": queries,
        "candidates": candidates,
        "calls": None if total is None else total.calls,
        "prompt_tokens": None if usage is None else usage.prompt,
        "completion_tokens": None if usage is None else usage.completion,
        "exact_tokens": ranker.listwise is None or ranker.listwise.model.capabilities.exact_tokens,
        "cost": None if usage is None or prices is None else prices.cost(usage),
    }


def _of(ranker: OpenRanker, request: Request) -> Spent | None:
    """The calls for one query, with the tokens of listwise ones; None where they depend on how texts are cut."""
    if ranker.listwise is not None:
        return ranker.listwise.estimate([request])
    if ranker.facts["strategy"] == ATTENTION:
        return Spent(calls=2 if request.candidates else 0)
    if isinstance(ranker.ranker, PointwiseRanker) or not str(ranker.facts["strategy"]).startswith("cross"):
        return Spent(calls=len(request.candidates))
    return None


def account(ranker: OpenRanker, found: Sequence[Reranked]) -> dict[str, JSON]:
    """What was used: ``spent`` with answers from the cache, of which ``sent`` alone was paid for, and by status."""
    spent = sum((one.ranking.spent for one in found if one.ranking is not None), Spent())
    meter = None if ranker.meter is None else ranker.meter.account
    seconds = sum(one.seconds for one in found)
    asked = sum(one.ranking is not None and bool(one.ranked) for one in found)
    return {
        "queries": len(found),
        "candidates": sum(len(one.ranked) for one in found),
        **spent_json(spent),
        "wall_seconds": seconds,
        "seconds_per_query": seconds / asked if asked else None,
        "sent": None if meter is None else _meter_json(meter.usage, meter.calls, meter.attempts),
        "cost": None if meter is None else meter.cost,
        "statuses": dict(sorted(Counter(one.status.value for one in found).items())),
    }


def _meter_json(usage: Usage, calls: int, attempts: int) -> dict[str, JSON]:
    return {
        "calls": calls,
        "attempts": attempts,
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.completion,
    }


def cost_table(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> str:
    """The estimate, and beside it what was used, for people; a dash where nothing is known."""
    usage = {} if after is None else after["usage"]
    unknown = after is not None and after["unknown"]
    used = {
        **(after or {}),
        "prompt_tokens": None if unknown else usage.get("prompt"),
        "completion_tokens": None if unknown else usage.get("completion"),
    }
    rows = [["", "queries", "candidates", "calls", "cached", "failed", "prompt tokens", "answer tokens", "cost", "s"]]
    names = ("queries", "candidates", "calls", "cached", "failed", "prompt_tokens", "completion_tokens", "cost")
    for label, body in (("estimate", before), ("used", None if after is None else used)):
        if body is not None:
            seconds = body.get("wall_seconds")
            cells = [_cell(body.get(name)) for name in names]
            rows.append([label, *cells, "-" if seconds is None else f"{seconds:.1f}"])
    return aligned(rows)


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4f}"
