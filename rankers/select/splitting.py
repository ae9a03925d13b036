"""A text as sentences: exact characters of the source, nothing left over but white space."""

from __future__ import annotations

import re

import numpy as np

from unabridged.encoders.windows import SENTENCE, View, split
from unabridged.errors import UsageError
from unabridged.rankers.context.characters import whole_before
from unabridged.rankers.contracts import Characters
from unabridged.rankers.select.contracts import Passage

MOST_WORDS = 120
"""A sentence of more words is divided: tables, code and lists have no full stops."""
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|\w{1,24}|[^\w\s]")
"""An ideograph is a word, and a run of letters no longer than words are: not all texts have spaces."""


def sentences(text: str, most: int = MOST_WORDS) -> tuple[Characters, ...]:
    """The sentences of ``text``, as half-open characters without the white space around them, in order.

    A sentence ends at a mark that white space and no small letter follows, at a blank line, and before a heading
    (:mod:`unabridged.encoders.windows`); one of more than ``most`` words and signs is divided at its best places.  A
    text of white space has none.  Titles with a full stop ("Dr. Who") end a sentence too early; no character is lost.

    :class:`UsageError` for ``most`` below 1.
    """
    if most < 1:
        raise UsageError(f"most={most} words of a sentence: it is at least 1.")
    offsets = np.array([match.span() for match in _WORD.finditer(text)], dtype=np.int64).reshape(-1, 2)
    if not len(offsets):
        return ()
    ranks = View(text).rank(offsets[:, 0])
    firsts = np.flatnonzero(ranks >= SENTENCE)
    firsts = np.unique(np.concatenate(([0], firsts)))
    lasts = np.concatenate((firsts[1:], [len(offsets)]))
    found: list[Characters] = []
    for first, last in zip(firsts, lasts, strict=True):
        start, end = int(offsets[first, 0]), int(offsets[last - 1, 1])
        if last - first <= most:
            found.append((start, end))
            continue
        part = text[start:end]
        for low, high in split(part, offsets[first:last] - start, most).spans.tolist():
            found += _trimmed(text, start + whole_before(part, low), start + whole_before(part, high))
    return tuple(found)


def sentence_passages(doc_id: str, text: str, most: int = MOST_WORDS) -> list[Passage]:
    """The sentences of a document as passages of it."""
    return [Passage(doc_id, start, end, text[start:end]) for start, end in sentences(text, most)]


def _trimmed(text: str, start: int, end: int) -> list[Characters]:
    own = text[start:end]
    left = len(own) - len(own.lstrip())
    kept = len(own.strip())
    return [(start + left, start + left + kept)] if kept else []
