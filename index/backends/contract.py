"""What a search engine does for us, and the values that go to and come from it.

Letters: B documents, S segments of them, packed; D width; Q queries, K hits.

Rows have integer keys: the number that the engine gave to a shard, times 2^32, plus the row inside the shard.  Shards
are immutable and named by their content, so a key never changes its meaning, a shard that was loaded in part is
replaced whole, and a hit leads back to our own row without any text in between.

There is no update of a single document, and no deletion by id alone: an index folder updates by a new shard and a row
that is dead, and an engine that could be changed beside its folder would answer differently from it.  ``load``,
``remove`` and ``unload`` are those two steps, for which :mod:`unabridged.retrievers.backends.load` calls them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from unabridged.contracts import JSON, NO_HIT, Floats, Hits, Rows
from unabridged.errors import BackendMismatch, ShapeError, UsageError
from unabridged.index.backends.conditions import Condition

VectorSet: TypeAlias = Literal["segments", "documents"]
Column: TypeAlias = Literal["key", "document"]
SHARD_BITS = 32
FORMAT, VERSION = "unabridged-backend", 1


def keys_of(shard: int, rows: Rows) -> Rows:
    """The keys of ``rows`` of the shard with number ``shard``, int64."""
    return (np.int64(shard) << SHARD_BITS) + np.asarray(rows, np.int64)


@dataclass(frozen=True, slots=True)
class Layout:
    """What a collection is made for.  ``recipe`` is a name or factory string of :mod:`unabridged.index.recipe`."""

    passport: str
    """Fingerprint of the encoder."""
    source: str
    """How people call the encoder."""
    dim: int
    sets: tuple[VectorSet, ...]
    recipe: str
    texts: bool
    rows: int = 0
    """Vectors to expect in the larger set, by which ``auto`` chooses an index."""
    scoring: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Loaded:
    """One shard in an engine: its number, living rows, and a hash over the rows that were left out as dead.

    ``done`` is False for one whose load broke off.
    """

    number: int
    documents: int
    segments: int
    dead: str
    done: bool = True


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a collection says about itself.

    ``content`` is the fingerprint of the index state that it holds, nothing while a load is unfinished.
    """

    layout: Layout
    content: str
    generation: int
    expected: int
    """Shards that the state has, or is to have when the load is finished."""
    shards: Mapping[str, Loaded]


@dataclass(frozen=True, slots=True)
class Batch:
    """Some documents of one shard, all of them alive and not empty; rows are rows of that shard."""

    documents: Rows  # (B,)
    ids: tuple[str, ...]  # (B,)
    metadata: tuple[bytes, ...]  # (B,) JSON objects
    lengths: Rows  # (B,) characters of each source
    owners: Rows  # (S,) position in this batch, 0 to B - 1
    segments: Rows  # (S,)
    spans: Rows  # (S, 2) characters
    texts: tuple[str, ...] | None  # (S,)
    segment_vectors: Floats | None  # (S, D)
    document_vectors: Floats | None  # (B, D)


@dataclass(frozen=True, slots=True)
class Applied:
    """What an engine did, as opposed to what it was asked for.

    ``index`` is the structure that answered, ``settings`` its own numbers, ``exact`` whether every matching row was
    looked at, ``reason`` why something else was done than was asked for.
    """

    index: str
    settings: Mapping[str, JSON]
    returned: int
    """Hits of all queries together."""
    exact: bool
    reason: str = ""

    def as_json(self) -> dict[str, JSON]:
        """Plain values; nothing that is empty."""
        return {name: value for name, value in asdict(self).items() if value not in ("", {})}


@dataclass(frozen=True, slots=True)
class Found:
    """Keys (Q, K) int64 and the engine's own scores, best first; of less precision than ours."""

    hits: Hits
    applied: Applied


@dataclass(frozen=True, slots=True)
class Stored:
    """One row of an engine.  ``vector`` is there where it was asked for, ``text`` where it was loaded."""

    key: int
    document: int
    doc_id: str
    start: int
    end: int
    metadata: Mapping[str, JSON]
    text: str | None
    vector: Floats | None


