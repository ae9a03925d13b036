"""An answer handed on while it is being written: which part of a text so far will not change any more.

What is held back: the beginning of a stop string, half a letter, and white space, which some tokenizers take back
before a comma.
"""

from __future__ import annotations

from collections.abc import Sequence

_HALF = "\N{REPLACEMENT CHARACTER}"


class Pieces:
    """Cuts a growing text into pieces.  Joined with :meth:`rest` they are the whole text."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self.sent = ""
        """All that was handed out."""
        self._stops = tuple(stops)

    def more(self, text: str) -> str:
        """What of ``text``, the whole answer so far, is new and final; "" where nothing is."""
        places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        text = text[: min(places)] if places else text[: len(text) - self._begun(text)]
        return self._out(text.rstrip(_HALF).rstrip())

    def rest(self, text: str) -> str:
        """What is left of the finished ``text``."""
        return self._out(text)

    def _out(self, text: str) -> str:
        if not text.startswith(self.sent):
            return ""
        new = text[len(self.sent) :]
        self.sent = text
        return new

    def _begun(self, text: str) -> int:
        """Characters at the end of ``text`` that may turn out to be a stop string's beginning."""
        longest = min(len(text), max((len(stop) - 1 for stop in self._stops), default=0))
        for length in range(longest, 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
