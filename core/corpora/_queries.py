"""Query files and judgement files; unlike a corpus they are small, and any fault in them is an error."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson

from unabridged.contracts import Failure
from unabridged.corpora._fields import TEXT_NAMES, FieldMap
from unabridged.corpora._folders import bare_suffix
from unabridged.corpora._streams import BrokenStream, lines
from unabridged.errors import CorpusError, DuplicateId, MissingFile

QUERY_ID_NAMES = ("_id", "id", "query_id", "qid", "query-id")
QUERY_TEXT_NAMES = ("text", "query", "query_text", "title")
QUERIES_FILE, QRELS_FILE = "queries.jsonl", "qrels/test.tsv"
QRELS_HEADERS = frozenset({"query-id", "query_id", "qid", "_id"})
QRELS_COLUMNS = MappingProxyType({3: ["qid", "docid", "score"], 4: ["qid", "0", "docid", "score"]})
"""Number of columns -> their names in a file without a header."""


@dataclass(frozen=True, slots=True)
class Query:
    """One question of a query file."""

    id: str
    text: str


def read_queries(path: str | os.PathLike[str]) -> list[Query]:
    """The queries of a file, in its order.

    ``.jsonl``/``.ndjson``: one object a line (BEIR, Tevatron, rank_llm names).  ``.json``: a list of such
    objects or of strings (ids ``1``, ``2``, …), or JSON lines.  Anything else: ``id<TAB>text``; the text may
    hold tabs.  Files may be ``.gz`` or ``.zst``.

    Raises:
        MissingFile: No such file.
        CorpusError: A malformed line (with its number), an empty query, or no query at all.
        DuplicateId: Two queries with one id.
    """
    file = _existing(path)
    rows = {".jsonl": _json_lines, ".ndjson": _json_lines, ".json": _json_file}.get(bare_suffix(file), _tsv_lines)(file)
    seen: dict[str, str] = {}
    queries: list[Query] = []
    for where, query in rows:
        if not query.id:
            raise CorpusError(f"{where}: a query without an id")
        if not query.text.strip():
            raise CorpusError(f"{where}: query {query.id!r} is empty")
        if query.id in seen:
            raise DuplicateId(f"query id {query.id!r} is used twice: {seen[query.id]} and {where}; ids must be unique")
        seen[query.id] = where
        queries.append(query)
    if not queries:
        raise CorpusError(f"{file} holds no query; expected id<TAB>text lines, or JSON lines in a .jsonl file")
    return queries


def read_qrels(path: str | os.PathLike[str]) -> dict[str, dict[str, int]]:
    """Query id to document id to grade.

    Reads BEIR (three columns with a header), Tevatron (``qid docid score``) and TREC (``qid 0 docid rel``).
    A line with a tab is split at tabs, so that ids may hold spaces; any other line is split at white space.
    The first line, a header or not, says how many columns every line has.

    Raises:
        MissingFile: No such file, or a folder.
        CorpusError: A malformed line (with its number), one with other columns than the first, or two grades for
            one pair.
    """
    file = _existing(path)
    qrels: dict[str, dict[str, int]] = {}
    columns: list[str] = []
    for where, text in _text_lines(file):
        cells = text.split("\t") if "\t" in text else text.split()
        if len(cells) not in (3, 4):
            raise CorpusError(f"{where}: expected 'qid docid score' or 'qid 0 docid score', found {text!r}")
        if not columns:
            header = cells[0] in QRELS_HEADERS and _grade(cells[-1]) is None
            columns = cells if header else QRELS_COLUMNS[len(cells)]
            if header:
                continue
        if len(cells) != len(columns):
            raise CorpusError(
                f"{where}: expected the {len(columns)} columns that the file begins with ({', '.join(columns)}), "
                f"found {len(cells)}: {', '.join(map(repr, cells))}"
            )
        query, document, grade = cells[0], cells[-2], _grade(cells[-1])
        if grade is None:
            raise CorpusError(f"{where}: the grade must be an integer, found {cells[-1]!r}")
        if qrels.setdefault(query, {}).setdefault(document, grade) != grade:
            raise CorpusError(f"{where}: query {query!r} and document {document!r} have two different grades")
    return qrels


def _existing(path: str | os.PathLike[str]) -> Path:
    file = Path(path)
    if file.is_dir():
        raise MissingFile(f"{file} is a folder; name a file, such as {file / QUERIES_FILE} or {file / QRELS_FILE}")
    if not file.exists():
        raise MissingFile(f"no such file: {file}")
    return file


def _text_lines(file: Path) -> Iterator[tuple[str, str]]:
    """``(where, line)`` of every line that is not blank, without its end."""
    try:
        for number, line in enumerate(lines(file), 1):
            where = f"{file.as_posix()}:{number}"
            try:
                text = line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
            except UnicodeDecodeError as error:
                raise CorpusError(f"{where}: not UTF-8 at byte {error.start} of the line") from error
            if text.strip():
                yield where, text
    except BrokenStream as error:
        raise CorpusError(str(error)) from error


def _tsv_lines(file: Path) -> Iterator[tuple[str, Query]]:
    header = True
    for where, text in _text_lines(file):
        name, tab, query = text.partition("\t")
        if not tab:
            raise CorpusError(f"{where}: expected id<TAB>text, found no tab in {text[:80]!r}")
        if not (header and name in QUERY_ID_NAMES and query in (*QUERY_TEXT_NAMES, *TEXT_NAMES)):
            yield where, Query(name, query)
        header = False


def _json_lines(file: Path) -> Iterator[tuple[str, Query]]:
    for where, text in _text_lines(file):
        try:
            yield where, _query(orjson.loads(text), where)
        except orjson.JSONDecodeError as error:
            raise CorpusError(f"{where}: not JSON at column {error.colno}: {error.msg.partition(':')[0]}") from error


def _json_file(file: Path) -> Iterator[tuple[str, Query]]:
    """A JSON list, or JSON lines when the file does not begin with a bracket."""
    rows = list(_text_lines(file))
    if not rows or not rows[0][1].lstrip().startswith("["):
        yield from _json_lines(file)
        return
    try:
        found = orjson.loads("\n".join(text for _, text in rows))
    except orjson.JSONDecodeError as error:
        where = rows[min(error.lineno, len(rows)) - 1][0]
        raise CorpusError(f"{where}: not JSON at column {error.colno}: {error.msg.partition(':')[0]}") from error
    for position, item in enumerate(found, 1):
        where = f"{file.as_posix()} item {position}"
        yield where, Query(str(position), item) if isinstance(item, str) else _query(item, where)


_QUERY_FIELDS = FieldMap(QUERY_ID_NAMES, QUERY_TEXT_NAMES, (), metadata=False)


def _query(record: Any, where: str) -> Query:
    if not isinstance(record, Mapping):
        raise CorpusError(f"{where}: expected a JSON object, found {type(record).__name__}")
    found = _QUERY_FIELDS.document(record, where)
    if isinstance(found, Failure):
        raise CorpusError(f"{where}: {found.message}")
    return Query(found.id, found.text)


def _grade(text: str) -> int | None:
    """The grade, also when it is written as ``1.0``; None for anything but an integer."""
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None
