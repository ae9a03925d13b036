"""A worker of Ray Data: rows of tasks in, rows of answers out, and nothing that is raised.

An exception in one row would end the whole dataset, and Ray's own allowance for lost blocks drops them without a word
(``max_errored_blocks``); so what goes wrong is written into the answer.  A worker that is killed begins its task again
elsewhere, without end as far as Ray is concerned: the desk counts.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import ray

from unabridged.errors import RuntimeFailure
from unabridged.retrievers.engines.cluster_desk import DONE
from unabridged.retrievers.engines.work import Job, Problem, Worker

ANSWERS = pa.schema(
    [
        ("serial", pa.int64()),
        ("name", pa.string()),
        ("kind", pa.string()),
        ("message", pa.string()),
        ("lost", pa.string()),
        ("data", pa.large_binary()),
    ]
)
"""A row of answers: ``kind`` and ``message`` of a problem, how its workers were ``lost``, or ``data``, the unit's file
where the folder of the index is not shared."""


class Actor:
    """Made once for each worker; the weights are loaded then."""

    def __init__(self, job: Mapping[str, Any], desk: Any) -> None:
        self._desk = desk
        self._problem: Problem | None = None
        if not ray.get(desk.start.remote()):
            host = socket.gethostname()
            said = f"Workers end before they have the encoder, the last of them on {host}: is there memory for it?"
            self._problem = Problem(RuntimeFailure.__name__, said)
            return
        try:
            self._worker = Worker(Job.from_json(job))
        except Exception as error:  # noqa: BLE001 - told to the one who can stop the build
            self._problem = Problem.of(error)
        else:
            ray.get(desk.started.remote())

    def __call__(self, batch: pa.Table) -> pa.Table:
        """An answer to each task."""
        answers = [self._answer(**task) for task in batch.to_pylist()]
        return pa.Table.from_pylist(answers, ANSWERS)

    def _answer(self, serial: int, name: str, texts: list[str], most: int) -> dict[str, Any]:
        answer = {"serial": serial, "name": name}
        if self._problem is not None:
            return {**answer, "kind": self._problem.kind, "message": self._problem.message}
        place = ray.get(self._desk.begin.remote(serial))
        if place == DONE:
            return answer
        if place > most:
            return {**answer, "lost": f"{place - 1} workers ended over it"}
        try:
            return {**answer, "data": self._worker.run(name, texts)}
        except Exception as error:  # noqa: BLE001 - told to the one who can stop the build
            problem = Problem.of(error)
            return {**answer, "kind": problem.kind, "message": problem.message}
