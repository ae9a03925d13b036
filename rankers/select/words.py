"""Passages by their words: BM25 of the question over the passages at hand.

Source: Robertson et al. 1994, in the variants of :mod:`unabridged.index.lexical.variants`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from threading import Event

from unabridged.index.lexical.analyzer import Analyzer
from unabridged.index.lexical.variants import Formula
from unabridged.rankers.select.checks import CANCELLED, check_asked, unscored
from unabridged.rankers.select.contracts import Cost, Passage, Scored
from unabridged.rankers.select.terms import PassageTerms, default_analyzer

FORMULA = Formula(k1=1.2, b=0.75)


class WordSelector:
    """BM25 with statistics of the passages themselves: a word that all of them have says little.

    No model, no package.  A passage without a word of the question has 0, which is a score.  Scores depend on all
    passages of the call, through their statistics.
    """

    def __init__(self, *, analyzer: Analyzer | None = None, formula: Formula = FORMULA) -> None:
        self.analyzer = analyzer or default_analyzer()
        self.formula = formula

    @property
    def label(self) -> str:
        """The formula."""
        rule = self.formula.variant
        return "bm25" if rule == FORMULA.variant else f"bm25:{rule}"

    def cost(self, question: str, passages: Sequence[Passage]) -> Cost:
        """Nothing: no model reads anything."""
        check_asked(question, passages)
        return Cost()

    def score(self, question: str, passages: Sequence[Passage], *, cancel: Event | None = None) -> Scored:
        """One score per passage, 0 or above by the default formula, higher is better.

        :class:`~unabridged.errors.UsageError` for an empty question or no passages.
        """
        check_asked(question, passages)
        if cancel is not None and cancel.is_set():
            return unscored(len(passages), CANCELLED)
        terms = PassageTerms([one.text for one in passages], self.analyzer)
        found = terms.bm25(Counter(self.analyzer.analyze(question)), self.formula)
        return Scored(tuple(map(float, found)))
