"""longcode: docstrings of long functions and classes, in the manner of CodeSearchNet (arXiv 1909.09436).

CodeSearchNet's functions fit a short context nearly all; here a document has a thousand tokens at least, as far as
that can be said without a tokenizer.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unabridged.eval.local_sets.draft import LocalSet
from unabridged.eval.local_sets.pythonsource import first_paragraph, library_draft, sources, without_docstring

LEAST = 700
"""Words and marks of a document.  Of the library's code, nine in ten so long have over 1,000 WordPiece tokens."""
_ASKED = 5
"""Words of a query at least."""
_PIECE = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class _Unit:
    line: int
    """Of the module, from 1: where it begins."""
    text: str
    """Its source without its docstring."""
    query: str
    """The first paragraph of its docstring; empty where it is none to ask."""


def longcode(packages: Path) -> LocalSet:
    """First paragraphs of docstrings; the document is the long function or class without its docstring.

    Documents do not overlap: a class that holds a long function with such a docstring is none.  Long functions and
    classes without a docstring of at least five words are distractors.  Equal docstrings share judgements.
    """
    del packages
    draft = library_draft("longcode")
    by_query: dict[str, list[str]] = {}
    seen: set[str] = set()
    for name, source, tree in sources():
        for unit in _units(tree, source.splitlines()):
            if unit.text in seen:
                continue
            seen.add(unit.text)
            key = f"{name}:{unit.line}"
            draft.documents[key] = unit.text
            if unit.query:
                by_query.setdefault(unit.query, []).append(key)
    for query, keys in by_query.items():
        draft.judge(keys[0], query, *keys)
    return draft.done()


def _units(node: ast.AST, lines: list[str]) -> Iterator[_Unit]:
    """The long functions and classes of ``node``: the innermost ones that ask, else the outermost one that does not."""
    inside = [unit for child in ast.iter_child_nodes(node) for unit in _units(child, lines)]
    own = None
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        own = _unit(node, lines)
    if own is None or any(unit.query for unit in inside):
        yield from inside
    else:
        yield own


def _unit(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, lines: list[str]) -> _Unit | None:
    docstring = ast.get_docstring(node)
    whole = "\n".join(lines[node.lineno - 1 : node.end_lineno])
    text = whole if docstring is None else without_docstring(lines, node)
    if len(_PIECE.findall(text)) < LEAST:
        return None
    query = first_paragraph(docstring or "")
    said = query.lower() in " ".join(text.split()).lower()
    return _Unit(node.lineno, text, "" if said or len(query.split()) < _ASKED else query)
