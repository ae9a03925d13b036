"""Brings an engine to the state of an index folder: only what changed is sent.

Shards are immutable and named by their content.  Those that the engine lacks are loaded, those that the folder lacks
are removed, and of those in both the rows that died since.  What is done is noted shard by shard, so a load that was
killed goes on; ``content`` is noted last, when the engine's own counts agree with the folder.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unabridged.contracts import JSON, Floats, Mask, Rows
from unabridged.errors import BackendMismatch, PassportMismatch
from unabridged.index.backends import Batch, Layout, Loaded, Recorded, SearchBackend
from unabridged.index.backends.contract import VectorSet
from unabridged.index.shard import Shard
from unabridged.manifest import fingerprint
from unabridged.retrievers.backends.rows import EngineRows, stored_vectors
from unabridged.retrievers.dense import kept_sets
from unabridged.retrievers.lock import locked
from unabridged.retrievers.opened import Index
from unabridged.retrievers.state import IndexState

BATCH_DOCUMENTS, BATCH_SEGMENTS = 2_048, 8_192
RECALL_QUERIES, RECALL_K = 32, 10
RECALL_ROWS = 20_000_000
"""Vectors above which recall is not measured here: the exact answers would take longer than the load."""

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a load did.  Rates are rows per second of the time spent in sending them."""

    backend: str
    address: str
    generation: int
    loaded_shards: int = 0
    removed_shards: int = 0
    kept_shards: int = 0
    documents: int = 0
    segments: int = 0
    removed_rows: int = 0
    load_seconds: float = 0.0
    finish_seconds: float = 0.0
    rows_per_second: float = 0.0
    recall_at_10: float | None = None
    """Against an exact scan, of stored vectors asked as queries; None where it would say nothing."""
    recall_note: str = ""
    structure: Mapping[str, JSON] = field(default_factory=dict)

    def as_json(self) -> dict[str, JSON]:
        """Plain values."""
        return asdict(self)


def content_of(state: IndexState) -> str:
    """The fingerprint of what an engine must hold for a state: encoder, shards in their order, deletions."""
    deleted = None if state.deleted is None else state.deleted["sha256"]
    shards = [entry["name"] for entry in state.shard_entries]
    return fingerprint({"encoder": state.passport.fingerprint, "shards": shards, "deleted": deleted})


def layout_of(state: IndexState, *, texts: bool = False) -> Layout:
    """What a collection for this index is made for."""
    sets: tuple[VectorSet, ...] = tuple(kept_sets(state))  # type: ignore[arg-type]
    passport, rows = state.passport, max(state.rows, state.segment_rows)
    return Layout(passport.fingerprint, passport.source, passport.dim, sets, state.settings.recipe, texts, rows)


def check_layout(recorded: Recorded, fingerprint_: str, dim: int, source: str, shown: str) -> None:
    """Raises unless the vectors of a collection are of this encoder.

    Raises:
        PassportMismatch: with both fingerprints.
    """
    found = recorded.layout
    if (found.passport, found.dim) != (fingerprint_, dim):
        raise PassportMismatch(
            f"{shown} holds vectors of {found.source} ({found.dim} dimensions, {found.passport[:16]}), expected those "
            f"of {source} ({dim} dimensions, {fingerprint_[:16]}). Name another collection, or drop that one."
        )


def sync(index: Index, backend: SearchBackend, *, texts: bool = False, tell: Told | None = None) -> LoadReport:
    """Brings ``backend`` to the state of an opened index and says what was done; ``tell`` gets a line per shard.

    Raises:
        PassportMismatch: the collection holds vectors of another encoder.
        BackendMismatch: it keeps other sets of vectors, or in the end other counts than the folder.
        IndexLocked: another process writes this folder, or loads from it.
    """
    with locked(index.folder):
        return _Sync(index, backend, texts, tell or (lambda _: None)).run()


