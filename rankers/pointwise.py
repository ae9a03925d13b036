"""Candidates judged one at a time by a language model: a yes or no, or how well the query follows from the text.

Both give scores that compare candidates of one query, within one model and template.  A candidate without a score has
None, never a number that looks like one, and stands behind those that have; the ranking's status says that it is so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event

from unabridged.errors import ModelError, UsageError
from unabridged.rankers.contracts import Candidate, Ranking, Request, Spent, Step
from unabridged.rankers.listwise.fitting import Fitter
from unabridged.rankers.listwise.labels import Labels
from unabridged.rankers.listwise.prompts import YES_NO
from unabridged.rankers.listwise.segments import SegmentSelector
from unabridged.rankers.listwise.templates import Shown, Template, Turn, render
from unabridged.rankers.lm.contracts import (
    Choice,
    Completion,
    LanguageModel,
    Likelihood,
    Outcome,
    Prompt,
    Sampling,
    Usage,
)
from unabridged.rankers.scored import exposures, fitted, scored

SLACK = 8
"""Tokens left free: a text in its place has a few more or fewer than it has alone."""

NO_NUMBER = "no likelihood: memory did not suffice for the prompt, or the model's numbers overflowed"

ASKED = Template(
    name="asked",
    method="pointwise",
    opening=(
        Turn("system", "You are shown a document and write the search query that it answers. Write nothing else."),
    ),
    each=(Turn("user", "Document: {candidate}\n\n"),),
    closing=(Turn("user", "Write the query that it answers."),),
    shows_query=False,
)
"""For query likelihood: the query is what is scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PointwiseSettings:
    """How candidates are shown and judged."""

    template: Template = YES_NO
    yes: str = "yes"
    no: str = "no"
    passage_tokens: int | None = None
    """Most tokens of a candidate; None: as many as the context holds."""
    selector: SegmentSelector | None = None
    """Which parts of a long candidate that brings no segments are shown; None: by the query's words."""
    controls: tuple[str, ...] = ()
    workers: int = 8
    """Queries at the same time."""

    def __post_init__(self) -> None:
        if self.template.method != "pointwise":
            raise UsageError(
                f"Template {self.template.name!r} is {self.template.method}; this ranker needs a pointwise."
            )
        if self.yes == self.no or self.workers < 1 or (self.passage_tokens is not None and self.passage_tokens < 1):
            raise UsageError(
                f"yes={self.yes!r} and no={self.no!r} differ; workers={self.workers} and "
                f"passage_tokens={self.passage_tokens} are at least 1."
            )


class PointwiseRanker:
    """Scores ``log P(yes) - log P(no)`` at the first position of the answer (as monoT5 and its followers do)."""

    def __init__(self, model: LanguageModel, settings: PointwiseSettings | None = None) -> None:
        """:class:`UsageError` where the model gives no two log-probabilities."""
        self.model = model
        self.settings = settings or PointwiseSettings()
        if model.capabilities.logprobs < 2:
            raise UsageError(f"{model.name} gives no log-probabilities. Use a local model, or a listwise strategy.")

    @property
    def label(self) -> str:
        """The model, and how it judges."""
        return f"{self.model.name}:pointwise"

    def rank(self, requests: Sequence[Request], *, cancel: Event | None = None) -> list[Ranking]:
        """One ranking per request, with a score for each candidate that got one; N calls each."""
        with ThreadPoolExecutor(self.settings.workers) as pool:
            return list(pool.map(lambda request: self._one(request, cancel), requests))

    def _one(self, request: Request, cancel: Event | None) -> Ranking:
        settings = self.settings
        if not request.candidates:
            return scored((), exposures=())
        shown = fitted(_fitter(self.model, settings), request.query, request.candidates, self._limit(request))
        prompts = [
            render(settings.template, request.query, [_shown(piece.text, one)], controls=settings.controls)
            for (_, piece), one in zip(shown, request.candidates, strict=True)
        ]
        able = self.model.capabilities
        outcomes = self.model.complete(
            prompts,
            Sampling(max_tokens=1, top_logprobs=2 if able.constrained else able.logprobs),
            constraint=Choice(labels=(settings.yes, settings.no)),
            cancel=cancel,
        )
        scores = [self._score(outcome) for outcome in outcomes]
        steps = [
            Step(1, (place,), "first-stage", self._reason(outcome))
            for place, (outcome, score) in enumerate(zip(outcomes, scores, strict=True))
            if score is None
        ]
        spent = sum((Spent.of(outcome) for outcome in outcomes), Spent())
        return scored(scores, exposures=exposures(shown, scores), steps=tuple(steps), spent=spent)

    def _limit(self, request: Request) -> int | None:
        frame = render(self.settings.template, request.query, [_shown("", request.candidates[0])])
        return _limit(self.model, self.settings, self.model.count_tokens(frame) + 1)

    def _score(self, outcome: Outcome) -> float | None:
        first = outcome.first if isinstance(outcome, Completion) else None
        if not first or self.settings.yes not in first or self.settings.no not in first:
            return None
        return _number(first[self.settings.yes] - first[self.settings.no])

    def _reason(self, outcome: Outcome) -> str:
        if isinstance(outcome, Completion):
            named = ", ".join(sorted(outcome.first or {})[:5]) or "nothing"
            return f"no log-probabilities of {self.settings.yes!r} and {self.settings.no!r}, but of {named}"
        return f"{type(outcome).__name__}: {outcome}"


