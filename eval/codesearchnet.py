"""CodeSearchNet from a local copy: docstrings that ask for the functions that they were taken from.

Two layouts of one data set, of which any language may be there alone::

    DIR/LANG/codebase.jsonl, {train,valid,test}.jsonl     as cleaned for GraphCodeBERT; codebase: the candidates
    DIR/LANG/final/jsonl/{valid,test}/*.jsonl.gz          as published; candidates: the functions of valid and test

In the latter, lists of addresses (``DIR/LANG/{test,codebase}.txt``) choose the rows that the cleaned set has.  All
files may also be ``.gz``, ``.zst`` or not compressed; the hub's column names (``func_code_string``, ...) are known.

Sources: Husain et al. 2019 (arXiv 1909.09436); Guo et al. 2021 (GraphCodeBERT, arXiv 2009.08366), whose evaluation
has the functions of the development and the test part as candidates instead of 1,000 drawn ones.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from unabridged.contracts import Document
from unabridged.corpora import Query
from unabridged.errors import CorpusError, MissingFile, UsageError
from unabridged.eval import _records
from unabridged.eval._set import RetrievalSet, WholeCorpus, assembled
from unabridged.eval._syntax import without_docstring

LANGUAGES: Final = ("go", "java", "javascript", "php", "python", "ruby")
KEYS: Final = ("url", "func_code_url", "retrieval_idx", "idx")
"""What a query and the function that it is of have in common."""
CODE: Final = ("code", "func_code_string", "original_string", "whole_func_string")
CODE_TOKENS: Final = ("code_tokens", "func_code_tokens")
DOCSTRING: Final = ("docstring", "func_documentation_string")
DOCSTRING_TOKENS: Final = ("docstring_tokens", "func_documentation_tokens")
LANGUAGE: Final = "language"
SUFFIXES: Final = ("", ".gz", ".zst")


class CodeText(StrEnum):
    """What of a function is its document."""

    SOURCE = "source"
    """The source.  A Python function holds its docstring there, which would give the answer away: it is left out."""
    TOKENS = "tokens"
    """The code's tokens between spaces, as the published models read them: without comments and lines."""


@dataclass(frozen=True, slots=True)
class _Files:
    """Where queries and candidates of a split are, and the addresses that count; None: all."""

    queries: tuple[Path, ...]
    candidates: tuple[Path, ...]
    asked: frozenset[str] | None = None
    known: frozenset[str] | None = None


def read_codesearchnet(
    folder: str | os.PathLike[str], language: str, split: str = "test", *, text: CodeText = CodeText.SOURCE
) -> RetrievalSet:
    """The queries of ``split`` and the candidates of one language; the set is called ``codesearchnet-LANG``.

    A query is the docstring's tokens between spaces, as published.  It is answered by the functions at its address:
    two of them that share a line share it, and the second has `` (2)`` behind its id.

    Args:
        folder: The copy, with a folder for each language; or the folder of the language itself.
        language: One of :data:`LANGUAGES`.
        split: ``test``, or ``valid`` for choosing settings.
        text: What a document is.

    Raises:
        UsageError: Another language.
        MissingFile: No such folder.
        CorpusError: Files are missing, or a line is not what it should be; the message has its file and number.
        MissingExtra: A Python docstring is to be left out, and tree-sitter is not installed.
    """
    if language not in LANGUAGES:
        raise UsageError(f"CodeSearchNet has no language {language!r}; choose one of {', '.join(LANGUAGES)}.")
    place = Path(folder)
    if not place.is_dir():
        raise MissingFile(f"no such folder: {place}")
    inner = place / language
    files = _files(inner if inner.is_dir() else place, split)
    candidates = _Candidates(files, language, text)
    held = candidates.ids()
    queries: list[Query] = []
    qrels: dict[str, dict[str, int]] = {}
    counts: Counter[str] = Counter()
    for row in _rows(files.queries, language, files.asked):
        key = _key(row)
        name = _numbered(key, counts)
        if key not in held:
            raise CorpusError(
                f"{row[0]}: the candidates have no function {key!r}, so no run could find it; read from "
                f"{', '.join(path.as_posix() for path in files.candidates)}"
            )
        queries.append(Query(name, _question(row)))
        qrels[name] = dict.fromkeys(held[key], 1)
    if not queries:
        raise CorpusError(f"{files.queries[0]}: expected at least one query of split {split!r}, found none")
    return assembled(f"codesearchnet-{language}", WholeCorpus(candidates), queries, qrels)


