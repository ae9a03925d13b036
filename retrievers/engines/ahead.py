"""Units encoded by a crew, ahead of the process that stores them in order.

A unit is wanted by its content, goes to a worker, and comes back as a file (``unit_files``) that outlives workers and
this process alike: a build that starts again takes the finished ones and asks for the others.  The build stores what
it takes by the same code as ever, so the index has the bytes of a build in one process.  What a worker's end costs is
its unit, which is done again.  A unit that costs several is divided until the one text that kills is known; that text
is a failure like any other, and the rest is indexed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from unabridged.contracts import Failure
from unabridged.errors import RuntimeFailure
from unabridged.files import TEMPORARY_SUFFIX
from unabridged.index.pieces import join, split
from unabridged.index.shard import Record
from unabridged.retrievers.encoding import Done
from unabridged.retrievers.engines.crew import ATTEMPTS, ATTEMPTS_OF_A_PART, Answer, Crew, Task
from unabridged.retrievers.engines.unit_files import SUFFIX, Finished, read_unit, remove_unit, unit_name
from unabridged.retrievers.units import BROKEN_ENCODER

UNITS_PER_WORKER = 2
"""Units on their way for each worker: one at work and one that waits, or is done and waits for the one before it."""
READS = 3
"""Times that a unit is done again because its file cannot be read."""
VISIBLE_SECONDS = 15.0
"""A network file system may show a file of another machine late."""
WORKER_LOST = "worker-lost"


class Ahead:
    """Satisfies :class:`~unabridged.retrievers.encoding.Encoding` by a crew; ``folder`` is its own, and is made."""

    def __init__(self, crew: Crew, folder: Path, identity: str) -> None:
        self._crew, self._folder, self._identity = crew, folder, identity
        self._asked: set[str] = set()
        self._answers: dict[str, Answer] = {}
        self._taken: list[str] = []
        folder.mkdir(exist_ok=True)
        for torn in folder.glob(f"*{TEMPORARY_SUFFIX}"):
            torn.unlink(missing_ok=True)

    @property
    def ahead(self) -> int:
        """Units that may be wanted before the first is taken."""
        return UNITS_PER_WORKER * self._crew.workers

    def want(self, records: Sequence[Record]) -> None:
        """Gives the unit to the crew, unless it is done or under way."""
        task = self._task(records, ATTEMPTS)
        if not (self._folder / (task.name + SUFFIX)).exists():
            self._ask(task)

    def take(self, records: Sequence[Record], where: Callable[[Record], str]) -> Done:
        """The unit from its file; waits until it is there.

        Raises:
            UnabridgedError: what a worker met that concerns every text, or a unit that cannot be read.
        """
        task = self._task(records, ATTEMPTS)
        found = self._finished(task)
        if not isinstance(found, Finished):
            done = self._parts(records, where, found)
            if any(failure.reason == WORKER_LOST for failure in done[2]):
                return done
            # No text of it kills: whoever ended its workers has gone, and whole it has the bits of one process.
            found = self._finished(self._task(records, 1))
            if not isinstance(found, Finished):
                return done
        return _placed(records, found, where)

    def stored(self, records: Sequence[Record]) -> None:
        """Deletes the files of what was taken since the last time."""
        while self._taken:
            remove_unit(self._folder, self._taken.pop())

    def close(self) -> None:
        """Ends the crew; finished units stay for the run that continues this one."""
        self._crew.close()

    def _task(self, records: Sequence[Record], attempts: int) -> Task:
        name = unit_name(self._identity, [record.key for record in records])
        return Task(name, tuple(record.source for record in records), attempts)

    def _ask(self, task: Task) -> None:
        if task.name not in self._asked:
            self._asked.add(task.name)
            self._crew.give(task)

    def _finished(self, task: Task) -> Finished | Answer:
        """The unit, or the answer that its workers were lost."""
        for _ in range(1 + READS):
            found = read_unit(self._folder, task.name)
            if found is not None and found.texts == len(task.texts):
                self._asked.discard(task.name)
                self._taken.append(task.name)
                return found
            self._ask(task)
            answer = self._answer(task.name)
            if answer.problem is not None:
                raise answer.problem.error()
            if answer.lost is not None:
                return answer
            self._wait_for_file(task.name)
        raise RuntimeFailure(
            f"The file of unit {task.name} in {self._folder} cannot be read, though it was written {READS} times. "
            "Look at that disk; what was finished is kept, and the same command continues."
        )

    def _answer(self, name: str) -> Answer:
        while name not in self._answers:
            answer = self._crew.next()
            self._answers[answer.name] = answer
        self._asked.discard(name)
        return self._answers.pop(name)

    def _wait_for_file(self, name: str) -> None:
        until = time.monotonic() + VISIBLE_SECONDS
        while not (self._folder / (name + SUFFIX)).exists() and time.monotonic() < until:
            time.sleep(0.1)

    def _parts(self, records: Sequence[Record], where: Callable[[Record], str], lost: Answer) -> Done:
        """The unit that cost too many workers, by its halves; a text alone becomes a failure."""
        if len(records) == 1:
            message = f"the worker that encodes it ends: {lost.lost}"
            return [], None, [Failure(records[0].id, where(records[0]), "encode", WORKER_LOST, message)]
        middle = len(records) // 2
        kept: list[Record] = []
        failed: list[Failure] = []
        pieces = []
        for part in (records[:middle], records[middle:]):
            found = self._finished(self._task(part, ATTEMPTS_OF_A_PART))
            good, encoded, bad = (
                _placed(part, found, where) if isinstance(found, Finished) else self._parts(part, where, found)
            )
            kept.extend(good)
            failed.extend(bad)
            if encoded is not None:
                pieces.extend(split(encoded))
        if not kept and sum(failure.reason == WORKER_LOST for failure in failed) >= BROKEN_ENCODER:
            raise RuntimeFailure(
                f"Workers end on every one of {len(failed)} texts ({lost.lost}): look at the memory that they have. "
                "What was finished is kept; the same command continues."
            )
        return kept, join(pieces) if pieces else None, failed


def _placed(records: Sequence[Record], unit: Finished, where: Callable[[Record], str]) -> Done:
    """A finished unit in the words of a build: its rows are these records."""
    faults = {fault.row: fault for fault in unit.faults}
    kept = [record for row, record in enumerate(records) if row not in faults]
    failed = [
        Failure(records[row].id, where(records[row]), "encode", fault.reason, fault.message)
        for row, fault in sorted(faults.items())
    ]
    return kept, unit.encoded, failed
