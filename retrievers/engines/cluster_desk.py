"""Between the process that writes an index and the workers of Ray: an actor that has the tasks, and a source of them.

A Ray dataset is made of a source that knows its rows beforehand; a build learns its units while it reads.  So the
source is one read task that yields a row whenever the desk has one more.  The desk gives row ``i`` to whoever asks for
row ``i``, however often: Ray runs a source again when a machine is lost, and expects the same rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import ray
from ray.data import Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask

DONE = 0
"""What :meth:`Desk.begin` says of a task that nobody waits for any more."""

TASKS = pa.schema(
    [("serial", pa.int64()), ("name", pa.string()), ("texts", pa.large_list(pa.large_string())), ("most", pa.int64())]
)
"""A row of the dataset: place in the order, name, texts, and workers that it may cost."""


class Desk:
    """An actor.  Every method is a coroutine, so that waiting for a task stops none of the others."""

    def __init__(self, starts: int) -> None:
        """``starts``: workers that may begin to load the encoder before one of them has it."""
        self._tasks: list[tuple[str, list[str], int]] = []
        self._tries: dict[int, int] = {}
        self._done: set[int] = set()
        self._starts: int | None = starts
        self._closed = False
        self._more = asyncio.Condition()

    async def add(self, name: str, texts: list[str], most: int) -> None:
        """One more task."""
        async with self._more:
            self._tasks.append((name, texts, most))
            self._more.notify_all()

    async def close(self) -> None:
        """No more tasks."""
        async with self._more:
            self._closed = True
            self._more.notify_all()

    async def task(self, serial: int) -> tuple[str, list[str], int] | None:
        """Task number ``serial``, once there is one; None behind the last."""
        async with self._more:
            await self._more.wait_for(lambda: self._closed or serial < len(self._tasks))
        return self._tasks[serial] if serial < len(self._tasks) else None

    async def begin(self, serial: int) -> int:
        """Counts a worker that begins with a task, and says the how many-th it is; :data:`DONE` if there is no need."""
        if serial in self._done:
            return DONE
        self._tries[serial] = self._tries.get(serial, 0) + 1
        return self._tries[serial]

    async def finish(self, serial: int) -> None:
        """Nobody waits for a task any more: its texts are let go."""
        name, _, most = self._tasks[serial]
        self._tasks[serial] = (name, [], most)
        self._done.add(serial)

    async def start(self) -> bool:
        """Whether one more worker may load the encoder: not when too many ended over that, and none has it."""
        if self._starts is None:
            return True
        self._starts -= 1
        return self._starts >= 0

    async def started(self) -> None:
        """A worker has the encoder: others that end over it were unlucky."""
        self._starts = None


class Tasks(Datasource):  # type: ignore[misc, unused-ignore]  # Any where Ray is not installed
    """The rows of a desk, as they come."""

    def __init__(self, desk: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call, unused-ignore]
        self._desk = desk

    def get_name(self) -> str:
        """For Ray's own records."""
        return "Units"

    def estimate_inmemory_data_size(self) -> int | None:
        """Not known."""
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        """One."""
        desk = self._desk

        def rows() -> Iterator[pa.Table]:
            serial = 0
            while (task := ray.get(desk.task.remote(serial))) is not None:
                name, texts, most = task
                yield pa.table([[serial], [name], [texts], [most]], TASKS)
                serial += 1

        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(rows, unknown)]
