"""Documents that are already in memory, as a corpus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from unabridged.contracts import Document, Failure
from unabridged.corpora._fields import FieldMap, checked, failed


class ListCorpus:
    """A corpus over documents, records (mappings with the recognised field names) or plain texts.

    A plain text gets its position, counted from 0, as its id.  ``where`` of an item without one is ``item N``.
    """

    def __init__(self, items: Iterable[Document | Mapping[str, Any] | str], *, fields: FieldMap | None = None) -> None:
        names = fields or FieldMap()
        self._items = tuple(_read(item, position, names) for position, item in enumerate(items))

    def __iter__(self) -> Iterator[Document | Failure]:
        return iter(self._items)

    def __len__(self) -> int:
        """Items, failures included."""
        return len(self._items)


def _read(item: Any, position: int, fields: FieldMap) -> Document | Failure:
    where = f"item {position}"
    if isinstance(item, str):
        return checked(Document(str(position), item, where=where))
    if isinstance(item, Mapping):
        return fields.document(item, where)
    if not isinstance(item, Document):
        return failed("", where, "not-an-object", f"expected Document, mapping or str, found {type(item).__name__}")
    values: tuple[tuple[str, Any], ...] = (("id", item.id), ("text", item.text), ("title", item.title))
    for name, value in values:
        if not isinstance(value, str):
            message = f"{name} must be a string, found {type(value).__name__}"
            return failed("", item.where or where, "not-a-string", message)
    if not item.id:
        return failed("", item.where or where, "missing-id", "the id is an empty string")
    located = item if item.where else Document(item.id, item.text, item.title, item.metadata, where)
    return checked(located)
