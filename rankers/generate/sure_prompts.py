"""What SuRe asks, in five prompts, and how its answers are read.  The words are ours, the questions those of the paper.

Every part of a prompt that is a text of somebody else's is made inert before it is put in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from unabridged.rankers.lm.contracts import Message, Prompt

STOP = "(end)"
"""Ends a summary."""
FIRST, SECOND = "Passage 1", "Passage 2"
TRUE, FALSE = "True", "False"
_LABELLED = re.compile(
    r"\(\s*a\s*\)\s*:?\s*(?P<a>.+?)\s*[,;.]?\s*(?:\band\s+)?\(\s*b\s*\)\s*:?\s*(?P<b>[^\n]+)", re.IGNORECASE | re.DOTALL
)
_LABEL = re.compile(r"\(\s*[a-d]\s*\)", re.IGNORECASE)
_MARKS = re.compile(r"\[\s*[0-9]{1,9}\s*\]")
"""Numbers of passages, which small models write before the answer."""
_EDGES = " \t\n\"'`*.,;:"


def candidates(context: str, question: str, begun: str = "") -> Prompt:
    """Two short answers, labelled (a) and (b); ``begun``: what a model that goes on with an answer goes on from."""
    asked = _asked(
        f"Passages:\n\n{context}\n\nQuestion: {question}\n\n"
        "Give the two likeliest answers to the question, of at most three words each, taken from the passages. Write "
        "them on one line in this form and write nothing else: (a) first answer (b) second answer"
    )
    return [*asked, Message("assistant", begun)] if begun else asked


def begun(found: Sequence[str]) -> str:
    """The labelled answers so far, and the label of the next one."""
    return " ".join([*(f"({label}) {one}" for label, one in zip("ab", found, strict=False)), f"({'ab'[len(found)]})"])


def summary(context: str, question: str, choices: Sequence[str], place: int) -> Prompt:
    """A text that supports one of the two."""
    listed = " ".join(f"({label}) {choice}" for label, choice in zip("ab", choices, strict=True))
    return _asked(
        f"Passages:\n\n{context}\n\nQuestion: {question}\nPossible answers: {listed}\n"
        f"Predicted answer: ({'ab'[place]}) {choices[place]}\n\n"
        "Write a short summary of what the passages say in support of the predicted answer. Use the passages and "
        f"nothing else, and end with {STOP}"
    )


def validity(question: str, choice: str, told: str) -> Prompt:
    """Whether a summary supports its answer."""
    return _asked(
        f"Question: {question}\nPredicted answer: {choice}\nPassage: {told}\n\n"
        f"Does the passage support the predicted answer to the question? Answer {TRUE} or {FALSE}, one word only."
    )


def pairwise(question: str, first: str, second: str) -> Prompt:
    """Which of two summaries says more."""
    return _asked(
        f"Question: {question}\n\n{FIRST}: {first}\n\n{SECOND}: {second}\n\n"
        f"Which passage is more informative for answering the question? Answer {FIRST} or {SECOND} and nothing else."
    )


def read_candidates(text: str) -> list[str]:
    """The two answers of a reply; fewer where it has no such form."""
    if (match := _LABELLED.search(text)) is not None:
        return [one for part in (match["a"], match["b"]) if (one := " ".join(part.split()).strip(_EDGES))]
    lines = [one for line in text.splitlines() if (one := line.strip(_EDGES))]
    return [re.sub(r"^\(\s*[ab]\s*\)\s*:?\s*", "", lines[0], flags=re.IGNORECASE)] if lines else []


def read_candidate(text: str) -> str:
    """The answer behind a label that was written for the model: its first line, up to another label, without marks."""
    line = next((one for one in text.splitlines() if one.strip(_EDGES)), "")
    return " ".join(_MARKS.sub(" ", _LABEL.split(line)[0]).split()).strip(_EDGES)


def read_validity(text: str) -> bool | None:
    """The verdict; None for both words, or none."""
    found = {match.lower() for match in re.findall(r"\b(?:true|false)\b", text, re.IGNORECASE)}
    return None if len(found) != 1 else found == {"true"}


def read_place(text: str) -> int | None:
    """0 or 1 for the passage that is named; None for both, or none."""
    found = set(re.findall(r"\bpassage\s*\W?\s*([12])\b", text, re.IGNORECASE)) or set(
        re.findall(r"\A\W*([12])\W*\Z", text)
    )
    return None if len(found) != 1 else int(found.pop()) - 1


def _asked(text: str) -> Prompt:
    return [Message("system", "You answer questions from the given passages."), Message("user", text)]