class QueryLikelihoodRanker:
    """Scores ``log P(query | document)`` (UPR, Sachan et al. 2022, arXiv 2204.07496); needs local weights."""

    def __init__(self, model: LanguageModel, settings: PointwiseSettings | None = None) -> None:
        """:class:`UsageError` unless the model can score a given text."""
        self.model = model
        self.settings = settings or PointwiseSettings(template=ASKED)
        if self.settings.template.shows_query:
            raise UsageError(
                f"Template {self.settings.template.name!r} shows the query, whose likelihood is then none."
            )
        if not isinstance(model, Likelihood):
            raise UsageError(
                f"{model.name} cannot score a given text, which query likelihood needs. Use a local model."
            )
        self._likelihood: Likelihood = model

    @property
    def label(self) -> str:
        """The model, and how it judges."""
        return f"{self.model.name}:likelihood"

    def rank(self, requests: Sequence[Request], *, cancel: Event | None = None) -> list[Ranking]:
        """One ranking per request, one after the other; N passes each."""
        return [self._one(request, cancelled=cancel is not None and cancel.is_set()) for request in requests]

    def _one(self, request: Request, *, cancelled: bool) -> Ranking:
        settings = self.settings
        if not request.candidates:
            return scored((), exposures=())
        frame = render(settings.template, "", [_shown("", request.candidates[0])])
        asked = self.model.count_texts([request.query])[0]
        limit = _limit(self.model, settings, self.model.count_tokens(frame) + asked)
        shown = fitted(_fitter(self.model, settings), request.query, request.candidates, limit)
        prompts: list[Prompt] = [
            render(settings.template, "", [_shown(piece.text, one)], controls=settings.controls)
            for (_, piece), one in zip(shown, request.candidates, strict=True)
        ]
        places = tuple(range(len(prompts)))
        read = sum(self.model.count_tokens(prompt) + asked for prompt in prompts)
        usage = Usage(prompt=0 if cancelled else read, completion=0)
        scores: list[float | None]
        steps: tuple[Step, ...] = ()
        if cancelled:
            scores, steps = [None] * len(prompts), (Step(1, places, "stopped", "cancelled"),)
        else:
            try:
                found = self._likelihood.score(prompts, [request.query] * len(prompts))
                scores = [_number(one) for one in found]
                without = tuple(place for place, score in enumerate(scores) if score is None)
                steps = (Step(1, without, "first-stage", NO_NUMBER),) if without else ()
            except ModelError as error:
                scores = [None] * len(prompts)
                steps = (Step(1, places, "first-stage", f"{type(error).__name__}: {error}"),)
        spent = (
            Spent()
            if cancelled
            else Spent(calls=len(prompts), failed=sum(score is None for score in scores), usage=usage)
        )
        return scored(scores, exposures=exposures(shown, scores), steps=steps, spent=spent)


def _fitter(model: LanguageModel, settings: PointwiseSettings) -> Fitter:
    labels = Labels(brackets=False)
    return Fitter(model=model, labels=labels, selector=settings.selector, controls=settings.controls)


def _limit(model: LanguageModel, settings: PointwiseSettings, taken: int) -> int | None:
    """The most tokens of a candidate beside ``taken`` others."""
    context = model.capabilities.context
    if context is None:
        return settings.passage_tokens
    room = max(1, context - taken - SLACK)
    return room if settings.passage_tokens is None else min(room, settings.passage_tokens)


def _shown(text: str, candidate: Candidate) -> Shown:
    return Shown(text, candidate.score)


def _number(value: float) -> float | None:
    """``value``, or None where it is no finite number."""
    return value if math.isfinite(value) else None
