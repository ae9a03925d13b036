"""Which parts of a long text to show, where not all of it fits."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from unabridged.encoders.windows import split
from unabridged.errors import UsageError
from unabridged.rankers.contracts import Characters

_PIECE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|\w{1,24}|[^\w\s]")
"""Roughly a token: an ideograph, a word or a part of a long one, a sign."""
_K1, _B = 0.9, 0.4
"""Of BM25, as for passages (Yang et al. 2017)."""


class SegmentSelector(Protocol):
    """Segments of a text, those that answer a query best first."""

    def select(self, query: str, text: str, share: float) -> tuple[Characters, ...]:
        """Disjoint segments, best first; each has about ``share`` of the text, above 0 and at most 1."""
        ...


@dataclass(frozen=True, slots=True)
class LexicalSegments:
    """Segments by the BM25 of the query's words over the text's own segments; equals in the order of the text.

    Cuts are made at sentences, lines and headings.  It needs no model; a text with none of the query's words gives its
    segments from the head on.
    """

    def select(self, query: str, text: str, share: float) -> tuple[Characters, ...]:
        """All segments of ``text``, best first: together they are the whole of it."""
        if not 0 < share <= 1:
            raise UsageError(f"share={share} of a text lies above 0 and at most 1.")
        offsets = np.array([match.span() for match in _PIECE.finditer(text)], dtype=np.int64).reshape(-1, 2)
        if not len(offsets):
            return ((0, len(text)),) if text else ()
        spans = [(int(a), int(b)) for a, b in split(text, offsets, max(1, int(share * len(offsets)))).spans]
        counts = [Counter(_words(text[start:end])) for start, end in spans]
        scores = _bm25(sorted(set(_words(query))), counts)
        ranked = sorted(range(len(spans)), key=lambda place: -scores[place])
        return tuple(spans[place] for place in ranked if spans[place][0] < spans[place][1])


def _words(text: str) -> list[str]:
    return [match.group().lower() for match in _PIECE.finditer(text)]


def _bm25(asked: list[str], counts: list[Counter[str]]) -> list[float]:
    """Scores of the segments; words that are in all of them weigh little."""
    number = len(counts)
    lengths = [sum(one.values()) for one in counts]
    mean = sum(lengths) / number or 1.0
    scores = [0.0] * number
    for word in asked:
        having = sum(word in one for one in counts)
        weight = math.log(1 + (number - having + 0.5) / (having + 0.5))
        for place, one in enumerate(counts):
            if one[word]:
                scores[place] += weight * one[word] / (one[word] + _K1 * (1 - _B + _B * lengths[place] / mean))
    return scores
