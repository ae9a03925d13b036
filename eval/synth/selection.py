"""Scores of a choice of context without a language model: is the evidence in it, and is the answer.

A selector ranks stretches of the text, best first; what fits an allowance of words or tokens is the context.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from unabridged.errors import UsageError
from unabridged.eval.synth.sentences import Sample

Span = tuple[int, int]
DECILES = 10


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the context of one sample holds."""

    found: tuple[bool, ...]  # (E,) whether the whole sentence of evidence is in it
    answered: float
    """Share of the answers that stand in it, as whole words."""
    used: int
    """Words or tokens of the context, never above the allowance."""

    @property
    def recall(self) -> float:
        """Share of the evidence that is in the context."""
        return sum(self.found) / len(self.found)


@dataclass(frozen=True, slots=True)
class Selection:
    """Means over samples, all between 0 and 1, higher is better."""

    samples: int
    allowance: int
    recall: float
    all_evidence: float
    """Share of samples of which no evidence is missing."""
    answered: float
    by_depth: tuple[tuple[int, float], ...]
    """Ten tenths of the text: sentences of evidence in it, and the share of them that was found (NaN of none)."""


def words(text: str) -> int:
    """Words of a text between white space."""
    return len(text.split())


def judged(sample: Sample, ranked: Sequence[Span], allowance: int, count: Callable[[str], int] = words) -> Outcome:
    """What of the evidence and the answers is in the context.

    Args:
        sample: The text and its evidence.
        ranked: Half-open characters of the text, best first.  They are taken in this order until the first that
            does not fit; where they overlap, the text counts once.
        allowance: Most of what ``count`` counts.
        count: Words, or the tokens of a model.

    :class:`UsageError` for a stretch outside the text.
    """
    text = sample.text
    kept, used = fitting(text, ranked, allowance, count)
    spans = sample.spans
    found = tuple(any(a <= spans[at][0] and spans[at][1] <= b for a, b in kept) for at in sample.evidence)
    context = "\n".join(text[first:last] for first, last in kept)
    held = [re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", context) is not None for answer in sample.answers]
    return Outcome(found, sum(held) / len(held), used)


def fitting(
    text: str, ranked: Sequence[Span], allowance: int, count: Callable[[str], int] = words
) -> tuple[list[Span], int]:
    """What fits of the stretches of ``text``, in the order of the text, and its size; see :func:`judged`.

    :class:`UsageError` for a stretch outside the text.
    """
    kept: list[Span] = []
    used = 0
    for start, end in ranked:
        if not 0 <= start <= end <= len(text):
            raise UsageError(f"a stretch must lie in the text of {len(text):,} characters, got {start} to {end}.")
        more = _merged([*kept, (start, end)])
        size = sum(count(text[first:last]) for first, last in more)
        if size > allowance:
            break
        kept, used = more, size
    return kept, used


def summed(samples: Sequence[Sample], outcomes: Sequence[Outcome], allowance: int) -> Selection:
    """The means over samples, and recall by depth over all evidence.

    :class:`UsageError` without a sample.
    """
    if not samples or len(samples) != len(outcomes):
        raise UsageError(f"expected one outcome per sample, got {len(outcomes)} for {len(samples)}.")
    depths = np.concatenate([sample.depths for sample in samples])
    found = np.concatenate([outcome.found for outcome in outcomes])
    tenths = np.minimum((DECILES * depths).astype(int), DECILES - 1)
    sizes = np.bincount(tenths, minlength=DECILES)
    hits = np.bincount(tenths, weights=found, minlength=DECILES)
    return Selection(
        samples=len(samples),
        allowance=allowance,
        recall=float(np.mean([one.recall for one in outcomes])),
        all_evidence=float(np.mean([all(one.found) for one in outcomes])),
        answered=float(np.mean([one.answered for one in outcomes])),
        by_depth=tuple(
            (int(size), float(hit) / size if size else float("nan")) for size, hit in zip(sizes, hits, strict=True)
        ),
    )


def segments(sample: Sample, size: int) -> list[Span]:
    """The text in stretches of ``size`` sentences, the last one with what is left."""
    spans = sample.spans
    return [(spans[at][0], spans[min(at + size, len(spans)) - 1][1]) for at in range(0, len(spans), size)]


def _merged(spans: Sequence[Span]) -> list[Span]:
    """The same characters as stretches that do not touch, in the order of the text."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found
