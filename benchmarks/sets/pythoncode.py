"""Sets from the running Python's standard library: stdlibmod (modules) and stdlibcode (functions)."""

from __future__ import annotations

import ast
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from sets.layout import RetrievalSet

_SKIP = ("test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__", "turtledemo")


def _sources() -> Iterator[tuple[str, str, ast.Module]]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        inside = path.relative_to(root)
        if any(part in _SKIP for part in inside.parts) or "encodings" in inside.parts:
            continue
        source = path.read_text(encoding="utf-8", errors="replace")
        try:
            yield str(inside), source, ast.parse(source)
        except SyntaxError:
            continue


def _first_paragraph(docstring: str) -> str:
    return " ".join(re.split(r"\n\s*\n", docstring.strip())[0].split())


def _without(lines: list[str], node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The source lines of ``node`` without its docstring."""
    first = getattr(node, "lineno", 1) - 1
    last = getattr(node, "end_lineno", None) or len(lines)
    doc = node.body[0]
    return "\n".join(lines[first : doc.lineno - 1] + lines[doc.end_lineno or doc.lineno : last]).strip()


def stdlibmod(cache: Path) -> RetrievalSet:
    """First paragraphs of module docstrings; the document is the module's source without its docstring."""
    del cache
    found = RetrievalSet("stdlibmod", origin=f"Python {sys.version.split()[0]} standard library, PSF")
    for name, source, tree in _sources():
        query = _first_paragraph(ast.get_docstring(tree) or "")
        text = _without(source.splitlines(), tree) if query else ""
        if len(query.split()) < 3 or len(text.split()) < 50:
            continue
        found.documents[name] = ("", text)
        found.judge(name, query, name)
    return found


def stdlibcode(cache: Path) -> RetrievalSet:
    """First paragraphs of function docstrings; the document is the function (at least four lines)."""
    del cache
    found = RetrievalSet("stdlibcode", origin=f"Python {sys.version.split()[0]} standard library, PSF")
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
            found.documents[key] = ("", text)
            found.judge(key, query, key)
    return found
