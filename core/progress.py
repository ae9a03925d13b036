"""Progress in tokens, with an estimate of the time left that does not go back.

The denominator is the number of characters of the corpus, known after the first pass; it never changes
during a run, so the fraction never falls.  The estimate assumes the slower of the overall and the recent
rate, which makes it err on the late side; what is shown is never later than what was shown before unless
the truth has moved by more than a quarter, and then the event says so (``revised``).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

RECENT_SECONDS = 30.0
"""Length of the window for the recent rate."""
REVISION = 1.25
"""A new estimate that is this much longer than the shown one is shown, marked as revised."""
WARM_UP_FRACTION = 0.01
"""No estimate before this part of the work is done."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One event.  ``eta`` is seconds left, None while there is no basis for an estimate."""

    stage: str
    documents: int
    documents_total: int
    characters: int
    characters_total: int
    tokens: int
    failed: int
    seconds: float
    tokens_per_second: float
    eta: float | None
    revised: bool = False

    @property
    def fraction(self) -> float:
        """Work done, 0 to 1."""
        return min(1.0, self.characters / self.characters_total) if self.characters_total else 1.0


Listener = Callable[[Progress], None]


class Meter:
    """Turns counts into :class:`Progress` events.  ``clock`` gives seconds and is replaced in tests."""

    def __init__(
        self, documents: int, characters: int, listener: Listener | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._documents_total = documents
        self._characters_total = characters
        self._listener = listener
        self._clock = clock
        self._start = clock()
        self._skipped = 0
        self._characters = 0
        self._documents = 0
        self._tokens = 0
        self._failed = 0
        self._points: deque[tuple[float, int]] = deque([(self._start, 0)])
        self._shown: tuple[float, float] | None = None

    def advance(
        self, *, documents: int = 0, characters: int = 0, tokens: int = 0, failed: int = 0, worked: bool = True
    ) -> None:
        """Adds to the counts.  ``worked=False`` is work found done already: it counts, but not into the rate."""
        self._documents += documents
        self._characters += characters
        self._tokens += tokens
        self._failed += failed
        if not worked:
            self._skipped += characters

    def report(self, stage: str) -> Progress:
        """The event for this moment; it is also given to the listener."""
        now = self._clock()
        done = self._characters - self._skipped
        self._points.append((now, done))
        while len(self._points) > 2 and self._points[1][0] < now - RECENT_SECONDS:
            self._points.popleft()
        elapsed = now - self._start
        eta, revised = self._estimate(now, done, elapsed)
        rate = self._tokens / elapsed if elapsed > 0 else 0.0
        event = Progress(
            stage, self._documents, self._documents_total, self._characters, self._characters_total,
            self._tokens, self._failed, elapsed, rate, eta, revised,
        )  # fmt: skip
        if self._listener is not None:
            self._listener(event)
        return event

    def _estimate(self, now: float, done: int, elapsed: float) -> tuple[float | None, bool]:
        left = self._characters_total - self._characters
        if left <= 0:
            return 0.0, False
        if elapsed <= 0 or done < WARM_UP_FRACTION * (self._characters_total - self._skipped):
            return None, False
        then, before = self._points[0]
        recent = (done - before) / (now - then) if now > then else 0.0
        overall = done / elapsed
        estimate = left / min(recent, overall) if recent > 0 else left / overall
        if self._shown is None:
            self._shown = (now, estimate)
            return estimate, False
        promised = max(0.0, self._shown[1] - (now - self._shown[0]))
        revised = estimate > REVISION * max(promised, 1.0)
        shown = estimate if revised else min(estimate, promised)
        self._shown = (now, shown)
        return shown, revised
