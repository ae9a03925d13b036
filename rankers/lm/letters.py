"""Halves of letters: what JSON may write of a letter beyond U+FFFF, and what no encoding of a text has.

A Python string may hold them: of a file name with foreign bytes, or of a stream that was cut inside a letter.
"""

from __future__ import annotations

import re

FIRST_HALF = re.compile("[\ud800-\udbff]")
_HALVES = re.compile("[\ud800-\udfff]")
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"


def whole_letters(text: str) -> str:
    """``text`` with its halves joined to letters; U+FFFD for a half without its other one.  The text may be shorter."""
    if _HALVES.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def encodable(text: str) -> str:
    """``text`` as a tokenizer or a request can take it: U+FFFD for each half, so that every place stays the same."""
    return text if _HALVES.search(text) is None else _HALVES.sub(_UNKNOWN, text)
