"""The ids that a model sees and names: ``[3]``, ``3``, ``[C]`` or ``C``."""

from __future__ import annotations

import string
from dataclasses import dataclass

from unabridged.errors import UsageError

LETTERS = string.ascii_uppercase


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """How the items of a group are called, counted from 1 or from A.

    Letters are single tokens in nearly every vocabulary, so that one position orders a group; there are 26 of them.
    """

    letters: bool = False
    brackets: bool = True

    def core(self, place: int) -> str:
        """The id at ``place`` (from 0) without brackets."""
        return LETTERS[place] if self.letters else str(place + 1)

    def shown(self, place: int) -> str:
        """The id at ``place`` as prompts and answers have it."""
        return f"[{self.core(place)}]" if self.brackets else self.core(place)

    def first(self, count: int) -> tuple[str, ...]:
        """The ids of a group of ``count``; :class:`UsageError` where there are not so many letters."""
        self.check(count)
        return tuple(self.shown(place) for place in range(count))

    def check(self, count: int) -> None:
        """:class:`UsageError` unless a group of ``count`` can be labelled."""
        if self.letters and count > len(LETTERS):
            raise UsageError(
                f"A group of {count} items cannot be labelled by {len(LETTERS)} letters. Use a window of at most "
                f"{len(LETTERS)}, or a template with numbers."
            )

    def place(self, core: str) -> int:
        """The place of an id without brackets, whether or not there is such an item; -1 for what is no id."""
        if self.letters:
            return LETTERS.find(core.upper()) if len(core) == 1 else -1
        digits = core.lstrip("0")
        # Python refuses to read thousands of digits; no list is so long.
        return int(digits) - 1 if digits.isascii() and digits.isdigit() and len(digits) < 10 else -1
