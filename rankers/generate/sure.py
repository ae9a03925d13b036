"""The decision of SuRe: which of two candidate answers, from their summaries' validity and their pairwise rank.

Source: Kim et al., SuRe (ICLR 2024, arXiv 2404.13081), section 3, with the ties as its released code breaks them.
Only the standard library is imported here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unabridged.contracts import JSON

NEUTRAL = 0.5
"""The vote of an answer that could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was voted on two candidates, and which one it makes."""

    valid: tuple[bool | None, bool | None]
    """Whether each summary supports its candidate; None: the model did not say so readably."""
    orders: tuple[int | None, int | None]
    """The candidate (0 or 1) whose summary was found more informative, with the first and with the second one shown
    first; None: unreadable."""
    rank: tuple[float, float]
    """(1, 0), (0, 1), or halves where the two orders disagree."""
    votes: tuple[float, float]
    """The rank, drawn half way to the only valid candidate where exactly one is."""
    winner: int
    """The candidate with more votes; the first of equals."""

    def as_json(self) -> dict[str, JSON]:
        """Plain values."""
        return {
            "valid": list(self.valid),
            "orders": list(self.orders),
            "rank": list(self.rank),
            "votes": list(self.votes),
            "winner": self.winner,
        }


def decide(valid: Sequence[bool | None], orders: Sequence[int | None]) -> Decision:
    """The decision on two candidates.

    ``rank`` is the mean of the two orders, of which each gives its vote to one candidate, or half to each where it is
    unreadable.  Two orders that disagree so give (.5, .5).
    """
    first, second = orders
    share = sum(NEUTRAL if one is None else float(one == 0) for one in (first, second)) / 2
    rank = (share, 1.0 - share)
    votes = rank
    # What is neither true nor false says nothing, and so does not make the other one the only valid candidate.
    if None not in valid and valid[0] != valid[1]:
        chosen = (float(bool(valid[0])), float(bool(valid[1])))
        votes = ((rank[0] + chosen[0]) / 2, (rank[1] + chosen[1]) / 2)
    return Decision(
        valid=(valid[0], valid[1]),
        orders=(first, second),
        rank=rank,
        votes=votes,
        winner=int(votes[1] > votes[0]),
    )
