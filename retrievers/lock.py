"""One writer at a time for an index folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from unabridged.errors import IndexLocked

LOCK_NAME = ".lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the writer's lock of ``folder``; the system frees it when the process dies.

    Raises:
        IndexLocked: another process holds it.
    """
    import filelock

    lock = filelock.FileLock(folder / LOCK_NAME)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise IndexLocked(
            f"Another process is writing {folder}. Wait for it to finish; reading and searching go on meanwhile."
        ) from error
    try:
        yield
    finally:
        lock.release()
