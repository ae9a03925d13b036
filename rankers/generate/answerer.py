"""Answers over hits: the pack that the model has room for, the call, the citations."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from threading import Event
from typing import Any, Literal, TypeAlias

from unabridged.errors import AnswerBroken, ContextOverflow, ModelError, UsageError
from unabridged.rankers.context.contracts import ContextPack
from unabridged.rankers.contracts import Spent
from unabridged.rankers.generate.attribution import attributed
from unabridged.rankers.generate.checks import (
    check_hits,
    check_packing,
    check_question,
    check_temperature,
    check_whole,
    check_word,
)
from unabridged.rankers.generate.checks import shown as shown_value
from unabridged.rankers.generate.choosing import source_chooser
from unabridged.rankers.generate.contracts import NO_HITS, UNSUPPORTED, Answer
from unabridged.rankers.generate.fitting import Fitting, Shown
from unabridged.rankers.generate.notfound import said_so
from unabridged.rankers.generate.prompts import CITING, SHORT, AnswerTemplate
from unabridged.rankers.generate.shown import controls_of
from unabridged.rankers.generate.sizes import is_small
from unabridged.rankers.generate.sure_run import SureRecord, sure
from unabridged.rankers.lm.contracts import Completion, LanguageModel, Sampling
from unabridged.rankers.lm.streaming import streamed

Strategy: TypeAlias = Literal["plain", "sure"]
Listener: TypeAlias = Callable[[str], None]
"""Gets each piece of an answer as it is written."""
STRATEGIES: tuple[Strategy, ...] = ("plain", "sure")
ATTRIBUTE = ("words", "choice", "none")
MAX_TOKENS = 160
SAID = 60
"""Characters of the end of a broken answer that its error shows; it has the whole of it."""
AGAIN = 3
"""Prompts that a server may refuse as too long before that is an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSettings:
    """How answers are asked for; see :func:`unabridged.apps.answering.answer`."""

    strategy: Strategy = "plain"
    max_tokens: int = MAX_TOKENS
    temperature: float = 0.0
    seed: int | None = None
    template: AnswerTemplate | None = None
    """None: :data:`SHORT` for local models below a billion parameters, else :data:`CITING`."""
    attribute: str = "words"
    """Sentences without a number get a source by their ``words``, then by the model's ``choice``, or ``none``."""
    budget: int | None = None
    """Most tokens of the pack; None: 1,000 of a small model, else 8,000, and no more than there is room for."""
    packing: Mapping[str, Any] = field(default_factory=dict)
    """Further options of :func:`unabridged.rankers.context.assemble.assemble`."""

    def __post_init__(self) -> None:
        check_word("strategy", self.strategy, STRATEGIES)
        check_word("attribute", self.attribute, ATTRIBUTE)
        check_whole("max_tokens", self.max_tokens, "tokens")
        check_temperature(self.temperature)
        if self.budget is not None:
            check_whole("budget", self.budget, "tokens")
        if self.seed is not None and (isinstance(self.seed, bool) or not isinstance(self.seed, int)):
            raise UsageError(f"seed={shown_value(self.seed)}; expected a whole number, or None.")
        if self.template is not None and not isinstance(self.template, AnswerTemplate):
            raise UsageError(f"template={shown_value(self.template)}; expected an AnswerTemplate, or None.")
        check_packing(self.packing)


