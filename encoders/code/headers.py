"""Where a window of code stands, as text in front of it: the file's path and the signatures around its first line.

For a window that begins inside a method::

    src/shop/cart.py
    class Cart(Base):
    def total(self, currency: str) -> Decimal:

A window that begins with a text's first token has none: it begins with the path itself.  A header is context as a
prompt is, and no content: its tokens are in no span and in no count.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from unabridged.contracts import Rows
from unabridged.encoders.code.detect import Found
from unabridged.encoders.code.leaving import without
from unabridged.encoders.windows import Ids

SIGNATURE_CHARACTERS = 400
"""Of one signature, white space drawn together; longer ones lose their end."""


class Headers:
    """The headers of one text's windows, tokenised once each."""

    def __init__(
        self, text: str, found: Found, capacity: int, tokenise: Callable[[str], Ids], left: Rows | None = None
    ) -> None:
        """``left`` are the characters ``(n, 2)`` that are not read, in a signature neither."""
        self._text, self._found, self._tokenise = text, found, tokenise
        self._left = np.zeros((0, 2), dtype=np.int64) if left is None else left
        self._most = self.most(capacity)
        self._known: dict[str, Ids] = {"": np.zeros(0, dtype=np.int32)}

    @staticmethod
    def most(capacity: int) -> int:
        """Tokens that a header may take of a window with room for ``capacity`` tokens."""
        return capacity // 4

    def at(self, first: int) -> Ids:
        """The tokens ``(n,)`` int32 in front of a window whose first token stands at the character ``first``.

        Of a long header the last tokens are kept: the innermost signature says most.
        """
        shown = self.text_at(first)
        if shown not in self._known:
            ids = self._tokenise(shown)
            self._known[shown] = ids[max(0, len(ids) - self._most) :]
        return self._known[shown]

    def text_at(self, first: int) -> str:
        """The header as text, each line closed; empty where nothing stands around ``first``."""
        if first < self._found.origin.start or first == 0:
            return ""
        lines = [self._found.origin.path] if self._found.origin.path else []
        syntax = self._found.syntax
        if syntax is not None:
            # Behind the body's beginning: where a window begins with the signature it needs none in front.
            inside = (syntax.signatures[:, 1] <= first) & (first < syntax.definitions[:, 1])
            lines.extend(self._signature(*syntax.signatures[row].tolist()) for row in np.flatnonzero(inside))
        return "".join(f"{line}\n" for line in lines)

    def _signature(self, start: int, end: int) -> str:
        return " ".join(without(self._text, start, end, self._left).split())[:SIGNATURE_CHARACTERS]
