"""Comments and docstrings of a syntax tree: what a reader of code alone leaves out.

A docstring is what documents: in Python the string that opens a module, class or function; in the other languages the
comments directly above a definition, and those that are marked as documentation (``/**``, ``/*!``, ``///``, ``//!``).
So in those a docstring is a comment too.

What a grammar takes for something else is neither: to that of C a comment behind the value of a macro is a part of it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from unabridged._extras import require
from unabridged.contracts import Rows
from unabridged.encoders.code.languages import COMMENTS, Language, grammar

_MARKS = (b"/**", b"/*!", b"///", b"//!")
_NO_DOCSTRING = frozenset(b"bBfFtT")
"""Letters in front of a string that is bytes or computed."""
_OPENING = "(module . (comment)* . {statement}) " + " ".join(
    f"({kind} body: (block . (comment)* . {{statement}}))" for kind in ("function_definition", "class_definition")
)
_PYTHON = _OPENING.format(statement="(expression_statement . [(string) (concatenated_string)] @docstring .)")


def remarks(data: bytes, root: Any, language: Language, function: str | None) -> tuple[Rows, Rows]:
    """The bytes ``[start, end)`` of all comments ``(C, 2)`` and of Python's docstrings ``(S, 2)``, each rising."""
    found = require("tree_sitter", extra="code").QueryCursor(_query(language, function)).captures(root)
    strings = [node for node in found.get("docstring", ()) if _documents(data, node.start_byte)]
    return _places(found.get("comment", ())), _places(strings)


def documentation(data: bytes, comments: Rows, definitions: Rows, signatures: Rows) -> Rows:
    """Those of ``comments`` ``(C, 2)`` that document, of a language without docstrings; all in bytes.

    ``definitions`` ``(D, 2)`` begin with the comments above them, ``signatures`` ``(D, 2)`` with the line behind these.
    """
    marked = np.array([data.startswith(_MARKS, start) for start in comments[:, 0].tolist()], dtype=bool)
    # How many definitions' leading comments are open at each comment.
    opened = np.searchsorted(np.sort(definitions[:, 0]), comments[:, 0], side="right")
    closed = np.searchsorted(np.sort(signatures[:, 0]), comments[:, 0], side="right")
    above: Rows = comments[marked | (opened > closed)]
    return above


def _documents(data: bytes, start: int) -> bool:
    quote = min(place for place in (data.find(b'"', start), data.find(b"'", start)) if place >= 0)
    return not _NO_DOCSTRING & set(data[start:quote])


def _places(nodes: Any) -> Rows:
    return np.array(sorted((node.start_byte, node.end_byte) for node in nodes), dtype=np.int64).reshape(-1, 2)


@cache
def _query(language: Language, function: str | None) -> Any:
    tree = grammar(language, function)
    names = {tree.node_kind_for_id(n) for n in range(tree.node_kind_count) if tree.node_kind_is_named(n)}
    parts = [f"({name}) @comment" for name in sorted(COMMENTS & names)]
    if language.name == "python":
        parts.append(_PYTHON)
    return require("tree_sitter", extra="code").Query(tree, "\n".join(parts))
