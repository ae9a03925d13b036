"""Terms to ranked rows under the statistics of one collection."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

import numpy as np

from unabridged.contracts import Floats, Mask, Rows
from unabridged.index.lexical.collection import Collection, Postings
from unabridged.index.lexical.topk import Accumulators, best
from unabridged.index.lexical.variants import Doubles, Formula

_ENTRY = 512
"""Bytes counted for an entry besides its arrays, so that terms without postings fill the cache too."""


@dataclass(frozen=True, slots=True)
class TermScores:
    """What one occurrence of a term in a query adds to each row that holds it."""

    rows: Rows  # (P,) int64, ascending
    scores: Doubles  # (P,) less what rows without the term get
    constant: float  # what every row gets, with the term or without

    @property
    def size(self) -> int:
        """Bytes."""
        return _ENTRY + self.rows.nbytes + self.scores.nbytes


class TermCache:
    """The most recently used terms, up to ``capacity`` bytes.  Thread-safe."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: OrderedDict[str, TermScores] = OrderedDict()
        self._lock = Lock()
        self.bytes = 0

    def get(self, term: str) -> TermScores | None:
        """The entry of ``term``, now the most recently used, or None."""
        with self._lock:
            found = self._items.get(term)
            if found is not None:
                self._items.move_to_end(term)
            return found

    def put(self, term: str, value: TermScores) -> None:
        """Keeps an entry, unless it alone is larger than the cache."""
        if value.size > self._capacity:
            return
        with self._lock:
            old = self._items.pop(term, None)
            self.bytes += value.size - (old.size if old is not None else 0)
            self._items[term] = value
            while self.bytes > self._capacity:
                self.bytes -= self._items.popitem(last=False)[1].size


class Scorer:
    """BM25 over one collection; immutable apart from its cache, so threads may share it."""

    def __init__(self, collection: Collection, formula: Formula, cache_bytes: int) -> None:
        self.collection = collection
        self.formula = formula
        self._cache = TermCache(cache_bytes)
        self._accumulators = Accumulators(collection.rows)

    def search(self, terms: Sequence[str], k: int, allow: Mask | None) -> tuple[Rows, Floats]:
        """At most ``k`` rows and scores, best first, of documents that ``allow`` holds True for."""
        found = [(self.term(term), count) for term, count in Counter(terms).items()]
        lists = [term.rows for term, _ in found if len(term.rows)]
        keep = None if allow is None else lambda rows: allow[self.collection.documents_of(rows)]
        with self._accumulators.lend(lists) as sums:
            for term, count in found:
                np.add.at(sums, term.rows, term.scores if count == 1 else term.scores * count)
            return best(sums, lists, k, _constant(found), keep)

    def within(self, terms: Sequence[str], documents: Sequence[int]) -> list[Floats]:
        """The scores (S,) of the segments of each document, equal to those of :meth:`search`; 0 without a match."""
        ranges = np.array([self.collection.document_segments(document) for document in documents], np.int64)
        order = np.argsort(ranges[:, 0], kind="stable")
        starts, stops = ranges[order].T
        offsets = np.concatenate(([0], np.cumsum(stops - starts)))
        sums = np.zeros(int(offsets[-1]))
        constant = 0.0
        for term, count in Counter(terms).items():
            found = self._term_within(term, [documents[place] for place in order], starts, stops)
            owners = np.searchsorted(starts, found.rows, side="right") - 1
            np.add.at(sums, offsets[owners] + found.rows - starts[owners], found.scores * count)
            constant += found.constant * count
        scores = np.where(sums != 0.0, sums + constant, 0.0).astype(np.float32)
        result: list[Floats] = [scores[:0]] * len(documents)
        for place, first, last in zip(order, offsets[:-1], offsets[1:], strict=True):
            result[place] = scores[first:last]
        return result

    def term(self, term: str) -> TermScores:
        """The contributions of a term to all its rows, from the cache or computed."""
        found = self._cache.get(term)
        if found is None:
            postings = self.collection.postings(term)
            found = self._scores(len(postings.rows), postings)
            self._cache.put(term, found)
        return found

    def _term_within(self, term: str, documents: Sequence[int], starts: Rows, stops: Rows) -> TermScores:
        """The contributions of a term inside segment ranges that are sorted and apart."""
        found = self._cache.get(term)
        if found is None and self.collection.alive is None:
            return self._scores(*self.collection.segment_postings(term, documents))
        if found is None:
            found = self.term(term)
        first, last = np.searchsorted(found.rows, starts), np.searchsorted(found.rows, stops)
        inside = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)])
        return TermScores(found.rows[inside], found.scores[inside], found.constant)

    def _scores(self, df: int, postings: Postings) -> TermScores:
        if df == 0:
            return TermScores(postings.rows, np.zeros(0), 0.0)
        idf = self.idf(df)
        b = self.formula.b
        norm = 1.0 - b + b * (postings.lengths / self.collection.average)
        constant = idf * self.formula.absent()
        return TermScores(postings.rows, idf * self.formula.weight(postings.tf, norm) - constant, constant)

    def idf(self, df: int) -> float:
        """The inverse document frequency of a term in ``df`` living rows."""
        rule = self.formula.rule
        idf = float(rule.idf(np.array([float(df)]), self.collection.n)[0])
        return self.formula.epsilon * self._average_idf if rule.floored and idf < 0.0 else idf

    @cached_property
    def _average_idf(self) -> float:
        df = self.collection.frequencies().astype(np.float64)
        return float(np.mean(self.formula.rule.idf(df, self.collection.n)))


def _constant(found: Sequence[tuple[TermScores, int]]) -> float:
    return sum(term.constant * count for term, count in found)
