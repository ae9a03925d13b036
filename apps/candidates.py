"""Where candidates' texts come from, and which of their segments answer a query best."""

from __future__ import annotations

import tempfile
import weakref
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from unabridged.contracts import Document, Failure, Level
from unabridged.errors import DuplicateId, UsageError, ValidationError
from unabridged.rankers.contracts import Characters
from unabridged.retrievers.opened import Index
from unabridged.retrievers.result import Mode

SEGMENTS = 2_000
"""Segments that are ranked for one query at most; others follow in the order of their text."""


class Texts(Protocol):
    """Documents by their ids."""

    def text(self, doc_id: str) -> str | None:
        """The source of a document; None where there is none."""
        ...

    def segments(self, query: str, doc_ids: Sequence[str]) -> Mapping[str, tuple[Characters, ...]]:
        """The segments of documents, those that answer best first; a document without known ones is left out."""
        ...


class StoredTexts:
    """The documents of a corpus that are asked for, in a temporary file: memory holds their places alone.

    ``failures`` counts items of the corpus that could not be read.  :class:`DuplicateId` where two of the documents
    that are wanted share an id.
    """

    def __init__(self, corpus: Iterable[Document | Failure], wanted: Collection[str]) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this object
        weakref.finalize(self, self._file.close)
        self._places: dict[str, tuple[int, int]] = {}
        self.failures = 0
        self.documents = 0
        self.example = ""
        end = 0
        for item in corpus:
            if isinstance(item, Failure):
                self.failures += 1
                continue
            self.documents += 1
            self.example = self.example or item.id
            if item.id not in wanted:
                continue
            if item.id in self._places:
                raise DuplicateId(f"{item.where}: document {item.id!r} stands twice in the corpus; ids must be unique.")
            data = item.source.encode("utf-8", "surrogatepass")
            self._file.write(data)
            self._places[item.id] = (end, len(data))
            end += len(data)

    def text(self, doc_id: str) -> str | None:
        """The source of a document, its title included."""
        place = self._places.get(doc_id)
        if place is None:
            return None
        self._file.seek(place[0])
        return self._file.read(place[1]).decode("utf-8", "surrogatepass")

    def segments(self, query: str, doc_ids: Sequence[str]) -> Mapping[str, tuple[Characters, ...]]:
        """None are known: the ranker chooses by the query's words."""
        return {}


class IndexTexts:
    """The documents of an index, and its segments as it ranks them for a query."""

    def __init__(self, index: Index, mode: Mode = Mode.HYBRID) -> None:
        self._index = index
        # Vectors of documents alone say nothing of segments; words do.
        self._mode = mode if index.state.settings.level.has_segments else Mode.BM25

    def text(self, doc_id: str) -> str | None:
        """The source of a document as it was indexed."""
        try:
            return self._index.source(doc_id)
        except UsageError:
            return None

    def segments(self, query: str, doc_ids: Sequence[str]) -> Mapping[str, tuple[Characters, ...]]:
        """All segments of each document: those that a search at level segment finds, then the rest as they stand."""
        if not doc_ids or not query.strip():
            return {}
        found = self._index.search(
            [query], SEGMENTS, mode=self._mode, level=Level.SEGMENT, filter={"id": set(doc_ids).__contains__}
        )[0]
        ranked: dict[str, dict[Characters, None]] = defaultdict(dict)
        for hit in found:
            ranked[hit.doc_id].setdefault((hit.span.start, hit.span.end))
        for doc_id in doc_ids:
            for span in self._spans(doc_id):
                ranked[doc_id].setdefault(span)
        return {name: tuple(span for span in spans if span[0] < span[1]) for name, spans in ranked.items()}

    def _spans(self, doc_id: str) -> list[Characters]:
        shard, row = self._index.place(doc_id)
        first, last = shard.segment_range(row)
        return [(int(start), int(end)) for start, end in shard.array("spans")[first:last, :2]]


class IndexedCorpus:
    """The texts of a corpus with the segments of an index of the same corpus.

    :class:`ValidationError` where the index holds another text of a document: its segments would not fit.
    """

    def __init__(self, corpus: StoredTexts, index: IndexTexts) -> None:
        self._corpus, self._index = corpus, index

    def text(self, doc_id: str) -> str | None:
        """The source of a document in the corpus."""
        return self._corpus.text(doc_id)

    def segments(self, query: str, doc_ids: Sequence[str]) -> Mapping[str, tuple[Characters, ...]]:
        """The segments of those documents that the index has."""
        held = []
        for doc_id in doc_ids:
            indexed = self._index.text(doc_id)
            if indexed is None:
                continue
            if indexed != self._corpus.text(doc_id):
                raise ValidationError(
                    f"The index holds another text of document {doc_id!r} than the corpus, so that its segments do not "
                    "fit. Update the index with: unabridged index CORPUS --out DIR, or leave --corpus out."
                )
            held.append(doc_id)
        return self._index.segments(query, held)
