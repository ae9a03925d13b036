"""What is learned: requests with the order that is to come of them, as labels say it, or shown in another order."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from unabridged.errors import CorpusError
from unabridged.rankers.contracts import Candidate, Request
from unabridged.training.fullrank.labels import Label


@dataclass(frozen=True, slots=True)
class Lesson:
    """A request, and the order that is to be written for it: places of its candidates from 0."""

    request: Request
    order: tuple[int, ...]


def lessons(labels: Sequence[Label], queries: Mapping[str, str], texts: Mapping[str, str]) -> list[Lesson]:
    """Labels with their texts; :class:`CorpusError` names the first query or document that is not there."""
    found = []
    for label in labels:
        if label.qid not in queries:
            raise CorpusError(f"Query {label.qid!r} has a label and no text. Give the queries that the labels are of.")
        missing = next((one for one in label.initial if one not in texts), None)
        if missing is not None:
            raise CorpusError(f"Document {missing!r} of query {label.qid!r} is not in the corpus.")
        candidates = tuple(Candidate(one, texts[one]) for one in label.initial)
        found.append(Lesson(Request(queries[label.qid], candidates, label.qid), label.order))
    return found


def shuffled(learned: Sequence[Lesson], seed: int) -> list[Lesson]:
    """The lessons with their candidates shown in an order that is drawn by ``seed`` and the query's id.

    A list that is shown in the order of a first stage teaches to repeat it: most good documents stand in front.
    """
    return [_dealt(lesson, seed) for lesson in learned]


def _dealt(lesson: Lesson, seed: int) -> Lesson:
    key = np.frombuffer(hashlib.sha256(f"{seed}:{lesson.request.id}".encode()).digest(), np.uint32)
    drawn = np.random.default_rng(key).permutation(len(lesson.order)).tolist()
    places = {old: new for new, old in enumerate(drawn)}
    request = replace(lesson.request, candidates=tuple(lesson.request.candidates[old] for old in drawn))
    return Lesson(request, tuple(places[old] for old in lesson.order))
