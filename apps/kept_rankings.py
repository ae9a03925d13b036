"""Rankings in the response cache, for rankers that do not ask a language model in words.

Attention, likelihood and cross-encoders compute scores inside one process; what they gave for a query is kept as one
answer, so that a run that was killed goes on with the query where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from threading import Event

from unabridged.apps.ranking_json import ranking_from_json, ranking_json
from unabridged.contracts import JSON
from unabridged.encoders._hashes import canonical_sha256
from unabridged.rankers.contracts import Ranker, Ranking, Request, Status
from unabridged.rankers.lm.cache import ResponseCache
from unabridged.rankers.lm.contracts import Completion

LAYOUT = 1
"""Raised when scores are computed otherwise, so that kept ones are not used again."""


class KeptRanker:
    """``ranker``, asked only for what ``cache`` does not hold under ``facts``: all else that decides a ranking."""

    def __init__(self, ranker: Ranker, cache: ResponseCache, facts: Mapping[str, JSON]) -> None:
        self.ranker = ranker
        self.cache = cache
        self._facts = dict(facts)

    @property
    def label(self) -> str:
        """The ranker's."""
        return self.ranker.label

    def rank(self, requests: Sequence[Request], *, cancel: Event | None = None) -> list[Ranking]:
        """One ranking per request; only whole ones are kept, each as soon as it is there."""
        return [self._one(request, cancel) for request in requests]

    def _one(self, request: Request, cancel: Event | None) -> Ranking:
        key = canonical_sha256({"ranking": LAYOUT, "ranker": self._facts, "request": _facts_of(request)})
        held = self.cache.get(key)
        if held is not None:
            found = ranking_from_json(json.loads(held.text))
            return replace(found, spent=replace(found.spent, cached=found.spent.calls, seconds=0.0))
        [ranking] = self.ranker.rank([request], cancel=cancel)
        if ranking.status is Status.OK:
            text = json.dumps(ranking_json(ranking))
            self.cache.put(key, Completion(text=text, usage=None, finish="stop", seconds=0.0, constrained=True))
        return ranking


def _facts_of(request: Request) -> JSON:
    """What a ranking depends on; texts by their SHA-256."""
    return [
        request.query,
        [
            [hashlib.sha256(one.text.encode("utf-8", "surrogatepass")).hexdigest(), one.segments]
            for one in request.candidates
        ],
    ]
