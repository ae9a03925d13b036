"""SuRe with a language model: seven calls, those of one step together; eight of a model that goes on with an answer.

A reply that cannot be read, or a call that fails after the first, gives a neutral vote and a note; nothing is repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event

from unabridged.contracts import JSON
from unabridged.errors import ModelCancelled, ModelError
from unabridged.rankers.contracts import Spent
from unabridged.rankers.generate import sure_prompts as said
from unabridged.rankers.generate.shown import NUMBERS
from unabridged.rankers.generate.sure import Decision, decide
from unabridged.rankers.listwise.inert import inert
from unabridged.rankers.lm.contracts import Choice, Completion, LanguageModel, Outcome, Prompt, Sampling

CANDIDATE_TOKENS = 48
SUMMARY_TOKENS = 160
VERDICT_TOKENS = 8
VERDICTS = Choice(labels=(said.TRUE, said.FALSE))
PLACES = Choice(labels=(said.FIRST, said.SECOND))


@dataclass(frozen=True, slots=True, kw_only=True)
class SureRecord:
    """How an answer was chosen."""

    candidates: tuple[str, ...]
    """Two, or one where the model gave only one: then nothing more was asked."""
    summaries: tuple[str, ...] = ()
    decision: Decision | None = None
    notes: tuple[str, ...] = ()
    """What did not go as planned, in order."""
    spent: Spent = field(default_factory=Spent)

    @property
    def winner(self) -> int:
        """The place of the answer among the candidates."""
        return 0 if self.decision is None else self.decision.winner

    def as_json(self) -> dict[str, JSON]:
        """Plain values."""
        return {
            "candidates": list(self.candidates),
            "summaries": list(self.summaries),
            "decision": None if self.decision is None else self.decision.as_json(),
            "notes": list(self.notes),
        }


@dataclass(slots=True)
class _Calls:
    """The model, and what was spent and noted on the way."""

    model: LanguageModel
    cancel: Event | None
    spent: Spent = field(default_factory=Spent)
    notes: list[str] = field(default_factory=list)

    def ask(
        self, step: str, prompts: Sequence[Prompt], tokens: int, *, choice: Choice | None = None
    ) -> list[Completion | None]:
        """The answers to prompts that are sent together; None for those that failed, which is noted."""
        able = self.model.capabilities.constrained or self.model.capabilities.structured
        outcomes = self.model.complete(
            prompts,
            Sampling(max_tokens=tokens, stop=(said.STOP,) if choice is None else ()),
            constraint=choice if able else None,
            cancel=self.cancel,
        )
        for outcome in outcomes:
            self.spent += Spent.of(outcome)
            if isinstance(outcome, ModelCancelled):
                raise outcome
        return [self._answered(step, outcome) for outcome in outcomes]

    def _answered(self, step: str, outcome: Outcome) -> Completion | None:
        if isinstance(outcome, ModelError):
            if step == "candidates":
                raise outcome
            self.notes.append(f"{step}: no answer ({type(outcome).__name__}: {outcome})")
            return None
        return outcome

    def unreadable(self, step: str, answer: Completion | None) -> None:
        """Notes a reply that is not of the form that was asked for."""
        if answer is not None:
            self.notes.append(f"{step}: cannot be read: {answer.text[:80]!r}")


def sure(
    question: str,
    context: str,
    model: LanguageModel,
    *,
    controls: Sequence[str] = (),
    cancel: Event | None = None,
) -> SureRecord:
    """The candidates, their summaries and the decision; ``context`` and ``question`` are inert already.

    What the model wrote may repeat a document's words, and is made inert before it is shown again; ``controls`` are
    further strings that the model gives a meaning to.

    Raises:
        ModelError: the first call gave nothing, or the caller cancelled.
    """
    calls = _Calls(model, cancel)
    found = _led(calls, context, question, controls) if model.capabilities.prefix else _free(calls, context, question)
    if len(found) < 2:
        return SureRecord(candidates=tuple(found), notes=tuple(calls.notes), spent=calls.spent)
    choices = [inert(one, NUMBERS, controls)[0] for one in found]
    prompts = [said.summary(context, question, choices, place) for place in (0, 1)]
    told = calls.ask("summaries", prompts, SUMMARY_TOKENS)
    texts = [" ".join(one.text.split()) if one is not None else "" for one in told]
    again = [inert(one, NUMBERS, controls)[0] for one in texts]
    decision = decide(_validity(calls, question, choices, again), _orders(calls, question, again))
    return SureRecord(
        candidates=tuple(found),
        summaries=tuple(texts),
        decision=decision,
        notes=tuple(calls.notes),
        spent=calls.spent,
    )


def _free(calls: _Calls, context: str, question: str) -> list[str]:
    """The candidates of one reply, which labels them itself."""
    [first] = calls.ask("candidates", [said.candidates(context, question)], CANDIDATE_TOKENS)
    found = [] if first is None else list(dict.fromkeys(said.read_candidates(first.text)))[:2]
    if len(found) < 2:
        calls.unreadable("candidates", first)
    return found


def _led(calls: _Calls, context: str, question: str, controls: Sequence[str]) -> list[str]:
    """The candidates of two replies, each behind a label that is written for the model: small ones write none."""
    found: list[str] = []
    while len(found) < 2:
        shown = [inert(one, NUMBERS, controls)[0] for one in found]
        prompt = said.candidates(context, question, said.begun(shown))
        [reply] = calls.ask("candidates", [prompt], CANDIDATE_TOKENS)
        one = "" if reply is None else said.read_candidate(reply.text)
        if not one or one in found:
            calls.unreadable("candidates", reply)
            break
        found.append(one)
    return found


def overhead(model: LanguageModel, question: str) -> tuple[int, int]:
    """Most tokens of a prompt around the passages, and of the answer to it: those of a summary."""
    word = "x" * 40
    asked = model.count_tokens(said.summary("", question, (word, word), 1))
    return asked + 2 * CANDIDATE_TOKENS, SUMMARY_TOKENS


def _validity(calls: _Calls, question: str, found: Sequence[str], texts: Sequence[str]) -> list[bool | None]:
    prompts = [said.validity(question, choice, text) for choice, text in zip(found, texts, strict=True)]
    verdicts: list[bool | None] = []
    for answer in calls.ask("validity", prompts, VERDICT_TOKENS, choice=VERDICTS):
        verdict = None if answer is None else said.read_validity(answer.text)
        if verdict is None:
            calls.unreadable("validity", answer)
        verdicts.append(verdict)
    return verdicts


def _orders(calls: _Calls, question: str, texts: Sequence[str]) -> list[int | None]:
    """The candidate that each of the two orders names."""
    prompts = [said.pairwise(question, texts[0], texts[1]), said.pairwise(question, texts[1], texts[0])]
    orders: list[int | None] = []
    for turned, answer in enumerate(calls.ask("pairwise", prompts, VERDICT_TOKENS, choice=PLACES)):
        place = None if answer is None else said.read_place(answer.text)
        if place is None:
            calls.unreadable("pairwise", answer)
        # The summary shown first is the first candidate's only in the first order.
        orders.append(None if place is None else place if not turned else 1 - place)
    return orders
