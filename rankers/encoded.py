"""Candidates ranked by an encoder: the best segment of each against the query (MaxP over vectors).

The first stage again where it was the same encoder; a teacher of complete lists where it was another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event

import numpy as np

from unabridged.contracts import Encoded, Encoder, Floats, Level, OverflowPolicy
from unabridged.rankers.aggregate import TOP, Aggregate, aggregate, check_aggregate
from unabridged.rankers.contracts import KEPT, UNREAD, Characters, Exposure, Ranking, Request, Spent, Step
from unabridged.rankers.lm.contracts import Usage
from unabridged.rankers.scored import scored


class EncoderRanker:
    """Scores a candidate by its segments' inner products with the query, put together as in cross-encoders."""

    def __init__(self, encoder: Encoder, *, how: Aggregate = "max", top: int = TOP) -> None:
        """:class:`~unabridged.errors.UsageError` for an unknown ``how``; ``top``: segments of ``mean-top``."""
        check_aggregate(how, top)
        self.encoder = encoder
        self._how: Aggregate = how
        self._top = top

    @property
    def label(self) -> str:
        """The encoder, and how its scores are put together."""
        return f"{self.encoder.passport.source}:{self._how}"

    def rank(self, requests: Sequence[Request], *, cancel: Event | None = None) -> list[Ranking]:
        """One ranking per request, with the score of each candidate and the segments that made it."""
        queries = self.encoder.encode_queries([request.query for request in requests]) if requests else None
        rankings = []
        for number, request in enumerate(requests):
            if queries is None or (cancel is not None and cancel.is_set()):
                rankings.append(_unranked(request))
            else:
                rankings.append(self._one(request, queries[number]))
        return rankings

    def _one(self, request: Request, query: Floats) -> Ranking:
        if not request.candidates:
            return scored((), exposures=())
        found = self.encoder.encode_documents(
            [one.text for one in request.candidates], level=Level.SEGMENT, overflow=OverflowPolicy.SPLIT
        )
        values = np.asarray(found.segments, dtype=np.float32) @ query
        scores: list[float | None] = []
        exposures: list[Exposure] = []
        for place in range(len(request.candidates)):
            first, last = int(found.offsets[place]), int(found.offsets[place + 1])
            score, best = aggregate(values[first:last], self._how, self._top)
            scores.append(score)
            exposures.append(_exposure(found, place, tuple(first + one for one in best)))
        usage = Usage(prompt=int(found.coverage.seen.sum()), completion=0)
        return scored(scores, exposures=tuple(exposures), spent=Spent(calls=1, usage=usage))


def _exposure(found: Encoded, place: int, best: Sequence[int]) -> Exposure:
    def span(row: int) -> Characters:
        return int(found.spans[row, 0]), int(found.spans[row, 1])

    first, last = int(found.offsets[place]), int(found.offsets[place + 1])
    seen = int(found.coverage.seen[place])
    # What was left out by choice is no part of what was to be shown.
    left = 0 if found.coverage.left_out is None else int(found.coverage.left_out[place])
    return Exposure(
        int(found.coverage.total[place]) - left,
        seen,
        tuple(map(span, range(first, last))),
        last - first,
        best=tuple(map(span, best)),
    )


def _unranked(request: Request) -> Ranking:
    count = len(request.candidates)
    unread = tuple(Exposure(0, 0, (), 0, (KEPT, UNREAD)) for _ in range(count))
    steps = (Step(1, tuple(range(count)), "stopped", "cancelled"),) if count else ()
    return scored([None] * count, exposures=unread, steps=steps)