class _Candidates:
    """The functions of a language as a corpus, read from their files at every pass."""

    def __init__(self, files: _Files, language: str, text: CodeText) -> None:
        self._files, self._language, self._text = files, language, text

    def __iter__(self) -> Iterator[Document]:
        for name, row in self._named():
            yield Document(name, self._code(row), where=row[0])

    def ids(self) -> dict[str, list[str]]:
        """Address -> the ids of the functions there."""
        found: dict[str, list[str]] = {}
        for name, row in self._named():
            found.setdefault(_key(row), []).append(name)
        return found

    def _named(self) -> Iterator[tuple[str, _records.Row]]:
        counts: Counter[str] = Counter()
        for row in _rows(self._files.candidates, self._language, self._files.known):
            yield _numbered(_key(row), counts), row

    def _code(self, row: _records.Row) -> str:
        if self._text is CodeText.TOKENS:
            return _joined(row, CODE_TOKENS)
        code = _records.field(row, CODE)
        if not isinstance(code, str):
            raise CorpusError(f"{row[0]}: the code must be a string, found {type(code).__name__}")
        return without_docstring(code) if self._language == "python" else code


def _files(place: Path, split: str) -> _Files:
    """Which files a split is in; :class:`CorpusError` with what is there instead."""
    queries = _table(place, split)
    codebase = _table(place, "codebase")
    if queries and codebase:
        return _Files(queries, codebase)
    raw = {name: tuple(sorted((place / "final" / "jsonl" / name).glob("*.jsonl*"))) for name in ("valid", "test")}
    pool = {name: raw[name] or _table(place, name) for name in raw}
    lists = {name: place / f"{name}.txt" for name in (split, "codebase")}
    if all(path.is_file() for path in lists.values()) and all(pool.values()):
        both = (*pool["valid"], *pool["test"])
        return _Files(pool.get(split, ()) or both, both, _addresses(lists[split]), _addresses(lists["codebase"]))
    if all(pool.values()) and split in pool:
        return _Files(pool[split], (*pool["valid"], *pool["test"]))
    found = sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
    raise CorpusError(
        f"{place}: expected {split}.jsonl and codebase.jsonl, or final/jsonl/valid and final/jsonl/test with "
        f"*.jsonl.gz; found {', '.join(found[:20]) or 'nothing'}"
    )


def _table(place: Path, name: str) -> tuple[Path, ...]:
    return tuple(path for suffix in SUFFIXES if (path := place / f"{name}.jsonl{suffix}").is_file())[:1]


def _addresses(path: Path) -> frozenset[str]:
    return frozenset(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


def _rows(paths: tuple[Path, ...], language: str, wanted: frozenset[str] | None) -> Iterator[_records.Row]:
    """The rows that count; :class:`CorpusError` for one of another language."""
    for row in _records.rows(paths):
        found = row[1].get(LANGUAGE, language)
        if found != language:
            raise CorpusError(f"{row[0]}: expected language = {language!r}, found {found!r}")
        if wanted is None or _key(row) in wanted:
            yield row


def _key(row: _records.Row) -> str:
    return _records.identifier(row, KEYS)


def _numbered(key: str, counts: Counter[str]) -> str:
    """``key``, and with its number from the second time on."""
    counts[key] += 1
    return key if counts[key] == 1 else f"{key} ({counts[key]})"


def _question(row: _records.Row) -> str:
    """The docstring's tokens between spaces; the docstring where a copy has no tokens."""
    tokens = any(name in row[1] for name in DOCSTRING_TOKENS)
    text = _joined(row, DOCSTRING_TOKENS) if tokens else _records.field(row, DOCSTRING)
    if not isinstance(text, str) or not text.strip():
        raise CorpusError(f"{row[0]}: the docstring must be a text and not empty, found {text!r}")
    return " ".join(text.split())


def _joined(row: _records.Row, names: tuple[str, ...]) -> str:
    tokens = _records.field(row, names)
    if not isinstance(tokens, list) or not all(isinstance(one, str) for one in tokens):
        raise CorpusError(f"{row[0]}: {' or '.join(names)} must be a list of strings, found {tokens!r:.80}")
    return " ".join(tokens)


__all__ = ["LANGUAGES", "CodeText", "read_codesearchnet"]
