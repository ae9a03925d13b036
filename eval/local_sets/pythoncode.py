"""Sets from the running Python's standard library: stdlibmod (modules) and stdlibcode (functions)."""

from __future__ import annotations

import ast
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from unabridged.eval.local_sets.draft import Draft, LocalSet

_SKIP = {
    *("test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__", "turtledemo"),
    "encodings",
}


def stdlibmod(packages: Path) -> LocalSet:
    """First paragraphs of module docstrings; the document is the module's source without its docstring."""
    del packages
    draft = _draft("stdlibmod")
    for name, source, tree in _sources():
        query = _first_paragraph(ast.get_docstring(tree) or "")
        text = _without(source.splitlines(), tree) if query else ""
        if len(query.split()) < 3 or len(text.split()) < 50:
            continue
        draft.documents[name] = text
        draft.judge(name, query, name)
    return draft.done()


def stdlibcode(packages: Path) -> LocalSet:
    """First paragraphs of function docstrings; the document is the function (at least four lines)."""
    del packages
    draft = _draft("stdlibcode")
    seen: set[str] = set()
    for name, source, tree in _sources():
        lines = source.splitlines()
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("__"):
                continue
            query = _first_paragraph(ast.get_docstring(node) or "")
            text = _without(lines, node) if query else ""
            if len(query.split()) < 3 or len(text.splitlines()) < 4 or query in seen or text in seen:
                continue
            seen |= {query, text}
            key = f"{name}:{node.lineno}"
            draft.documents[key] = text
            draft.judge(key, query, key)
    return draft.done()


def _draft(name: str) -> Draft:
    return Draft(name, f"Python {sys.version.split()[0]} standard library", "PSF")


def _sources() -> Iterator[tuple[str, str, ast.Module]]:
    """Path, text and tree of every module that this Python can parse, in the order of their paths."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        inside = path.relative_to(root)
        if not _SKIP.isdisjoint(inside.parts):
            continue
        source = path.read_text(encoding="utf-8", errors="replace")
        try:
            with warnings.catch_warnings():  # made errors, those about old spellings would decide what is in the set
                warnings.simplefilter("ignore")
                tree = ast.parse(source)
        except SyntaxError:
            continue
        yield inside.as_posix(), source, tree


def _first_paragraph(docstring: str) -> str:
    return " ".join(re.split(r"\n\s*\n", docstring.strip())[0].split())


def _without(lines: list[str], node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The source lines of ``node`` without its docstring."""
    first = getattr(node, "lineno", 1) - 1
    last = getattr(node, "end_lineno", None) or len(lines)
    doc = node.body[0]
    return "\n".join(lines[first : doc.lineno - 1] + lines[doc.end_lineno or doc.lineno : last]).strip()
