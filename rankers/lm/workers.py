"""Calls that wait side by side for a server, in threads that nobody waits for once the caller is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from threading import Event
from typing import TypeVar

POLL = 0.05
"""Seconds between looks at whether the caller has cancelled."""
T = TypeVar("T")


def side_by_side(jobs: Sequence[Callable[[], T]], most: int, cancel: Event) -> list[T | None]:
    """What the jobs return, in their order, at most ``most`` at a time; None of those unfinished once cancelled.

    An error of a job is raised when all have ended.  The threads are daemons, unlike those of an executor: a program
    that is interrupted or ends does not wait for an answer that is still on its way.
    """
    futures: list[Future[T]] = [Future() for _ in jobs]
    left = iter(zip(futures, jobs, strict=True))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                future, job = next(left, (None, None))
            if future is None or job is None:
                return
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(job())
            except BaseException as error:  # noqa: BLE001 - it is raised where the results are read
                future.set_exception(error)

    try:
        for number in range(min(most, len(jobs))):
            threading.Thread(target=work, name=f"lm-{number}", daemon=True).start()
        while wait(futures, timeout=POLL).not_done and not cancel.is_set():
            pass
    finally:
        for future in futures:
            future.cancel()
    return [future.result() if future.done() and not future.cancelled() else None for future in futures]
