"""Choices of context judged by evidence of known places: synthetic texts, and real documents whose answers are marked.

Letters::

    P passages of one text, from which is chosen     E stretches of evidence in it
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from unabridged.errors import UsageError
from unabridged.eval._resample import bootstrap_interval
from unabridged.eval._set import RetrievalSet
from unabridged.eval.evidence import Evidence
from unabridged.eval.synth.selection import DECILES, Span, fitting, segments, words
from unabridged.eval.synth.sentences import Sample

Cutter = Callable[[str], Sequence[Span]]
"""A text to its passages, in the order of the text."""


@dataclass(frozen=True, slots=True)
class Case:
    """One question, the passages to choose from, and where the answer stands."""

    id: str
    question: str
    text: str
    passages: tuple[Span, ...]  # (P,)
    evidence: tuple[Span, ...]  # (E,), E >= 1


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for one case, against its evidence."""

    covered: tuple[float, ...]  # (E,) share of the characters of each stretch of evidence that is in the context
    precise: float
    """Share of the characters of the context that are evidence; 0 for an empty context."""
    used: int
    """Words (or tokens) of the context."""
    seconds: float = 0.0
    calls: int = 0
    tokens: int = 0
    unscored: int = 0
    """Passages that the selector gave no score."""

    @property
    def recall(self) -> float:
        """Mean over the stretches of evidence."""
        return sum(self.covered) / len(self.covered)


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over cases, with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Choices:
    """Means over cases; shares between 0 and 1, higher is better."""

    cases: int
    words: float
    """Of a text."""
    passages: float
    """Of a text."""
    allowance: int
    recall: Mean
    """Share of the evidence that is in the context."""
    all_evidence: Mean
    """Share of cases of which no character of evidence is missing."""
    hit: Mean
    """Share of cases with some evidence in the context."""
    precision: Mean
    """Share of the context that is evidence; what evidence there is bounds it from above."""
    used: float
    by_depth: tuple[tuple[int, float | None], ...]
    """Ten tenths of the text: stretches of evidence whose middle lies there, and their mean recall (None of none)."""
    seconds: float
    """Of a case, by the clock."""
    calls: float
    tokens: float
    unscored: float
    """Passages of a case without a score."""


def case_of(sample: Sample, stretch: int) -> Case:
    """A synthetic sample, cut into passages of ``stretch`` sentences."""
    spans = sample.spans
    evidence = tuple(spans[at] for at in sample.evidence)
    return Case(
        f"{sample.task}-{sample.seed}", sample.question, sample.text, tuple(segments(sample, stretch)), evidence
    )


def cases_of(
    whole: RetrievalSet, evidence: Sequence[Evidence], cut: Cutter, *, allowance: int, most: int
) -> tuple[list[Case], int]:
    """Questions of a real set whose answers are marked, each with its document; and how many documents were too short.

    A document that fits the allowance leaves nothing to choose.  Of the rest the first ``most`` are taken in the order
    of the SHA-256 of their query id, which no change of the set's order moves.

    :class:`UsageError` if none is left.
    """
    marked: dict[tuple[str, str], list[Span]] = {}
    for one in evidence:
        marked.setdefault((one.query_id, one.doc_id), []).append((one.start, one.end))
    wanted = {doc for _, doc in marked}
    texts = {one.id: one.text for one in whole.corpus if one.id in wanted}
    questions = {one.id: one.text for one in whole.queries}
    known = [pair for pair in marked if pair[0] in questions and pair[1] in texts]
    long = [pair for pair in known if words(texts[pair[1]]) > allowance]
    if not long:
        raise UsageError(
            f"{whole.name}: none of its {len(known)} marked documents has more than the {allowance} words that may be "
            "chosen. Lower the allowance."
        )
    chosen = sorted(long, key=lambda pair: hashlib.sha256(pair[0].encode()).digest())[:most]
    cuts = {doc: tuple(cut(texts[doc])) for doc in {doc for _, doc in chosen}}
    cases = [
        Case(query, questions[query], texts[doc], cuts[doc], tuple(sorted(marked[query, doc]))) for query, doc in chosen
    ]
    return cases, len(known) - len(long)


def judge(case: Case, ranked: Sequence[int], allowance: int, count: Callable[[str], int] = words) -> Choice:
    """What the context holds of the evidence: the passages ``ranked``, best first, to the first that does not fit.

    Seconds and costs are left at zero.
    """
    kept, used = fitting(case.text, [case.passages[row] for row in ranked], allowance, count)
    covered = tuple(_shared(kept, [one]) / (one[1] - one[0]) for one in case.evidence)
    size = sum(end - start for start, end in kept)
    return Choice(covered, _shared(kept, case.evidence) / size if size else 0.0, used)


def summary(cases: Sequence[Case], found: Sequence[Choice], allowance: int) -> Choices:
    """The means over cases, with intervals.

    :class:`UsageError` without a case, or with another number of choices.
    """
    if not cases or len(cases) != len(found):
        raise UsageError(f"expected one choice per case, got {len(found)} for {len(cases)}.")
    return Choices(
        cases=len(cases),
        words=float(np.mean([words(case.text) for case in cases])),
        passages=float(np.mean([len(case.passages) for case in cases])),
        allowance=allowance,
        recall=_mean([one.recall for one in found]),
        all_evidence=_mean([float(min(one.covered) == 1.0) for one in found]),
        hit=_mean([float(max(one.covered) > 0.0) for one in found]),
        precision=_mean([one.precise for one in found]),
        used=float(np.mean([one.used for one in found])),
        by_depth=_by_depth(cases, found),
        seconds=float(np.mean([one.seconds for one in found])),
        calls=float(np.mean([one.calls for one in found])),
        tokens=float(np.mean([one.tokens for one in found])),
        unscored=float(np.mean([one.unscored for one in found])),
    )


def _by_depth(cases: Sequence[Case], found: Sequence[Choice]) -> tuple[tuple[int, float | None], ...]:
    tenths: list[list[float]] = [[] for _ in range(DECILES)]
    for case, one in zip(cases, found, strict=True):
        for (start, end), share in zip(case.evidence, one.covered, strict=True):
            depth = (start + end) / 2 / len(case.text)
            tenths[min(int(DECILES * depth), DECILES - 1)].append(share)
    return tuple((len(own), sum(own) / len(own) if own else None) for own in tenths)


def _mean(values: Sequence[float]) -> Mean:
    low, high = bootstrap_interval(np.array(values, dtype=np.float64))
    return Mean(float(np.mean(values)), low, high)


def _shared(kept: Sequence[Span], evidence: Sequence[Span]) -> int:
    """Characters that are in both; evidence that overlaps counts once."""
    total, at = 0, 0
    for start, end in sorted(evidence):
        start = max(start, at)
        total += sum(max(0, min(end, last) - max(start, first)) for first, last in kept)
        at = max(at, end)
    return total
