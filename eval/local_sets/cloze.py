"""Inverse cloze: a passage is cut out of a text, and asks for the text that it was cut from.

Source: Lee et al. 2019 (arXiv 1906.00300), who leave the passage in one time in ten; here it never stays.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LEAST, MOST = 25, 45
"""Words of a passage."""
_SENTENCE = re.compile(
    r".+?(?<!\bMr)(?<!\bMrs)(?<!\bDr)(?<!\bSt)(?<!\b[A-Z])[.!?]"  # no title and no initial before the mark
    r"[\"'\u201d\u2019)]*(?=\s+\W?[A-Z]|\s*$)|.+$"
)


@dataclass(frozen=True, slots=True)
class Cut:
    """A passage, the text without it, and the sentences between which it stood."""

    passage: str
    rest: str
    """Paragraphs behind line ends."""
    start: int
    """First character, in ``rest``, of the sentence before the passage."""
    end: int
    """One past the last character of the sentence behind it."""


def cut(paragraphs: Sequence[str], chance: random.Random) -> Cut | None:
    """A passage of whole sentences of one paragraph, at a random depth; None where the text has none.

    Of the passages that begin nearest to the depth, one is taken at random.  A sentence stands before it and one
    behind it, and its wording is not repeated in the rest.
    """
    sentences = [(row, one) for row, paragraph in enumerate(paragraphs) for one in split(paragraph)]
    found: dict[int, list[int]] = {}
    for start, end in _passages(sentences):
        found.setdefault(start, []).append(end)
    depth = chance.random() * len(sentences)
    for start in sorted(found, key=lambda one: (abs(one - depth), one)):
        end = chance.choice(found[start])
        made = _without(sentences, start, end)
        if made.passage not in made.rest.replace("\n", " "):
            return made
    return None


def split(paragraph: str) -> list[str]:
    """The sentences of a paragraph that is one line, in order; joined by single spaces they are the paragraph."""
    return [one.strip() for one in _SENTENCE.findall(paragraph)]


def _passages(sentences: Sequence[tuple[int, str]]) -> Iterator[tuple[int, int]]:
    """Half-open runs of sentences of one paragraph with LEAST to MOST words, none at either edge of the text."""
    for start in range(1, len(sentences) - 1):
        words = 0
        for end in range(start + 1, len(sentences)):
            row, text = sentences[end - 1]
            words += len(text.split())
            if words > MOST or row != sentences[start][0]:
                break
            if words >= LEAST:
                yield start, end


def _without(sentences: Sequence[tuple[int, str]], start: int, end: int) -> Cut:
    passage = " ".join(text for _, text in sentences[start:end])
    rest, first, last = "", 0, 0
    before: int | None = None
    for at, (row, text) in enumerate(sentences):
        if start <= at < end:
            continue
        if before is not None:
            rest += " " if row == before else "\n"
        if at == start - 1:
            first = len(rest)
        rest += text
        if at == end:
            last = len(rest)
        before = row
    return Cut(passage, rest, first, last)
