"""Rankers whose scores compare within one prompt only, over more passages than a prompt holds.

In-context ranking by attention (arXiv 2410.02642) shares one sum of attention among the texts of a prompt: the scores
of two prompts have no common scale.  The rule here: **only scores of one and the same prompt are compared**.  Passages
are ranked in groups; the best of each group meet in new groups, until all that are left fit one prompt, whose scores
are the result.  What was left out before has no score, and the round in which that was.

Letters::

    M passages     T tokens of a group at most
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event

from unabridged.errors import UsageError
from unabridged.rankers.contracts import Ranker, Spent, by_score
from unabridged.rankers.select.checks import CANCELLED, check_asked
from unabridged.rankers.select.contracts import Cost, Passage, Scored
from unabridged.rankers.select.ranked import ranked

TOO_LONG = "longer than half a group"
"""The passage would meet no other one in a prompt: take shorter passages, or larger groups."""
LEFT_OUT = "left out in round {round}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """How passages meet."""

    tokens: int = 2048
    """T, passages only: the question and the template come on top, and must fit the model's context with them."""
    advance: float = 0.5
    """The share of a group that goes on, one at least: half costs at most about twice the tokens of the passages."""
    calls: int = 1
    """Passes of the model that one group takes, for costs; attention takes two, of which one is short."""

    def __post_init__(self) -> None:
        if self.tokens < 2 or not 0.0 < self.advance < 1.0 or self.calls < 1:
            raise UsageError(
                f"tokens={self.tokens} is at least 2, advance={self.advance} lies between 0 and 1, calls={self.calls} "
                "is at least 1."
            )


class GroupedSelector:
    """Scores by a ranker that sees its candidates together; a passage's score depends on the others of its group."""

    def __init__(
        self,
        ranker: Ranker,
        count: Callable[[Sequence[str]], Sequence[int]],
        settings: GroupSettings | None = None,
    ) -> None:
        """``count``: tokens of each text, by the ranker's model."""
        self.ranker = ranker
        self._count = count
        self.settings = settings or GroupSettings()

    @property
    def label(self) -> str:
        """The ranker's."""
        return self.ranker.label

    def cost(self, question: str, passages: Sequence[Passage]) -> Cost:
        """Groups as long as they can be: the longest passages of each are taken to go on.  Without the template."""
        check_asked(question, passages)
        asked = self._count([question])[0]
        sizes = list(self._count([one.text for one in passages]))
        total = Cost()
        rows = [row for row, size in enumerate(sizes) if not self._too_long(size, sizes)]
        while rows:
            groups = grouped(rows, sizes, self.settings.tokens)
            calls = self.settings.calls
            read = sum(sizes[row] for row in rows) + len(groups) * calls * asked
            total += Cost(calls=calls * len(groups), tokens=read)
            if len(groups) == 1:
                break
            longest = [sorted(group, key=lambda row: -sizes[row])[: self._going(group)] for group in groups]
            rows = sorted(row for group in longest for row in group)
        return total

    def score(self, question: str, passages: Sequence[Passage], *, cancel: Event | None = None) -> Scored:
        """The scores of the last prompt; None with a reason for what did not come so far."""
        check_asked(question, passages)
        sizes = list(self._count([one.text for one in passages]))
        reasons = [TOO_LONG if self._too_long(size, sizes) else "" for size in sizes]
        scores: list[float | None] = [None] * len(passages)
        rows = [row for row, reason in enumerate(reasons) if not reason]
        spent = Spent()
        number = 0
        while rows:
            number += 1
            groups = grouped(rows, sizes, self.settings.tokens)
            following: list[int] = []
            for group in groups:
                if cancel is not None and cancel.is_set():
                    for row in rows:
                        reasons[row] = reasons[row] or CANCELLED
                    return Scored((None,) * len(passages), tuple(reasons), spent=spent)
                found = ranked(self.ranker, question, [passages[row].text for row in group], cancel)
                spent = spent + found.spent
                best = self._best(group, found)
                for place, row in enumerate(group):
                    if found.scores[place] is None:
                        reasons[row] = found.reasons[place]
                    elif len(groups) == 1:
                        scores[row] = found.scores[place]
                    elif row not in best:
                        reasons[row] = LEFT_OUT.format(round=number)
                following += best
            if len(groups) == 1:
                break
            rows = sorted(following)
        return Scored(tuple(scores), tuple(reasons), spent=spent)

    def _too_long(self, size: int, sizes: Sequence[int]) -> bool:
        return len(sizes) > 1 and 2 * size > self.settings.tokens

    def _going(self, group: Sequence[int]) -> int:
        return max(1, int(self.settings.advance * len(group)))

    def _best(self, group: Sequence[int], found: Scored) -> list[int]:
        known = [place for place in by_score(found.scores) if found.scores[place] is not None]
        return [group[place] for place in known[: self._going(group)]]


def grouped(rows: Sequence[int], sizes: Sequence[int], most: int) -> list[list[int]]:
    """Neighbouring rows in as few groups of at most ``most`` tokens as filling one after the other gives.

    A passage alone at the end would go on without having met another: it takes one from the group before, where that
    has more than two.
    """
    groups: list[list[int]] = []
    used = 0
    for row in rows:
        if not groups or used + sizes[row] > most:
            groups.append([])
            used = 0
        groups[-1].append(row)
        used += sizes[row]
    if len(groups) > 1 and len(groups[-1]) == 1 and len(groups[-2]) > 2:
        groups[-1].insert(0, groups[-2].pop())
    return groups
