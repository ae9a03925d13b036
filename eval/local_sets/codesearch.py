"""codesearch: functions of seven languages, asked for by the first paragraph of their documentation.

In the manner of CodeSearchNet (arXiv 1909.09436), with other choices where its own hide what long functions need:
two thirds of what is asked for has more than 256 words and marks, so more tokens than most encoders read; no function
nearly equals another; a query does not begin with the name of its function.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unabridged.contracts import Document
from unabridged.corpora import ListCorpus, Query
from unabridged.eval._set import WholeCorpus, assembled
from unabridged.eval.local_sets.codesearch_comments import query
from unabridged.eval.local_sets.codesearch_functions import commented, parsers
from unabridged.eval.local_sets.codesearch_near import PIECE, Distinct
from unabridged.eval.local_sets.codesearch_packages import SOURCES, Held, Source, read
from unabridged.eval.local_sets.draft import LocalSet
from unabridged.eval.local_sets.pythonsource import documented, parsed

LONG = 256
"""Words and marks above which a function is long; each is at least one token of a WordPiece model."""
MOST = 4000
"""Words and marks of a function at most; the few longer ones are tables and interpreters' loops."""
LEAST_LINES = 4
LONG_DOCUMENTS, DOCUMENTS = 180, 320
"""Of one language: long functions, and all; what lacks of the former is made up by short ones."""
LONG_QUERIES, SHORT_QUERIES = 55, 25
"""Of one language."""
SHARED = 3
"""Functions that one query may be about; what more are said to do says nothing about any."""


@dataclass(frozen=True, slots=True)
class Function:
    """One documented function."""

    source: Source
    path: str
    line: int
    last: int
    text: str
    query: str
    pieces: int

    @property
    def id(self) -> str:
        """Language, file and line."""
        return f"{self.source.language}/{self.path}:{self.line}"

    @property
    def is_long(self) -> bool:
        """Whether it has more than LONG words and marks."""
        return self.pieces > LONG


def codesearch(packages: Path) -> LocalSet:
    """First paragraphs of docstrings and comments; the document is the function without it, its title the file's path.

    Raises as :func:`~unabridged.eval.local_sets.codesearch_packages.read`; :class:`MissingExtra` without tree-sitter.
    """
    held = {source: read(source, packages) for source in SOURCES}
    distinct = Distinct()
    kept: list[Function] = []
    for language in dict.fromkeys(source.language for source in SOURCES):
        found = [one for source in SOURCES if source.language == language for one in _functions(source, held[source])]
        kept += _kept(found, distinct)
    documents = [_document(one, held[one.source].version) for one in kept]
    queries, qrels = _asked(kept)
    whole = assembled("codesearch", WholeCorpus(ListCorpus(documents)), queries, qrels)
    licences = " / ".join(sorted({source.licence for source in SOURCES}))
    origin = f"{len(SOURCES)} packages of PyPI, npm and Debian"
    return LocalSet(whole, (), origin, licences, _more(kept, queries, held))


def _functions(source: Source, held: Held) -> Iterator[Function]:
    """The functions of a package that ask something, none inside another."""
    for path, text in held.files:
        name = source.prefix + path
        for line, last, body, comment in _python(text) if source.language == "python" else _others(source, text):
            pieces = len(PIECE.findall(body))
            asked = query(comment, body) if pieces <= MOST and body.count("\n") + 1 >= LEAST_LINES else ""
            if asked:
                yield Function(source, name, line, last, body, asked, pieces)


def _python(text: str) -> Iterator[tuple[int, int, str, str]]:
    tree = parsed(text)
    taken: list[tuple[int, int]] = []
    for node, comment, body in documented(text, tree) if tree is not None else ():
        line, last = node.lineno, node.end_lineno or node.lineno
        if isinstance(node, ast.ClassDef) or any(start <= line <= end for start, end in taken):
            continue
        taken.append((line, last))
        yield line, last, body, comment


def _others(source: Source, text: str) -> Iterator[tuple[int, int, str, str]]:
    for one in commented(source.language, text):
        yield one.line, one.last, one.text, one.comment


def _kept(found: Sequence[Function], distinct: Distinct) -> list[Function]:
    """The documents of one language, long ones first, each kind in hash order."""
    kept: list[Function] = []
    for wanted, most in ((True, LONG_DOCUMENTS), (False, DOCUMENTS)):
        for one in sorted(found, key=_hash):
            if one.is_long is wanted and len(kept) < most and distinct.add(one.text):
                kept.append(one)
    return kept


def _asked(kept: Sequence[Function]) -> tuple[list[Query], dict[str, dict[str, int]]]:
    """Queries and judgements; a function is relevant to every query that is its own documentation."""
    about: dict[str, list[str]] = {}
    for one in kept:
        about.setdefault(one.query, []).append(one.id)
    counts: Counter[tuple[str, bool]] = Counter()
    queries: list[Query] = []
    qrels: dict[str, dict[str, int]] = {}
    for one in kept:
        alike, kind = about[one.query], (one.source.language, one.is_long)
        most = LONG_QUERIES if one.is_long else SHORT_QUERIES
        if alike[0] == one.id and len(alike) <= SHARED and counts[kind] < most:
            counts[kind] += 1
            queries.append(Query(one.id, one.query))
            qrels[one.id] = dict.fromkeys(alike, 1)
    return queries, qrels


def _document(one: Function, version: str) -> Document:
    """With where it is from, in the metadata."""
    origin = {"language": one.source.language, "package": one.source.package.partition("==")[0], "version": version}
    lines = {"lines": [one.line, one.last], "pieces": one.pieces, "licence": one.source.licence}
    return Document(one.id, one.text, one.path, origin | lines)


def _more(kept: Sequence[Function], queries: Sequence[Query], held: dict[Source, Held]) -> dict[str, Any]:
    """What the record says beyond any set's."""
    asked = {one.id for one in queries}
    rows: dict[str, dict[str, int]] = {}
    for one in kept:
        row = rows.setdefault(one.source.language, dict.fromkeys(("documents", "long", "queries", "long_queries"), 0))
        row["documents"] += 1
        row["long"] += one.is_long
        row["queries"] += one.id in asked
        row["long_queries"] += one.id in asked and one.is_long
    documents = Counter(one.source for one in kept)
    sources = [
        {
            "package": source.package,
            "version": held[source].version,
            "licence": source.licence,
            "sha256": held[source].sha256,
            "documents": documents[source],
        }
        for source in SOURCES
    ]
    return {"languages": rows, "sources": sources, "parsers": parsers()}


def _hash(one: Function) -> bytes:
    return hashlib.sha256(one.id.encode()).digest()
