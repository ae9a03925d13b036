"""Whether an answer says that there is none.

The rule: nothing was written, or what was written begins with the sentence that the model was asked to write then, or
with the part of it that says it.  Anything else is an answer, however doubtful; what of it stands in no source is told
apart (:attr:`~unabridged.rankers.generate.contracts.Answer.unsupported`).  A model that is not asked for the sentence,
as small ones are not, cannot say it: its answer is none where no sentence of it stands in a passage.
"""

from __future__ import annotations

import re

from unabridged.rankers.generate.contracts import EMPTY, NOT_FOUND, SAID_SO

_WORDS = re.compile(r"[^\W_]+")


def said_so(text: str) -> str:
    """:data:`SAID_SO` or :data:`EMPTY`; "" for an answer.  Case, marks, quotation marks and numbers do not matter."""
    said = _plain(text)
    if not said:
        return EMPTY
    wanted = _plain(NOT_FOUND)
    return SAID_SO if said[: len(wanted)] == wanted or said == wanted[:2] else ""


def _plain(text: str) -> list[str]:
    return [word.casefold() for word in _WORDS.findall(text)]
