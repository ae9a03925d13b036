"""Passages by how likely the question is after reading them (as in LongLLMLingua, arXiv 2310.06839, section 4.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from threading import Event

from unabridged.errors import ModelError, UsageError
from unabridged.rankers.contracts import Spent
from unabridged.rankers.lm.contracts import LanguageModel
from unabridged.rankers.lm.wrapped import likelihood_of
from unabridged.rankers.select.checks import CANCELLED, NO_SCORE, check_asked
from unabridged.rankers.select.contracts import Cost, Passage, Scored
from unabridged.rankers.select.layouts import QuestionLayout
from unabridged.rankers.select.lmscores import Row, check_fits, failed, prompts_cost, read, scored_in_groups


class LikelihoodSelector:
    """Scores ``log P(question, assertion | passage)``, the mean over their tokens, in nats; higher is better.

    Satisfies :class:`~unabridged.rankers.select.contracts.Selector`.  One pass for each passage of different words.
    """

    def __init__(self, model: LanguageModel, layout: QuestionLayout | None = None) -> None:
        """:class:`UsageError` unless the model can score a given text."""
        self.model = model
        self.layout = layout or QuestionLayout()
        likelihood = likelihood_of(model)
        if likelihood is None:
            raise UsageError(
                f"{model.name} cannot score a given text, which the likelihood of a question needs. Use a local model, "
                "or the entropy of the answer, for which a server's log-probabilities suffice."
            )
        self._likelihood = likelihood

    @property
    def label(self) -> str:
        """The model, and which score."""
        return f"{self.model.name}:likelihood"

    def cost(self, question: str, passages: Sequence[Passage]) -> Cost:
        """One call for each passage of different words, the question's tokens read with each."""
        check_asked(question, passages)
        [asked] = self.model.count_texts([self.layout.written(question)])
        return prompts_cost(self.model, ((one, self.layout.prompt(one.text)) for one in passages), asked)

    def score(self, question: str, passages: Sequence[Passage], *, cancel: Event | None = None) -> Scored:
        """One score per passage.

        :class:`ContextOverflow` before anything is read, if a passage does not fit with the question.
        """
        check_asked(question, passages)
        written = self.layout.written(question)
        [asked] = self.model.count_texts([written])
        for one in {one.text: one for one in passages}.values():
            check_fits(self.model, self.layout.prompt(one.text), asked, one)
        return scored_in_groups(passages, lambda group: self._rows(group, written, asked, cancel), cancel)

    def _rows(self, group: list[Passage], written: str, asked: int, cancel: Event | None) -> list[Row]:
        rows: list[Row] = []
        for one in group:
            if cancel is not None and cancel.is_set():
                rows.append((None, CANCELLED, None, Spent()))
                continue
            prompt = self.layout.prompt(one.text)
            try:
                [total] = self._likelihood.score([prompt], [written])
            except ModelError as error:
                rows.append(failed(error))
                continue
            spent = read(self.model.count_tokens(prompt) + asked)
            value = total / max(1, asked)
            rows.append((value, "", None, spent) if math.isfinite(value) else (None, NO_SCORE, None, spent))
        return rows
