"""The body of a chat completion request, and what is left out of it once a server has refused it.

Servers differ in what they accept.  A refusal that names a field of ours takes the field out for good, once, and the
fact is kept: ``max_tokens`` is renamed, a JSON schema is first made plainer, everything else is left out.
"""

from __future__ import annotations

import json
import re
import threading
from typing import Any

from unabridged.contracts import JSON
from unabridged.rankers.lm.contracts import Choice, Constraint, Prompt, Sampling
from unabridged.rankers.lm.failures import Refusal
from unabridged.rankers.lm.letters import encodable

MOST_LOGPROBS = 20
"""Alternatives that the protocol gives at most."""
JSON_FRAME = 16
"""Tokens around the labels of a JSON answer."""
RANKING = "ranking"
ANSWER = "answer"
_REFUSES = re.compile(
    r"un(supported|recogni[sz]ed|known|expected|permitted)|not (be )?(supported|permitted|allowed|available|valid"
    r"|compatible)|does(n't| not) support|extra (inputs?|fields?)|only the default|incompatible|invalid schema",
    re.IGNORECASE,
)
OPTIONAL = (
    "stream_options",
    "top_logprobs",
    "logprobs",
    "response_format",
    "min_tokens",
    "temperature",
    "seed",
    "stop",
)
"""Fields that may be left out, longest names first where one contains another."""
_SCHEMA_WORDS = ("schema", "uniqueItems", "minItems", "maxItems", "json_schema")


class Dialect:
    """What one server was found to accept; shared by all threads, and only ever narrowed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._renamed = False
        self._dropped: set[str] = set()
        self._plain_schema = False
        self.adaptations: list[str] = []
        """Sentences for people, in order."""

    def takes(self, field: str) -> bool:
        """Whether ``field`` is still sent."""
        return field not in self._dropped

    @property
    def limit_field(self) -> str:
        """The name of the field that limits the answer."""
        return "max_completion_tokens" if self._renamed else "max_tokens"

    def body(self, model: str, prompt: Prompt, sampling: Sampling, constraint: Constraint | None) -> dict[str, JSON]:
        """The request; temperature is always said, because servers' defaults differ."""
        wanted: dict[str, JSON] = {"temperature": sampling.temperature}
        if sampling.seed is not None:
            wanted["seed"] = sampling.seed
        if sampling.stop:
            wanted["stop"] = list(sampling.stop)
        if sampling.min_tokens:
            wanted["min_tokens"] = sampling.min_tokens
        if sampling.top_logprobs and self.takes("logprobs"):
            wanted |= {"logprobs": True, "top_logprobs": min(MOST_LOGPROBS, sampling.top_logprobs)}
        limit = sampling.max_tokens
        messages = [{"role": message.role, "content": encodable(message.content)} for message in prompt]
        if self.sends_schema(sampling, constraint) and constraint is not None:
            wanted["response_format"] = schema_format(constraint, plain=self._plain_schema)
            # JSON is longer than the plain list that the caller reckoned with.  The schema bounds its length; a token
            # per byte is the most that it can take.
            limit = max(limit, len(json.dumps(constraint.labels)) + JSON_FRAME)
            messages[-1] = {**messages[-1], "content": messages[-1]["content"] + _schema_note(constraint)}
        kept = {name: value for name, value in wanted.items() if self.takes(name)}
        return {"model": model, "messages": messages, self.limit_field: limit, **kept}

    def sends_schema(self, sampling: Sampling, constraint: Constraint | None) -> bool:
        """Whether the answer is to be JSON.  Not where first tokens are asked for: theirs would be a brace."""
        wants_tokens = bool(sampling.top_logprobs) and self.takes("logprobs")
        return constraint is not None and self.takes("response_format") and not wants_tokens

    def adapt(self, refusal: Refusal, body: dict[str, JSON]) -> bool:
        """Narrows the dialect after a 400 or 422 that names a field of ``body``; False if it names none."""
        text = f"{refusal.code} {refusal.message}"
        with self._lock:
            if self._renames(refusal, text, body):
                self._note("max_tokens was refused: the limit is sent as max_completion_tokens")
                self._renamed = True
                return True
            if "response_format" in body and any(word.lower() in text.lower() for word in _SCHEMA_WORDS):
                return self._simplify_schema()
            named = self._named(refusal, text, body)
            for field in named:
                self._drop(field, "refused")
            return bool(named)

    def ignored(self, field: str) -> None:
        """The server accepted ``field`` and answered as if it were not there: it is not sent any more."""
        with self._lock:
            self._drop(field, "accepted without effect")

    def _renames(self, refusal: Refusal, text: str, body: dict[str, JSON]) -> bool:
        refused = "max_completion_tokens" in text or (refusal.param == "max_tokens" and _REFUSES.search(text))
        # Another thread may have renamed it while this request was on its way.
        return "max_tokens" in body and bool(refused)

    def _simplify_schema(self) -> bool:
        if self._plain_schema or not self.takes("response_format"):
            self._drop("response_format", "refused")
        else:
            self._note("the JSON schema was refused: it is sent without the number of items and uniqueItems")
            self._plain_schema = True
        return True

    def _named(self, refusal: Refusal, text: str, body: dict[str, JSON]) -> list[str]:
        sent = [field for field in OPTIONAL if field in body]
        if refusal.param in sent:
            return [refusal.param] if _REFUSES.search(text) else []
        if not _REFUSES.search(text):
            return []
        return [field for field in sent if re.search(rf"\b{field}\b", refusal.message)]

    def _drop(self, field: str, why: str) -> None:
        group = {"logprobs", "top_logprobs"} if "logprobs" in field else {field}
        if not group <= self._dropped:
            self._note(f"{' and '.join(sorted(group))}: {why}, no longer sent")
        self._dropped |= group

    def _note(self, text: str) -> None:
        if text not in self.adaptations:
            self.adaptations.append(text)


def schema_format(constraint: Constraint, *, plain: bool = False) -> dict[str, JSON]:
    """``response_format`` for a constraint: an object with the labels in order, or with the one that was chosen.

    ``plain`` leaves out the number of items and ``uniqueItems``, which not every server knows.
    """
    labels: dict[str, Any] = {"type": "string", "enum": list(constraint.labels)}
    if isinstance(constraint, Choice):
        name, value = ANSWER, labels
    else:
        count = constraint.expected
        exact = {} if plain else {"minItems": count, "maxItems": count, "uniqueItems": True}
        name, value = RANKING, {"type": "array", "items": labels, **exact}
    schema = {"type": "object", "properties": {name: value}, "required": [name], "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}


def _schema_note(constraint: Constraint) -> str:
    """What the model is told about the form, which it does not see in the schema."""
    if isinstance(constraint, Choice):
        return f'\n\nAnswer with JSON of the form {{"{ANSWER}": "{constraint.labels[0]}"}} and nothing else.'
    first = ", ".join(f'"{label}"' for label in constraint.labels[:2])
    return f'\n\nAnswer with JSON of the form {{"{RANKING}": [{first}, ...]}}, best first, and nothing else.'
