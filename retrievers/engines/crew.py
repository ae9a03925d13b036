"""What the process that writes an index needs of those that encode for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from unabridged.retrievers.engines.work import Problem

ATTEMPTS = 3
"""Workers that a unit may cost before it is divided: other reasons to end, a machine that is taken away, pass."""
ATTEMPTS_OF_A_PART = 2
"""The same for a part of such a unit, so that one text that kills is found with few."""


@dataclass(frozen=True, slots=True)
class Task:
    """A unit to be encoded."""

    name: str
    texts: tuple[str, ...]
    attempts: int = ATTEMPTS


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a task: its file is in the folder, unless there was a problem or its workers were lost."""

    name: str
    problem: Problem | None = None
    lost: str | None = None
    """How the last of the workers that it may cost ended."""


class Crew(Protocol):
    """Workers of some kind.  They are started by the first task."""

    @property
    def workers(self) -> int:
        """Units at work at a time."""

    def give(self, task: Task) -> None:
        """Takes a task on; tasks are begun in this order."""

    def next(self) -> Answer:
        """The next answer to any task; waits for it.

        Raises:
            UnabridgedError: there are no workers, and there will be none.
        """

    def close(self) -> None:
        """Ends all workers, in the middle of a unit too, and waits until they have ended."""
