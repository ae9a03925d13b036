"""Measures as values, and what a run scores on judgements: per query, with everything that could flatter it.

>>> evaluate({"q1": {"d1": 2.0}}, {"q1": {"d1": 1}, "q2": {"d2": 1}}, ["nDCG@10"]).means.tolist()
[0.5]

The numbers are those of trec_eval, except that a query of the judgements that the run leaves out counts 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from unabridged.errors import CorpusError, UsageError
from unabridged.eval import _names
from unabridged.eval._formulas import FORMULAS, Grades
from unabridged.eval._ranking import Found, Ranking, rank
from unabridged.eval._resample import LEVEL, RESAMPLES, bootstrap_interval
from unabridged.eval.trec import Qrels

AnyRun: TypeAlias = Mapping[str, Found]
"""Query id -> its results; a query without results has an empty mapping, or is absent, which scores the same."""
SHOWN = 3
"""Ids in a message."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure and the depth that it looks to; None is the whole list.  ``str`` gives what people type."""

    name: str
    cut: int | None = None

    def __post_init__(self) -> None:
        if self.name not in FORMULAS:
            raise UsageError(f"unknown measure {self.name!r}, expected one of {', '.join(FORMULAS)}")
        if self.cut is not None and self.cut < 1:
            raise UsageError(f"the depth of {self.name} must be at least 1, got {self.cut}")

    @classmethod
    def parse(cls, text: str) -> Measure:
        """The measure that ``text`` names: ``nDCG@10``, ``recall@100``, ``map``, ``ndcg_cut_10``, ``mrr_at_10``.

        :class:`UsageError` with the nearest names for one that is not known.
        """
        return cls(*_names.parse(text))

    def __matmul__(self, cut: int) -> Measure:
        return Measure(self.name, cut)

    def __str__(self) -> str:
        return self.name if self.cut is None else f"{self.name}@{self.cut}"


