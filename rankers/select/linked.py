"""Chains of evidence: passages that the question leads to, and those that these lead to by terms that few share.

The answer of a chain shares no word with the question: ``B = 17``, ``C = B``, ``D = C``.  From the passages that
answer the question best, links are followed to the passages that share a rare term with them, best path first
(Dijkstra over products; in retrieval: spreading activation, Crestani 1997).

Letters::

    M passages     s(p) their direct scores, scaled to at most 1     w(t) weight of a term [links]
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event

import numpy as np

from unabridged.errors import UsageError
from unabridged.index.lexical.variants import Doubles
from unabridged.rankers.select.checks import CANCELLED, check_asked, unscored
from unabridged.rankers.select.contracts import Cost, Passage, Scored, Selector
from unabridged.rankers.select.links import Links, LinkSettings
from unabridged.rankers.select.terms import PassageTerms
from unabridged.rankers.select.words import WordSelector

DECAY = 0.9
ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Reached:
    """How a passage came to its score."""

    row: int
    score: float
    """Above 0 and at most 1."""
    round: int
    """0: by the question itself; else the links from there."""
    source: int | None = None
    """The passage that led to it."""
    term: str | None = None
    """The term that both have."""


class LinkedSelector:
    """``score(p) = max(s(p), decay * max over q, t of score(q) * w(t))``, t of both p and q and not of the question.

    Scores fall along every path, so that passages taken in their order are taken after what led to them, and a larger
    budget only adds to a smaller one.  ``base`` gives the direct scores, the lowest of which stands for nothing: the
    question does not lead there.
    """

    def __init__(
        self,
        base: Selector | None = None,
        *,
        decay: float = DECAY,
        rounds: int = ROUNDS,
        links: LinkSettings | None = None,
    ) -> None:
        """:class:`UsageError` unless ``decay`` lies above 0 and at most at 1, and ``rounds`` is 0 or above."""
        if not 0.0 < decay <= 1.0 or rounds < 0:
            raise UsageError(f"decay={decay} lies above 0 and at most at 1, rounds={rounds} is 0 or above.")
        self.base: Selector = base or WordSelector()
        self.decay, self.rounds, self.links = decay, rounds, links or LinkSettings()

    @property
    def label(self) -> str:
        """What it starts from."""
        return f"linked:{self.base.label}"

    def cost(self, question: str, passages: Sequence[Passage]) -> Cost:
        """That of the direct scores; links cost no model's time."""
        return self.base.cost(question, passages)

    def score(self, question: str, passages: Sequence[Passage], *, cancel: Event | None = None) -> Scored:
        """0 to 1, 0 for what neither the question nor a link leads to.

        A passage without a score by ``base`` that no link reaches has none here either.
        """
        found, direct = self._followed(question, passages, cancel)
        if cancel is not None and cancel.is_set():
            return unscored(len(passages), CANCELLED, direct.spent)
        scores: list[float | None] = [None if one is None else 0.0 for one in direct.scores]
        for one in found:
            scores[one.row] = one.score
        told = direct.reasons or ("",) * len(scores)
        reasons = tuple(why if score is None else "" for why, score in zip(told, scores, strict=True))
        return Scored(tuple(scores), reasons, spent=direct.spent)

    def followed(self, question: str, passages: Sequence[Passage], *, cancel: Event | None = None) -> list[Reached]:
        """Every passage that is reached, best first, with the round in which it was and what led to it."""
        return self._followed(question, passages, cancel)[0]

    def _followed(
        self, question: str, passages: Sequence[Passage], cancel: Event | None
    ) -> tuple[list[Reached], Scored]:
        check_asked(question, passages)
        direct = self.base.score(question, passages, cancel=cancel)
        if cancel is not None and cancel.is_set():
            return [], direct
        texts = [one.text for one in passages]
        terms = PassageTerms(texts)
        asked = frozenset(terms.analyzer.analyze(question))
        links = Links(texts, terms, self.links)
        return follow(scaled(direct.scores), links, asked, decay=self.decay, rounds=self.rounds, cancel=cancel), direct


def scaled(scores: Sequence[float | None]) -> Doubles:
    """Scores as (M,) float64 of 0 to 1: 0 for the lowest, 1 for the highest; 1 for all where all are equal and not 0.

    A passage without a score has 0, for the question does not lead there.
    """
    known = [one for one in scores if one is not None and math.isfinite(one)]
    low, high = min(known, default=0.0), max(known, default=0.0)
    if low == high:
        low = min(0.0, high - 1.0) if high != 0.0 else 0.0
    span = high - low
    has = [one is not None and math.isfinite(one) and span > 0.0 for one in scores]
    return np.array([((one or 0.0) - low) / span if held else 0.0 for one, held in zip(scores, has, strict=True)])


def follow(
    direct: Doubles,
    links: Links,
    asked: frozenset[str],
    *,
    decay: float = DECAY,
    rounds: int = ROUNDS,
    cancel: Event | None = None,
) -> list[Reached]:
    """The passages reached, best first; equals by their row.  What was reached when ``cancel`` was set is returned."""
    best = {row: Reached(row, float(score), 0) for row, score in enumerate(direct) if score > 0.0}
    heap = [(-one.score, row) for row, one in best.items()]
    heapq.heapify(heap)
    done: dict[int, Reached] = {}
    while heap and not (cancel is not None and cancel.is_set()):
        score, row = heapq.heappop(heap)
        at = best[row]
        if row in done or -score < at.score:
            continue
        done[row] = at
        if at.round == rounds:
            continue
        for term, weight in links.of(row):
            value = at.score * decay * weight
            if term in asked or value <= 0.0:
                continue
            for other in links.terms.holders(term):
                if other not in done and (other not in best or value > best[other].score):
                    best[other] = Reached(other, value, at.round + 1, row, term)
                    heapq.heappush(heap, (-value, other))
    return list(done.values())
