"""Hits of an index, as the fields that documents of other toolkits have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unabridged.contracts import JSON, Hit, Level
from unabridged.errors import UsageError
from unabridged.retrievers.api import open_index
from unabridged.retrievers.opened import Index
from unabridged.retrievers.result import Mode

RECORD = ("doc_id", "start", "end", "score", "rank", "stages", "sha256")
"""What every hit's metadata has; a document's own field of such a name gets ``document_`` before it."""


@dataclass(frozen=True, slots=True)
class Native:
    """One hit, whatever the toolkit."""

    id: str
    """Of the span: equal for equal spans of equal sources, in every search."""
    text: str
    """Characters ``[start, end)`` of the source."""
    record: Mapping[str, JSON]
    """The fields :data:`RECORD`; ``sha256`` is of the whole source in UTF-8, ``score`` higher is better."""
    own: Mapping[str, JSON]
    """The document's own metadata."""

    @property
    def metadata(self) -> dict[str, JSON]:
        """Both in one."""
        return {**self.own, **self.record}


def opened(index: Index | str | Path) -> Index:
    """The index, opened if it is given as a folder."""
    return index if isinstance(index, Index) else open_index(index)


def searched(k: Any, mode: Any, level: Any) -> dict[str, Any]:
    """Options of a search, of their types; :class:`UsageError` for those that no search has."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise UsageError(f"The number of hits is {k!r}; expected a positive whole number.")
    try:
        return {"k": k, "mode": Mode(mode), "level": Level(level)}
    except ValueError as error:
        modes, levels = (", ".join(one.value for one in kind) for kind in (Mode, Level))
        raise UsageError(f"{error}; modes are {modes}, levels {levels}.") from error


def natives(index: Index, hits: Iterable[Hit]) -> list[Native]:
    """The fields of each hit, in order; every document is read and hashed once."""
    digests: dict[str, str] = {}
    own: dict[str, Mapping[str, JSON]] = {}
    found = []
    for hit in hits:
        if hit.doc_id not in digests:
            shard, row = index.place(hit.doc_id)
            digests[hit.doc_id] = sha256(shard.source(row))
            own[hit.doc_id] = _renamed(shard.metadata(row))
        digest, span = digests[hit.doc_id], hit.span
        record: dict[str, JSON] = {
            "doc_id": hit.doc_id,
            "start": span.start,
            "end": span.end,
            "score": hit.score,
            "rank": hit.rank,
            "stages": dict(hit.stages),
            "sha256": digest,
        }
        found.append(Native(span_id(hit.doc_id, span.start, span.end, digest), span.text, record, own[hit.doc_id]))
    return found


def span_id(doc_id: str, start: int, end: int, digest: str | None) -> str:
    """The name of a span, 64 hexadecimal digits."""
    import orjson

    return hashlib.sha256(orjson.dumps([doc_id, start, end, digest])).hexdigest()


def sha256(text: str) -> str:
    """Of a text in UTF-8, as context packs have it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _renamed(metadata: bytes) -> dict[str, Any]:
    import orjson

    return {f"document_{name}" if name in RECORD else name: value for name, value in orjson.loads(metadata).items()}
