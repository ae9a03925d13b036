"""What was chosen of the passages of one question, what was not, and why.

Only the standard library is imported here.
"""

from __future__ import annotations

from dataclasses import dataclass

from unabridged.rankers.contracts import Spent
from unabridged.rankers.select.contracts import Passage

HEAD = "head"
"""Kept as the beginning of its text, whatever its score."""
SCORE = "score"
"""Kept as one of the best."""
BEHIND = "behind the best"
"""There were as many better ones as were asked for."""
BUDGET = "budget"
"""With it the text would have more tokens than allowed."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A passage that was offered: kept or dropped."""

    passage: Passage
    score: float | None
    reason: str
    """:data:`HEAD` or :data:`SCORE` if kept; else :data:`BEHIND`, :data:`BUDGET`, or the selector's own words."""
    bounds: tuple[float, float] | None = None
    """Lowest and highest possible score, where it is known within bounds only."""
    unsure: bool = False
    """Its bounds reach over the cut: another choice would be as good as this one."""


@dataclass(frozen=True, slots=True)
class Round:
    """One pass over passages: kept and dropped are together what was offered, each in the order of the sources."""

    kept: tuple[Judged, ...]
    dropped: tuple[Judged, ...]
    tokens: int
    """Of the text that was kept, with the question."""

    @property
    def offered(self) -> int:
        """Passages that were judged."""
        return len(self.kept) + len(self.dropped)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The parts of long texts that a question needs, as a text for a model's context."""

    question: str
    asked: Passage | None
    """The end of the text that was taken for the question; None where one was given."""
    text: str
    """The kept spans in the order of their sources, then the question."""
    tokens: int
    """Of ``text``, counted on it as a whole; never above the budget."""
    budget: int | None
    tokenizer: str
    spans: tuple[Passage, ...]
    """What of the sources is in ``text``; disjoint."""
    rounds: tuple[Round, ...]
    """The first is over passages of the texts, each further one over parts of what the one before kept."""
    spent: Spent

    @property
    def kept(self) -> tuple[Judged, ...]:
        """Of the last round."""
        return self.rounds[-1].kept

    @property
    def dropped(self) -> tuple[Judged, ...]:
        """Of all rounds."""
        return tuple(one for each in self.rounds for one in each.dropped)
