"""When the next request may be sent: waits between attempts, rates per minute, and pauses a server asked for."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event

from unabridged.errors import UsageError

MINUTE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often, and how long apart, a request that may succeed later is sent again.  Times are seconds."""

    attempts: int = 5
    """In all, the first one included."""
    first_wait: float = 0.5
    longest_wait: float = 30.0
    longest_asked: float = 120.0
    """A server that asks for a longer wait than this gets no further request."""

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.first_wait < 0 or self.longest_wait < self.first_wait:
            raise UsageError(
                f"attempts={self.attempts}, waits from {self.first_wait} to {self.longest_wait} s: there is at least "
                "one attempt, and waits do not get shorter."
            )

    def wait(self, attempt: int, asked: float | None) -> float | None:
        """Seconds before attempt ``attempt + 1``, ``attempt`` counting from 1; None if there is to be none.

        Twice as long each time, of which a random quarter is left out so that clients do not return together.  What
        the server asked for is never undercut.
        """
        if attempt >= self.attempts or (asked is not None and asked > self.longest_asked):
            return None
        # The exponent is bounded: any number of attempts may be asked for.
        own = min(self.longest_wait, self.first_wait * 2.0 ** min(attempt - 1, 32))
        own *= 1 - 0.25 * random.random()
        return own if asked is None else max(asked, 0.0) + 0.1 * own


class Pace:
    """A limit that all threads of one server share.

    At most ``concurrency`` requests at a time, and within any 60 seconds at most ``requests`` requests and ``tokens``
    tokens (None: no limit).  A single request above ``tokens`` waits until it is alone in its minute.
    """

    def __init__(
        self,
        concurrency: int,
        *,
        requests: int | None = None,
        tokens: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if concurrency < 1 or (requests is not None and requests < 1) or (tokens is not None and tokens < 1):
            raise UsageError(f"concurrency={concurrency}, requests={requests}, tokens={tokens}: limits are at least 1.")
        self._places = threading.BoundedSemaphore(concurrency)
        self._requests = requests
        self._tokens = tokens
        self._clock = clock
        self._lock = threading.Lock()
        self._sent: deque[tuple[float, int]] = deque()
        self._not_before = 0.0

    def enter(self, tokens: int, cancel: Event) -> bool:
        """Waits for a place and counts the request; False, without a place, if ``cancel`` was set meanwhile."""
        while not self._places.acquire(timeout=0.05):
            if cancel.is_set():
                return False
        while (seconds := self._book(tokens)) > 0:
            if cancel.wait(min(seconds, 1.0)):
                break
        if cancel.is_set():
            self._places.release()
            return False
        return True

    def leave(self) -> None:
        """Gives the place back."""
        self._places.release()

    def pause(self, seconds: float) -> None:
        """No request of any thread before ``seconds`` have passed."""
        with self._lock:
            self._not_before = max(self._not_before, self._clock() + seconds)

    def _book(self, tokens: int) -> float:
        """0 and the request is counted, or seconds until it is worth asking again."""
        with self._lock:
            now = self._clock()
            while self._sent and self._sent[0][0] <= now - MINUTE:
                self._sent.popleft()
            wait = max(0.0, self._not_before - now)
            full = self._requests is not None and len(self._sent) >= self._requests
            heavy = self._tokens is not None and sum(count for _, count in self._sent) + tokens > self._tokens
            if self._sent and (full or heavy):
                wait = max(wait, self._sent[0][0] + MINUTE - now)
            if wait <= 0:
                self._sent.append((now, tokens))
            return wait
