"""A server's reply as an answer: text, usage, how it ended; whatever is not as the protocol says is an error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unabridged.contracts import JSON
from unabridged.errors import ContentFiltered, MalformedResponse
from unabridged.rankers.lm.contracts import Choice, Constraint, Finish, Usage
from unabridged.rankers.lm.letters import whole_letters
from unabridged.rankers.lm.requests import ANSWER, RANKING

_FINISH: dict[str, Finish] = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "filtered",
}
"""Ends other than these are taken for ``stop``: servers have words of their own for an end token."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered."""

    text: str
    finish: Finish
    usage: Usage | None
    top: Mapping[str, float] | None
    """Log-probabilities at the first position, by token."""


def read_reply(raw: bytes, where: str) -> Reply:
    """The reply in the body of a response; :class:`MalformedResponse` or :class:`ContentFiltered` if there is none."""
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise MalformedResponse(f"{where} answered with something that is no JSON: {raw[:80]!r}") from error
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise MalformedResponse(f"{where} answered without any choice: {raw[:200]!r}")
    message = choices[0].get("message")
    if not isinstance(message, dict):
        raise MalformedResponse(f"{where} answered with a choice that has no message: {raw[:200]!r}")
    finish = finish_of(choices[0].get("finish_reason"))
    text = whole_letters(read_content(message, where))
    refusal = message.get("refusal")
    if not text and (refusal or finish == "filtered"):
        raise ContentFiltered(f"{where} gave no answer: {str(refusal or 'its content filter withheld it')[:200]}")
    return Reply(text, finish, read_usage(body.get("usage")), read_top(choices[0].get("logprobs")))


def from_schema(text: str, constraint: Constraint) -> tuple[str, bool] | None:
    """The labels that a JSON answer names, joined as the constraint says, and whether they satisfy it.

    None if it is no JSON of the form that was asked for.
    """
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    if isinstance(constraint, Choice):
        label = found.get(ANSWER)
        return (label, label in constraint.labels) if isinstance(label, str) else None
    labels = found.get(RANKING)
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        return None
    distinct = len(set(labels)) == len(labels) == constraint.expected
    return constraint.separator.join(labels), distinct and set(labels) <= set(constraint.labels)


def first_labels(top: Mapping[str, float] | None, constraint: Constraint | None) -> Mapping[str, float] | None:
    """Of the tokens at the first position, those that are labels once spaces are off; None if there are none."""
    if top is None or constraint is None:
        return top
    found: dict[str, float] = {}
    for token, value in top.items():
        label = token.strip()
        if label in constraint.labels:
            found[label] = max(value, found.get(label, value))
    return found or None


def finish_of(reason: object) -> Finish:
    """How an answer ended, by the server's word for it."""
    return _FINISH.get(str(reason), "stop")


def read_content(message: Mapping[str, Any], where: str) -> str:
    """The text of a message, or of a part of one."""
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, list):
        # Some servers answer in parts.
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    if not isinstance(content, str):
        raise MalformedResponse(f"{where} answered with content of type {type(content).__name__}.")
    return content


def read_usage(stated: JSON) -> Usage | None:
    """None unless both counts are there: an unknown count is not zero."""
    if not isinstance(stated, dict):
        return None
    prompt, completion = (_count(stated.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    if prompt is None or completion is None:
        return None
    return Usage(
        prompt=prompt,
        completion=completion,
        cached=_detail(stated, "prompt_tokens_details", "cached_tokens"),
        reasoning=_detail(stated, "completion_tokens_details", "reasoning_tokens"),
    )


def _detail(stated: Mapping[str, Any], group: str, name: str) -> int:
    details = stated.get(group)
    return _count(details.get(name)) or 0 if isinstance(details, dict) else 0


def _count(value: JSON) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def read_top(stated: JSON) -> Mapping[str, float] | None:
    """The alternatives at the first position of the answer.

    Tokens that look alike, as parts of a letter do, are told apart by what is put behind them: each has its own share.
    """
    content = stated.get("content") if isinstance(stated, dict) else None
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        return None
    others = content[0].get("top_logprobs")
    listed = [one for one in others if isinstance(one, dict)] if isinstance(others, list) else []
    found: dict[str, float] = {}
    for entry in listed:
        token, value = _alternative(entry)
        while token in found:
            token += "\N{REPLACEMENT CHARACTER}"
        if value is not None:
            found[token] = value
    # The token that was taken is one of them as a rule.
    token, value = _alternative(content[0])
    if value is not None:
        found.setdefault(token, value)
    return found or None


def _alternative(entry: Mapping[str, Any]) -> tuple[str, float | None]:
    """A token and its log-probability; None where there is none."""
    token, value = entry.get("token"), entry.get("logprob")
    if not isinstance(token, str) or not isinstance(value, (int, float)) or isinstance(value, bool):
        return "", None
    return token, float(value)
