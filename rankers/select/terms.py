"""The words of M passages of one question, and BM25 over them under their own statistics.

Letters::

    M passages     V different terms of them     P of the passages hold a term

The formulas are those of the lexical index (:mod:`unabridged.index.lexical.variants`); here the collection is the
passages at hand, lives in memory and is gone with the question.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from unabridged.contracts import Rows
from unabridged.index.lexical.analyzer import Analyzer
from unabridged.index.lexical.variants import Doubles, Formula

_IDEOGRAPH = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
PATTERN = rf"[{_IDEOGRAPH}]|[^\W{_IDEOGRAPH}]+"
"""Words of one character count, for names of variables are often that short; ideographs stand alone."""

_ENGLISH = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they this "
    "to was will with"
)
STOPWORDS: tuple[str, ...] = tuple(_ENGLISH.split())


def default_analyzer() -> Analyzer:
    """Lower case, English stop words, no stemmer; needs no package.

    The stop words are spelled out: they are those of Lucene, and a passage is too short for a longer list.
    """
    return Analyzer(pattern=PATTERN, stopwords=STOPWORDS)


class PassageTerms:
    """Which passage holds which term how often."""

    def __init__(self, texts: Sequence[str], analyzer: Analyzer | None = None) -> None:
        self.analyzer = analyzer or default_analyzer()
        self.counts: list[Counter[str]] = [Counter(self.analyzer.analyze(text)) for text in texts]
        """(M,) term to its number in each passage."""
        self.lengths: Doubles = np.array([float(one.total()) for one in self.counts])
        """(M,) float64, terms of each passage, repeats included."""
        holders: dict[str, list[int]] = {}
        for row, one in enumerate(self.counts):
            for term in one:
                holders.setdefault(term, []).append(row)
        self._holders = holders

    def __len__(self) -> int:
        return len(self.counts)

    def holders(self, term: str) -> Sequence[int]:
        """The passages with a term, rising; none for a term that no passage has."""
        return self._holders.get(term, ())

    def idf(self, term: str, formula: Formula) -> float:
        """The inverse document frequency of a term that some passage has, by ``formula``."""
        found = float(formula.rule.idf(np.array([float(len(self._holders[term]))]), len(self))[0])
        return formula.epsilon * self._average_idf(formula) if formula.rule.floored and found < 0.0 else found

    def bm25(self, asked: Mapping[str, float], formula: Formula) -> Doubles:
        """The score of each passage, (M,) float64, higher is better, 0 without a term that was asked for.

        ``asked``: term to its weight, which is the number of its occurrences in the question or any other number.
        """
        scores = np.zeros(len(self))
        mean = float(self.lengths.mean()) if len(self) else 0.0
        constant = 0.0
        for term, weight in asked.items():
            rows = np.array(self.holders(term), dtype=np.int64)
            if not len(rows) or mean == 0.0:
                continue
            idf = weight * self.idf(term, formula)
            absent = idf * formula.absent()
            norm = 1.0 - formula.b + formula.b * self.lengths[rows] / mean
            scores[rows] += idf * formula.weight(self._frequencies(term, rows), norm) - absent
            constant += absent
        return scores + constant

    def _frequencies(self, term: str, rows: Rows) -> Doubles:
        return np.array([float(self.counts[row][term]) for row in rows])

    def _average_idf(self, formula: Formula) -> float:
        return float(np.mean(formula.rule.idf(self._all_frequencies, len(self))))

    @cached_property
    def _all_frequencies(self) -> Doubles:
        return np.array([float(len(rows)) for rows in self._holders.values()])
