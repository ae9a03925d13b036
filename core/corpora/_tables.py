"""TSV and CSV to documents."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from threading import Lock

from unabridged.contracts import Document, Failure
from unabridged.corpora._fields import ID_NAMES, TEXT_NAMES, FieldMap, Item, Options, failed
from unabridged.corpora._jsonl import undecodable
from unabridged.corpora._streams import lines

CSV_FIELD_LIMIT = 1 << 30
"""Characters of one CSV field; the library's own limit of 131,072 is below a long document."""
_csv_limit_lock = Lock()


def read_tsv(item: Item, options: Options) -> Iterator[Document | Failure]:
    """The documents of ``id<TAB>text`` or ``id<TAB>text<TAB>title`` lines (ColBERT's collection.tsv).

    A first line of recognised field names is a header and then decides the columns.  There is no quoting;
    the line end (LF or CR LF) is not text.
    """
    names: list[str] = []
    offset = 0
    for number, line in enumerate(lines(item.path), 1):
        where = f"{item.shown}:{number}"
        try:
            cells = line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8").split("\t")
        except UnicodeDecodeError as error:
            yield undecodable("", where, offset + error.start, error)
        else:
            if number == 1 and _is_header(cells, options.fields):
                names = cells
            elif cells != [""]:
                yield _row(cells, names, where, options.fields)
        offset += len(line)


def read_csv(item: Item, options: Options) -> Iterator[Document | Failure]:
    """The documents of a CSV file with a header line (RFC 4180)."""
    source = _DecodedLines(item)
    rows = csv.reader(source, strict=True)
    names: list[str] | None = None
    while True:
        source.take_bad()
        first = source.number + 1
        where = f"{item.shown}:{first}"
        try:
            cells = _next_row(rows)
        except csv.Error as error:
            yield failed("", where, "malformed-csv", f"lines {first} to {source.number}: {error}")
            continue
        if cells is None:
            return
        if names is None:
            names = cells
            if (why := options.fields.missing(names)) is not None:
                yield failed("", where, *why)
                return
        elif (bad := source.take_bad()) is not None:
            yield undecodable("", where, *bad)
        elif cells:
            yield _row(cells, names, where, options.fields)


class _DecodedLines:
    """Lines as strings; remembers the last line that is not UTF-8 instead of raising inside the csv module."""

    def __init__(self, item: Item) -> None:
        self._lines = lines(item.path)
        self._offset = 0
        self.number = 0
        self._bad: tuple[int, UnicodeDecodeError] | None = None

    def take_bad(self) -> tuple[int, UnicodeDecodeError] | None:
        """Offset in the file and error of the last bad line since the previous call."""
        bad, self._bad = self._bad, None
        return bad

    def __iter__(self) -> _DecodedLines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as error:
            self._bad = self._offset + error.start, error
            return line.decode("utf-8", "surrogateescape")
        finally:
            self._offset += len(line)


def _next_row(rows: Iterator[list[str]]) -> list[str] | None:
    """The next row, read under our field limit; the limit is global to the process, so it is put back."""
    with _csv_limit_lock:
        before = csv.field_size_limit(CSV_FIELD_LIMIT)
        try:
            return next(rows, None)
        finally:
            csv.field_size_limit(before)


def _is_header(cells: list[str], fields: FieldMap) -> bool:
    ids, texts = {*ID_NAMES, *fields.id_names}, {*TEXT_NAMES, *fields.text_names}
    return any(cell in ids for cell in cells) and any(cell in texts for cell in cells)


def _row(cells: list[str], names: list[str], where: str, fields: FieldMap) -> Document | Failure:
    expected = f"{len(names)} columns" if names else "id, text and perhaps title, separated by tabs"
    if len(cells) != len(names) if names else not 2 <= len(cells) <= 3:
        return failed("", where, "wrong-columns", f"expected {expected}, found {len(cells)} columns")
    if names:
        return fields.document(dict(zip(names, cells, strict=True)), where)
    title = cells[2] if len(cells) == 3 else ""
    return FieldMap().document({"id": cells[0], "text": cells[1], "title": title}, where)
