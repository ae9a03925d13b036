"""How a passage and a question stand in a prompt whose next token is looked at.

What the first token of an answer is decides what its entropy says.  After the bare turn of a chat a model is sure of
itself where it knows nothing ("The passkey for ..."): its entropy is that of opening words.  The answer is therefore
begun for it, up to an opened quotation, so that the next token is the first one of what it would quote.
Four forms are known to have been compared, with the embedded model on a needle among 8,192 tokens of filler, 12 texts,
windows of 512 tokens: the needle's window has the smallest entropy in 12 of 12 behind this opening, in 11 without its
quotation mark, 10 behind the bare turn, and 9 behind passage and question alone, as they stand in the paper.  The form
was chosen on those texts, which are few: steps of one text say little, and another opening may do as well.  What it
gives at 32,768 tokens stands in ``benchmarks/results/select_passkey_cpu.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unabridged.errors import UsageError
from unabridged.rankers.listwise.inert import inert
from unabridged.rankers.listwise.labels import Labels
from unabridged.rankers.lm.contracts import Message, Prompt

GAP = "\n\n"
_NO_IDS = Labels(brackets=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLayout:
    """A passage, the question behind it, and how the answer begins."""

    asking: str = "Question: {question}"
    opening: str = 'According to the text, the answer is "'
    """The model's own words, which it goes on from; "": it begins by itself."""
    without_opening: str = "Answer with a few words quoted from the text above, and nothing else."
    """In front of the question for models that answer the last message and do not continue it."""
    controls: tuple[str, ...] = ()
    """Further strings that the model gives a meaning to; they are shown harmlessly."""

    def __post_init__(self) -> None:
        if "{question}" not in self.asking:
            raise UsageError(f"asking={self.asking!r} has no {{question}}, where the question stands.")

    def prompt(self, passage: str, question: str, *, continues: bool) -> Prompt:
        """The prompt; without the passage if it is empty.  ``continues``: the model goes on from the opening."""
        asked = self.asking.replace("{question}", harmless(question, self.controls))
        parts = [harmless(passage.strip(), self.controls)]
        if not continues and self.without_opening:
            parts.append(self.without_opening)
        user = Message("user", GAP.join(part for part in [*parts, asked] if part))
        return [user, Message("assistant", self.opening)] if continues and self.opening else [user]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionLayout:
    """A passage, and the question as what the model would write of it (LongLLMLingua, arXiv 2310.06839, section 4.1).

    The fixed sentence behind the question ties it to the passage: its likelihood counts as well.
    """

    instruction: str = "Write a question that this text answers."
    assertion: str = " The text above holds what answers this."
    controls: tuple[str, ...] = ()

    def prompt(self, passage: str) -> Prompt:
        """Up to where the question would begin."""
        return [Message("user", GAP.join([harmless(passage.strip(), self.controls), self.instruction]))]

    def written(self, question: str) -> str:
        """What is to be written."""
        return f"{question.strip()}{self.assertion}"


def harmless(text: str, controls: Sequence[str] = ()) -> str:
    """``text`` without strings that end a turn or open a thought, of the same length."""
    return inert(text, _NO_IDS, controls)[0]
