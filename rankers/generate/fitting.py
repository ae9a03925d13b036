"""The pack that a model has room for beside the question, the instructions and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unabridged.errors import BudgetTooSmall, ContextOverflow, UsageError
from unabridged.rankers.context.assemble import assemble
from unabridged.rankers.context.contracts import ContextPack
from unabridged.rankers.generate.prompts import AnswerTemplate
from unabridged.rankers.generate.shown import NUMBERS, controls_of, shown
from unabridged.rankers.generate.sizes import budget_for
from unabridged.rankers.generate.sure_run import overhead
from unabridged.rankers.listwise.inert import inert
from unabridged.rankers.lm.contracts import LanguageModel, Prompt

if TYPE_CHECKING:
    from unabridged.rankers.generate.answerer import AnswerSettings

UNKNOWN_CONTEXT = 4_096
"""Tokens that a model is taken to read where it does not say how many."""
SEAM = 8
"""Tokens by which a prompt may have more than its parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What the model gets."""

    pack: ContextPack
    context: str
    """The pack's text, made inert."""
    question: str
    prompt: Prompt
    budget: int
    notes: tuple[str, ...]
    given: bool = False
    """Whether the pack is one that was assembled elsewhere."""


class Fitting:
    """One question for one model."""

    def __init__(self, model: LanguageModel, template: AnswerTemplate, settings: AnswerSettings, question: str) -> None:
        self._model, self._template, self._settings = model, template, settings
        self._asked = question
        self._controls = controls_of(model)
        self._question = inert(question, NUMBERS, self._controls)[0]
        self._limit = model.capabilities.context or UNKNOWN_CONTEXT

    @property
    def room(self) -> int:
        """Tokens of a pack; :class:`UsageError` where there are none."""
        around, answer = self._model.count_tokens(self._prompt("")), self._settings.max_tokens
        if self._settings.strategy == "sure":
            around, answer = overhead(self._model, self._question)
        left = self._limit - around - answer - SEAM
        if left < 1:
            raise UsageError(
                f"The {self._limit:,} tokens of {self._model.name}{self._taken} have no room for a passage: the "
                f"question and its instructions take {around:,}, the answer up to {answer:,}. Use a model with more, a "
                "shorter question or fewer tokens of answer (--max-tokens)."
            )
        return left

    @property
    def _taken(self) -> str:
        """Said behind a context that the model did not tell."""
        known = self._model.capabilities.context is not None
        return "" if known else " (it does not say how many it reads: say so with --context)"

    def shown(self, hits: Any, sources: Any, *, budget: int | None = None, notes: tuple[str, ...] = ()) -> Shown:
        """The best of ``hits`` in at most ``budget`` tokens (None: as the settings say), and the prompt with them.

        A pack is shown as it is, or not at all.
        """
        room = self.room
        if isinstance(hits, ContextPack):
            return self._as_it_is(hits, room)
        given = budget_for(self._model) if self._settings.budget is None else self._settings.budget
        budget = min(given, room) if budget is None else min(budget, given, room)
        while True:
            pack = self._packed(hits, sources, budget)
            context, changed = shown(pack, self._controls)
            prompt = self._prompt(context)
            # What was made inert may have more tokens than what the pack counted.
            over = self._model.count_texts([context])[0] - room
            if over <= 0 or not pack.sources:
                break
            budget = min(budget, pack.tokens) - over - SEAM
            if budget < 1:
                raise UsageError(f"No passage fits into the {room:,} tokens that {self._model.name} has for them.")
        return Shown(
            pack=pack, context=context, question=self._question, prompt=prompt, budget=budget,
            notes=(*notes, *_told(changed)),
        )  # fmt: skip

    def _as_it_is(self, pack: ContextPack, room: int) -> Shown:
        """A pack that was assembled elsewhere; :class:`UsageError` where it has too many tokens for the model."""
        context, changed = shown(pack, self._controls)
        tokens = self._model.count_texts([context])[0]
        most = room if self._settings.budget is None else min(room, self._settings.budget)
        if tokens > most:
            raise UsageError(
                f"The pack has {tokens:,} tokens of {self._model.name}, and {most:,} may be shown: the model reads "
                f"{self._limit:,}{self._taken}. Assemble it with budget={most} and tokenizer= this model, or give the "
                "hits in its place."
            )
        notes = _told(changed)
        if pack.question.split() != self._asked.split():
            notes = (*notes, f"the pack was assembled for another question: {pack.question[:200]!r}")
        return Shown(
            pack=pack, context=context, question=self._question, prompt=self._prompt(context), budget=most,
            notes=notes, given=True,
        )  # fmt: skip

    def smaller(self, before: Shown, error: ContextOverflow) -> int | None:
        """The next budget after a prompt was refused as too long; None where there is no smaller one to try.

        A pack that was given is not made smaller.
        """
        if before.given:
            return None
        used = min(before.budget, before.pack.tokens)
        if error.limit is not None and error.got is not None and error.got > error.limit:
            # Their tokens for ours, with a tenth to spare.
            return next((one for one in (int(0.9 * used * error.limit / error.got),) if one > 0), None)
        return used // 2 or None

    def _packed(self, hits: Any, sources: Any, budget: int) -> ContextPack:
        options = {"trim": True, **self._settings.packing}
        try:
            return assemble(self._asked, hits, budget=budget, tokenizer=self._model, sources=sources, **options)
        except BudgetTooSmall as error:
            if self._settings.budget is not None and budget == self._settings.budget:
                raise
            raise UsageError(
                f"{self._model.name} has room for {budget:,} tokens of passages, and the shortest has "
                f"{error.smallest:,}. Use a model with a larger context."
            ) from error

    def _prompt(self, context: str) -> Prompt:
        return self._template.prompt(context, self._question, lead=self._model.capabilities.prefix)


def _told(changed: int) -> tuple[str, ...]:
    """A note where documents hold what could act in a prompt."""
    if not changed:
        return ()
    return (f"{changed:,} places of the documents could act as numbers or turns: shown harmlessly",)
