"""Reading an engine alone, where no index folder is at hand.

The collection knows ids, spans and metadata, and texts where they were loaded with it.  Documents are scored as in the
folder, from all of their segments; the vectors for that are the engine's, in its precision.  Words are not searched:
they are in the folder.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from unabridged.contracts import JSON, NO_HIT, Encoder, Floats, Hit, Level, Span
from unabridged.errors import BackendMismatch, PassportMismatch, UsageError
from unabridged.index.backends import Recorded, SearchBackend, Stored, connect
from unabridged.index.backends.conditions import Condition, conditions_of
from unabridged.index.backends.contract import VectorSet
from unabridged.retrievers.backends.load import check_layout, facts
from unabridged.retrievers.backends.vectors import Usage
from unabridged.retrievers.dense_stage import GROWTH, POOL, SEGMENTS_PER_DOCUMENT
from unabridged.retrievers.filters import Filter
from unabridged.retrievers.result import Mode, SearchResult
from unabridged.retrievers.scoring import DEFAULT_SCORING, DocumentScoring, score_documents


@dataclass(frozen=True, slots=True)
class RemoteHit(Hit):
    """A hit with the metadata of its document.  The text of its span is empty where texts were not loaded."""

    metadata: Mapping[str, JSON] = field(default_factory=dict)


def open_backend(
    url: str, encoder: Encoder | str | Path | None = None, *, scoring: DocumentScoring = DEFAULT_SCORING
) -> RemoteIndex:
    """Opens the collection at ``url`` for search without its index folder; ``encoder`` as for ``load_encoder``.

    Raises:
        UsageError: an address that is none.
        MissingExtra: the engine's client is not installed.
        BackendUnreachable: nobody answers, or the account is refused.
        BackendMismatch: there is no collection of ours, or its load is not finished.
        PassportMismatch: its vectors are not of ``encoder``.
    """
    backend = connect(url)
    try:
        recorded = backend.recorded()
        if recorded is None:
            raise BackendMismatch(f"{backend.shown} holds no collection; load one with: unabridged index … --backend")
        if not recorded.content:
            raise BackendMismatch(
                f"The load of {backend.shown} is not finished: {len(recorded.shards)} of {recorded.expected} shards "
                "are there. Run its 'unabridged index … --backend' command again, it goes on where it stopped."
            )
        return RemoteIndex(backend, recorded, _encoder(encoder), scoring)
    except BaseException:
        backend.close()
        raise


def _encoder(encoder: Encoder | str | Path | None) -> Encoder:
    from unabridged.encoders.load import load_encoder

    return load_encoder(encoder) if encoder is None or isinstance(encoder, (str, Path)) else encoder


class RemoteIndex:
    """A collection of an engine, open for search by vectors."""

    def __init__(self, backend: SearchBackend, recorded: Recorded, encoder: Encoder, scoring: DocumentScoring) -> None:
        passport = encoder.passport
        check_layout(recorded, passport.fingerprint, passport.dim, passport.source, backend.shown)
        self.backend, self.recorded, self.encoder, self.scoring = backend, recorded, encoder, scoring
        self.usage = Usage()

    def __len__(self) -> int:
        return sum(one.documents for one in self.recorded.shards.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        self.backend.close()

    @property
    def report(self) -> dict[str, Any]:
        """What the collection says about itself, and what the engine did."""
        return {**facts(self.recorded), **self.usage.as_json()}

    def search(
        self,
        queries: Sequence[str],
        k: int = 10,
        *,
        level: Level | str = Level.DOC,
        filter: Filter | None = None,  # noqa: A002 - as in Index.search
    ) -> list[SearchResult]:
        """The ``k`` best documents or segments for each query, each with its span, as an index folder finds them.

        Raises:
            UsageError: an empty query, ``k`` out of range, a level that the collection lacks, or a filter that the
                engine cannot apply.
        """
        chosen, conditions = self._level(level), self._conditions(filter)
        texts = [queries] if isinstance(queries, str) else list(queries)
        if any(not isinstance(text, str) or not text.strip() for text in texts):
            raise UsageError("a query is a text of at least one word")
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= self.backend.limit:
            raise UsageError(f"k is a whole number from 1 to {self.backend.limit:,}, got {k!r}")
        vectors = np.ascontiguousarray(self.encoder.encode_queries(texts), np.float32)
        if vectors.shape[1] != self.recorded.layout.dim:
            raise PassportMismatch(
                f"The encoder gives vectors of width {vectors.shape[1]}, the collection has {self.recorded.layout.dim}"
            )
        found = []
        for text, vector in zip(texts, vectors, strict=True):
            started = time.perf_counter()
            ask = self._segments if chosen is Level.SEGMENT else self._documents
            hits = tuple(ask(vector, k, conditions))
            took = round((time.perf_counter() - started) * 1000, 3)
            found.append(SearchResult(text, Mode.DENSE, hits, {"dense_ms": took, "total_ms": took}, self))
        return found

    def _level(self, level: Level | str) -> Level:
        try:
            chosen = Level(level)
        except ValueError as error:
            raise UsageError(f"{error}; levels are doc, segment, both") from error
        kept = self.recorded.layout.sets
        needed = {Level.SEGMENT: {"segments"}, Level.BOTH: {"segments", "documents"}}.get(chosen, set())
        if not needed <= set(kept):
            raise UsageError(f"the collection keeps vectors of {', '.join(kept)} only; search with another level")
        return chosen

    def _conditions(self, wanted: Filter | None) -> list[Condition]:
        conditions, whole = conditions_of(wanted)
        if not whole or not all(self.backend.accepts(one) for one in conditions):
            raise UsageError(
                f"{self.backend.name} can filter by fields that equal texts, numbers or truth values; for other "
                "filters search with the index folder at hand"
            )
        return conditions

    def _nearest(self, which: VectorSet, vector: Floats, k: int, conditions: Sequence[Condition]) -> list[int]:
        found = self.backend.search(which, vector[None], min(k, self.backend.limit), conditions)
        self.usage.note(which, found.applied)
        keys = found.hits.rows[0]
        return [int(key) for key in keys[keys != NO_HIT]]

    def _segments(self, vector: Floats, k: int, conditions: Sequence[Condition]) -> list[Hit]:
        found = self.backend.search("segments", vector[None], k, conditions)
        self.usage.note("segments", found.applied)
        keys = found.hits.rows[0]
        wanted = [int(key) for key in keys[keys != NO_HIT]]
        rows = {row.key: row for row in self.backend.fetch("segments", "key", wanted)}
        scores = found.hits.scores[0].tolist()
        # what is deleted between search and fetch is not there any more
        there = [(rows[key], score) for key, score in zip(wanted, scores, strict=False) if key in rows]
        return [_hit(at, row, score) for at, (row, score) in enumerate(there, 1)]

    def _documents(self, vector: Floats, k: int, conditions: Sequence[Condition]) -> list[Hit]:
        """Candidates by segments and by whole documents, then exact scores from all their segments."""
        sets = self.recorded.layout.sets
        pool = max(POOL, k)
        found = self._owners(vector, pool, conditions) if "segments" in sets else []
        if "documents" in sets:
            found += self._nearest("documents", vector, pool, conditions)
        documents = sorted(set(found))
        if not documents:
            return []
        wholes = {row.key: row for row in self._fetch("documents", documents)} if "documents" in sets else {}
        parts: dict[int, list[Stored]] = defaultdict(list)
        for row in self._fetch("segments", documents) if "segments" in sets else ():
            parts[row.document].append(row)
        # what is deleted at this moment is not there any more
        documents = [key for key in documents if (key in parts or not parts) and (key in wholes or not wholes)]
        if not documents:
            return []
        if not parts:
            scores = _matrix([wholes[key] for key in documents]) @ vector
            best = [wholes[key] for key in documents]
        else:
            scores, best = self._scored(vector, documents, parts, wholes)
        order = np.lexsort((np.array(documents), -scores))[:k]
        return [_hit(at, best[place], float(scores[place])) for at, place in enumerate(order.tolist(), 1)]

    def _scored(
        self, vector: Floats, documents: Sequence[int], parts: Mapping[int, list[Stored]], wholes: Mapping[int, Stored]
    ) -> tuple[Floats, list[Stored]]:
        rows = [row for key in documents for row in parts[key]]
        offsets = np.concatenate([[0], np.cumsum([len(parts[key]) for key in documents])]).astype(np.int64)
        similar = _matrix(rows) @ vector
        whole = _matrix([wholes[key] for key in documents]) @ vector if wholes else None
        scores, winners = score_documents(similar, offsets, whole, self.scoring)
        return scores, [rows[at] for at in winners.tolist()]

    def _owners(self, vector: Floats, wanted: int, conditions: Sequence[Condition]) -> list[int]:
        """Documents of the nearest segments: more segments are asked for while few documents own them all."""
        depth = min(wanted * SEGMENTS_PER_DOCUMENT, self.backend.limit)
        while True:
            keys = self._nearest("segments", vector, depth, conditions)
            owner = {row.key: row.document for row in self.backend.fetch("segments", "key", keys)}
            owners = list(dict.fromkeys(owner[key] for key in keys if key in owner))
            if len(owners) >= wanted or len(keys) < depth or depth == self.backend.limit:
                return owners[:wanted]
            depth = min(depth * GROWTH, self.backend.limit)

    def _fetch(self, which: VectorSet, documents: Sequence[int]) -> list[Stored]:
        return self.backend.fetch(which, "document", documents, vectors=True)


def _matrix(rows: Sequence[Stored]) -> Floats:
    """The vectors of rows, (n, D)."""
    return np.array([row.vector for row in rows], np.float32)


def _hit(rank: int, row: Stored, score: float) -> RemoteHit:
    span = Span(row.start, row.end, row.text or "")
    stages = {"dense": score, "dense_rank": float(rank)}
    return RemoteHit(rank, row.doc_id, score, span, stages, row.metadata)
