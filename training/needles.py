"""Long texts that differ in one line: what a vector must keep to tell them apart.

One text of the corpus, or a short passage of it over and over, is the haystack of a whole batch.  Each of B copies
gets another stretch of the corpus at another place, and each stretch, as the model reads it alone, has to find its copy
among the B.  Nothing but the stretches differs, so a place whose words hardly move the vector loses.

The inverse cloze task (Lee et al. 2019, arXiv 1906.00300) with negatives that are equal to the positive but for that
line.  No labels are needed.

Letters::

    B texts of a batch     n own tokens of each
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unabridged.encoders._tokens import Ids
from unabridged.training.texts import Pieces

STRETCH = (12, 40)
"""Own tokens of a stretch, from and below: a question's length."""
REPEATED = 0.5
"""Share of batches whose haystack is one passage over and over."""
PASSAGE = (15, 60)
"""Own tokens of that passage, from and below."""
FEWEST, MOST = 4, 32
"""Texts of a batch: with fewer than four, finding one's own is no task."""


@dataclass(frozen=True, slots=True)
class Needles:
    """A batch."""

    texts: Pieces  # B, all of n own tokens
    asked: Pieces  # B, the stretch of each between the same special tokens


def texts_in(own: int, tokens: int) -> int:
    """B for texts of ``own`` tokens in batches of ``tokens``."""
    return max(FEWEST, min(MOST, tokens // max(1, own)))


def draw(pieces: Pieces, row: int, count: int, chance: np.random.Generator) -> Needles:
    """B = ``count`` texts over the haystack of piece ``row``; a pure function of its arguments."""
    hay = pieces.own(row)
    size = len(hay)
    if chance.random() < REPEATED:
        long = min(size, int(chance.integers(*PASSAGE)))
        at = int(chance.integers(0, size - long + 1))
        hay = np.resize(hay[at : at + long], size)
    most = max(1, size // 2)  # half of a text is haystack, however short it is
    texts: list[Ids] = []
    asked: list[Ids] = []
    for _ in range(count):
        stretch = _stretch(pieces, most, chance)
        rest = size - len(stretch)
        at = int(chance.integers(0, rest + 1))
        texts.append(np.concatenate((hay[:at], stretch, hay[at:rest])))
        asked.append(stretch)
    return Needles(pieces.framed(texts), pieces.framed(asked))


def _stretch(pieces: Pieces, most: int, chance: np.random.Generator) -> Ids:
    """A stretch of at most ``most`` own tokens from anywhere in the corpus."""
    own = pieces.own(int(chance.integers(0, len(pieces))))
    size = min(len(own), most, int(chance.integers(*STRETCH)))
    at = int(chance.integers(0, len(own) - size + 1))
    return own[at : at + size]
