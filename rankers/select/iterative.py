"""Select, extend the question by what was found, select again: chains of evidence under any selector.

Source of the idea: pseudo relevance feedback (Rocchio 1971), and multi-hop retrieval by queries that grow (Qi et al.
2019, arXiv 1910.07000).  Here nothing is trained: a question grows by the terms that lead on
(:mod:`unabridged.rankers.select.links`), or by the whole text of what was found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from threading import Event

from unabridged.errors import UsageError
from unabridged.rankers.contracts import Spent, by_score
from unabridged.rankers.select.checks import check_asked
from unabridged.rankers.select.contracts import Cost, Passage, Scored, Selector
from unabridged.rankers.select.linked import scaled
from unabridged.rankers.select.links import Links, LinkSettings
from unabridged.rankers.select.terms import PassageTerms


class Extend(str, Enum):
    """What the next question is made of."""

    TERMS = "terms"
    """The terms that are new in what the last round found and in other passages too, the strongest links first."""
    TEXT = "text"
    """The question, and the text of what the last round found."""


def words(text: str) -> int:
    """Words of a text between white space."""
    return len(text.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class IterativeSettings:
    """How far it goes."""

    rounds: int = 6
    """Most questions that are asked, the first one included."""
    width: int = 4
    """Most passages that a round adds."""
    extend: Extend = Extend.TERMS
    terms: int = 12
    """Most terms of a question."""
    budget: int | None = None
    """Rounds end when what was added has this size; None: they end by their number."""
    count: Callable[[str], int] = words
    """The size of a text: words, or the tokens of a model."""
    links: LinkSettings | None = None

    def __post_init__(self) -> None:
        if min(self.rounds, self.width, self.terms) < 1:
            raise UsageError(f"rounds={self.rounds}, width={self.width} and terms={self.terms} are at least 1.")
        if self.budget is not None and self.budget < 1:
            raise UsageError(f"budget={self.budget} is too small for any passage. Give 1 or more, or None.")


@dataclass(frozen=True, slots=True)
class Round:
    """One question and what it added."""

    question: str
    rows: tuple[int, ...]
    """Passages, best first; none of an earlier round."""


@dataclass(frozen=True, slots=True)
class Iterated:
    """The scores, and the rounds behind them."""

    scored: Scored
    rounds: tuple[Round, ...]
    stopped: str
    """Why there was no further round: ``rounds``, ``budget``, ``nothing new``, ``cancelled``."""


class IterativeSelector:
    """Passages of round r above those of round r + 1, and all of these above the rest, in the order of the question.

    A passage that the k-th of K rounds added scores between K - k and K - k + 1, what no round added its share of the
    first round's scores, below 1: the scores are an order, and say no more.
    """

    def __init__(self, base: Selector, settings: IterativeSettings | None = None) -> None:
        self.base = base
        self.settings = settings or IterativeSettings()

    @property
    def label(self) -> str:
        """What it asks, and how often."""
        return f"iterative:{self.base.label}:{self.settings.rounds}"

    def cost(self, question: str, passages: Sequence[Passage]) -> Cost:
        """What all rounds would take with questions as long as the first; they may be fewer, and longer."""
        one = self.base.cost(question, passages)
        return sum((one for _ in range(self.settings.rounds)), Cost())

    def score(self, question: str, passages: Sequence[Passage], *, cancel: Event | None = None) -> Scored:
        """One score per passage; see the class."""
        return self.iterated(question, passages, cancel=cancel).scored

    def iterated(self, question: str, passages: Sequence[Passage], *, cancel: Event | None = None) -> Iterated:
        """The scores with every question that was asked, and what it added."""
        check_asked(question, passages)
        settings = self.settings
        texts = [one.text for one in passages]
        first = found = self.base.score(question, passages, cancel=cancel)
        asking = _Asking(question, texts, settings)
        rounds = [Round(question, asking.added(found))]
        spent, stopped = first.spent, "rounds"
        while True:
            if cancel is not None and cancel.is_set():
                stopped = "cancelled"
                break
            if asking.full:
                stopped = "budget"
                break
            following = asking.next_question(rounds[-1].rows)
            if following is None:
                stopped = "nothing new"
                break
            if len(rounds) == settings.rounds:
                break
            found = self.base.score(following, passages, cancel=cancel)
            spent = spent + found.spent
            rounds.append(Round(following, asking.added(found)))
        return Iterated(_scored(first, rounds, spent), tuple(rounds), stopped)


class _Asking:
    """What was taken so far, and what to ask next."""

    def __init__(self, question: str, texts: Sequence[str], settings: IterativeSettings) -> None:
        self._question, self._texts, self._settings = question, texts, settings
        self._terms = PassageTerms(texts)
        self._links = Links(texts, self._terms, settings.links)
        self._asked = set(self._terms.analyzer.analyze(question))
        self._taken: set[int] = set()
        self._used = 0

    @property
    def full(self) -> bool:
        """Whether the budget is used up."""
        return self._settings.budget is not None and self._used >= self._settings.budget

    def added(self, found: Scored) -> tuple[int, ...]:
        """The best passages that are new, above the lowest score of all: those lead nowhere."""
        share = scaled(found.scores)
        rows: list[int] = []
        for row in by_score(found.scores):
            if len(rows) == self._settings.width or share[row] <= 0.0 or self.full:
                break
            if row not in self._taken:
                rows.append(row)
                self._taken.add(row)
                self._used += self._settings.count(self._texts[row])
        return tuple(rows)

    def next_question(self, rows: Sequence[int]) -> str | None:
        """What the passages of the last round lead to; None where they lead nowhere new."""
        weights = {term: weight for row in rows for term, weight in self._links.of(row) if term not in self._asked}
        chosen = sorted(weights, key=lambda term: -weights[term])[: self._settings.terms]
        if not chosen:
            return None
        self._asked.update(chosen)
        if self._settings.extend is Extend.TERMS:
            return " ".join(chosen)
        return " ".join([self._question, *(self._texts[row] for row in rows)])


def _scored(first: Scored, rounds: Sequence[Round], spent: Spent) -> Scored:
    """Rounds as tiers above the first round's own scores."""
    below = scaled(first.scores) / 2.0
    scores: list[float | None] = [
        None if one is None else float(share) for one, share in zip(first.scores, below, strict=True)
    ]
    for tier, one in enumerate(reversed(rounds), start=1):
        for place, row in enumerate(one.rows):
            scores[row] = tier + 1.0 - place / len(one.rows)
    told = first.reasons or ("",) * len(scores)
    reasons = tuple(why if score is None else "" for why, score in zip(told, scores, strict=True))
    return Scored(tuple(scores), reasons, spent=spent)
