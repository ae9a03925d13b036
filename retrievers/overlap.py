"""Units encoded by this process while it does something else: no device waits for text, none for a disk.

::

    the build     forms unit n+3, stores unit n
    "tokenise"    tokens and windows of unit n+2
    "encode"      the device, for unit n+1

The build stores units in their order and by the same code as ever, so the folder has the same bytes, and a run that
was killed continues as if it had done one thing after another.  An error of a unit is raised where that unit is taken,
after all before it were stored.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from threading import Event, Lock, Thread

from unabridged.contracts import Encoded
from unabridged.index.shard import Record
from unabridged.retrievers.encoding import Done
from unabridged.retrievers.units import Encode, Prepare, encode_unit

AHEAD = 2
"""Units under way: one on the device, one whose tokens are ready when it is done."""


@dataclass(slots=True)
class _Unit:
    """A unit on its way."""

    records: list[Record]
    compute: Callable[[], Encoded] | None = None
    """The second half, once the first is done; raises what the first half raised."""
    done: Done | None = None
    error: BaseException | None = None
    given_up: bool = False
    ended: Event = field(default_factory=Event)

    @property
    def keys(self) -> list[bytes]:
        """What its texts are."""
        return [record.key for record in self.records]


class Overlapped:
    """Satisfies :class:`~unabridged.retrievers.encoding.Encoding` by two threads.

    The first halves of two units never run at the same time, and neither do two second halves: no encoder has to be
    safe against itself.  The threads start with the first unit that is wanted.
    """

    def __init__(self, prepare: Prepare, *, ahead: int = AHEAD) -> None:
        self._prepare = prepare
        self._ahead = ahead
        self._wanted: deque[_Unit] = deque()
        self._texts: SimpleQueue[_Unit | None] = SimpleQueue()
        self._ready: SimpleQueue[_Unit | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._reading, self._computing = Lock(), Lock()
        self._closed = False

    @property
    def ahead(self) -> int:
        """Units that are wanted before the first of them is taken."""
        return self._ahead

    def want(self, records: Sequence[Record]) -> None:
        """Begins a unit."""
        if not self._threads:
            # Not joined by the interpreter's end: a unit that nobody waits for must not delay that.
            self._threads = [
                Thread(target=work, name=name, daemon=True)
                for name, work in (("tokenise", self._tokenise), ("encode", self._encode))
            ]
            for thread in self._threads:
                thread.start()
        unit = _Unit(list(records))
        self._wanted.append(unit)
        self._texts.put(unit)

    def take(self, records: Sequence[Record], where: Callable[[Record], str]) -> Done:
        """The unit, when it is done; one that was not wanted like this is encoded now."""
        keys = [record.key for record in records]
        place = next((n for n, unit in enumerate(self._wanted) if unit.keys == keys), None)
        if place is None:
            with self._computing:
                return encode_unit(records, self._whole, where)
        for _ in range(place):
            self._wanted.popleft().given_up = True
        unit = self._wanted.popleft()
        unit.ended.wait()
        if unit.error is not None:
            raise unit.error
        if unit.done is None:
            raise RuntimeError("a unit ended without a result")
        _, encoded, failed = unit.done
        own = {record.id: record for record in records}
        fine = {record.id for record in unit.done[0]}
        placed = [replace(failure, where=where(own[failure.id])) for failure in failed]
        return [record for record in records if record.id in fine], encoded, placed

    def stored(self, records: Sequence[Record]) -> None:
        """Nothing: there is no other copy."""

    def close(self) -> None:
        """Ends the threads; waits for what the device does now, unless the process is to end."""
        self._closed = True
        for unit in self._wanted:
            unit.given_up = True
        self._texts.put(None)
        raised = sys.exc_info()[1]
        if raised is None or isinstance(raised, Exception):
            for thread in self._threads:
                thread.join()

    def _tokenise(self) -> None:
        """First halves, in order; an error is kept for the second."""
        while (unit := self._texts.get()) is not None:
            if not unit.given_up:
                unit.compute = self._first_half([record.source for record in unit.records])
            self._ready.put(unit)
        self._ready.put(None)

    def _first_half(self, sources: Sequence[str]) -> Callable[[], Encoded]:
        try:
            with self._reading:
                return self._prepare(sources)
        except BaseException as error:  # noqa: BLE001 - raised by the thread that takes it over: this one must not end
            lasting = error

            def raising() -> Encoded:
                raise lasting

            return raising

    def _encode(self) -> None:
        """Second halves, in order."""
        while (unit := self._ready.get()) is not None:
            if not unit.given_up:
                try:
                    with self._computing:
                        unit.done = encode_unit(unit.records, self._from(unit), _nowhere)
                except BaseException as error:  # noqa: BLE001 - raised by the thread that takes the unit
                    unit.error = error
            unit.compute = None
            unit.ended.set()

    def _from(self, unit: _Unit) -> Encode:
        """The encoder for a unit whose first half is done; parts of it, if it fails, are encoded from their texts."""

        def encode(sources: Sequence[str]) -> Encoded:
            compute, unit.compute = unit.compute, None
            return self._whole(sources) if compute is None else compute()

        return encode

    def _whole(self, sources: Sequence[str]) -> Encoded:
        with self._reading:
            compute = self._prepare(sources)
        return compute()


def _nowhere(record: Record) -> str:
    """Places are known to the build, which fills them in."""
    del record
    return ""
