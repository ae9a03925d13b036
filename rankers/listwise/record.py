"""What happened to one query: groups and how whole their answers were, candidates and what was shown of them, steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from unabridged.rankers.contracts import KEPT, UNREAD, Exposure, Spent, Status, Step
from unabridged.rankers.listwise.fitting import Piece
from unabridged.rankers.listwise.plans import Ask, Order


class Record:
    """Collects while a query runs; ``totals`` are the tokens of its whole candidates."""

    def __init__(self, totals: Sequence[int]) -> None:
        self._totals = totals
        self._seen: dict[int, Exposure] = {}
        self._flags: dict[int, set[str]] = {place: set() for place in range(len(totals))}
        self._groups: set[Status] = set()
        self.steps: list[Step] = []
        self.spent = Spent()
        self.round = 0
        """Of the plan, from 1."""

    @property
    def anything_read(self) -> bool:
        """Whether any prompt was answered."""
        return bool(self._seen)

    def step(self, items: Sequence[int], action: str, reason: str) -> None:
        """Something did not go as planned."""
        self.steps.append(Step(self.round, tuple(items), action, reason))

    def group(self, status: Status) -> None:
        """How whole a group's answer was."""
        self._groups.add(status)

    def flag(self, items: Sequence[int], flag: str) -> None:
        """Something is to be said of these candidates."""
        for place in items:
            self._flags[place].add(flag)

    def kept(self, ask: Ask, status: Status) -> Order:
        """The order that a group keeps, for it has no answer."""
        self.group(status)
        self.flag(ask.items, KEPT)
        return ask.kept

    def read(self, items: Sequence[int], pieces: Sequence[Piece]) -> None:
        """A prompt with these candidates was answered; ``pieces`` is what stood in it."""
        for place, piece in zip(items, pieces, strict=True):
            before = self._seen.get(place)
            if before is None or piece.tokens > before.shown:
                prompts = 0 if before is None else before.prompts
                before = Exposure(self._totals[place], piece.tokens, piece.spans, prompts, piece.flags)
            self._seen[place] = replace(before, prompts=before.prompts + 1)

    def exposures(self) -> tuple[Exposure, ...]:
        """What was shown of each candidate, in their order."""
        return tuple(self._exposure(place) for place in range(len(self._totals)))

    def status(self) -> Status:
        """How much of the order is the model's."""
        if self._groups <= {Status.OK}:
            return Status.OK
        if self._groups <= {Status.OK, Status.REPAIRED}:
            return Status.REPAIRED
        if self._groups & {Status.OK, Status.PARTIAL} or (self._groups & {Status.REPAIRED} and self._seen):
            return Status.PARTIAL
        return Status.UNRANKED if Status.UNRANKED in self._groups else Status.FAILED

    def _exposure(self, place: int) -> Exposure:
        seen = self._seen.get(place) or Exposure(self._totals[place], 0, (), 0, (UNREAD,))
        return replace(seen, flags=(*seen.flags, *sorted(self._flags[place] - set(seen.flags))))
