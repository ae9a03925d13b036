"""The running Python's standard library as text and trees, and what its docstrings say."""

from __future__ import annotations

import ast
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from unabridged.eval.local_sets.draft import Draft

Defined: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_SKIP = {
    *("test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__", "turtledemo"),
    "encodings",
}


def library_draft(name: str) -> Draft:
    """An empty set that says which Python its texts are of."""
    return Draft(name, f"Python {sys.version.split()[0]} standard library", "PSF")


def sources() -> Iterator[tuple[str, str, ast.Module]]:
    """Path, text and tree of every module that this Python can parse, in the order of their paths."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        inside = path.relative_to(root)
        if not _SKIP.isdisjoint(inside.parts):
            continue
        source = path.read_text(encoding="utf-8", errors="replace")
        tree = parsed(source)
        if tree is not None:
            yield inside.as_posix(), source, tree


def parsed(source: str) -> ast.Module | None:
    """The tree of a module; None if this Python cannot parse it."""
    try:
        with warnings.catch_warnings():  # made errors, those about old spellings would decide what is in the set
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except SyntaxError:
        return None


def documented(source: str, tree: ast.Module) -> Iterator[tuple[Defined, str, str]]:
    """Functions and classes whose docstring says something, with its first paragraph and the source without it.

    Of three words and of four lines of source at least.
    """
    lines = source.splitlines()
    for node in ast.walk(tree):
        if not isinstance(node, Defined):
            continue
        asked = first_paragraph(ast.get_docstring(node) or "")
        text = without_docstring(lines, node) if len(asked.split()) >= 3 else ""
        if len(text.splitlines()) >= 4:
            yield node, asked, text


def first_paragraph(docstring: str) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join(re.split(r"\n\s*\n", docstring.strip())[0].split())


def without_docstring(lines: list[str], node: ast.Module | Defined) -> str:
    """The source lines of ``node``, which has a docstring, without it."""
    first = getattr(node, "lineno", 1) - 1
    last = getattr(node, "end_lineno", None) or len(lines)
    doc = node.body[0]
    return "\n".join(lines[first : doc.lineno - 1] + lines[doc.end_lineno or doc.lineno : last]).strip()
