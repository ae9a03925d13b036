"""Bytes of UTF-8 and the characters that they stand for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unabridged.contracts import Rows

BLANKS = b" \t\r\n\f\v"
"""White space of source code."""


@dataclass(frozen=True, slots=True)
class Characters:
    """The end of a text as UTF-8, with the way back to characters of the whole text."""

    data: bytes
    start: int
    """Characters before :attr:`data`."""
    firsts: Rows | None  # (n,) int64, the first byte of each character; None where each has one byte

    @classmethod
    def of(cls, text: str, start: int = 0) -> Characters:
        """``text[start:]``; half surrogate pairs, which UTF-8 cannot hold, are replaced one for one."""
        part = text[start:] if start else text
        try:
            data = part.encode()
        except UnicodeEncodeError:
            data = "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in part).encode()
        if len(data) == len(part):
            return cls(data, start, None)
        octets = np.frombuffer(data, dtype=np.uint8)
        return cls(data, start, np.flatnonzero((octets & 0xC0) != 0x80))

    def at(self, places: Rows) -> Rows:
        """The characters of the whole text at which the bytes ``places`` (any shape) stand."""
        own: Rows = places if self.firsts is None else np.searchsorted(self.firsts, places)
        return own + self.start
