"""JSON lines to documents; whatever is wrong with a line becomes the record of that line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import orjson

from unabridged.contracts import Document, Failure
from unabridged.corpora._fields import FieldMap, Item, Options, encodable, failed
from unabridged.corpora._streams import lines


def read_jsonl(item: Item, options: Options) -> Iterator[Document | Failure]:
    """The documents of a JSON lines file, one object a line; blank lines are no items."""
    offset, fields = 0, options.fields
    for number, line in enumerate(lines(item.path), 1):
        where = f"{item.shown}:{number}"
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            if line.strip():
                yield _second_look(line, where, offset, fields, error)
        else:
            yield _document(record, line, where, fields)
        offset += len(line)


def _document(record: Any, line: bytes, where: str, fields: FieldMap) -> Document | Failure:
    if not isinstance(record, dict):
        kind = "null" if record is None else type(record).__name__
        return failed("", where, "not-an-object", f"expected a JSON object, found {kind}: {line[:60]!r}")
    found = fields.document(record, where)
    if isinstance(found, Failure) and found.reason == "wrong-id-type":
        return _exact_integers(line, where, fields) or found
    return found


def _exact_integers(line: bytes, where: str, fields: FieldMap) -> Document | None:
    """The document, if its id is an integer beyond 64 bits, which orjson reads as a float."""
    try:
        found = fields.document(json.loads(line), where)
    except ValueError:  # more digits than Python converts
        return None
    return found if isinstance(found, Document) else None


def _second_look(
    line: bytes, where: str, offset: int, fields: FieldMap, error: orjson.JSONDecodeError
) -> Document | Failure:
    """Why the fast parser refused ``line``, which starts ``offset`` bytes into the (decompressed) file."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as bad:
        return undecodable("", where, offset + bad.start, bad)
    malformed = failed("", where, "malformed-json", f"not JSON at column {error.colno}: {error.msg.partition(':')[0]}")
    try:
        record = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return malformed
    if not encodable(json.dumps(record, ensure_ascii=False)):
        found = fields.document(record, where) if isinstance(record, dict) else malformed
        return failed(found.id, where, "lone-surrogate", f"a lone surrogate, which UTF-8 cannot hold: {error.msg}")
    return _document(record, line, where, fields)


def undecodable(identifier: str, where: str, offset: int, error: UnicodeDecodeError) -> Failure:
    """The record of bytes that are not UTF-8; ``offset`` counts decompressed bytes from the file's start."""
    byte = error.object[error.start]
    message = f"not UTF-8: byte 0x{byte:02x} at byte offset {offset}; convert the file to UTF-8"
    return failed(identifier, where, "undecodable", message)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
