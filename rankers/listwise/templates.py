"""Prompt templates: what they hold, and a query with its candidates put into one.

The keys are those that the field's template files use, so that a fine-tuned model can be given the wording that it was
trained on: ``method``, ``system_message``, and ``prefix``, ``body``, ``suffix`` or their turns ``prefix_user``,
``prefix_assistant``, ``body_user``, ``body_assistant``, ``suffix_user``.  ``body`` is repeated for each candidate.
White space is kept as it is written.  Values are put in once and are not looked at again: ``{query}`` inside a passage
stays those seven characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from unabridged.errors import UsageError
from unabridged.rankers.listwise.inert import inert
from unabridged.rankers.listwise.labels import Labels
from unabridged.rankers.listwise.parsing import AnswerForm
from unabridged.rankers.lm.contracts import Message, Role

Method = Literal["singleturn_listwise", "multiturn_listwise", "pointwise"]

_FIELD = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SHARED = frozenset({"num", "query", "most", "psg_ids", "example_ordering", "instruction"})
_EACH = frozenset({"rank", "candidate", "doc_content", "score"})
_TEXT = frozenset({"candidate", "doc_content"})


@dataclass(frozen=True, slots=True)
class Turn:
    """A part of a prompt, which is joined to the part before it where that has the same role."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A prompt with places for a query and candidates.

    Placeholders: ``{num}`` candidates, ``{query}``, ``{most}`` ids wanted, ``{psg_ids}`` all ids,
    ``{example_ordering}`` an answer of the right form, ``{instruction}``; in the repeated part also ``{rank}`` the
    candidate's id without brackets, ``{candidate}`` or ``{doc_content}`` its text, ``{score}`` of the first stage.
    """

    name: str
    method: Method
    opening: tuple[Turn, ...]
    each: tuple[Turn, ...]
    closing: tuple[Turn, ...]
    labels: Labels = field(default_factory=Labels)
    separator: str = " > "
    instruction: str = ""
    extraction: re.Pattern[str] | None = None
    validation: re.Pattern[str] | None = None
    shows_query: bool = True
    """Whether the query is in the prompt; it is not where it is the answer that is scored."""

    def __post_init__(self) -> None:
        shared = _named(self.opening, self.name) | _named(self.closing, self.name)
        each = _named(self.each, self.name)
        pointwise = self.method == "pointwise"
        unknown = (shared - _SHARED - (_EACH if pointwise else frozenset())) | (each - _SHARED - _EACH)
        if unknown:
            known = ", ".join(sorted(_SHARED | _EACH))
            raise UsageError(
                f"Template {self.name!r} has the placeholder {{{min(unknown)}}} where there is nothing for it. Known "
                f"are {known}; those of one candidate stand in the body. Write {{{{ for a brace."
            )
        missing = set() if not self.shows_query or "query" in shared | each else {"query"}
        missing |= set() if _TEXT & (shared | each) else {"candidate"}
        missing |= set() if pointwise or "rank" in each else {"rank"}
        if missing:
            raise UsageError(
                f"Template {self.name!r} lacks the placeholder {{{min(missing)}}}: add it where it belongs."
            )

    @property
    def form(self) -> AnswerForm:
        """How its answers are read."""
        return AnswerForm(labels=self.labels, extraction=self.extraction, validation=self.validation)

    def answer(self, order: Sequence[int]) -> str:
        """The answer that says ``order``, places from 0: labels in training, and the longest answer in planning."""
        return self.separator.join(self.labels.shown(place) for place in order)


@dataclass(frozen=True, slots=True)
class Shown:
    """One candidate as it enters a prompt."""

    text: str
    score: float | None = None


def render(
    template: Template,
    query: str,
    candidates: Sequence[Shown],
    *,
    most: int | None = None,
    controls: Sequence[str] = (),
) -> tuple[Message, ...]:
    """The prompt for ``candidates`` in this order; query and texts are made inert.

    :class:`UsageError` where the ids do not suffice, or a score is to be shown that a candidate does not have.
    """
    count = len(candidates)
    template.labels.check(count)
    ids = template.labels.first(count)
    shared = {
        "num": str(count),
        "query": inert(query, template.labels, controls)[0],
        "most": str(count if most is None else most),
        "psg_ids": ", ".join(ids),
        "example_ordering": example(template, count if most is None else most, count),
        "instruction": template.instruction,
    }
    places = [_values(template, place, one, controls) for place, one in enumerate(candidates)]
    if template.method == "pointwise":
        shared |= places[0]
    turns = [_filled(turn, shared) for turn in template.opening]
    turns += [_filled(turn, shared | values) for values in places for turn in template.each]
    turns += [_filled(turn, shared) for turn in template.closing]
    return _joined(turns)


def example(template: Template, most: int, count: int) -> str:
    """An answer of the right form that is nobody's ranking: ``[2] > [1]``, or ``[4] > [2] > [1]`` of five and more."""
    order = (3, 1, 0) if count > 4 else (1, 0) if count > 1 else (0,)
    return template.answer(order[: max(1, min(most, len(order)))])


def _values(template: Template, place: int, one: Shown, controls: Sequence[str]) -> dict[str, str]:
    text = inert(one.text, template.labels, controls)[0]
    values = {"candidate": text, "doc_content": text}
    if template.method != "pointwise":
        values["rank"] = template.labels.core(place)
    if one.score is not None:
        values["score"] = f"{one.score:.6g}"
    return values


def _filled(turn: Turn, values: Mapping[str, str]) -> Turn:
    return Turn(turn.role, _FIELD.sub(_put(values), turn.text))


def _put(values: Mapping[str, str]) -> Callable[[re.Match[str]], str]:
    def put(match: re.Match[str]) -> str:
        name = match.group(1)
        if name is None:
            return match.group()[0]
        if name not in values:
            raise UsageError(
                f"The template shows {{{name}}}, which the candidate does not have. Leave it out of the body."
            )
        return values[name]

    return put


def _joined(turns: Sequence[Turn]) -> tuple[Message, ...]:
    """Messages: neighbouring turns of one role are one message; empty ones are none."""
    messages: list[Message] = []
    for turn in turns:
        if messages and messages[-1].role == turn.role:
            messages[-1] = Message(turn.role, messages[-1].content + turn.text)
        elif turn.text:
            messages.append(Message(turn.role, turn.text))
    return tuple(messages)


def _named(turns: Sequence[Turn], name: str) -> frozenset[str]:
    """The placeholders of ``turns``."""
    found: set[str] = set()
    for turn in turns:
        found |= {match.group(1) for match in _FIELD.finditer(turn.text) if match.group(1) is not None}
        left = _FIELD.sub("", turn.text)
        if "{" in left or "}" in left:
            raise UsageError(f"Template {name!r} has a single brace. Write {{{{ or }}}} for a brace that is text.")
    return frozenset(found)
