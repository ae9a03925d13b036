"""Rows of documents and segments as Milvus takes and gives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from unabridged.errors import ValidationError
from unabridged.index.backends.contract import Batch, Stored, VectorSet, keys_of

LONGEST_TEXT = 65_535
"""Bytes of a VARCHAR."""
LONGEST_JSON = 65_536
"""Bytes of a JSON field."""


def rows_of(number: int, batch: Batch) -> Iterator[tuple[VectorSet, list[dict[str, Any]], int]]:
    """For each set of vectors of a batch its rows, and the bytes that one of them has at most beside its vector.

    Raises:
        ValidationError: an id or metadata that Milvus cannot hold.
    """
    import orjson

    for name, raw in zip(batch.ids, batch.metadata, strict=True):
        _check_sizes(name, raw)
    keys = keys_of(number, batch.documents).tolist()
    common = [
        {"document": key, "doc_id": name, "metadata": orjson.loads(raw)}
        for key, name, raw in zip(keys, batch.ids, batch.metadata, strict=True)
    ]
    weights = [len(raw) + 4 * len(name) for raw, name in zip(batch.metadata, batch.ids, strict=True)]
    if batch.document_vectors is not None:
        rows = [
            {**fields, "key": key, "first": 0, "last": length, "body": None, "vector": vector}
            for fields, key, length, vector in zip(
                common, keys, batch.lengths.tolist(), batch.document_vectors, strict=True
            )
        ]
        yield "documents", rows, max(weights, default=0)
    if batch.segment_vectors is not None:
        own = keys_of(number, batch.segments).tolist()
        bodies = [None] * len(own) if batch.texts is None else [_held(text) for text in batch.texts]
        rows = [
            {**common[owner], "key": key, "first": first, "last": last, "body": body, "vector": vector}
            for key, owner, (first, last), body, vector in zip(
                own, batch.owners.tolist(), batch.spans.tolist(), bodies, batch.segment_vectors, strict=True
            )
        ]
        yield "segments", rows, max(weights, default=0) + 4 * max((len(body or "") for body in bodies), default=0)


def stored(row: Mapping[str, Any]) -> Stored:
    """A row that was asked for."""
    vector = None if row.get("vector") is None else np.asarray(row["vector"], np.float32)
    return Stored(
        int(row["key"]),
        int(row["document"]),
        row["doc_id"],
        int(row["first"]),
        int(row["last"]),
        row["metadata"],
        row.get("body"),
        vector,
    )


def _held(text: str) -> str | None:
    """The text where it fits; those that do not are in the folder alone."""
    return text if len(text.encode("utf-8")) <= LONGEST_TEXT else None


def _check_sizes(name: str, raw: bytes) -> None:
    size = len(name.encode("utf-8"))
    if size > LONGEST_TEXT:
        raise ValidationError(
            f"the id {name[:60]!r}… has {size:,} bytes, Milvus holds {LONGEST_TEXT:,}: give the document a shorter one"
        )
    if len(raw) > LONGEST_JSON:
        raise ValidationError(
            f"the metadata of {name[:60]!r} has {len(raw):,} bytes, Milvus holds {LONGEST_JSON:,}: keep less of it"
        )
