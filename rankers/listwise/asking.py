"""What one group's call looks like: the prompt, the room for its answer, and what the answer is held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from unabridged.errors import UsageError
from unabridged.rankers.listwise.labels import LETTERS
from unabridged.rankers.listwise.prompts import CHOICE, LISTWISE
from unabridged.rankers.listwise.segments import SegmentSelector
from unabridged.rankers.listwise.templates import Shown, Template, example, render
from unabridged.rankers.lm.contracts import Choice, Constraint, LanguageModel, Message, Permutation, Prompt, Sampling

Constrain = Literal["auto", "always", "never"]
SPARE = 4
"""Tokens beyond the longest answer: its end, and a space or a line before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How groups are shown, asked for and read."""

    template: Template = LISTWISE
    """For an order."""
    choice: Template | None = CHOICE
    """For the best of a few; None: ``template`` too."""
    passage_tokens: int | None = None
    """Most tokens of one candidate in any prompt, as a fine-tuned model was trained; None: as many as fit."""
    floor: int = 16
    """Tokens of a candidate below which its group is rather split than shown so short."""
    selector: SegmentSelector | None = None
    """Which parts of a long candidate that brings no segments are shown; None: by the query's words."""
    retries: int = 1
    """Further calls for a group whose answer has no id at all."""
    enough: float = 0.5
    """Share of the expected ids below which a group is partially ranked."""
    thinking: int = 0
    """Tokens for a thought before the answer."""
    constrain: Constrain = "auto"
    """``auto``: answers that can be held to a permutation by construction are, and a server's structured output is used
    for a retry; ``always``: it is used at once; ``never``."""
    first_token: bool = False
    """A group is ordered by the log-probabilities of its ids at the first position (FIRST, arXiv 2406.15657): one token
    a call.  Needs a model with log-probabilities and ids of one token, such as those of ``LETTERED``."""
    controls: tuple[str, ...] = ()
    """Strings beside the usual ones that the model gives a meaning to."""
    workers: int = 8
    """Queries at the same time."""

    def __post_init__(self) -> None:
        for template in (self.template, self.choice):
            if template is not None and template.method == "pointwise":
                raise UsageError(f"Template {template.name!r} is pointwise: it shows one candidate, not a list.")
        if self.passage_tokens is not None and self.passage_tokens < self.floor:
            raise UsageError(f"passage_tokens={self.passage_tokens} is below the floor of {self.floor} tokens.")
        if min(self.floor, self.workers) < 1 or min(self.retries, self.thinking) < 0 or not 0 <= self.enough <= 1:
            raise UsageError(
                f"floor={self.floor} and workers={self.workers} are at least 1, retries={self.retries} and "
                f"thinking={self.thinking} at least 0, enough={self.enough} lies between 0 and 1."
            )

    def for_group(self, count: int, most: int | None) -> Template:
        """The template for a group of ``count`` of which the best ``most`` are wanted."""
        choice = self.choice
        if most != 1 or choice is None or self.first_token or (choice.labels.letters and count > len(LETTERS)):
            return self.template
        return choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One prompt, ready to be sent."""

    prompt: Prompt
    sampling: Sampling
    constraint: Constraint | None
    template: Template
    count: int
    """Candidates in the prompt."""
    expected: int
    """Ids in the answer."""
    names: tuple[str, ...] | None = None
    """The ids whose log-probabilities at the first position order the group; None: the text does."""


def call_for(
    model: LanguageModel,
    settings: Settings,
    query: str,
    candidates: Sequence[Shown],
    *,
    most: int | None,
    again: bool = False,
) -> Call:
    """The call that orders ``candidates``; ``again``: the answer before had no id in it."""
    count = len(candidates)
    template = settings.for_group(count, most)
    prompt = render(template, query, candidates, most=most, controls=settings.controls)
    expected = count if most is None else most
    if settings.first_token and not again:
        return _first_token(model, template, prompt, count, expected)
    if again:
        prompt = _reminded(prompt, template, expected, count)
    return Call(
        prompt=prompt,
        sampling=Sampling(max_tokens=_answer_tokens(model, template, count, expected) + settings.thinking),
        constraint=_constraint(model, settings, template, count, most, again=again),
        template=template,
        count=count,
        expected=expected,
    )


def _answer_tokens(model: LanguageModel, template: Template, count: int, expected: int) -> int:
    """The most tokens that an answer may take: the last ids are the longest."""
    return model.count_texts([template.answer(range(count - expected, count))])[0] + SPARE


def _constraint(
    model: LanguageModel, settings: Settings, template: Template, count: int, most: int | None, *, again: bool
) -> Constraint | None:
    able = model.capabilities
    if settings.constrain == "never" or not (able.constrained or able.structured):
        return None
    # Structured output changes the form that the prompt asks for; plain text is tried first unless said otherwise.
    if settings.constrain == "auto" and not able.constrained and not again:
        return None
    # A thought cannot be held to a permutation.
    if settings.thinking and not again:
        return None
    labels = template.labels.first(count)
    if most == 1:
        return Choice(labels=labels)
    return Permutation(labels=labels, separator=template.separator, most=None if most == count else most)


def _first_token(
    model: LanguageModel, template: Template, prompt: tuple[Message, ...], count: int, expected: int
) -> Call:
    able = model.capabilities
    # Behind an opening bracket the id is one token; a server that cannot go on from there is asked for the bare id.
    cores = template.labels.brackets and (able.prefix or not able.constrained)
    labels = tuple(template.labels.core(place) for place in range(count)) if cores else template.labels.first(count)
    if cores and able.prefix:
        prompt = (*prompt, Message("assistant", "["))
    return Call(
        prompt=prompt,
        # A server names the likeliest tokens, ids or not; a local model names every id.
        sampling=Sampling(max_tokens=1, top_logprobs=count if able.constrained else able.logprobs),
        constraint=Choice(labels=labels),
        template=template,
        count=count,
        expected=expected,
        names=labels,
    )


def _reminded(prompt: tuple[Message, ...], template: Template, wanted: int, count: int) -> tuple[Message, ...]:
    """``prompt`` with a line on the form of the answer at the end of the last turn of the user."""
    line = f"\n\nWrite ids only, in this form: {example(template, wanted, count)}"
    at = max(place for place, message in enumerate(prompt) if message.role == "user")
    return (*prompt[:at], Message("user", prompt[at].content + line), *prompt[at + 1 :])