class _Sync:
    """One load."""

    def __init__(self, index: Index, backend: SearchBackend, texts: bool, tell: Told) -> None:
        self.index, self.backend, self.tell = index, backend, tell
        self.state = index.state
        self.layout = layout_of(self.state, texts=texts)
        self.names = [str(entry["name"]) for entry in self.state.shard_entries]
        self.removed_rows = 0

    def run(self) -> LoadReport:
        recorded = self._recorded()
        content = content_of(self.state)
        backend, state = self.backend, self.state
        if recorded.content == content:
            return self._report(recorded, recorded, 0.0, 0.0)
        backend.begin(state.generation, len(self.names), self.layout.rows)
        started = time.perf_counter()
        for name, shard, alive in self._parts():
            self._bring(name, shard, alive, recorded.shards.get(name))
        for name in set(recorded.shards) - set(self.names):
            backend.unload(name)
            self.tell(f"removed shard {name[:12]}")
        loading = time.perf_counter() - started
        self._check_counts()
        started = time.perf_counter()
        backend.finish(content, state.generation)
        after = backend.recorded()
        if after is None or after.content != content:
            raise BackendMismatch(f"{backend.shown} did not keep what was recorded there: is somebody else loading it?")
        return self._report(recorded, after, loading, time.perf_counter() - started)

    def _recorded(self) -> Recorded:
        """What the engine has, made for us where it has nothing."""
        recorded = self.backend.recorded()
        passport = self.state.passport
        if recorded is None:
            self.backend.create(self.layout)
            recorded = self.backend.recorded()
            if recorded is None:
                raise BackendMismatch(f"{self.backend.shown} did not keep the collection that was made")
        check_layout(recorded, passport.fingerprint, passport.dim, passport.source, self.backend.shown)
        if recorded.layout.sets != self.layout.sets or recorded.layout.texts != self.layout.texts:
            found = (recorded.layout.sets, recorded.layout.texts)
            raise BackendMismatch(
                f"{self.backend.shown} keeps (sets, texts) {found}, expected {(self.layout.sets, self.layout.texts)}: "
                "name another collection, or give texts= as it was"
            )
        return recorded

    def _parts(self) -> Iterator[tuple[str, Shard, Mask]]:
        """Each shard with its living documents that are not empty."""
        base = 0
        alive = self.index.searched
        for name, shard in zip(self.names, self.index.shards, strict=True):
            size = len(shard.array("keys"))
            yield name, shard, np.ones(size, bool) if alive is None else alive[base : base + size]
            base += size

    def _bring(self, name: str, shard: Shard, alive: Mask, old: Loaded | None) -> None:
        dead = np.flatnonzero(~alive).astype(np.int64)
        mark = hashlib.sha256(dead.tobytes()).hexdigest()[:32]
        if old is None or not old.done:
            done = self.backend.load(name, batches_of(shard, alive, self.layout), mark)
            self.tell(f"loaded shard {name[:12]}: {done.documents:,} documents, {done.segments:,} segments")
        elif old.dead != mark:
            done = self.backend.remove(name, dead, segments_of(shard, dead), mark)
            gone = {"documents": old.documents - done.documents, "segments": old.segments - done.segments}
            self.removed_rows += sum(gone[which] for which in self.layout.sets)
            self.tell(f"removed {gone['documents']:,} dead documents of shard {name[:12]}")

    def _check_counts(self) -> None:
        """Raises unless the engine counts as many rows as are alive."""
        expected = {"documents": 0, "segments": 0}
        for _, shard, alive in self._parts():
            expected["documents"] += int(alive.sum())
            expected["segments"] += len(segments_of(shard, np.flatnonzero(alive)))
        for which in self.layout.sets:
            found = self.backend.count(which)
            if found != expected[which]:
                raise BackendMismatch(
                    f"{self.backend.shown} counts {found:,} {which}, the folder has {expected[which]:,}: the load is "
                    "not whole, or somebody else wrote there. Drop the collection and run the same command again."
                )

    def _report(self, before: Recorded, after: Recorded, loading: float, finishing: float) -> LoadReport:
        new = {name: one for name, one in after.shards.items() if before.shards.get(name) is not one}
        new = {n: one for n, one in new.items() if n not in before.shards or not before.shards[n].done}
        documents, segments = (sum(getattr(one, kind) for one in new.values()) for kind in ("documents", "segments"))
        sent = documents * ("documents" in self.layout.sets) + segments * ("segments" in self.layout.sets)
        recall, note = measure_recall(self.index, self.backend) if loading else (None, "nothing was loaded")
        return LoadReport(
            self.backend.name,
            self.backend.shown,
            after.generation,
            len(new),
            len(set(before.shards) - set(self.names)),
            len(after.shards) - len(new),
            documents,
            segments,
            self.removed_rows,
            round(loading, 3),
            round(finishing, 3),
            round(sent / loading, 1) if sent and loading else 0.0,
            recall,
            note,
            {which: dict(self.backend.structure(which)) for which in self.layout.sets},
        )


def batches_of(shard: Shard, alive: Mask, layout: Layout) -> Iterator[Batch]:
    """The living documents of a shard, some thousand at a time."""
    ends = np.asarray(shard.array("segment_ends"))
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    group: list[int] = []
    held = 0
    for row in np.flatnonzero(alive).tolist():
        group.append(row)
        held += int(ends[row] - starts[row])
        if held >= BATCH_SEGMENTS or len(group) >= BATCH_DOCUMENTS:
            yield _batch(shard, np.array(group, np.int64), starts, ends, layout)
            group, held = [], 0
    if group:
        yield _batch(shard, np.array(group, np.int64), starts, ends, layout)