class Answerer:
    """One model, asked in one way; safe to share by threads as its model is."""

    def __init__(self, model: LanguageModel, settings: AnswerSettings | None = None) -> None:
        if not callable(getattr(model, "complete", None)):
            raise UsageError(
                f"{getattr(model, 'name', None) or type(model).__name__} ranks or encodes and cannot write. Name a "
                "language model: embedded, a folder, a hub id, or openai:MODEL@URL."
            )
        self.model = model
        self.settings = settings or AnswerSettings()
        self.template = self.settings.template or (SHORT if is_small(model) else CITING)

    def answer(
        self,
        question: str,
        hits: ContextPack | Iterable[Any],
        *,
        sources: Any = None,
        listener: Listener | None = None,
        cancel: Event | None = None,
    ) -> Answer:
        """The answer to ``question`` over the best of ``hits``, or over a pack as it is.

        Raises: as said in :func:`unabridged.apps.answering.answer`.
        """
        check_question(question)
        check_hits(hits)
        clock = time.perf_counter()
        hits = list(hits) if not hasattr(hits, "sources") else hits
        fitting = Fitting(self.model, self.template, self.settings, question)
        shown = fitting.shown(hits, sources)
        timings = {"assemble_ms": _since(clock)}
        if not shown.pack.sources:
            return self._ended(Answer(
                question=question, text="", found=False, why=NO_HITS, pack=shown.pack,
                report=shown.pack.check_citations(""), model=self.model.name, strategy=self.settings.strategy,
                finish="none", notes=shown.notes, timings=timings,
            ), clock)  # fmt: skip
        if self.settings.strategy == "sure":
            return self._ended(self._by_sure(question, shown, timings, listener, cancel), clock)
        spent, refused = Spent(), 0
        while True:
            try:
                return self._ended(self._written(question, shown, timings, spent, listener, cancel), clock)
            except ContextOverflow as error:
                # A server whose context is unknown, or whose tokens were estimated.
                refused += 1
                smaller = fitting.smaller(shown, error) if refused < AGAIN else None
                if smaller is None:
                    raise
                spent += Spent.of(error)
                note = f"the model refused the prompt as too long: shown again in {smaller:,} tokens"
                shown = fitting.shown(hits, sources, budget=smaller, notes=(*shown.notes, note))

    def _written(
        self,
        question: str,
        shown: Shown,
        timings: Mapping[str, float],
        spent: Spent,
        listener: Listener | None,
        cancel: Event | None,
    ) -> Answer:
        settings, clock = self.settings, time.perf_counter()
        sampling = Sampling(max_tokens=settings.max_tokens, temperature=settings.temperature, seed=settings.seed)
        pieces: list[str] = []
        first = 0.0
        done: Completion | None = None
        try:
            for item in streamed(self.model, shown.prompt, sampling, cancel=cancel):
                if isinstance(item, Completion):
                    done = item
                    continue
                first = first or _since(clock)
                pieces.append(item)
                if listener is not None:
                    listener(item)
        except ModelError as error:
            if not pieces:
                raise
            partial = "".join(pieces)
            raise AnswerBroken(
                f"The answer broke off after {len(partial):,} characters, at {partial[-SAID:]!r} "
                f"({type(error).__name__}: {error}). What had come is no answer; ask again.",
                partial=partial,
            ) from error
        if done is None:
            raise AnswerBroken(f"{self.model.name} ended without saying that it did.", partial="".join(pieces))
        timings = {**timings, "first_piece_ms": first, "generate_ms": _since(clock)}
        return self._cited(
            question, done.text.strip(), shown, finish=done.finish, spent=spent + Spent.of(done), timings=timings
        )

    def _by_sure(
        self,
        question: str,
        shown: Shown,
        timings: Mapping[str, float],
        listener: Listener | None,
        cancel: Event | None,
    ) -> Answer:
        clock = time.perf_counter()
        record = sure(shown.question, shown.context, self.model, controls=controls_of(self.model), cancel=cancel)
        text = record.candidates[record.winner] if record.candidates else ""
        if listener is not None and text:
            listener(text)
        found = self._cited(
            question, text, shown, finish="stop", spent=record.spent,
            timings={**timings, "generate_ms": _since(clock)}, record=record,
        )  # fmt: skip
        return replace(found, notes=(*found.notes, *record.notes), sure=record)

    def _cited(
        self,
        question: str,
        text: str,
        shown: Shown,
        *,
        finish: str,
        spent: Spent,
        timings: Mapping[str, float],
        record: SureRecord | None = None,
    ) -> Answer:
        """The answer with its citations, or that there is none."""
        clock = time.perf_counter()
        pack, why = shown.pack, said_so(text)
        citations, unsupported = ((), ()) if why else self._attributed(text, shown, pack)
        if self._doubtful and unsupported and not citations:
            why = UNSUPPORTED
        return Answer(
            question=question, text=text, found=not why, why=why or "", citations=citations, unsupported=unsupported,
            pack=pack, report=pack.check_citations(text), model=self.model.name, strategy=self.settings.strategy,
            finish=finish, notes=shown.notes, sure=record, spent=spent,
            timings={**timings, "cite_ms": _since(clock)},
        )  # fmt: skip

    @property
    def _doubtful(self) -> bool:
        """Whether an answer that stands in no passage is none: the model was not asked to say that there is none."""
        settings = self.settings
        return settings.strategy == "plain" and settings.attribute != "none" and not self.template.asks

    def _attributed(self, text: str, shown: Shown, pack: ContextPack) -> Any:
        how = self.settings.attribute
        chooser = source_chooser(self.model, shown.prompt, pack) if how == "choice" else None
        return attributed(text, pack, chooser, by_words=how != "none")

    def _ended(self, answer: Answer, clock: float) -> Answer:
        return replace(answer, timings={**answer.timings, "answer_ms": _since(clock)})


def _since(moment: float) -> float:
    return round((time.perf_counter() - moment) * 1000, 3)
