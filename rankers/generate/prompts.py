"""How an answer is asked for.  The words are ours; a template of one's own may take their place."""

from __future__ import annotations

import re
from dataclasses import dataclass

from unabridged.errors import UsageError
from unabridged.rankers.generate.contracts import NOT_FOUND
from unabridged.rankers.lm.contracts import Message, Prompt

_SLOT = re.compile(r"\{(context|question)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerTemplate:
    """The turns of a prompt; ``{context}`` and ``{question}`` in ``body`` are filled in one pass.

    ``lead`` is the beginning of the answer, for models that go on with it; it is not part of the answer's text.
    """

    name: str
    system: str = ""
    body: str
    lead: str = ""

    def __post_init__(self) -> None:
        slots = _SLOT.findall(self.body)
        if sorted(slots) != ["context", "question"]:
            raise UsageError(f"The body of the template {self.name!r} has {{context}} and {{question}} once each.")

    @property
    def asks(self) -> bool:
        """Whether the model is asked to say so where the passages do not hold the answer."""
        return NOT_FOUND in self.body or NOT_FOUND in self.system

    def prompt(self, context: str, question: str, *, lead: bool = False) -> Prompt:
        """The messages; what is filled in is inert already, and braces in it stay as they are."""
        values = {"context": context, "question": question}
        body = _SLOT.sub(lambda match: values[match[1]], self.body)
        turns = [Message("system", self.system)] if self.system else []
        turns.append(Message("user", body))
        return [*turns, Message("assistant", self.lead)] if lead and self.lead else turns


CITING = AnswerTemplate(
    name="citing",
    system=(
        "You answer questions from numbered passages and from nothing else. Behind each sentence you write the number "
        "of the passage that says it, as in [2]."
    ),
    body=(
        "Passages:\n\n{context}\n\nQuestion: {question}\n\nAnswer from these passages in a few sentences, each with "
        f"the number of its passage. If they do not hold the answer, write exactly: {NOT_FOUND}"
    ),
)
"""For models that follow instructions well."""
SHORT = AnswerTemplate(
    name="short",
    body=(
        "Passages:\n\n{context}\n\nAnswer in one short sentence, only from the passages above.\nQuestion: {question}"
    ),
)
"""For small models, which write no numbers worth reading, and write a sentence that they were shown for its own sake:
the question last, one sentence wanted, nothing said of answers that are not there."""
TEMPLATES = {one.name: one for one in (CITING, SHORT)}
