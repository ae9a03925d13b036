"""What people see as one character, and tokens that stand for a screen of them: where a text must not be cut, and may.

A base with its marks, a family of emoji, a flag are several code points (Unicode Annex 29 calls them grapheme
clusters; the rules here are those that texts need: marks, joiners, skin tones, flags, Korean letters, CRLF).
"""

from __future__ import annotations

import unicodedata

import numpy as np

from unabridged.contracts import Rows

LONGEST = 64
"""Code points of one character that are looked at: one of more is parted."""
LONG = 24
"""Characters of a token, above which it stands for a word that the tokenizer does not know, however long that is."""
PIECE = 4
"""Characters for which such a token counts once: a text without spaces is one word to many a tokenizer."""
_JOINER = "\u200d"
_FLAGS = "".join(map(chr, range(0x1F1E6, 0x1F200)))


def whole_before(text: str, at: int) -> int:
    """The last place up to ``at`` where no character is parted; ``at`` itself where that is the beginning."""
    place = at
    while 0 < place < len(text) and at - place < LONGEST and _joins(text, place):
        place -= 1
    return at if place <= 0 or at - place >= LONGEST else place


def divided(offsets: Rows) -> Rows:
    """Tokens ``[start, end)`` in characters, ``(T, 2)``, with each long one as pieces of :data:`PIECE`; ``(T', 2)``."""
    lengths = offsets[:, 1] - offsets[:, 0]
    if not len(offsets) or int(lengths.max()) <= LONG:
        return offsets
    pieces = np.where(lengths > LONG, -(-lengths // PIECE), 1)
    rows = np.repeat(np.arange(len(offsets)), pieces)
    number = np.arange(len(rows)) - (np.cumsum(pieces) - pieces)[rows]
    starts = offsets[rows, 0] + PIECE * number
    ends = np.where(number + 1 < pieces[rows], starts + PIECE, offsets[rows, 1])
    return np.stack([starts, ends], axis=1).astype(np.int64)


def _joins(text: str, at: int) -> bool:
    """Whether the code point at ``at`` is drawn with the one before it."""
    own, before = text[at], text[at - 1]
    if own.isascii():
        return own == "\n" and before == "\r"
    code = ord(own)
    if own in _FLAGS and before in _FLAGS:
        return (at - len(text[:at].rstrip(_FLAGS))) % 2 == 1  # two letters are a flag
    skin, korean = 0x1F3FB <= code <= 0x1F3FF, 0x1160 <= code <= 0x11FF or 0xD7B0 <= code <= 0xD7FF
    return own == _JOINER or before == _JOINER or skin or korean or unicodedata.category(own)[0] == "M"
