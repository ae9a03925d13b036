"""Records of many formats to documents: which field is the id, the text, the title."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from unabridged.contracts import JSON, Document, Failure

ID_NAMES = ("_id", "id", "docid", "doc_id", "pid", "docno", "query_id")
"""First match wins.  BEIR, MTEB, Tevatron, Pyserini, ColBERT and TREC name it so."""
TEXT_NAMES = ("text", "contents", "content", "document_text", "body", "passage")
TITLE_NAMES = ("title",)
METADATA_NAME = "metadata"


def failed(identifier: str, where: str, reason: str, message: str) -> Failure:
    """The record of an item that could not be read."""
    return Failure(printable(identifier), where, "read", reason, message)


def printable(text: str) -> str:
    """``text`` with whatever UTF-8 cannot hold (lone surrogates) written as an escape."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def encodable(text: str) -> bool:
    """Whether UTF-8 can hold ``text``; it cannot where there is a lone surrogate."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class FieldMap:
    """Which fields make a document; a name given by the user stands alone, without fallbacks."""

    id_names: tuple[str, ...] = ID_NAMES
    text_names: tuple[str, ...] = TEXT_NAMES
    title_names: tuple[str, ...] = TITLE_NAMES
    metadata: bool = True

    @classmethod
    def named(cls, id_field: str | None, text_field: str | None, title_field: str | None, metadata: bool) -> FieldMap:
        """A map in which each field that is not None replaces the names recognised by default."""
        return cls(
            (id_field,) if id_field else ID_NAMES,
            (text_field,) if text_field else TEXT_NAMES,
            (title_field,) if title_field else TITLE_NAMES,
            metadata,
        )

    def document(self, record: Mapping[str, Any], where: str) -> Document | Failure:
        """The document that ``record`` holds, or why it holds none."""
        id_name = _first(record, self.id_names)
        identifier = None if id_name is None else _id_of(record[id_name])
        if id_name is None or identifier == "":
            return failed(
                "", where, "missing-id", f"no id: expected one of {_list(self.id_names)}, found {_keys(record)}"
            )
        if identifier is None:
            kind = type(record[id_name]).__name__
            return failed(
                "", where, "wrong-id-type", f"the id in {id_name!r} must be a string or integer, found {kind}"
            )
        text_name = _first(record, self.text_names)
        if text_name is None:
            expected = _list(self.text_names)
            return failed(identifier, where, "missing-text", f"expected one of {expected}, found {_keys(record)}")
        title_name = _first(record, self.title_names)
        text, title = record[text_name], "" if title_name is None else record[title_name]
        title = "" if title is None else title
        for name, value in ((text_name, text), (title_name, title)):
            if not isinstance(value, str):
                message = f"field {name!r} must be a string, found {type(value).__name__}"
                return failed(identifier, where, "not-a-string", message)
        rest = _metadata(record, (id_name, text_name, title_name)) if self.metadata else {}
        return checked(Document(identifier, text, title, rest, where))

    def missing(self, names: list[str]) -> tuple[str, str] | None:
        """``(reason, message)`` when a table with these columns cannot hold documents at all."""
        for reason, wanted in (("missing-id", self.id_names), ("missing-text", self.text_names)):
            if not any(name in names for name in wanted):
                field = "id_field" if reason == "missing-id" else "text_field"
                return reason, f"expected a column {_list(wanted)}, found {', '.join(names)}; name it with {field}="
        return None


def checked(document: Document) -> Document | Failure:
    """``document`` when it can be stored, else the record of why not.  An empty text is a document like any other."""
    identifier, text, title = document.id, document.text, document.title
    if not (encodable(identifier) and encodable(text) and encodable(title)):
        return failed(identifier, document.where, "lone-surrogate", "a lone surrogate, which UTF-8 cannot hold")
    return document


@dataclass(frozen=True, slots=True)
class Options:
    """How all readers of one corpus read.  ``pdf_timeout`` is seconds without a new page.

    ``max_file_mb`` is for files that are one document each (texts, code, HTML), in MiB; None: any size.
    """

    fields: FieldMap
    pdf_timeout: float = 60.0
    pdf_memory_mb: int = 1024
    max_file_mb: float | None = None
    skip_generated: bool = False


@dataclass(frozen=True, slots=True)
class Item:
    """One file to read: its path, its name in messages, and the id of the document if it is a single one."""

    path: Path
    shown: str
    id: str


Reader = Callable[[Item, Options], Iterator[Document | Failure]]
"""All readers have this type; they may raise :class:`~unabridged.corpora._streams.BrokenStream`."""


def _first(record: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    for name in names:
        if name in record:
            return name
    return None


def _id_of(value: Any) -> str | None:
    """The id as a string; integers exactly; None for what is neither."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return None
    try:
        return str(operator.index(value))
    except TypeError:
        return None


def _metadata(record: Mapping[str, Any], used: tuple[str | None, ...]) -> dict[str, JSON]:
    """Scalar fields of ``record`` that are not ``used``, and over them what its ``metadata`` object has."""
    kept: dict[str, JSON] = {}
    for key, value in record.items():
        if key not in used and (scalar := value if type(value) is str else _scalar(value)) is not None:
            kept[key] = scalar
    nested = record.get(METADATA_NAME)
    if isinstance(nested, Mapping):
        for key, value in nested.items():
            kept[str(key)] = value if isinstance(value, dict | list) else _scalar(value)
    return kept


def _scalar(value: Any) -> JSON:
    """The value as JSON has it: dates as ISO strings, None for what is no scalar."""
    if isinstance(value, str | int | float | bool):
        return value
    return value.isoformat() if isinstance(value, datetime | date | time) else None


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names)


def _keys(record: Mapping[str, Any]) -> str:
    shown = [repr(printable(str(key))) for key in list(record)[:12]]
    return ", ".join(shown) or "no fields"
