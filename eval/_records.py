"""Rows of small tables (queries and judgements of a retrieval set), with every fault an error that names its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from unabridged._extras import require
from unabridged.corpora import Query
from unabridged.corpora._folders import bare_suffix
from unabridged.corpora._parquet import need_parquet
from unabridged.corpora._queries import QUERY_ID_NAMES, QUERY_TEXT_NAMES
from unabridged.corpora._streams import BrokenStream, lines
from unabridged.errors import CorpusError, DuplicateId, MissingFile

Row: TypeAlias = tuple[str, dict[str, Any]]
"""Where it stands, for messages, and its fields."""
JUDGED_QUERY_NAMES = ("query-id", "query_id", "qid")
JUDGED_DOCUMENT_NAMES = ("corpus-id", "corpus_id", "docid", "doc_id", "pid")
GRADE_NAMES = ("score", "relevance", "rel")
ROWS_AT_ONCE = 1024


def rows(paths: Iterable[Path]) -> Iterator[Row]:
    """The rows of JSON lines (plain, ``.gz``, ``.zst``) and Parquet files.

    Raises:
        MissingFile: No such file.
        CorpusError: A line that is no JSON object, or a file that is damaged.
    """
    for path in paths:
        if not path.is_file():
            raise MissingFile(f"no such file: {path}")
        yield from _parquet(path) if bare_suffix(path) == ".parquet" else _json_lines(path)


def _json_lines(path: Path) -> Iterator[Row]:
    try:
        for number, line in enumerate(lines(path), 1):
            if not line.strip():
                continue
            where = f"{path.as_posix()}:{number}"
            try:
                record = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise CorpusError(f"{where}: not JSON at column {error.colno}: {error.msg}") from error
            if not isinstance(record, dict):
                raise CorpusError(f"{where}: expected a JSON object, found {type(record).__name__}")
            yield where, record
    except BrokenStream as error:
        raise CorpusError(str(error)) from error


def _parquet(path: Path) -> Iterator[Row]:
    parquet, arrow = need_parquet(), require("pyarrow", extra="parquet")
    number = 0
    try:
        with parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(ROWS_AT_ONCE):
                for record in batch.to_pylist():
                    number += 1
                    yield f"{path.as_posix()}:{number}", record
    except (arrow.ArrowException, OSError) as error:
        raise CorpusError(f"{path} is not readable as Parquet after row {number}: {error}") from error


class Fields:
    """The names that the first row of a table uses; every other row must use the same.

    A name is any one of its ``kinds`` in the first row, and that one from then on.
    """

    def __init__(self, *kinds: Sequence[str]) -> None:
        self._kinds: dict[Sequence[str], str] = dict.fromkeys(kinds, "")

    def names(self, row: Row, kind: Sequence[str]) -> Sequence[str]:
        """What :func:`field` may look for; :class:`CorpusError` for a row that has not the name used before."""
        used = self._kinds[kind]
        if used and used not in row[1]:
            raise CorpusError(f"{row[0]}: expected a field {used!r} as in the rows before, found {_named(row[1])}")
        self._kinds[kind] = used or next((name for name in kind if name in row[1]), "")
        return [used] if used else kind


def field(row: Row, names: Sequence[str]) -> Any:
    """The value of the first of ``names`` that a row has; :class:`CorpusError` with what it has instead."""
    where, record = row
    for name in names:
        if name in record:
            return record[name]
    raise CorpusError(f"{where}: expected a field {' or '.join(map(repr, names))}, found {_named(record)}")


def _named(record: Mapping[str, Any]) -> str:
    return ", ".join(repr(key) for key in list(record)[:12]) or "no fields"


def first_names(path: Path, *kinds: Sequence[str]) -> list[str | None]:
    """Of each of ``kinds`` the name that the first row uses; None where it has none or cannot be read."""
    try:
        record = next(rows([path]), ("", {}))[1]
    except CorpusError:
        record = {}
    return [next((name for name in kind if name in record), None) for kind in kinds]


def identifier(row: Row, names: Sequence[str]) -> str:
    """An id as text: strings as they are, integers by their digits, anything else is an error."""
    return as_id(field(row, names), row[0])


def as_id(value: Any, where: str) -> str:
    """``value`` as an id, or :class:`CorpusError`."""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise CorpusError(f"{where}: an id must be a string or an integer and not empty, found {value!r}")
    return str(value)


def read_query_rows(found: Iterable[Row]) -> list[Query]:
    """Queries, in their order.

    Raises:
        CorpusError: A row without an id or without a text, or with other names of them than the first row.
        DuplicateId: Two queries with one id.
    """
    queries: dict[str, Query] = {}
    fields = Fields(QUERY_ID_NAMES, QUERY_TEXT_NAMES)
    for row in found:
        name = identifier(row, fields.names(row, QUERY_ID_NAMES))
        text = field(row, fields.names(row, QUERY_TEXT_NAMES))
        if not isinstance(text, str) or not text.strip():
            raise CorpusError(f"{row[0]}: the text of query {name!r} must be a string and not empty, found {text!r}")
        if name in queries:
            raise DuplicateId(f"{row[0]}: query id {name!r} is used twice; ids must be unique")
        queries[name] = Query(name, text)
    return list(queries.values())


def read_judgement_rows(found: Iterable[Row]) -> dict[str, dict[str, int]]:
    """Query id -> document id -> grade; where no row has a grade, all are 1.

    Raises :class:`CorpusError` for a missing id, a grade that is no integer, rows with and without a grade or with
    other names in one table, or two grades for one pair.
    """
    qrels: dict[str, dict[str, int]] = {}
    graded: bool | None = None
    fields = Fields(JUDGED_QUERY_NAMES, JUDGED_DOCUMENT_NAMES, GRADE_NAMES)
    for row in found:
        has_grade = any(name in row[1] for name in GRADE_NAMES)
        if graded is not None and graded is not has_grade:
            raise CorpusError(
                f"{row[0]}: mixed columns, expected the fields of the rows before "
                f"({'with' if graded else 'without'} a grade), found {', '.join(map(repr, row[1]))}"
            )
        graded = has_grade
        query, document = (
            identifier(row, fields.names(row, kind)) for kind in (JUDGED_QUERY_NAMES, JUDGED_DOCUMENT_NAMES)
        )
        grade = _grade(row, fields.names(row, GRADE_NAMES)) if graded else 1
        if qrels.setdefault(query, {}).setdefault(document, grade) != grade:
            raise CorpusError(f"{row[0]}: query {query!r} and document {document!r} have two different grades")
    return qrels


def _grade(row: Row, names: Sequence[str]) -> int:
    value = field(row, names)
    if isinstance(value, (int, float)) and float(value).is_integer():
        return int(value)
    raise CorpusError(f"{row[0]}: the grade must be an integer, found {value!r}")


def chosen(found: Iterable[Row], column: str, value: str) -> Iterator[Row]:
    """The rows whose ``column`` is ``value``, read as text.

    Raises :class:`CorpusError` for a row without the column, and, at the end, when no row was chosen.
    """
    others: dict[str, None] = {}
    kept = 0
    for row in found:
        name = str(field(row, [column]))
        others.setdefault(name)
        if name == value:
            kept += 1
            yield row
    if not kept:
        raise CorpusError(
            f"no row has {column} = {value!r}; found {', '.join(map(repr, list(others)[:20])) or 'no rows'}"
        )


def matches(metadata: Mapping[str, Any], column: str, value: str) -> bool:
    """Whether a document's field ``column`` is ``value``, read as text."""
    return str(metadata.get(column, "")) == value
