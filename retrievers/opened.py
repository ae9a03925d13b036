"""An index folder, opened for search."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from unabridged.contracts import NO_HIT, Encoder, Floats, Hit, Level, Mask, Rows, Span
from unabridged.encoders.load import check_passport
from unabridged.errors import EmptyIndex, PassportMismatch, UsageError
from unabridged.index.dense.gpu import Placement, checked, noted
from unabridged.index.lexical.searcher import LexicalIndex
from unabridged.index.shard import LEXICAL, Shard
from unabridged.manifest import check_hashes, load_manifest
from unabridged.retrievers.build import BuildReport
from unabridged.retrievers.dense import open_dense
from unabridged.retrievers.dense_stage import DenseStage
from unabridged.retrievers.filters import Filter, MetadataColumns
from unabridged.retrievers.fuse import fuse_rankings
from unabridged.retrievers.known import Known
from unabridged.retrievers.ledger import LedgerLine, read_ledger
from unabridged.retrievers.lexical import analyzer_of
from unabridged.retrievers.lexical_stage import LexicalStage
from unabridged.retrievers.ranking import Ranking
from unabridged.retrievers.result import Mode, RankedList, SearchResult
from unabridged.retrievers.rows import RowMap
from unabridged.retrievers.scoring import DEFAULT_SCORING, DocumentScoring, Fusion
from unabridged.retrievers.state import IndexState
from unabridged.retrievers.together import together
from unabridged.retrievers.verified import check_files

DEPTH = 100
"""Documents (or segments) that each ranking brings to a fusion, at least; twice ``k`` when that is more."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """A checked search of Q queries."""

    queries: tuple[tuple[str, Floats | None], ...]  # (Q,) with vectors (D,) unless words alone are searched
    k: int
    mode: Mode
    level: Level
    allow: Mask | None
    encoding_ms: float
    """For one query."""
    wanted: Filter | None = None
    """The filter that ``allow`` came from, for who can apply it by itself."""
    stage: DenseStage | None = None
    """For searches by vector."""
    dense_ms: float = 0.0
    """For one query, of what was asked for all of them together."""
    notes: tuple[str, ...] = ()
    """Of the same."""


class Index:
    """A read-only view of one commit of an index folder.

    Opening checks the manifest and every file (their bytes only when something may have touched them, see
    ``verified``) and maps the files; nothing is loaded.  The
    encoder is loaded from the passport at the first dense search.  Searches may run in several threads.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        encoder: Encoder | None = None,
        scoring: DocumentScoring = DEFAULT_SCORING,
        fusion: Fusion | None = None,
        verify: bool | None = None,
        build_report: BuildReport | None = None,
        device: str = "auto",
    ) -> None:
        self.folder = Path(folder)
        self.build_report = build_report
        self.device = checked(device)
        self.state = IndexState.from_manifest(load_manifest(self.folder))
        check_files(self.folder, self.state, verify=verify)
        if encoder is not None:
            check_passport(self.state.passport, encoder.passport)
            self.__dict__["encoder"] = encoder
        self.scoring = scoring
        self.fusion = fusion or Fusion()
        self.shards = self.state.shards(self.folder)
        entries = self.state.shard_entries
        self.rows = RowMap(self.shards, [e["documents"] for e in entries], [e["segments"] for e in entries])
        self._columns = MetadataColumns(self.shards)
        self._closed = False

    def __len__(self) -> int:
        return int(self.state.summary()["documents"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives back every mapped file, so that the folder can be moved or removed anywhere; searching ends here."""
        for name in ("dense", "lexical", "_known", "_alive", "_searched"):
            self.__dict__.pop(name, None)
        self._closed = True
        self.shards = []
        self.rows = RowMap([], [], [])
        self._columns = MetadataColumns([])

    @property
    def report(self) -> dict[str, Any]:
        """Counts, coverage, recipe and measured recall; after a build also what that build did."""
        return self.state.summary() if self.build_report is None else self.build_report.as_json()

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder of the index, loaded again from its passport and checked against it."""
        from unabridged.encoders.load import encoder_from_passport

        return encoder_from_passport(self.state.passport)

    @cached_property
    def _alive(self) -> Mask | None:
        return None if self.state.deleted is None else self.state.alive(self.folder)

    @cached_property
    def _searched(self) -> Mask | None:
        """Living documents that are not empty, ``(N,)`` bool; None: all.  See :mod:`unabridged.retrievers.ledger`."""
        if not any(entry.get("empty") for entry in self.state.shard_entries):
            return self._alive
        read = np.concatenate([~shard.empty for shard in self.shards])
        return read if self._alive is None else read & self._alive

    @property
    def searched(self) -> Mask | None:
        """The documents that a search may find, ``(N,)`` bool: alive and not empty; None: all."""
        return self._searched

    @cached_property
    def dense(self) -> DenseStage:
        """Search by vector."""
        return DenseStage(self.rows, *open_dense(self.folder, self.state, self.device), self.scoring)

    @property
    def placements(self) -> dict[str, Placement]:
        """Where each vector set is searched, and why there; the first dense search, or this, puts it there."""
        places = {
            "segments": getattr(self.dense.segments, "placement", None),
            "documents": getattr(self.dense.documents, "placement", None),
        }
        return {name: place for name, place in places.items() if place is not None}

    def _stage(self, wanted: Filter | None) -> DenseStage:
        """The dense stage for a search with this filter."""
        return self.dense

    @cached_property
    def lexical(self) -> LexicalStage:
        """Search by words."""
        settings = self.state.settings
        index = LexicalIndex.open(
            [shard.folder / LEXICAL for shard in self.shards],
            analyzer_of(settings),
            variant=settings.bm25_variant,
            k1=settings.k1,
            b=settings.b,
            alive_documents=self._searched,
        )
        return LexicalStage(self.rows, index)

    def search(
        self,
        queries: Sequence[str],
        k: int = 10,
        *,
        mode: Mode | str = Mode.HYBRID,
        level: Level | str = Level.DOC,
        filter: Filter | None = None,  # noqa: A002 - the word that users of every vector store know
    ) -> list[SearchResult]:
        """The ``k`` best documents (or segments) for each query, each with the span that answers it best.

        ``level="doc"`` ranks documents by the measured default score, ``"both"`` insists on segment and document
        vectors together, ``"segment"`` ranks single windows.  Fewer than ``k`` hits come back when fewer match.

        Raises:
            UsageError: an empty query, ``k`` below 1, or a mode or level that the index cannot serve.
            EmptyIndex: the index holds no document.
        """
        asked = self._asked(queries, k, mode, level, filter)
        return [self._search(query, vector, asked) for query, vector in asked.queries]

    def rank(
        self,
        queries: Sequence[str],
        k: int = 10,
        *,
        mode: Mode | str = Mode.HYBRID,
        level: Level | str = Level.DOC,
        filter: Filter | None = None,  # noqa: A002 - as in search
    ) -> list[RankedList]:
        """The rankings of :meth:`search` alone, for evaluation.

        Of 94 ms that a hybrid query for 1,000 documents took, 84 went into finding and reading spans.

        Raises: as :meth:`search`.
        """
        asked = self._asked(queries, k, mode, level, filter)
        found = []
        for query, vector in asked.queries:
            with noted() as notes:
                final, _, timings = self._rank(query, vector, asked)
            rows = self.rows.owners(final.rows) if asked.level is Level.SEGMENT else final.rows
            places = [self.rows.locate(row) for row in rows.tolist()]
            ids = tuple(shard.id(local) for shard, local, _ in places)
            timings["total_ms"] = round(sum(timings.values()), 3)
            found.append(RankedList(query, ids, final.scores, timings, self._notes(vector, (*asked.notes, *notes))))
        return found

    def search_one(
        self,
        query: str,
        k: int = 10,
        *,
        mode: Mode | str = Mode.HYBRID,
        level: Level | str = Level.DOC,
        filter: Filter | None = None,  # noqa: A002 - as in search
    ) -> SearchResult:
        """:meth:`search` for a single query."""
        return self.search([query], k, mode=mode, level=level, filter=filter)[0]

    async def asearch_one(self, query: str, k: int = 10, **options: Any) -> SearchResult:
        """:meth:`search_one` in a worker thread, so that an event loop goes on meanwhile."""
        import asyncio

        return await asyncio.to_thread(self.search_one, query, k, **options)

    def _asked(
        self, queries: Sequence[str], k: int, mode: Mode | str, level: Level | str, wanted: Filter | None
    ) -> _Asked:
        """Everything that a search needs besides the index, checked."""
        if self._closed:
            raise UsageError(f"the index {self.folder} was closed; open it again with open_index")
        texts = queries if isinstance(queries, str) else list(queries)
        chosen = self._plan(texts, k, mode, level)
        allow = self._allow(wanted)
        started = time.perf_counter()
        vectors = self._encode(texts) if chosen[0] is not Mode.BM25 else None
        encoding = (time.perf_counter() - started) * 1000 / max(1, len(texts))
        pairs = tuple(zip(texts, itertools.repeat(None) if vectors is None else vectors, strict=False))
        asked = _Asked(pairs, min(k, max(1, self.state.segment_rows)), *chosen, allow, encoding, wanted or None)
        return asked if vectors is None else self._together(asked, vectors)

    def _together(self, asked: _Asked, vectors: Floats) -> _Asked:
        """With what a GPU can say for all queries at once."""
        started = time.perf_counter()
        with noted() as notes:
            stage = together(self._stage(asked.wanted), vectors, _depth(asked), asked.level, asked.allow)
        taken = (time.perf_counter() - started) * 1000 / max(1, len(vectors))
        return replace(asked, stage=stage, dense_ms=taken, notes=tuple(notes))

    def _plan(self, queries: Sequence[str], k: int, mode: Mode | str, level: Level | str) -> tuple[Mode, Level]:
        if isinstance(queries, str):
            raise UsageError("search takes a list of queries; for a single one use search_one")
        if not isinstance(k, int) or k < 1:
            raise UsageError(f"k is a positive whole number of hits, got {k!r}")
        for number, query in enumerate(queries):
            if not isinstance(query, str):
                raise UsageError(f"query {number + 1} is {type(query).__name__}; expected a string")
            if not query.strip():
                raise UsageError(f"query {number + 1} is empty; expected at least one word")
        try:
            chosen = Mode(mode), Level(level)
        except ValueError as error:
            raise UsageError(f"{error}; modes are dense, bm25, hybrid and levels doc, segment, both") from error
        if len(self) == 0:
            raise EmptyIndex(
                f"The index {self.folder} holds no document; add some with: unabridged index CORPUS --out DIR"
            )
        kept = self.state.settings.level
        if chosen[1] is Level.BOTH and kept is not Level.BOTH:
            raise UsageError(
                f"The index keeps level {kept.value!r} only; level='both' needs one built with --level both"
            )
        if chosen[1] is not Level.DOC and not kept.has_segments and chosen[0] is not Mode.BM25:
            raise UsageError(
                f"The index keeps vectors at level {kept.value!r} only; search with level='doc' or "
                "mode='bm25', or build it with --level both"
            )
        return chosen

    def _allow(self, wanted: Filter | None) -> Mask | None:
        alive = self._searched
        if not wanted:
            return alive
        if not isinstance(wanted, Mapping):
            raise UsageError(f"a filter is a mapping of fields to values, got {type(wanted).__name__}")
        mask = self._columns.mask(wanted)
        return mask if alive is None else mask & alive

    def _encode(self, queries: Sequence[str]) -> Floats:
        vectors = self.encoder.encode_queries(queries)
        if vectors.shape[1:] != (self.state.passport.dim,):
            raise PassportMismatch(
                f"The encoder gives vectors of width {vectors.shape[1:]}, the index has {self.state.passport.dim}"
            )
        return np.ascontiguousarray(vectors, np.float32)

    def _rank(
        self, query: str, vector: Floats | None, asked: _Asked
    ) -> tuple[Ranking, dict[str, Ranking], dict[str, float]]:
        """The first k rows, the rankings they come from, and milliseconds."""
        k, mode, level, allow = asked.k, asked.mode, asked.level, asked.allow
        timings = {"encode_ms": round(asked.encoding_ms, 3)} if vector is not None else {}
        depth = _depth(asked)
        rankings: dict[str, Ranking] = {}
        clock = time.perf_counter()
        if vector is not None:
            stage = asked.stage or self._stage(asked.wanted)
            rankings["dense"] = (
                stage.rank_documents(vector, depth, allow)
                if level is not Level.SEGMENT
                else stage.rank_segments(vector, depth, allow)
            )
            clock = _lap(timings, "dense_ms", clock)
            timings["dense_ms"] = round(timings["dense_ms"] + asked.dense_ms, 3)
        if mode is not Mode.DENSE:
            rankings["bm25"] = self.lexical.rank(query, depth, level, allow)
            clock = _lap(timings, "bm25_ms", clock)
        final = fuse_rankings(rankings, self.fusion) if len(rankings) > 1 else next(iter(rankings.values()))
        return final.top(k), rankings, timings

    def _search(self, query: str, vector: Floats | None, asked: _Asked) -> SearchResult:
        with noted() as notes:
            final, rankings, timings = self._rank(query, vector, asked)
        clock = time.perf_counter()
        hits = tuple(self._hits(query, vector, final, rankings, asked.mode, asked.level))
        _lap(timings, "finish_ms", clock)
        timings["total_ms"] = round(sum(timings.values()), 3)
        return SearchResult(query, asked.mode, hits, timings, self, self._notes(vector, (*asked.notes, *notes)))

    def _notes(self, vector: Floats | None, notes: Sequence[str]) -> tuple[str, ...]:
        """``notes``, and of a GPU that was asked for by name, which sets it does not hold.

        A note on some of the queries that a GPU was asked together stands with all of them.
        """
        if vector is None or not self.device.is_forced:
            return tuple(dict.fromkeys(notes))
        places = self.placements.items()
        absent = [f"{name}: searched on the CPU: {place.reason}" for name, place in places if not place.on_gpu]
        return (*absent, *dict.fromkeys(notes))

    def _hits(
        self, query: str, vector: Floats | None, final: Ranking, rankings: dict[str, Ranking], mode: Mode, level: Level
    ) -> Iterator[Hit]:
        places = {name: {int(row): at for at, row in enumerate(r.rows)} for name, r in rankings.items()}
        if level is Level.SEGMENT:
            segments, documents = final.rows, self.rows.owners(final.rows)
        else:
            segments, documents = self._evidence(query, vector, final.rows, mode), final.rows
        for at, (row, score) in enumerate(zip(final.rows, final.scores, strict=True)):
            stages = {}
            for name, ranking in rankings.items():
                found = places[name].get(int(row))
                if found is not None:
                    stages[name] = float(ranking.scores[found])
                    stages[f"{name}_rank"] = float(found + 1)
            document = int(documents[at])
            shard, local, _ = self.rows.locate(document)
            yield Hit(at + 1, shard.id(local), float(score), self._span(document, int(segments[at])), stages)

    def _evidence(self, query: str, vector: Floats | None, documents: Rows, mode: Mode) -> Rows:
        """For each document the segment that answers best: by vector, by words, or by both together."""
        rows, offsets = self.rows.ranges(documents)
        similar = words = None
        if vector is not None and self.dense.segments is not None:
            similar = self.dense.segments.score(vector, rows)
        if mode is not Mode.DENSE:
            words = self.lexical.index.segment_scores_of(query, documents.tolist())
        best = np.full(len(documents), NO_HIT, np.int64)
        for at, (first, last) in enumerate(itertools.pairwise(offsets.tolist())):
            scores = [] if similar is None else [similar[first:last]]
            if words is not None:
                scores.append(words[at])
            useful = [standardised(part) for part in scores if len(part) and part.max() > part.min()]
            winner = int(np.argmax(np.sum(useful, axis=0))) if useful else 0
            best[at] = rows[first + winner] if last > first and scores else NO_HIT
        return best

    def _span(self, document: int, segment: int) -> Span:
        """The text of a segment; the whole source where no segment is the evidence (a single-vector document)."""
        shard, local, base = self.rows.locate(document)
        if segment == NO_HIT:
            source = shard.source(local)
            return Span(0, len(source), source)
        return Span(*shard.span_text(local, segment - base))

    def source(self, doc_id: str) -> str:
        """The whole source text of a document, as it was indexed.

        Raises:
            UsageError: the index has no living document with this id.
        """
        shard, local = self.place(doc_id)
        return shard.source(local)

    def recorded_key(self, doc_id: str) -> bytes:
        """What was recorded of a document's source when it was indexed: 16 bytes of blake3 over its UTF-8.

        Raises:
            UsageError: the index has no living document with this id.
        """
        shard, local = self.place(doc_id)
        return shard.key(local)

    def spans(self, doc_id: str) -> list[tuple[int, int]]:
        """The characters ``[start, end)`` of each segment of a document, as they stand.

        Raises:
            UsageError: the index has no living document with this id.
        """
        shard, local = self.place(doc_id)
        first, last = shard.segment_range(local)
        return [(int(start), int(end)) for start, end in shard.array("spans")[first:last, :2]]

    def place(self, doc_id: str) -> tuple[Shard, int]:
        """The shard that holds a document, and its row there.

        Raises:
            UsageError: the index has no living document with this id, or was closed.
        """
        if self._closed:
            raise UsageError(f"the index {self.folder} was closed; open it again with open_index")
        rows = self._known.find_ids(doc_id)
        if not rows:
            raise UsageError(f"The index {self.folder} has no document with id {doc_id!r}")
        shard, local, _ = self.rows.locate(rows[0])
        return shard, local

    @cached_property
    def _known(self) -> Known:
        return Known(self.shards, self._alive)

    def ledger(self) -> Iterator[LedgerLine]:
        """What was read of every living document, in index order."""
        return read_ledger(self.shards, self._alive, self.state.settings.overflow.value)

    def verify(self) -> None:
        """Reads every byte and checks it against the manifest.

        Raises:
            ManifestMismatch: naming the first file that is not what it was.
        """
        check_hashes(self.folder, self.state.files())


def _depth(asked: _Asked) -> int:
    """Documents (or segments) that each ranking brings."""
    return asked.k if asked.mode is not Mode.HYBRID else max(DEPTH, 2 * asked.k)


def standardised(scores: Floats) -> Floats:
    """Zero mean, unit deviation: two kinds of scores over one document's segments become comparable."""
    result: Floats = (scores - scores.mean()) / scores.std()
    return result


def _lap(timings: dict[str, float], name: str, since: float) -> float:
    """Notes the milliseconds since a moment and returns the present one."""
    now = time.perf_counter()
    timings[name] = round((now - since) * 1000, 3)
    return now