class SearchBackend(Protocol):
    """A collection of one engine.  Scores are inner products: higher is better.  Threads may share it."""

    name: str
    """``milvus``, ``milvus-lite`` or ``pgvector``."""
    shown: str
    """Its address, without an account."""
    limit: int
    """Most hits of one search."""
    tolerance: float
    """What the engine's score of a unit vector may differ from the exact one, about five deviations."""
    stand_in: bool
    """Whether it answers by other means than the server of its name, so that its recall says nothing of that."""

    def recorded(self) -> Recorded | None:
        """What the collection says about itself; None where there is none.

        Raises:
            BackendMismatch: there is something of that name which is not ours.
        """

    def create(self, layout: Layout) -> None:
        """Makes an empty collection.

        Raises:
            UsageError: a width that the engine cannot hold.
        """

    def begin(self, generation: int, expected: int, rows: int) -> None:
        """Notes that a load goes on, of a state with ``expected`` shards and ``rows`` vectors in the larger set."""

    def load(self, shard: str, batches: Iterable[Batch], dead: str) -> Loaded:
        """Writes the rows of a shard, in place of what an unfinished load left of it, then its name."""

    def remove(self, shard: str, documents: Rows, segments: Rows, dead: str) -> Loaded:
        """Removes rows of a shard that died since."""

    def unload(self, shard: str) -> None:
        """Removes a whole shard."""

    def finish(self, content: str, generation: int) -> None:
        """Builds the search structure where there is none, makes all durable and notes that the load is whole."""

    def accepts(self, condition: Condition) -> bool:
        """Whether the engine can apply a condition without leaving out any document that matches."""

    def count(self, which: VectorSet, conditions: Sequence[Condition] = ()) -> int:
        """Rows that match."""

    def search(self, which: VectorSet, queries: Floats, k: int, conditions: Sequence[Condition] = ()) -> Found:
        """About the best ``k`` rows of each query, (Q, k); as many as match, up to ``k``.

        Raises:
            UsageError: ``k`` above :attr:`limit`, or a condition that it does not accept.
        """

    def fetch(self, which: VectorSet, column: Column, keys: Sequence[int], *, vectors: bool = False) -> list[Stored]:
        """All rows with these keys of their own (``key``) or of their document (``document``), by key."""

    def structure(self, which: VectorSet) -> Mapping[str, JSON]:
        """The search structure as the engine itself describes it."""

    def drop(self) -> None:
        """Removes the collection."""

    def close(self) -> None:
        """Ends the connection."""


def recorded_from(body: Any, shards: Mapping[str, Loaded], place: str) -> Recorded:
    """What an engine recorded, from the JSON that :func:`recorded_as` made.

    Raises:
        BackendMismatch: it is not ours, or of a later format.
    """
    if not isinstance(body, dict) or body.get("format") != FORMAT or body.get("version") != VERSION:
        raise BackendMismatch(
            f"The collection at {place} was not made by this release: it is recorded as "
            f"{body.get('format') if isinstance(body, dict) else type(body).__name__!r}, expected {FORMAT} {VERSION}. "
            "Name another collection."
        )
    facts = dict(body["layout"])
    layout = Layout(**{**facts, "sets": tuple(facts["sets"])})
    return Recorded(layout, body["content"], body["generation"], body["expected"], shards)


def recorded_as(layout: Layout, content: str, generation: int, expected: int) -> dict[str, JSON]:
    """The JSON that an engine keeps of a collection."""
    facts = {**asdict(layout), "sets": list(layout.sets)}
    body = {"layout": facts, "content": content, "generation": generation, "expected": expected}
    return {"format": FORMAT, "version": VERSION, **body}


def checked_queries(queries: Floats, dim: int, k: int, limit: int) -> Floats:
    """Queries (Q, D) as contiguous float32.

    Raises:
        ShapeError: another shape than (Q, D), or a value that is not finite.
        UsageError: ``k`` below 1 or above ``limit``.
    """
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= limit:
        raise UsageError(f"k is a whole number from 1 to {limit:,} here, got {k!r}")
    floats: Floats = np.ascontiguousarray(queries, np.float32)
    if floats.ndim != 2 or floats.shape[1] != dim:
        raise ShapeError(f"queries must be (Q, {dim}), found {np.shape(queries)}")
    if not bool(np.isfinite(floats).all()):
        raise ShapeError("a query holds NaN or an infinite value")
    return floats


def place_hits(keys: Rows, scores: Floats, found: Sequence[tuple[int, float]]) -> None:
    """Writes one query's hits into lines (K,): best first, equal scores by key, then ``NO_HIT`` and -inf.

    Engines give equal scores in any order, and an iterative scan of pgvector may be slightly out of order.
    """
    rows = np.array([key for key, _ in found], np.int64)
    values = np.array([score for _, score in found], np.float32)
    order = np.lexsort((rows, -values))
    keys[:], scores[:] = NO_HIT, -np.inf
    keys[: len(rows)], scores[: len(rows)] = rows[order], values[order]
