"""Source code to token-true windows: by syntax, lines, spaces or tokens.

The laws are those of :mod:`unabridged.encoders.windows`: the windows hold all tokens, none holds more than fit, and
without overlap their spans are a partition of the text.  So there is no text behind the last statement that could be
lost, and a text of one unit is one window (SEA, Hu et al. 2024, arXiv 2208.11271, splits trees too, and loses both).

``syntax``   whole definitions and statements, as many as fit; what is too long is cut at its own statements, then lines
``lines``    as many whole lines as fit, and of a line that does not fit as many words
``spaces``   as many words as fit, cut at white space
``tokens``   as many tokens as fit, in the middle of words too
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from unabridged._extras import require
from unabridged.contracts import JSON, Rows
from unabridged.encoders.code._cutters import LatestCutter, SyntaxCutter
from unabridged.encoders.code.detect import Found, syntax_of
from unabridged.encoders.code.headers import Headers
from unabridged.encoders.code.languages import named
from unabridged.encoders.code.leaving import Selection
from unabridged.encoders.code.syntax import Syntax
from unabridged.encoders.windows import IN_WORD, LINE, WHOLE, WORD, Ids, Windows, check_overlap, divide, whole
from unabridged.errors import UsageError

VERSION = 2
"""Rises whenever the same text would be cut elsewhere: it is part of the passport of encoders that split code."""


class Split(str, Enum):
    """Where texts are cut into windows."""

    PROSE = "prose"
    """At headings, paragraphs, sentences: :func:`unabridged.encoders.windows.split`.  The default everywhere."""
    SYNTAX = "syntax"
    LINES = "lines"
    SPACES = "spaces"
    TOKENS = "tokens"


_LEAST: Mapping[Split, int] = {Split.LINES: LINE, Split.SPACES: WORD, Split.TOKENS: IN_WORD}


@dataclass(frozen=True, slots=True)
class CodeSplitter:
    """Satisfies :class:`unabridged.encoders.reading.Divide`."""

    how: Split = Split.SYNTAX
    language: str | None = None
    """The language of texts that do not tell theirs; None: it is guessed."""
    header: bool = False
    """Whether path, enclosing definitions and their signatures are read in front of each later window."""
    comments: bool = True
    """Whether comments are read."""
    docstrings: bool = True
    """Whether documentation is read: Python's docstrings, elsewhere the comments that document."""

    def __post_init__(self) -> None:
        """:class:`UsageError` for options that do not fit each other."""
        if self.how is Split.PROSE:
            raise UsageError(
                "language, header, comments and docstrings are for split='syntax'; split='prose' has none."
            )
        if self.how is not Split.SYNTAX:
            for name, value in (
                ("language", self.language),
                ("header", self.header or None),
                ("comments", self.comments and None),
                ("docstrings", self.docstrings and None),
            ):
                if value is not None:
                    raise UsageError(f"{name}={value!r} needs split='syntax', got split={self.how.value!r}.")
        if self.language is not None:
            named(self.language)

    @property
    def facts(self) -> dict[str, JSON]:
        """For the passport: what was chosen, and the version of the rules."""
        return {"split": {**self.settings, "version": VERSION}}

    @property
    def settings(self) -> dict[str, JSON]:
        """What was chosen, by the names of :func:`unabridged.encoders.load.load_encoder`."""
        language = {} if self.language is None else {"language": named(self.language).name}
        header = {"header": True} if self.header else {}
        left_out = {
            name: False for name, read in (("comments", self.comments), ("docstrings", self.docstrings)) if not read
        }
        return {"split": self.how.value, **language, **header, **left_out}

    @property
    def leaves_out(self) -> bool:
        """Whether anything is not read."""
        return not (self.comments and self.docstrings)

    def select(self, text: str, offsets: Rows) -> Selection:
        """The tokens of ``text``, at the character ``offsets`` ``(T, 2)``, that are read; :meth:`divide` gets these.

        A text without a syntax tree is read whole, since comments cannot be told from code.
        """
        found = self._found(text)
        if found.syntax is None:
            return Selection.everything(len(offsets), f"{WHOLE}: nothing left out, {found.reason}")
        return Selection.of(text, offsets, self._left(found.syntax))

    def _found(self, text: str) -> Found:
        asked = None if self.language is None else named(self.language)
        return syntax_of(text, asked, remarked=self.leaves_out)

    def _left(self, syntax: Syntax) -> Rows:
        """The characters ``(n, 2)`` that are not read, rising."""
        left = [() if self.comments else syntax.comments, () if self.docstrings else syntax.docstrings]
        return np.array(sorted({(a, b) for part in left for a, b in part}), dtype=np.int64).reshape(-1, 2)

    def divide(
        self, text: str, offsets: Rows, capacity: int, overlap: int = 0, *, tokenise: Callable[[str], Ids] | None = None
    ) -> Windows:
        """The windows of ``text``, whose tokens stand at the character ``offsets`` ``(T, 2)``.

        With headers ``tokenise`` gives the tokens of one; they take at most a quarter of the ``capacity``.

        Raises:
            UsageError: ``overlap`` is not below half of what a window has room for.
            MissingExtra: a grammar that has to be tried is not installed.
        """
        room = capacity - Headers.most(capacity) if self.header else capacity
        check_overlap(room, overlap)
        if len(offsets) <= capacity:
            return replace(whole(len(text), len(offsets)), note=WHOLE)
        if self.how is not Split.SYNTAX:
            plain = LatestCutter(text, offsets, _LEAST[self.how])
            return replace(divide(plain, capacity, overlap), note=self.how.value)
        found = self._found(text)
        left = None if found.syntax is None or not self.leaves_out else self._left(found.syntax)
        headers = Headers(text, found, capacity, tokenise, left) if self.header and tokenise is not None else None
        if found.syntax is None:
            cutter, note = LatestCutter(text, offsets, LINE, headers), f"lines: {found.reason}"
            note += ", nothing left out" if self.leaves_out else ""
        else:
            cutter, note = SyntaxCutter(text, offsets, found.syntax, headers, left), f"syntax: {found.syntax.language}"
        windows = divide(cutter, capacity, overlap)
        firsts = cutter.starts[windows.ranges[:, 0]].tolist()
        read = None if headers is None else tuple(headers.at(first) for first in firsts)
        return replace(windows, note=note, headers=read)


def splitter_of(
    split: str,
    language: str | None = None,
    *,
    header: bool = False,
    comments: bool = True,
    docstrings: bool = True,
) -> CodeSplitter | None:
    """What cuts texts as ``split`` says, None for prose.

    Raises:
        UsageError: an unknown way, or options that it does not have.
        MissingExtra: tree-sitter is not installed, and is needed.
    """
    if split not in list(Split):
        raise UsageError(f"split={split!r} is not one of {', '.join(way.value for way in Split)}.")
    if Split(split) is Split.PROSE and language is None and not header and comments and docstrings:
        return None
    splitter = CodeSplitter(Split(split), language, header, comments, docstrings)
    if splitter.how is Split.SYNTAX:
        require("tree_sitter", extra="code", purpose="split='syntax'")
    return splitter
