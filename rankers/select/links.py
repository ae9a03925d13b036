"""What ties passages together: terms that few of them share, those that look like names before others.

No grammar and no list of names: a word is name-like by how it is written (digits, capitals that no sentence start
explains, underscores).  Languages without capitals have no names here, and all their terms count alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from unabridged.errors import UsageError
from unabridged.rankers.select.terms import PassageTerms

MOST = 50
"""Passages that a term may be in: one that more share is a topic and no link."""
SHARE = 0.05
"""The same as a share of all passages, for short texts."""
LEAST = 3
"""As many may have it in any text."""
PLAIN = 0.5
"""The weight of a link by a word that does not look like a name."""
POWER = 0.5
_OPENERS = "\"'([{\u00ab\u2018\u201c\u201e"
_LOOK_BACK = 200
"""Characters before a word that can tell whether it opens a sentence."""
_ENDS = ".!?\u2026:;\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """How much a shared term is worth."""

    most: int = MOST
    share: float = SHARE
    plain: float = PLAIN
    power: float = POWER
    """A term of P passages has the weight ``(P - 1) ** -power``: 1 where it leads to one other passage only."""

    def __post_init__(self) -> None:
        shares = 0.0 <= self.plain <= 1.0 and 0.0 <= self.share <= 1.0
        if self.most < 2 or not shares or not 0.0 <= self.power < float("inf"):
            raise UsageError(
                f"most={self.most} is at least 2, share={self.share} and plain={self.plain} lie in 0 to 1, "
                f"power={self.power} is 0 or above."
            )

    def limit(self, passages: int) -> int:
        """The most of ``passages`` that a linking term may be in."""
        return min(self.most, max(LEAST, int(self.share * passages)))


class Links:
    """The terms by which passages lead to each other, and how strongly."""

    def __init__(self, texts: Sequence[str], terms: PassageTerms, settings: LinkSettings | None = None) -> None:
        self._texts = texts
        self.terms = terms
        self.settings = settings or LinkSettings()
        self._limit = self.settings.limit(len(terms))

    def of(self, row: int) -> Iterator[tuple[str, float]]:
        """The linking terms of a passage with their weights, in the order of the text, each once."""
        for term in self.terms.counts[row]:
            weight = self.weight(term)
            if weight > 0.0:
                yield term, weight

    def weight(self, term: str) -> float:
        """0 to 1; 0 for a term that is in one passage only, or in too many."""
        shared = len(self.terms.holders(term))
        if not 2 <= shared <= self._limit:
            return 0.0
        return float((1.0 if term in self.names else self.settings.plain) * (shared - 1.0) ** -self.settings.power)

    @cached_property
    def names(self) -> frozenset[str]:
        """Terms that look like names in at least half of the places that can tell."""
        named: Counter[str] = Counter()
        told: Counter[str] = Counter()
        for text in self._texts:
            found, starts = self.terms.analyzer.analyze_with_starts(text)
            for term, start in zip(found, starts, strict=True):
                look = looks_named(text, start)
                if look is not None:
                    told[term] += 1
                    named[term] += look
        return frozenset(term for term, count in named.items() if 2 * count >= told[term] > 0)


def looks_named(text: str, start: int) -> bool | None:
    """Whether the word at ``start`` is written like a name; None where a capital may only open a sentence."""
    end = start
    while end < len(text) and (text[end].isalnum() or text[end] == "_"):
        end += 1
    word = text[start:end]
    if any(one.isdigit() or one == "_" for one in word) or any(one.isupper() for one in word[1:]):
        return True
    if not word[:1].isupper():
        return False
    before = text[max(0, start - _LOOK_BACK) : start].rstrip(" \t").rstrip(_OPENERS).rstrip(" \t")
    return None if not before or before[-1] in _ENDS else True
