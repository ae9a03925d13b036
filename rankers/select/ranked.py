"""Any ranker with scores as a selector: cross-encoders, query likelihood, judgements of a language model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Event

import numpy as np

from unabridged.encoders.windows import split
from unabridged.errors import UsageError
from unabridged.rankers.contracts import CUT, SEGMENTS, SHRUNK, Candidate, Ranker, Ranking, Request
from unabridged.rankers.cross import LEAST, CrossRanker
from unabridged.rankers.select.checks import CANCELLED, EMPTY, NO_SCORE, check_asked
from unabridged.rankers.select.contracts import Cost, Passage, Scored

READ_IN_PART = "read in part"
"""Not all of the passage fitted the model, so that its score would say nothing of the rest: take shorter passages."""
_PARTIAL = {CUT, SEGMENTS, SHRUNK}

Costing = Callable[[str, Sequence[str]], Cost]
"""A question and texts to what ranking them takes."""


class RankerSelector:
    """Scores passages as the candidates of one request.

    With ``at_once`` the passages go in groups of that many, between which ``cancel`` is looked at: only for rankers
    that judge each candidate alone, or scores of different groups would not compare.
    """

    def __init__(self, ranker: Ranker, costing: Costing, *, at_once: int | None = None) -> None:
        """:class:`UsageError` for fewer than one passage at once."""
        if at_once is not None and at_once < 1:
            raise UsageError(f"at_once={at_once} passages: it is at least 1.")
        self.ranker = ranker
        self._costing = costing
        self._at_once = at_once

    @property
    def label(self) -> str:
        """The ranker's."""
        return self.ranker.label

    def cost(self, question: str, passages: Sequence[Passage]) -> Cost:
        """What ranking all of them takes."""
        check_asked(question, passages)
        return self._costing(question, [one.text for one in passages])

    def score(self, question: str, passages: Sequence[Passage], *, cancel: Event | None = None) -> Scored:
        """The ranker's scores; a passage that it could not read to the end has none.

        :class:`UsageError` if it orders without scores.
        """
        check_asked(question, passages)
        size = self._at_once or len(passages)
        found = Scored(())
        for start in range(0, len(passages), size):
            part = [one.text for one in passages[start : start + size]]
            found = joined(found, ranked(self.ranker, question, part, cancel))
        return found


def ranked(ranker: Ranker, question: str, texts: Sequence[str], cancel: Event | None = None) -> Scored:
    """The scores of ``texts`` as the candidates of one request, in their order.

    :class:`UsageError` if the ranker orders without scores.
    """
    candidates = tuple(Candidate(str(row), text) for row, text in enumerate(texts))
    [ranking] = ranker.rank([Request(question, candidates)], cancel=cancel)
    if ranking.scores is None:
        raise UsageError(f"{ranker.label} orders without scores, and passages are chosen by scores. Name another.")
    by_row = dict(zip(ranking.order, ranking.scores, strict=True))
    scores: list[float | None] = []
    reasons: list[str] = []
    for row, text in enumerate(texts):
        flags = ranking.exposures[row].flags if ranking.exposures else ()
        reason = READ_IN_PART if _PARTIAL.intersection(flags) else ""
        score = None if reason else by_row[row]
        if score is None:
            stopped = cancel is not None and cancel.is_set()
            reason = reason or _reason(ranking, row) or (CANCELLED if stopped else NO_SCORE if text.strip() else EMPTY)
        scores.append(score)
        reasons.append(reason)
    return Scored(tuple(scores), tuple(reasons), spent=ranking.spent)


def joined(one: Scored, other: Scored) -> Scored:
    """The scores of two lists of passages as those of one; bounds are left out."""
    reasons = (*(one.reasons or ("",) * len(one.scores)), *(other.reasons or ("",) * len(other.scores)))
    return Scored((*one.scores, *other.scores), reasons, spent=one.spent + other.spent)


def cross_cost(ranker: CrossRanker) -> Costing:
    """What a cross-encoder takes: one call per window of a passage, the question's tokens read with each."""
    tokenizer = ranker.model.tokenizer

    def cost(question: str, texts: Sequence[str]) -> Cost:
        asked = len(tokenizer(question, add_special_tokens=False, verbose=False)["input_ids"])
        room = ranker.window - asked - int(tokenizer.num_special_tokens_to_add(pair=True))
        if ranker.settings.passage_tokens is not None:
            room = min(room, ranker.settings.passage_tokens)
        if room < LEAST:
            return Cost()  # the question leaves no room, and nothing will be read
        total = Cost()
        for text in texts:
            found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
            offsets = np.array(found["offset_mapping"], dtype=np.int64).reshape(-1, 2)
            ranges = split(text, offsets, room, ranker.settings.overlap).ranges
            windows = max(1, len(ranges))
            total += Cost(calls=windows, tokens=windows * asked + int((ranges[:, 1] - ranges[:, 0]).sum()))
        return total

    return cost


def _reason(ranking: Ranking, row: int) -> str:
    """What the ranker says of a candidate without a score."""
    return next((step.reason for step in ranking.steps if row in step.items), "")
