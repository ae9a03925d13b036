"""What a search did otherwise than asked, and why: kept with the index, and told to whoever searches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock

_LISTENERS: ContextVar[list[str] | None] = ContextVar("unabridged_device_notes", default=None)


class Trail:
    """Reasons for which queries left the device, with the number of queries for each; threads may share it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = Lock()
        self._counts: Counter[str] = Counter()

    def note(self, reason: str, queries: int = 1) -> None:
        """Counts, and tells the search that is going on in this thread."""
        with self._lock:
            self._counts[reason] += queries
        listening = _LISTENERS.get()
        text = f"{self.name}: {reason}"
        if listening is not None and text not in listening:
            listening.append(text)

    @property
    def reasons(self) -> dict[str, int]:
        """Reason to number of queries, since the index was opened."""
        with self._lock:
            return dict(sorted(self._counts.items()))


@contextmanager
def noted() -> Iterator[list[str]]:
    """A list that fills with the reasons of searches in this thread, each once, until the end of the block."""
    found: list[str] = []
    token = _LISTENERS.set(found)
    try:
        yield found
    finally:
        _LISTENERS.reset(token)
