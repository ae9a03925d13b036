"""A prompt as the text and the tokens that a model reads: by its chat template, or plainly where it has none."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from unabridged._extras import require
from unabridged.contracts import JSON
from unabridged.errors import BadRequest, UsageError
from unabridged.rankers.lm.contracts import Message, Prompt
from unabridged.rankers.lm.letters import encodable

PARAGRAPH = "\n\n"
"""Between the messages of a plain layout, and before the answer."""
_MARK = "unabridged-mark"
"""A system message whose place is looked for."""


class ChatFormat:
    """The layout of prompts for one tokenizer.

    ``options`` are given to the chat template, such as ``enable_thinking=False``.  A template that refuses or drops
    system messages gets them at the head of the first user message.
    """

    def __init__(self, tokenizer: Any, options: Mapping[str, JSON] | None = None) -> None:
        self._tokenizer = tokenizer
        self._options = dict(options or {})
        if self._options and not self.has_template:
            raise UsageError(f"The model has no chat template that could take the options {sorted(self._options)}.")

    @property
    def has_template(self) -> bool:
        """Whether the model brings a chat template."""
        return bool(self._tokenizer.chat_template)

    @property
    def facts(self) -> Mapping[str, JSON]:
        """What decides how a prompt is laid out."""
        return {"template": self._tokenizer.chat_template, "options": self._options, "plain": PARAGRAPH}

    def render(self, prompt: Prompt) -> str:
        """The prompt's text, up to where the answer begins."""
        if not prompt:
            raise UsageError("A prompt has no message. Give it at least one.")
        if not self.has_template:
            text = PARAGRAPH.join(message.content for message in prompt)
            return text if prompt[-1].role == "assistant" else text + PARAGRAPH
        messages = list(prompt)
        if not self.takes_system:
            messages = _without_system(messages)
        return self._rendered(messages)

    def ids(self, prompt: Prompt) -> list[int]:
        """The prompt's tokens, with those control tokens that the template writes."""
        text = encodable(self.render(prompt))
        ids = [int(number) for number in self._tokenizer.encode(text, add_special_tokens=False)]
        return ids if self.has_template else [*self._lead, *ids]

    @cached_property
    def takes_system(self) -> bool:
        """Whether the template has a place for system messages."""
        probe = [Message("system", _MARK), Message("user", "x")]
        try:
            return _MARK in self._rendered(probe)
        except BadRequest:
            return False

    @cached_property
    def _lead(self) -> list[int]:
        """The token that begins every text, for tokenizers that put one."""
        start = self._tokenizer.bos_token_id
        alone = list(self._tokenizer.encode("a"))
        return [start] if start is not None and alone[:1] == [start] else []

    def _rendered(self, messages: list[Message]) -> str:
        errors = require("jinja2.exceptions", extra="llm-local", purpose="chat templates")
        turns = [{"role": message.role, "content": message.content} for message in messages]
        continued = messages[-1].role == "assistant"
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    turns,
                    tokenize=False,
                    add_generation_prompt=not continued,
                    continue_final_message=continued,
                    **self._options,
                )
            )
        except (errors.TemplateError, ValueError) as error:
            roles = ", ".join(message.role for message in messages)
            raise BadRequest(f"The model's chat template refuses the turns {roles}: {error}") from error


def _without_system(messages: list[Message]) -> list[Message]:
    """System messages at the head of the first user message."""
    system = [message.content for message in messages if message.role == "system"]
    rest = [message for message in messages if message.role != "system"]
    if not system:
        return rest
    place = next((i for i, message in enumerate(rest) if message.role == "user"), None)
    if place is None:
        return [Message("user", PARAGRAPH.join(system)), *rest]
    merged = Message("user", PARAGRAPH.join([*system, rest[place].content]))
    return [*rest[:place], merged, *rest[place + 1 :]]
