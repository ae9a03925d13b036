"""Sets from the running Python's standard library: stdlibmod (modules) and stdlibcode (functions)."""

from __future__ import annotations

import ast
from pathlib import Path

from unabridged.eval.local_sets.draft import LocalSet
from unabridged.eval.local_sets.pythonsource import (
    documented,
    first_paragraph,
    library_draft,
    sources,
    without_docstring,
)


def stdlibmod(packages: Path) -> LocalSet:
    """First paragraphs of module docstrings; the document is the module's source without its docstring."""
    del packages
    draft = library_draft("stdlibmod")
    for name, source, tree in sources():
        query = first_paragraph(ast.get_docstring(tree) or "")
        text = without_docstring(source.splitlines(), tree) if query else ""
        if len(query.split()) < 3 or len(text.split()) < 50:
            continue
        draft.documents[name] = text
        draft.judge(name, query, name)
    return draft.done()


def stdlibcode(packages: Path) -> LocalSet:
    """First paragraphs of function docstrings; the document is the function (at least four lines)."""
    del packages
    draft = library_draft("stdlibcode")
    seen: set[str] = set()
    for name, source, tree in sources():
        for node, query, text in documented(source, tree):
            if isinstance(node, ast.ClassDef) or node.name.startswith("__") or query in seen or text in seen:
                continue
            seen |= {query, text}
            key = f"{name}:{node.lineno}"
            draft.documents[key] = text
            draft.judge(key, query, key)
    return draft.done()