def segments_of(shard: Shard, documents: Rows) -> Rows:
    """The segment rows of some documents of a shard."""
    ends = np.asarray(shard.array("segment_ends"), np.int64)
    last = ends[documents]
    counts = last - np.where(documents > 0, ends[documents - 1], 0)
    packed = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    rows: Rows = np.arange(packed[-1]) - np.repeat(packed[:-1] - (last - counts), counts)
    return rows


def _batch(shard: Shard, documents: Rows, starts: Rows, ends: Rows, layout: Layout) -> Batch:
    segments = segments_of(shard, documents)
    counts = (ends - starts)[documents]
    owners = np.repeat(np.arange(len(documents)), counts)
    texts = None
    if layout.texts:
        texts = tuple(
            shard.span_text(int(documents[owner]), int(segment))[2]
            for owner, segment in zip(owners, segments, strict=True)
        )
    return Batch(
        documents,
        tuple(shard.id(row) for row in documents.tolist()),
        tuple(shard.metadata(row) for row in documents.tolist()),
        np.array([len(shard.source(row)) for row in documents.tolist()], np.int64),
        owners,
        segments,
        np.asarray(shard.array("spans")[segments, :2], np.int64),
        texts,
        _vectors(shard, "segments", segments, layout),
        _vectors(shard, "documents", documents, layout),
    )


def _vectors(shard: Shard, which: VectorSet, rows: Rows, layout: Layout) -> Floats | None:
    if which not in layout.sets:
        return None
    return np.ascontiguousarray(shard.array(which)[rows], np.float32)


def measure_recall(index: Index, backend: SearchBackend) -> tuple[float | None, str]:
    """Recall at 10 of the engine, for stored vectors asked as queries, and why where there is none.

    A hit counts when its exact score reaches the exact tenth best, as for our own indexes.  Of a stand-in nothing is
    measured: it looks at every row and says nothing about the engine that it stands for.
    """
    which: VectorSet = "segments" if index.state.settings.level.has_segments else "documents"
    rows = EngineRows.of(index, backend)
    exact = stored_vectors(index, which)
    allowed = np.flatnonzero(rows.living(which))
    if backend.stand_in:
        return None, f"{backend.name} is a stand-in: its recall says nothing about the engine"
    if not len(allowed) or len(allowed) > RECALL_ROWS:
        return None, f"not measured for {len(allowed):,} vectors"
    sample = np.sort(np.random.default_rng(0).choice(allowed, min(RECALL_QUERIES, len(allowed)), replace=False))
    queries = exact.gather(sample)
    k = min(RECALL_K, len(allowed))
    best = exact.search(queries, k, rows.living(which))
    found = backend.search(which, queries, k)
    got = exact.score(queries, rows.to_index(which, found.hits.rows))
    # what half precision cannot tell apart is equal
    reached = got >= best.scores[:, k - 1 : k] - backend.tolerance
    return round(float(np.mean(reached)), 4), f"{len(queries)} stored vectors asked as queries"


def missing(recorded: Recorded, state: IndexState) -> Sequence[str]:
    """The shards of a state that a collection lacks."""
    return [
        str(entry["name"])
        for entry in state.shard_entries
        if entry["name"] not in recorded.shards or not recorded.shards[entry["name"]].done
    ]


def check_content(recorded: Recorded | None, state: IndexState, shown: str, folder: Path) -> Recorded:
    """What is recorded, where it is this state of the folder.

    Raises:
        PassportMismatch: vectors of another encoder.
        BackendMismatch: nothing is there, the load is unfinished, or it is another state.
    """
    again = f"Run: unabridged index SOURCES --out {folder} --backend {shown}"
    if recorded is None:
        raise BackendMismatch(f"{shown} holds no collection of this index. {again}")
    passport = state.passport
    check_layout(recorded, passport.fingerprint, passport.dim, passport.source, shown)
    if recorded.content == content_of(state):
        return recorded
    lacking = len(missing(recorded, state))
    if not recorded.content:
        done = len(state.shard_entries) - lacking
        raise BackendMismatch(
            f"The load of {shown} is not finished: {done} of {len(state.shard_entries)} shards are there. It goes on "
            f"where it stopped. {again}"
        )
    raise BackendMismatch(
        f"{shown} holds generation {recorded.generation} of an index, the folder is at generation "
        f"{state.generation}; {lacking} of its shards are missing there. {again}"
    )


def facts(recorded: Recorded) -> dict[str, Any]:
    """What is told of a collection."""
    return {
        "generation": recorded.generation,
        "shards": len(recorded.shards),
        "documents": sum(one.documents for one in recorded.shards.values()),
        "segments": sum(one.segments for one in recorded.shards.values()),
        "passport": recorded.layout.passport,
    }
