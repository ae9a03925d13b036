"""What every selector asks of its input, and what it gives when it was stopped."""

from __future__ import annotations

from collections.abc import Sequence

from unabridged.errors import UsageError
from unabridged.rankers.contracts import Spent
from unabridged.rankers.select.contracts import Passage, Scored

CANCELLED = "cancelled"
EMPTY = "empty"
"""The passage has no text that could be read."""
NO_SCORE = "no score"
"""It was read, and what came out is no number."""


def check_asked(question: str, passages: Sequence[Passage]) -> None:
    """:class:`UsageError` for a question without words, or without passages to choose from."""
    if not question.strip():
        raise UsageError("The question is empty, so that no passage can be better than another. Ask something.")
    if not passages:
        raise UsageError(f"There are no passages to choose from for {shortened(question)!r}. Give one or more.")


def shortened(text: str, most: int = 60) -> str:
    """``text`` on one line of at most ``most`` characters, for messages."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}\u2026"


def unscored(count: int, reason: str, spent: Spent | None = None) -> Scored:
    """``count`` passages without a score, all for one reason."""
    return Scored((None,) * count, (reason,) * count, spent=spent or Spent())
