"""A worker of the pool: ``python -m unabridged.retrievers.engines.process``, spoken to over its own pipes.

Each message is eight bytes of length and then JSON: to the worker the job and then units, from it one answer to each.
What was written to stdout before it was ours (a ``sitecustomize`` may) is passed over; afterwards output of libraries
goes to stderr.  An interrupt is for the process that started it; when that one ends, however it does, the pipe closes
and the worker ends at once: what was not finished is done again.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from typing import IO, Any

from unabridged.retrievers.engines.work import Job, Problem, Worker

LENGTH = 8
"""Bytes of a message's length."""
MARK = b"\0unabridged worker\n"
"""Written by the worker before its first message."""


def begun(stream: IO[bytes]) -> bool:
    """Reads up to the worker's mark; False when it ended before."""
    return any(line.endswith(MARK) for line in stream)


def send(stream: IO[bytes], message: Any) -> None:
    """Writes one message."""
    body = json.dumps(message).encode("utf-8")
    stream.write(len(body).to_bytes(LENGTH, "big"))
    stream.write(body)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """The next message; None when the other side has closed, or ended in the middle of one."""
    length = stream.read(LENGTH)
    if len(length) < LENGTH:
        return None
    size = int.from_bytes(length, "big")
    body = stream.read(size)
    return None if len(body) < size else json.loads(body)


def main() -> None:
    """Answers units until the other side closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answers.write(MARK)
    answers.flush()
    units: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(units,), daemon=True).start()
    try:
        worker = Worker(Job.from_json(units.get()))
    except Exception as error:  # noqa: BLE001 - told to the one who can stop the build
        send(answers, {"problem": [Problem.of(error).kind, Problem.of(error).message]})
        return
    send(answers, {"ready": os.getpid()})
    while True:
        unit = units.get()
        try:
            worker.run(unit["name"], unit["texts"])
        except Exception as error:  # noqa: BLE001 - told to the one who can stop the build
            problem = Problem.of(error)
            send(answers, {"name": unit["name"], "problem": [problem.kind, problem.message]})
        else:
            send(answers, {"name": unit["name"]})


def _listen(units: queue.SimpleQueue[Any]) -> None:
    while (message := receive(sys.stdin.buffer)) is not None:
        units.put(message)
    os._exit(0)


if __name__ == "__main__":
    main()