nDCG, R, P, AP, RR, Success = (Measure(name) for name in FORMULAS)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a run scores; M measures, Q queries (those of the judgements, sorted by id)."""

    measures: tuple[Measure, ...]  # (M,)
    queries: tuple[str, ...]  # (Q,)
    values: NDArray[np.float64]  # (M, Q) in [0, 1], higher is better
    missing: tuple[str, ...]
    """Queries that the run does not name.  They count 0 in every mean."""
    unjudged: tuple[str, ...]
    """Queries of the run without judgements; they are in no mean."""
    tied: tuple[str, ...]
    """Queries with equal scores (as float32) that begin within the depth of the deepest measure."""
    worst: NDArray[np.float64]  # (M,) the mean if every tie were broken against the run
    best: NDArray[np.float64]  # (M,) the mean if every tie were broken for the run

    @property
    def means(self) -> NDArray[np.float64]:
        """(M,): the mean of each measure over all Q queries."""
        found: NDArray[np.float64] = self.values.mean(axis=1)
        return found

    def row(self, measure: Measure | str) -> NDArray[np.float64]:
        """(Q,): the values of one measure; :class:`UsageError` if it was not evaluated."""
        wanted = Measure.parse(measure) if isinstance(measure, str) else measure
        if wanted not in self.measures:
            raise UsageError(f"{wanted} was not evaluated, only {', '.join(map(str, self.measures))}")
        found: NDArray[np.float64] = self.values[self.measures.index(wanted)]
        return found

    def intervals(self, *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0) -> NDArray[np.float64]:
        """(M, 2): low and high end of the bootstrap percentile interval of each mean."""
        return np.array([bootstrap_interval(row, level=level, resamples=resamples, seed=seed) for row in self.values])


def evaluate(
    run: AnyRun, qrels: Qrels, measures: Sequence[Measure | str], *, ignore_unjudged: bool = False
) -> Evaluation:
    """Scores ``run`` on ``qrels``; means are over the queries of ``qrels``.

    Results are ordered as trec_eval orders them: by float32 score, ties by document id, both descending.  So no
    order of insertion and no positive power of two as a factor changes a value.  Grades above 0 are relevant.

    Args:
        run: Results by query.
        qrels: Grades by query and document; a query without any grade is not a query of it.
        measures: At least one; repeated ones count once.
        ignore_unjudged: Leaves out queries of the run that have no judgements, instead of refusing them.

    Raises:
        UsageError: No measure or an unknown one.
        ShapeError: A score that is no finite float32 number.
        DuplicateId: A document twice in one list.
        CorpusError: A grade that is no integer, no judgement, no common query, or a query without judgements.
    """
    wanted = tuple(dict.fromkeys(Measure.parse(one) if isinstance(one, str) else one for one in measures))
    if not wanted:
        raise UsageError(f"name at least one measure, such as {_names.EXAMPLES}")
    judged = {str(query): grades for query, grades in sorted(qrels.items()) if grades}
    found = {str(query): results for query, results in run.items()}
    unjudged = _check_queries(found, judged, ignore_unjudged)
    cuts = [one.cut for one in wanted]
    depth = None if None in cuts else max(cut for cut in cuts if cut is not None)
    values = np.zeros((3, len(wanted), len(judged)))
    tied = []
    for at, (query, grades) in enumerate(judged.items()):
        ranking = rank(query, found.get(query, {}))
        gains, ideal = _gains(query, ranking, grades)
        values[:, :, at] = _values(wanted, gains, ideal)
        if ranking.tied_within(depth):
            tied.append(query)
            groups = np.cumsum(~ranking.tied)
            values[1, :, at] = _values(wanted, gains[np.lexsort((gains, groups))], ideal)
            values[2, :, at] = _values(wanted, gains[np.lexsort((-gains, groups))], ideal)
    missing = tuple(query for query in judged if query not in found)
    worst, best = values[1:].mean(axis=2)
    return Evaluation(wanted, tuple(judged), values[0], missing, unjudged, tuple(tied), worst, best)


def _values(measures: Sequence[Measure], gains: Grades, ideal: Grades) -> list[float]:
    return [FORMULAS[one.name](gains, ideal, one.cut) for one in measures]


def _check_queries(found: AnyRun, judged: Mapping[str, Any], ignore_unjudged: bool) -> tuple[str, ...]:
    """The queries of the run that have no judgements."""
    if not judged:
        raise CorpusError("the judgements name no query; expected at least one query with a grade")
    if not found.keys() & judged.keys():
        raise CorpusError(
            f"run and judgements share no query: the run has {_some(found)}, the judgements have {_some(judged)}. "
            "Check that both are of one data set and split."
        )
    unjudged = tuple(sorted(found.keys() - judged.keys()))
    if unjudged and not ignore_unjudged:
        raise CorpusError(
            f"{len(unjudged):,} queries of the run have no judgements ({_some(unjudged)}); "
            "if they are to be left out, say so with ignore_unjudged (--ignore-unjudged)"
        )
    return unjudged


def _some(names: Mapping[str, Any] | Sequence[str]) -> str:
    first = ", ".join(repr(name) for name in list(names)[:SHOWN])
    return f"{first} and {len(names) - SHOWN:,} more" if len(names) > SHOWN else first or "none"


def _gains(query: str, ranking: Ranking, grades: Mapping[str, int]) -> tuple[Grades, Grades]:
    """Gains (K,) of the ranked documents, and the ideal (J,): see :mod:`unabridged.eval._formulas`."""
    positive = {str(document): grade for document, given in grades.items() if (grade := _grade(query, given)) > 0}
    gains = np.array([positive.get(document, 0) for document in ranking.documents], np.int64)
    return gains, np.array(sorted(positive.values(), reverse=True), np.int64)


def _grade(query: str, value: Any) -> int:
    if isinstance(value, (int, float, np.integer, np.floating)) and float(value).is_integer():
        return int(value)
    raise CorpusError(f"query {query!r}: a grade must be an integer, found {value!r}; round the judgements yourself")
