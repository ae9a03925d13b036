"""Which sentences of the sources an answer's sentence has its words from.

The rule, ours, knows no language: each word weighs the logarithm of how rare it is among the sentences of all sources,
and a passage of one or two neighbouring sentences supports a claim as far as the claim's words, by weight, stand in it.
A number of the claim must stand there as it is, whatever else does.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from unabridged.rankers.context.contracts import SourceSpan
from unabridged.rankers.context.spans import sentence_ends
from unabridged.rankers.contracts import Characters

SHARE = 0.6
"""The least share of a claim's words, by weight, that must stand in a passage that it is attributed to."""
WIDER = 0.1
"""By how much two sentences together must say more than one, to be taken for the passage."""
_WORD = re.compile(
    r"\d+(?:[.,]\d+)*|[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\d_]+(?:['\u2019][^\W\d_]+)*"
)


@dataclass(frozen=True, slots=True)
class Support:
    """A passage of a source."""

    number: int
    """Of the source in its pack."""
    start: int
    """In the document, as the source's own bounds are."""
    end: int
    share: float
    """Of the claim's words, by weight."""


@dataclass(frozen=True, slots=True)
class _Passage:
    number: int
    span: Characters
    words: frozenset[str]
    sentences: int


class Supporter:
    """The passages of ``sources``, for any number of claims; ``question`` decides between passages alike."""

    def __init__(self, sources: Sequence[SourceSpan], question: str = "") -> None:
        self._asked = words(question)
        sentences = [(source, span) for source in sources for span in _sentences(source)]
        own = [words(source.text[start - source.start : end - source.start]) for source, (start, end) in sentences]
        self._count = len(own)
        self._known = Counter(word for found in own for word in found)
        self._passages = list(_passages(sentences, own))

    def weight(self, word: str) -> float:
        """``log(1 + S / s)`` of a word that ``s`` of ``S`` sentences have, 1 for ``s`` where none has it."""
        return math.log1p(max(self._count, 1) / max(self._known[word], 1))

    def best(self, claim: str, numbers: Sequence[int] | None = None) -> Support | None:
        """The passage that supports ``claim`` most, of the sources ``numbers`` (None: all); None where none has a word.

        Its share may be below :data:`SHARE`, and is 0 where a number of the claim stands in no passage.
        """
        wanted = words(claim)
        if not wanted:
            return None
        exact = {word for word in wanted if word[0].isdigit()}
        best: tuple[tuple[float, float, int], _Passage, float] | None = None
        for passage in self._passages:
            if numbers is not None and passage.number not in numbers:
                continue
            share = self._share(wanted, passage.words) if exact <= passage.words else 0.0
            # Two sentences stand in for one only where they say clearly more.
            value = share - WIDER * (passage.sentences - 1)
            key = (round(value, 9), round(self._share(self._asked, passage.words), 9), -passage.sentences)
            if share > 0 and (best is None or key > best[0]):
                best = (key, passage, share)
        return None if best is None else Support(best[1].number, *best[1].span, best[2])

    def _share(self, wanted: frozenset[str], there: frozenset[str]) -> float:
        whole = math.fsum(self.weight(word) for word in wanted)
        return math.fsum(self.weight(word) for word in wanted & there) / whole if whole else 0.0


def words(text: str) -> frozenset[str]:
    """The words of a text in small letters, numbers without commas; of scripts without spaces, the letters."""
    return frozenset(
        match.replace(",", "").rstrip(".") if match[0].isdigit() else match.casefold().replace("\u2019", "'")
        for match in _WORD.findall(text)
    )


def _sentences(source: SourceSpan) -> Iterator[Characters]:
    at = 0
    for end in sentence_ends(source.text, 0, len(source.text)):
        start = end - len(source.text[at:end].lstrip())
        if start < end:
            yield source.start + start, source.start + end
        at = end


def _passages(sentences: Sequence[tuple[SourceSpan, Characters]], own: Sequence[frozenset[str]]) -> Iterator[_Passage]:
    """Each sentence, and each with the next one of its source."""
    for place, ((source, span), found) in enumerate(zip(sentences, own, strict=True)):
        yield _Passage(source.number, span, found, 1)
        if place + 1 < len(sentences) and sentences[place + 1][0] is source:
            after = sentences[place + 1][1]
            yield _Passage(source.number, (span[0], after[1]), found | own[place + 1], 2)
