"""Cheap selectors before dear ones: each stage scores only what the stage before it put in front."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event

from unabridged.errors import UsageError
from unabridged.rankers.contracts import Spent, by_score
from unabridged.rankers.select.checks import check_asked
from unabridged.rankers.select.contracts import Cost, Passage, Scored, Selector

DEPTH = 32
BEHIND = "behind the first stage's best"


class CascadeSelector:
    """The best ``depth`` passages by ``first``, scored by ``second``; three stages are a cascade in a cascade.

    The others have no score, for those of ``first`` do not compare: their reason is :data:`BEHIND`.  Passages that
    ``first`` gives no score are behind all others.
    """

    def __init__(self, first: Selector, second: Selector, *, depth: int = DEPTH) -> None:
        """:class:`UsageError` for a depth below 1."""
        if isinstance(depth, bool) or not isinstance(depth, int) or depth < 1:
            raise UsageError(f"depth={depth!r} passages for the second stage: it is a whole number, at least 1.")
        self.first, self.second, self.depth = first, second, depth

    @property
    def label(self) -> str:
        """Both, and what passes from one to the other."""
        return f"{self.first.label}>{self.depth}>{self.second.label}"

    def cost(self, question: str, passages: Sequence[Passage]) -> Cost:
        """Which passages pass is not known before: the longest, in characters, are taken for them."""
        check_asked(question, passages)
        longest = sorted(passages, key=lambda one: -len(one.text))[: self.depth]
        return self.first.cost(question, passages) + self.second.cost(question, longest)

    def score(self, question: str, passages: Sequence[Passage], *, cancel: Event | None = None) -> Scored:
        """The scores of ``second`` for at most ``depth`` passages; the second stage sees them in the order given."""
        check_asked(question, passages)
        before = self.first.score(question, passages, cancel=cancel)
        known = sum(score is not None for score in before.scores)
        passed = sorted(by_score(before.scores)[: min(self.depth, known)])
        reasons = [one or BEHIND for one in before.reasons] if before.reasons else [BEHIND] * len(passages)
        scores: list[float | None] = [None] * len(passages)
        bounds: list[tuple[float, float] | None] = [None] * len(passages)
        if not passed:
            return Scored(tuple(scores), tuple(reasons), spent=before.spent)
        after = self.second.score(question, [passages[row] for row in passed], cancel=cancel)
        for place, row in enumerate(passed):
            scores[row] = after.scores[place]
            reasons[row] = after.reasons[place] if after.reasons else ""
            bounds[row] = after.bounds[place] if after.bounds else None
        spent = sum((before.spent, after.spent), Spent())
        return Scored(tuple(scores), tuple(reasons), tuple(bounds) if after.bounds else (), spent)
