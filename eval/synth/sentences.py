"""Texts of sentences among which a few are the evidence of a question, in the manner of RULER (arXiv 2404.06654).

Filler comes from a small pool of neutral sentences, needles go to sampled places.  Which sentences are needed is known,
so that a choice of context can be scored without a language model.  The wording is ours: scores are not RULER's.

Letters::

    S sentences of a text, needles included     E of them are evidence
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unabridged.contracts import JSON
from unabridged.errors import UsageError
from unabridged.eval.synth.records import WORDS_PER_TOKEN, generator

VERSION = 1
FILLER = (
    "The morning was grey and quiet again.",
    "Somebody had left the window half open.",
    "A kettle was humming softly on the stove.",
    "Nobody in the room felt like talking yet.",
    "Outside, two pigeons argued over a dry crust.",
    "The old clock ticked as it always did.",
    "Rain had washed the pavement before sunrise.",
    "There was still some soup from last night.",
    "A thin blanket lay folded over the chair.",
    "The newspaper had been read more than once.",
    "Later the clouds moved on and it brightened.",
    "The neighbour swept the stairs without any hurry.",
    "Bread was cooling near the back door.",
    "Children laughed somewhere behind the long hedge.",
    "The dog stretched, yawned and went back to sleep.",
    "A letter remained unopened beside the lamp.",
    "The garden needed water, but not today.",
    "Someone hummed a tune that everybody half remembered.",
    "The paint on the fence was peeling a little.",
    "In the evening a soft wind came up.",
    "The candles were short and burned unevenly.",
    "A bicycle leaned against the wall all week.",
    "The tea had grown cold while they waited.",
    "By then most of the chairs were taken.",
)
"""Sentences of 7 to 10 words without digits; no word of them tells anything of a needle."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One text, one question about it, and the sentences without which nobody can answer."""

    task: str
    sentences: tuple[str, ...]  # S
    question: str
    answers: tuple[str, ...]
    """Each stands in the evidence and nowhere else."""
    evidence: tuple[int, ...]  # (E,) rising indices into the sentences
    seed: int
    parameters: Mapping[str, JSON]

    @property
    def text(self) -> str:
        """The sentences, joined by single spaces."""
        return " ".join(self.sentences)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """(S,) half-open characters of the text, one pair per sentence."""
        found, at = [], 0
        for sentence in self.sentences:
            found.append((at, at + len(sentence)))
            at += len(sentence) + 1
        return found

    @property
    def depths(self) -> np.ndarray:
        """(E,) float64: of each sentence of evidence, the share of the other sentences that stand before it."""
        return np.array(self.evidence, dtype=np.float64) / max(len(self.sentences) - 1, 1)

    @property
    def depth(self) -> float:
        """The mean of the depths of the evidence."""
        return float(self.depths.mean())

    def as_json(self) -> dict[str, JSON]:
        """The record of one line, with the characters at which the evidence stands."""
        spans = self.spans
        return {
            "task": self.task,
            "sents": list(self.sentences),
            "question": self.question,
            "answers": list(self.answers),
            "evidence": list(self.evidence),
            "evidence_spans": [list(spans[at]) for at in self.evidence],
            "depth": self.depth,
            "seed": self.seed,
            "version": VERSION,
            "parameters": dict(self.parameters),
        }


@dataclass(frozen=True, slots=True)
class Chance:
    """Two sources: ``needles`` for what is asked and said, ``places`` for what stands around it and where.

    Needles do not depend on the number of sentences, and a longer filler begins with the shorter one.
    """

    needles: random.Random
    filler: random.Random
    places: random.Random

    @classmethod
    def of(cls, task: str, length: int, seed: int) -> Chance:
        """All chance of one sample."""
        root = generator(task, length, seed)
        return cls(root, random.Random(root.getrandbits(64)), random.Random(root.getrandbits(64)))


def placed(needles: Sequence[Sequence[str]], filler: int, chance: Chance) -> tuple[tuple[str, ...], list[list[int]]]:
    """``filler`` sentences with the needles among them, and where each needle of each group stands.

    Groups are mixed at random; inside a group the order is kept.
    """
    if filler < 0:
        raise UsageError(f"sentences of filler must number 0 or more, got {filler}.")
    groups = [group for group, own in enumerate(needles) for _ in own]
    chance.places.shuffle(groups)
    slots = sorted(chance.places.sample(range(filler + len(groups)), len(groups)))
    at: list[list[int]] = [[] for _ in needles]
    said: dict[int, str] = {}
    for slot, group in zip(slots, groups, strict=True):
        said[slot] = needles[group][len(at[group])]
        at[group].append(slot)
    around = neutral(chance.filler)
    return tuple(said[row] if row in said else next(around) for row in range(filler + len(groups))), at


def neutral(chance: random.Random) -> Iterator[str]:
    """Endless filler; no sentence follows itself."""
    last = ""
    while True:
        last = chance.choice([one for one in FILLER if one != last])
        yield last


def distinct(draw: Callable[[], str], count: int, taken: set[str]) -> list[str]:
    """``count`` different names that are in nobody else's use, lower case aside; ``taken`` grows by them.

    :class:`UsageError` when chance does not find them, instead of looking for ever.
    """
    found: list[str] = []
    for _ in range(100 * count + 1_000):
        if len(found) == count:
            return found
        one = draw()
        if one.lower() not in taken:
            taken.add(one.lower())
            found.append(one)
    if len(found) == count:
        return found
    raise UsageError(f"there are too few different names for {count}; ask for fewer.")


def vocabulary(*texts: str) -> set[str]:
    """The words of ``texts``, in lower case."""
    return {word for text in texts for word in re.findall(r"\w+", text.lower())}


def nominal_tokens(text: str) -> int:
    """White-space words of ``text`` at 0.75 word a token, rounded up."""
    return math.ceil(len(text.split()) / WORDS_PER_TOKEN)


def sized(make: Callable[[int], Sample], length: int, count: Callable[[str], int] = nominal_tokens) -> Sample:
    """The sample with as many sentences of filler as fit: its text has at most ``length`` tokens, one more is too many.

    Args:
        make: The sample with that many sentences of filler; needles must not depend on it.
        length: Most tokens of the text.
        count: Tokens of a text.

    Raises:
        UsageError: The needles alone do not fit, or ``count`` does not grow with the text.
    """
    least = count(make(0).text)
    if least > length:
        raise UsageError(f"the needles alone have {least:,} tokens, more than length={length}. Ask for more tokens.")
    fits, fails = 0, 1
    while count(make(fails).text) <= length:
        if fails > length:  # every sentence has a token at least
            raise UsageError(f"{fails:,} sentences are said to have at most {length:,} tokens; count them rightly.")
        fits, fails = fails, 2 * fails
    while fails - fits > 1:
        middle = (fits + fails) // 2
        fits, fails = (middle, fails) if count(make(middle).text) <= length else (fits, middle)
    return make(fits)
