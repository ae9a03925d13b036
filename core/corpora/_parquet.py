"""Parquet to documents, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from unabridged._extras import require
from unabridged.contracts import Document, Failure
from unabridged.corpora._fields import METADATA_NAME, FieldMap, Item, Options, failed
from unabridged.corpora._streams import BrokenStream

BATCH_ROWS = 256
"""Rows in memory at once: long documents reach 100 kB each."""


def need_parquet() -> Any:
    """The ``pyarrow.parquet`` module; :class:`MissingExtra` without it."""
    require("pyarrow", extra="parquet", purpose="reading Parquet")
    return require("pyarrow.parquet", extra="parquet")


def read_parquet(item: Item, options: Options) -> Iterator[Document | Failure]:
    """The documents of a Parquet file; rows are counted from 1 in ``where``."""
    parquet = need_parquet()
    arrow = require("pyarrow", extra="parquet")
    number = 0
    try:
        with parquet.ParquetFile(item.path, pre_buffer=False, buffer_size=1 << 20) as table:
            names = table.schema_arrow.names
            if (why := options.fields.missing(names)) is not None:
                reason, message = why
                yield failed("", item.shown, reason, f"{message} ({table.metadata.num_rows} rows not read)")
                return
            columns = _wanted(table.schema_arrow, options.fields, arrow)
            for batch in table.iter_batches(BATCH_ROWS, columns=columns):
                for record in _records(batch):
                    number += 1
                    yield _document(record, f"{item.shown}:{number}", options.fields)
    except (arrow.ArrowException, OSError) as error:
        message = f"{item.path} is not readable as Parquet after row {number}: {error}"
        raise BrokenStream("corrupt-file", message) from error


def _wanted(schema: Any, fields: FieldMap, arrow: Any) -> list[str]:
    """Columns worth decoding: the named fields, and scalars and the metadata object if metadata is kept."""
    named = {*fields.id_names, *fields.text_names, *fields.title_names}
    kept = named | {METADATA_NAME} if fields.metadata else named
    nested_or_bytes = (arrow.types.is_nested, arrow.types.is_binary, arrow.types.is_large_binary)
    return [
        column.name
        for column in schema
        if column.name in kept or (fields.metadata and not any(test(column.type) for test in nested_or_bytes))
    ]


def _records(batch: Any) -> Iterator[dict[str, Any] | UnicodeDecodeError]:
    """The rows of ``batch``; a row that is not UTF-8 comes as its error."""
    names = batch.schema.names
    try:
        columns = [_texts(column.to_pylist()) for column in batch.columns]
    except UnicodeDecodeError as error:
        if batch.num_rows == 1:
            yield error
            return
        for row in range(batch.num_rows):
            yield from _records(batch.slice(row, 1))
    else:
        for values in zip(*columns, strict=True):
            yield dict(zip(names, values, strict=True))


def _document(record: dict[str, Any] | UnicodeDecodeError, where: str, fields: FieldMap) -> Document | Failure:
    if isinstance(record, UnicodeDecodeError):
        return failed("", where, "undecodable", f"not UTF-8: byte {record.start} of a field; write it as UTF-8")
    return fields.document(record, where)


def _texts(values: list[Any]) -> list[Any]:
    """Bytes as the text they are: writers such as Spark leave strings unannotated."""
    return [value.decode("utf-8") if isinstance(value, bytes) else value for value in values]
