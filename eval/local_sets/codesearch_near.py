"""Texts that nearly equal an earlier one, exactly: no sampling and no random hash decides.

Two texts are near when the Jaccard similarity of their sets of five pieces in a row (words and marks) is at least
0.6.  Renaming one variable keeps texts near, copying a branch of a long function does not make it so.
"""

from __future__ import annotations

import re
from collections import Counter

SHINGLE = 5
NEAR = 0.6
PIECE = re.compile(r"\w+|[^\w\s]")


class Distinct:
    """A growing collection in which no text is near another.

    Memory is about 100 bytes for each piece of what was taken in.
    """

    def __init__(self) -> None:
        self._holders: dict[tuple[str, ...], list[int]] = {}
        self._sizes: list[int] = []

    def add(self, text: str) -> bool:
        """Takes ``text`` in, unless one that is near it is here already; whether it did."""
        own = shingles(text)
        shared = Counter(holder for one in own for holder in self._holders.get(one, ()))
        if any(common >= NEAR * (len(own) + self._sizes[holder] - common) for holder, common in shared.items()):
            return False
        for one in own:
            self._holders.setdefault(one, []).append(len(self._sizes))
        self._sizes.append(len(own))
        return True


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    """All runs of five pieces of ``text``; a text of fewer pieces is one run."""
    pieces = PIECE.findall(text)
    return frozenset(tuple(pieces[at : at + SHINGLE]) for at in range(max(1, len(pieces) - SHINGLE + 1)))
