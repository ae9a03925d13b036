"""Texts that say the same."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

_WORD = re.compile(r"\w+")
SHINGLE = 4
"""Words of a shingle (Broder 1997, with words in place of letters)."""


class Duplicates(str, Enum):
    """Which spans are left out because another one has their text."""

    NONE = "none"
    EXACT = "exact"
    """Equal texts, the white space around them aside."""
    NEAR = "near"
    """Also texts that share most of their runs of four words."""


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    """All runs of four words, in small letters; of a text of fewer words the one run that it is, without any none."""
    words = [match.group() for match in _WORD.finditer(text.lower())]
    if not words:
        return frozenset()
    return frozenset(tuple(words[at : at + SHINGLE]) for at in range(max(1, len(words) - SHINGLE + 1)))


def likeness(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> float:
    """Shared runs divided by all runs of both, 0 to 1; signs and pictures alone are like nothing."""
    return len(one & other) / max(1, len(one | other))


@dataclass(slots=True)
class Seen:
    """Texts that were kept, by a key of the caller's."""

    duplicates: Duplicates
    similarity: float
    _texts: dict[str, int] = field(default_factory=dict)
    _shingles: dict[int, frozenset[tuple[str, ...]]] = field(default_factory=dict)

    def like(self, text: str, apart: Iterable[int] = ()) -> tuple[int, bool] | None:
        """The key of a text that says the same, none of ``apart``, and whether it is equal; None: it is new."""
        if self.duplicates is Duplicates.NONE:
            return None
        equal = self._texts.get(text.strip())
        if equal is None and self.duplicates is Duplicates.EXACT:
            return None
        not_these = set(apart)
        if equal is not None and equal not in not_these:
            return equal, True
        if self.duplicates is Duplicates.EXACT:
            return None
        own = shingles(text)
        for key, theirs in self._shingles.items():
            if key not in not_these and likeness(own, theirs) >= self.similarity:
                return key, False
        return None

    def add(self, key: int, text: str) -> None:
        """Remembers a text that was kept."""
        self._texts.setdefault(text.strip(), key)
        if self.duplicates is Duplicates.NEAR:
            self._shingles[key] = shingles(text)
