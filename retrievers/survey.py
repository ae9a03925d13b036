"""What a plan needs of a corpus beside its counts, noted while it is scanned: passages, and the largest units.

A passage is a piece of at most ``PASSAGE_CHARACTERS`` of a document.  They are drawn by size, so that a document
with 40 % of the characters has about 40 % of the passages: weighted sampling without replacement (Efraimidis and
Spirakis 2006, algorithm A-Res) with the hash of a passage in place of a random number, so that one corpus always
gives the same passages, in any order of its documents.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from unabridged.contracts import Corpus, Document, Failure
from unabridged.retrievers.calibration import Spent
from unabridged.retrievers.units import UNIT_CHARACTERS, UNIT_DOCUMENTS

PASSAGE_CHARACTERS = 16_384
"""Some eight windows of 512 tokens: few enough to try in seconds, and not all cut off at their end."""
PASSAGES = 128
"""2 Mi characters at most, which are counted in two seconds."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document; ``characters`` counts the whole document."""

    text: str
    characters: int
    stands_for: float = 1.0
    """How many such pieces the corpus is estimated to have: one over the chance of being drawn."""

    @property
    def whole(self) -> bool:
        """Whether it is all of its document."""
        return len(self.text) == self.characters


class Survey:
    """A corpus that takes notes the first time it is read; give it to ``scan`` in place of the corpus itself."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._heap: list[tuple[float, int, Passage]] = []
        self._refused = -math.inf
        self._noted = False
        self._unit = self._unit_documents = self._before = 0
        self._order = 0
        self.largest_unit = 0
        """Characters of the largest run of documents that a fresh build encodes together."""
        self.largest_pair = 0
        """Those of two such runs, one after the other: one is on the device while the next one's tokens wait."""
        self.spent = Spent()
        """What one reading of the corpus took, without these notes."""

    @property
    def skipped(self) -> object:
        """What the corpus says of what it left aside; None where it says nothing."""
        return getattr(self._corpus, "skipped", None)

    @property
    def passages(self) -> list[Passage]:
        """The passages, in an order that does not depend on that of the corpus.

        A passage of n characters was drawn with chance ``1 - exp(n * t)``, where t is the highest place refused.
        """
        ordered = sorted(self._heap, key=lambda entry: (-entry[0], entry[2].text))
        return [
            replace(passage, stands_for=-1 / math.expm1(len(passage.text) * self._refused)) for _, _, passage in ordered
        ]

    def __iter__(self) -> Iterator[Document | Failure]:
        if self._noted:
            yield from self._corpus
            return
        self._noted = True
        own, started = Spent(), Spent.now()
        for item in self._corpus:
            if isinstance(item, Document):
                since = Spent.now()
                self._note(item.source)
                own += since.ago
            yield item
        self._close()
        self.spent = started.ago + own.times(-1)

    def _note(self, source: str) -> None:
        self._unit += len(source)
        self._unit_documents += 1
        if self._unit >= UNIT_CHARACTERS or self._unit_documents >= UNIT_DOCUMENTS:
            self._close()
        for start in range(0, len(source), PASSAGE_CHARACTERS):
            self._draw(source[start : start + PASSAGE_CHARACTERS], len(source))

    def _close(self) -> None:
        self.largest_unit = max(self.largest_unit, self._unit)
        self.largest_pair = max(self.largest_pair, self._before + self._unit)
        self._before, self._unit, self._unit_documents = self._unit, 0, 0

    def _draw(self, text: str, characters: int) -> None:
        from xxhash import xxh3_64_intdigest

        number = (xxh3_64_intdigest(text.encode("utf-8", "surrogatepass")) + 1) / (2**64 + 1)
        place = math.log(number) / len(text)  # the logarithm of number ** (1 / weight)
        if len(self._heap) == PASSAGES and place <= self._heap[0][0]:
            self._refused = max(self._refused, place)
            return
        self._order += 1
        entry = (place, -self._order, Passage(text, characters))
        if len(self._heap) < PASSAGES:
            heapq.heappush(self._heap, entry)
        else:
            self._refused = max(self._refused, heapq.heapreplace(self._heap, entry)[0])
