"""Lists of a first stage put in a better order; nothing is lost, and what went wrong is told beside the order.

The first ``depth`` documents of a list are ranked.  Documents whose text is unknown keep their places, those behind
the depth stay behind.  A query whose ranking failed keeps its whole list.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from unabridged.apps.candidates import Texts
from unabridged.apps.rankers import OpenRanker
from unabridged.errors import AuthFailed, BadRequest, ModelError, UsageError
from unabridged.rankers.contracts import Candidate, Ranking, Request, Status

IN_A_ROW = 16
"""Queries in a row without any answer after which the others are not asked: each would wait as long in vain."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A query and its first-stage list, best first."""

    id: str
    query: str | None
    """None: there is a list, and nobody knows the question."""
    hits: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Reranked:
    """What became of one list."""

    listed: Listed
    order: tuple[str, ...]
    """All documents of the list, best first."""
    ranked: tuple[str, ...]
    """Those that were given to the ranker, in first-stage order: the items of ``ranking``."""
    unknown: tuple[str, ...]
    """Those among the first ``depth`` whose text is unknown."""
    ranking: Ranking | None
    """None: the ranker was not asked."""
    failure: str
    """Why the list is as it was; empty if it was ranked."""
    seconds: float
    """Wall-clock time; of queries that were ranked together, each an equal part."""

    @property
    def status(self) -> Status:
        """That of the ranking; :attr:`Status.FAILED` where there is none."""
        return Status.FAILED if self.ranking is None else self.ranking.status


class Reranking:
    """Reranks lists with one ranker, and knows when to give up asking."""

    def __init__(self, ranker: OpenRanker, texts: Texts, depth: int) -> None:
        check_depth(depth)
        self._ranker, self._texts, self._depth = ranker, texts, depth
        self._answered = False
        self._vain = 0
        self._stopped = ""

    def run(self, lists: Iterable[Listed]) -> Iterator[Reranked]:
        """What became of each list, in their order.

        :class:`~unabridged.errors.AuthFailed` and :class:`~unabridged.errors.BadRequest` are raised where nothing was
        ranked before: later they are the failures of the queries that are left.
        """
        waiting = iter(lists)
        while part := tuple(islice(waiting, self._ranker.at_once)):
            yield from self._part(part)

    def requests(self, lists: Iterable[Listed]) -> Iterator[Request]:
        """What the ranker will be given, for estimates."""
        for listed in lists:
            if listed.query is not None:
                yield self._request(listed)[0]

    def _request(self, listed: Listed) -> tuple[Request, tuple[str, ...]]:
        """The request, and the documents without a text."""
        head = listed.hits[: self._depth]
        found = [(name, score, self._texts.text(name)) for name, score in head]
        query = listed.query or ""
        segments = self._texts.segments(query, [name for name, _, text in found if text])
        candidates = tuple(
            Candidate(name, text, tuple(segments.get(name, ())), score)
            for name, score, text in found
            if text is not None
        )
        return Request(query, candidates, listed.id), tuple(name for name, _, text in found if text is None)

    def _part(self, part: Sequence[Listed]) -> list[Reranked]:
        started = time.perf_counter()
        asked = [listed for listed in part if listed.query is not None and listed.hits]
        prepared = {listed.id: self._request(listed) for listed in asked}
        ready = [request for request, _ in prepared.values()]
        outcomes: dict[str, Ranking | str] = dict.fromkeys((one.id for one in ready), self._stopped)
        if not self._stopped:
            outcomes = dict(zip((one.id for one in ready), self._rankings(ready), strict=True))
            self._watch(outcomes.values())
        seconds = (time.perf_counter() - started) / max(1, len(asked))
        found = []
        for listed in part:
            if listed.id not in prepared:
                found.append(_unasked(listed))
                continue
            request, unknown = prepared[listed.id]
            found.append(_settled(listed, request, unknown, outcomes[listed.id], seconds))
        return found

    def _rankings(self, requests: Sequence[Request]) -> list[Ranking | str]:
        """The ranking of each request, or why it has none."""
        if not requests:
            return []
        try:
            return list(self._ranker.rank(requests))
        except (AuthFailed, BadRequest) as error:
            if len(requests) == 1 and not self._answered:
                raise
            first = error
        # One query may be at fault, and the others ranked.
        found: list[Ranking | str] = []
        for request in requests:
            try:
                found += [reason_of(first)] if len(requests) == 1 else self._ranker.rank([request])
            except (AuthFailed, BadRequest) as error:
                found.append(reason_of(error))
                if isinstance(error, AuthFailed):
                    found += [reason_of(error)] * (len(requests) - len(found))
                    break
        if not self._answered and all(isinstance(one, str) for one in found):
            raise first
        return found

    def _watch(self, outcomes: Iterable[Ranking | str]) -> None:
        """Counts the queries in a row that got no answer at all."""
        for one in outcomes:
            if isinstance(one, Ranking) and (one.status is not Status.FAILED or not one.spent.failed):
                self._answered, self._vain = True, 0
                continue
            self._vain += 1
            if self._vain >= IN_A_ROW and not self._stopped:
                reason = one if isinstance(one, str) else _reason(one)
                self._stopped = f"not asked: the {IN_A_ROW} queries before got no answer, the last of them: {reason}"


def check_depth(depth: int, option: str = "depth") -> None:
    """:class:`UsageError` for a depth that ranks nothing."""
    if depth < 1:
        raise UsageError(f"{option} {depth} ranks nothing: it is at least 1.")


def reason_of(error: ModelError) -> str:
    """An error as the reason of a failure."""
    return f"{type(error).__name__}: {error}"


def _unasked(listed: Listed) -> Reranked:
    order = tuple(name for name, _ in listed.hits)
    failure = "no query of this id is known" if listed.query is None else ""
    ranking = None if failure else Ranking((), Status.OK)
    return Reranked(listed, order, (), (), ranking, failure, 0.0)


def _settled(
    listed: Listed, request: Request, unknown: tuple[str, ...], outcome: Ranking | str, seconds: float
) -> Reranked:
    before = [name for name, _ in listed.hits]
    ranked = tuple(one.id for one in request.candidates)
    if isinstance(outcome, str):
        return Reranked(listed, tuple(before), ranked, unknown, None, outcome, seconds)
    places = {name: at for at, name in enumerate(before)}
    after = list(before)
    for place, item in zip((places[name] for name in ranked), outcome.order, strict=True):
        after[place] = ranked[item]
    failed = outcome.status in (Status.FAILED, Status.UNRANKED) or any(s.action == "stopped" for s in outcome.steps)
    return Reranked(listed, tuple(after), ranked, unknown, outcome, _reason(outcome) if failed else "", seconds)


def _reason(ranking: Ranking) -> str:
    steps = [step for step in ranking.steps if step.action in ("stopped", "first-stage", "filtered")] or ranking.steps
    return f"{ranking.status.value}: {steps[-1].reason}" if steps else ranking.status.value
