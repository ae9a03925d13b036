"""Passages by how sure a language model is of its answer after reading them (XL3M, arXiv 2405.17755).

Each passage stands alone in front of the question; the entropy H of the next token is small where the passage answers.
The paper leaves lengths, numbers and prompts open; ours are in :mod:`unabridged.rankers.select.layouts`.

``entropy``      ``-H(p | passage, question)``, the paper's score
``mean``         the mean of it over the first T tokens that greedily follow
``contrast``     ``H(p | question) - H(p | passage, question)``: the same order for one question, and above 0 where the
                 passage made the model surer

Behind a server H is known within bounds only: the score is that of the upper one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Literal

from unabridged.errors import ModelCancelled, ModelError, UsageError
from unabridged.rankers.contracts import Spent
from unabridged.rankers.lm.contracts import Completion, Distributions, LanguageModel, Prompt, Sampling
from unabridged.rankers.lm.wrapped import unwrapped
from unabridged.rankers.select.checks import CANCELLED, NO_SCORE, check_asked
from unabridged.rankers.select.contracts import Cost, Passage, Scored
from unabridged.rankers.select.layouts import AnswerLayout
from unabridged.rankers.select.lmscores import Row, check_fits, failed, prompts_cost, read, scored_in_groups
from unabridged.rankers.select.server_bounds import VOCABULARY, entropy_bounds

Kind = Literal["entropy", "mean", "contrast"]
KINDS: tuple[Kind, ...] = ("entropy", "mean", "contrast")
STEPS = 8
"""Tokens of ``mean``."""
NO_LOGPROBS = "no log-probabilities"


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropySettings:
    """How passages are asked about, and what of the answer counts."""

    kind: Kind = "entropy"
    steps: int = STEPS
    """T, of ``mean``."""
    layout: AnswerLayout = field(default_factory=AnswerLayout)
    vocabulary: int = VOCABULARY
    """V of a model behind a server, which does not say it; larger is safe."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.steps < 1 or self.vocabulary < 2:
            raise UsageError(
                f"kind={self.kind!r} is one of {', '.join(KINDS)}; steps={self.steps} is at least 1, and "
                f"vocabulary={self.vocabulary} at least 2."
            )


class EntropySelector:
    """Scores passages by the entropy of the answer; higher is better, in nats.

    Satisfies :class:`~unabridged.rankers.select.contracts.Selector`.  Equal passages are read once.
    """

    def __init__(self, model: LanguageModel, settings: EntropySettings | None = None) -> None:
        """:class:`UsageError` where the model tells neither distributions nor log-probabilities."""
        self.model = model
        self.settings = settings or EntropySettings()
        inner = unwrapped(model)
        self._local = inner if isinstance(inner, Distributions) else None
        if self._local is None:
            if self.settings.kind == "mean":
                raise UsageError(
                    f"{model.name} tells log-probabilities of the first token only, and kind='mean' needs those of "
                    f"{self.settings.steps}. Use kind='entropy', or a local model."
                )
            if model.capabilities.logprobs < 2:
                raise _no_logprobs(model)

    @property
    def label(self) -> str:
        """The model, and which score."""
        return f"{self.model.name}:{self.settings.kind}"

    @property
    def _steps(self) -> int:
        return self.settings.steps if self.settings.kind == "mean" else 1

    def cost(self, question: str, passages: Sequence[Passage]) -> Cost:
        """One call for each passage of different words, and one without a passage for ``contrast``."""
        check_asked(question, passages)
        each = ((one, self._prompt(one.text, question)) for one in passages)
        total = prompts_cost(self.model, each, self._steps - 1)
        if self.settings.kind == "contrast":
            total += Cost(calls=1, tokens=self.model.count_tokens(self._prompt("", question)))
        return total

    def score(self, question: str, passages: Sequence[Passage], *, cancel: Event | None = None) -> Scored:
        """One score per passage; ``bounds`` where a server tells only a part of the distribution.

        :class:`ContextOverflow` before anything is read, if a passage does not fit with the question.
        """
        check_asked(question, passages)
        for one in {one.text: one for one in passages}.values():
            check_fits(self.model, self._prompt(one.text, question), self._answer, one)
        base, spent = (0.0, 0.0), Spent()
        if self.settings.kind == "contrast":
            # Its bounds are those of one number, by which all scores are shifted alike.
            [(unasked, reason, bounds, spent)] = self._rows([self._prompt("", question)], cancel)
            if unasked is None:
                return Scored((None,) * len(passages), (reason,) * len(passages), spent=spent)
            base = (-unasked, -unasked) if bounds is None else (-bounds[1], -bounds[0])
        found = scored_in_groups(
            passages, lambda group: self._rows([self._prompt(one.text, question) for one in group], cancel), cancel
        )
        scores = tuple(None if one is None else one + base[1] for one in found.scores)
        ranges = tuple(None if one is None else (one[0] + base[1], one[1] + base[1]) for one in found.bounds)
        return Scored(scores, found.reasons, ranges, found.spent + spent)

    @property
    def _answer(self) -> int:
        return self._steps - 1 if self._local is not None else 1

    def _prompt(self, passage: str, question: str) -> Prompt:
        continues = self._local is not None and self.model.capabilities.prefix
        return self.settings.layout.prompt(passage, question, continues=continues)

    def _rows(self, prompts: list[Prompt], cancel: Event | None) -> list[Row]:
        if self._local is None:
            return self._asked(prompts, cancel)
        found = self._local.entropies(prompts, steps=self._steps, cancel=cancel)
        rows: list[Row] = []
        for prompt, one in zip(prompts, found, strict=True):
            if isinstance(one, ModelError):
                rows.append(_cancelled() if isinstance(one, ModelCancelled) else failed(one))
                continue
            mean = math.fsum(one) / len(one)
            spent = read(self.model.count_tokens(prompt), len(one) - 1)
            rows.append((-mean, "", None, spent) if math.isfinite(mean) else (None, NO_SCORE, None, spent))
        return rows

    def _asked(self, prompts: list[Prompt], cancel: Event | None) -> list[Row]:
        """By the log-probabilities of a server, at temperature 1 whatever token it takes."""
        sampling = Sampling(max_tokens=1, top_logprobs=self.model.capabilities.logprobs or 1)
        outcomes = self.model.complete(prompts, sampling, cancel=cancel)
        rows: list[Row] = []
        for one in outcomes:
            if not isinstance(one, Completion):
                rows.append(_cancelled() if isinstance(one, ModelCancelled) else failed(one))
            elif not one.first:
                rows.append((None, NO_LOGPROBS, None, Spent.of(one)))
            else:
                low, high = entropy_bounds(one.first.values(), self.settings.vocabulary)
                rows.append((-high, "", (-high, -low), Spent.of(one)))
        if outcomes and all(isinstance(one, Completion) and not one.first for one in outcomes):
            raise _no_logprobs(self.model)
        return rows


def _cancelled() -> Row:
    return None, CANCELLED, None, Spent()


def _no_logprobs(model: LanguageModel) -> UsageError:
    return UsageError(
        f"{model.name} gives no log-probabilities, and entropies are made of them. Use a local model (such as "
        "embedded), a server with logprobs (vLLM, SGLang, llama.cpp), or choose passages by words, vectors or a "
        "cross-encoder."
    )
