"""Milvus as an engine: a server or cluster, or Milvus Lite, which is a file of this machine.

Three collections carry the name: ``NAME_segments`` and ``NAME_documents`` with float32 vectors, ``NAME_ledger`` with
what is loaded.  Milvus has no transactions: a shard is noted as begun, written, then noted as done; one that was only
begun is emptied and written anew.  Scores are inner products.

Milvus Lite is a stand-in for the server's interface: it goes through all rows in Python for every search, and the
FAISS structures that it keeps for each of its own segments save it nothing.  So an exact scan is asked of it whatever
the recipe, which is what is reported, and no recall or speed of it is told as Milvus's.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from unabridged._extras import require
from unabridged.contracts import JSON, NO_HIT, Floats, Hits, Rows
from unabridged.errors import BackendMismatch, UsageError
from unabridged.index.backends._milvus import EXTRA, accepts, connected, expression, milvus_errors, timeout_of
from unabridged.index.backends._milvus_rows import LONGEST_TEXT, rows_of, stored
from unabridged.index.backends.address import Address
from unabridged.index.backends.conditions import Condition
from unabridged.index.backends.contract import (
    SHARD_BITS,
    Applied,
    Batch,
    Column,
    Found,
    Layout,
    Loaded,
    Recorded,
    Stored,
    VectorSet,
    checked_queries,
    keys_of,
    place_hits,
    recorded_as,
    recorded_from,
)
from unabridged.index.backends.recipes import EngineIndex, milvus_index

SERVER_LIMIT = 16_384
"""Most hits of a query, and most queries of a call; Lite does not enforce it, and is held to it all the same."""
WIDEST = 32_768
CALL_BYTES = 16 << 20
"""Bytes of one insertion; the server takes 64 MiB."""
KEYS_AT_ONCE = 4_096
"""Keys of one deletion."""
HITS_AT_ONCE = 200_000
"""Hits of all queries of one call."""
PAGE = 1_000
"""Rows of one page of an unlimited query."""
STATE = "state"


class MilvusBackend:
    """One collection of a Milvus server, cluster or file."""

    limit = SERVER_LIMIT
    tolerance = 2e-6

    def __init__(self, address: Address) -> None:
        self.address = address
        self.shown = address.shown
        self.stand_in = bool(address.path)
        self.name = "milvus-lite" if self.stand_in else "milvus"
        self._timeout = timeout_of(address)
        self._lock = threading.RLock()
        self._client = connected(address)
        self._layout: Layout | None = None

    def recorded(self) -> Recorded | None:
        """See :class:`SearchBackend`."""
        with self._lock, milvus_errors(self.address):
            names = {self._name(ending) for ending in ("segments", "documents", "ledger")}
            there = set(self._client.list_collections()) & names
            if not there:
                return None
            if self._name("ledger") not in there:
                raise BackendMismatch(
                    f"{self.shown} has collections {', '.join(sorted(there))} that unabridged did not make: name "
                    "another collection"
                )
            for name in sorted(there):
                self._client.load_collection(name)  # a collection that nobody has asked since a start is not in memory
            entries = self._ledger()
            if not entries and len(there) == 1:
                return None  # a creation that broke off at its first step
            body = entries.pop(STATE, None)
            found = recorded_from(body, {name: _loaded(entry) for name, entry in entries.items()}, self.shown)
            self._layout = found.layout
            return found

    def create(self, layout: Layout) -> None:
        """See :class:`SearchBackend`."""
        if not 2 <= layout.dim <= WIDEST:
            raise UsageError(f"Milvus holds vectors of width 2 to {WIDEST:,}, these are {layout.dim:,}")
        self._wanted(layout)
        with self._lock, milvus_errors(self.address):
            if not self._client.has_collection(self._name("ledger")):
                name = {"is_primary": True, "max_length": 256}
                schema = self._schema([("name", "VARCHAR", name), ("entry", "JSON", {})], 2)
                self._create("ledger", schema, EngineIndex("FLAT"), "L2")
            self._layout = layout
            self.save(recorded_as(layout, "", 0, 0))
            self._make_sets(layout)

    def begin(self, generation: int, expected: int, rows: int) -> None:
        """See :class:`SearchBackend`."""
        with self._lock, milvus_errors(self.address):
            self._layout = replace(self._made, rows=rows)
            self.save(recorded_as(self._layout, "", generation, expected))
            self._make_sets(self._layout)

    def load(self, shard: str, batches: Iterable[Batch], dead: str) -> Loaded:
        """See :class:`SearchBackend`.  Rows are written by key, so that an insertion sent twice is there once."""
        with self._lock, milvus_errors(self.address):
            entries = self._ledger()
            entries.pop(STATE, None)
            old = entries.get(shard)
            number = old["number"] if old else max((e["number"] for e in entries.values()), default=0) + 1
            if old is not None:
                self._empty(number)
            self._note(shard, {"number": number, "documents": 0, "segments": 0, "dead": dead, "done": False})
            documents = segments = 0
            for batch in batches:
                self._insert(number, batch)
                documents += len(batch.documents)
                segments += len(batch.segments)
            done = Loaded(number, documents, segments, dead)
            self._note(shard, _entry(done))
            return done

    def remove(self, shard: str, documents: Rows, segments: Rows, dead: str) -> Loaded:
        """See :class:`SearchBackend`."""
        with self._lock, milvus_errors(self.address):
            before = _loaded(self._ledger()[shard])
            layout = self._made
            self._delete("documents", keys_of(before.number, documents))
            self._delete("segments", keys_of(before.number, segments))
            counts = {which: self._count(which, _range(before.number)) for which in layout.sets}
            after = Loaded(
                before.number,
                counts.get("documents", before.documents - len(documents)),
                counts.get("segments", before.segments - len(segments)),
                dead,
            )
            self._note(shard, _entry(after))
            return after

    def unload(self, shard: str) -> None:
        """See :class:`SearchBackend`."""
        with self._lock, milvus_errors(self.address):
            entry = self._ledger().get(shard)
            if entry is not None:
                self._empty(entry["number"])
                self._client.delete(self._name("ledger"), ids=[shard])

    def finish(self, content: str, generation: int) -> None:
        """See :class:`SearchBackend`."""
        with self._lock, milvus_errors(self.address):
            layout = self._made
            for which in layout.sets:
                self._client.flush(self._name(which))
            expected = len(self._ledger()) - 1
            self.save(recorded_as(layout, content, generation, expected))
            self._client.flush(self._name("ledger"))

    def accepts(self, condition: Condition) -> bool:
        """See :func:`unabridged.index.backends._milvus.accepts`."""
        return accepts(condition, lite=self.stand_in)

    def count(self, which: VectorSet, conditions: Sequence[Condition] = ()) -> int:
        """See :class:`SearchBackend`."""
        self._check(conditions)
        with self._lock, milvus_errors(self.address):
            return self._count(which, expression(conditions))

    def search(self, which: VectorSet, queries: Floats, k: int, conditions: Sequence[Condition] = ()) -> Found:
        """See :class:`SearchBackend`."""
        layout = self._made
        floats = checked_queries(queries, layout.dim, k, self.limit)
        self._check(conditions)
        plan = self._wanted(layout)
        settings = _search_settings(plan, k)
        keys = np.full((len(floats), k), NO_HIT, np.int64)
        scores = np.full((len(floats), k), -np.inf, np.float32)
        step = max(1, min(SERVER_LIMIT, HITS_AT_ONCE // k))
        with self._lock, milvus_errors(self.address):
            for start in range(0, len(floats), step):
                part = floats[start : start + step]
                lines = self._client.search(
                    self._name(which),
                    data=list(part),
                    limit=k,
                    filter=expression(conditions),
                    output_fields=["key"],
                    search_params={"metric_type": "IP", "params": settings},
                    anns_field="vector",
                    timeout=max(self._timeout, 600.0),
                )
                for at, line in enumerate(lines, start):
                    place_hits(keys[at], scores[at], [(int(hit["key"]), float(hit["distance"])) for hit in line])
        exact = plan.kind == "FLAT"
        returned = int((keys != NO_HIT).sum())
        return Found(Hits(keys, scores), Applied(plan.kind, {} if exact else settings, returned, exact, plan.note))

    def fetch(self, which: VectorSet, column: Column, keys: Sequence[int], *, vectors: bool = False) -> list[Stored]:
        """See :class:`SearchBackend`."""
        columns = ["key", "document", "doc_id", "first", "last", "metadata", "body", *(["vector"] if vectors else [])]
        found = []
        with self._lock, milvus_errors(self.address):
            for start in range(0, len(keys), KEYS_AT_ONCE):
                wanted = ", ".join(str(int(one)) for one in keys[start : start + KEYS_AT_ONCE])
                found += [stored(row) for row in self._all(which, f"{column} in [{wanted}]", columns)]
        return sorted(found, key=lambda row: row.key)

    def structure(self, which: VectorSet) -> Mapping[str, JSON]:
        """See :class:`SearchBackend`: as the server describes its index."""
        with self._lock, milvus_errors(self.address):
            body = dict(self._client.describe_index(self._name(which), "vector") or {})
        facts = {name: value for name, value in body.items() if isinstance(value, (str, int, float))}
        return {"index": facts.pop("index_type", ""), **facts}

    def drop(self) -> None:
        """See :class:`SearchBackend`."""
        with self._lock, milvus_errors(self.address):
            for which in ("segments", "documents", "ledger"):
                if self._client.has_collection(self._name(which)):
                    self._client.drop_collection(self._name(which))
            self._layout = None

    def close(self) -> None:
        """See :class:`SearchBackend`."""
        with contextlib.suppress(Exception):  # what was loaded is durable since `finish`; there is nobody to tell
            self._client.close()

    @property
    def _made(self) -> Layout:
        if self._layout is None and self.recorded() is None:
            raise BackendMismatch(f"{self.shown} holds no collection; load one with: unabridged index … --backend")
        if self._layout is None:
            raise BackendMismatch(f"{self.shown} has no layout")
        return self._layout

    def _wanted(self, layout: Layout) -> EngineIndex:
        plan = milvus_index(self.address.index or layout.recipe, layout.rows, layout.dim)
        if self.stand_in and plan.kind != "FLAT":
            return EngineIndex("FLAT", note=f"Milvus Lite: an exact scan in place of {plan.kind}")
        return plan

    def _name(self, ending: str) -> str:
        return f"{self.address.collection}_{ending}"

    def _schema(self, fields: Sequence[tuple[str, str, Mapping[str, Any]]], dim: int) -> Any:
        types = require("pymilvus", extra=EXTRA).DataType
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        for name, kind, options in fields:
            schema.add_field(name, getattr(types, kind), **options)
        schema.add_field("vector", types.FLOAT_VECTOR, dim=dim)
        return schema

    def _make_sets(self, layout: Layout) -> None:
        """The collections of vectors that are not there yet."""
        for which in layout.sets:
            if not self._client.has_collection(self._name(which)):
                self._make(which, layout, self._wanted(layout))

    def _make(self, which: VectorSet, layout: Layout, plan: EngineIndex) -> None:
        text = {"max_length": LONGEST_TEXT}
        fields: list[tuple[str, str, Mapping[str, Any]]] = [
            ("key", "INT64", {"is_primary": True}),
            ("document", "INT64", {}),
            ("doc_id", "VARCHAR", text),
            ("first", "INT64", {}),
            ("last", "INT64", {}),
            ("metadata", "JSON", {}),
            ("body", "VARCHAR", {**text, "nullable": True}),
        ]
        self._create(which, self._schema(fields, layout.dim), plan, "IP")

    def _create(self, ending: str, schema: Any, plan: EngineIndex, metric: str) -> None:
        index = self._client.prepare_index_params()
        index.add_index("vector", index_type=plan.kind, metric_type=metric, params=dict(plan.build))
        self._client.create_collection(
            self._name(ending), schema=schema, index_params=index, consistency_level="Strong", timeout=self._timeout
        )

    def _ledger(self) -> dict[str, Any]:
        return {row["name"]: row["entry"] for row in self._all("ledger", 'name != ""', ["name", "entry"])}

    def _note(self, name: str, entry: Mapping[str, JSON]) -> None:
        self._client.upsert(self._name("ledger"), [{"name": name, "entry": dict(entry), "vector": [0.0, 0.0]}])

    def save(self, body: Mapping[str, JSON]) -> None:
        """Keeps what the collection says about itself."""
        self._note(STATE, body)

    def _insert(self, number: int, batch: Batch) -> None:
        for which, rows, weight in rows_of(number, batch):
            self._send(which, rows, weight)

    def _send(self, which: VectorSet, rows: Sequence[dict[str, Any]], weight: int) -> None:
        step = max(1, CALL_BYTES // (4 * self._made.dim + weight + 64))
        for start in range(0, len(rows), step):
            self._client.upsert(self._name(which), list(rows[start : start + step]), timeout=max(self._timeout, 600.0))

    def _empty(self, number: int) -> None:
        for which in self._made.sets:
            self._client.delete(self._name(which), filter=_range(number))

    def _delete(self, which: VectorSet, keys: Rows) -> None:
        if which not in self._made.sets:
            return
        for start in range(0, len(keys), KEYS_AT_ONCE):
            self._client.delete(self._name(which), ids=keys[start : start + KEYS_AT_ONCE].tolist())

    def _count(self, which: VectorSet, wanted: str) -> int:
        rows = self._client.query(self._name(which), filter=wanted, output_fields=["count(*)"])
        return int(rows[0]["count(*)"])

    def _all(self, ending: str, wanted: str, columns: Sequence[str]) -> list[dict[str, Any]]:
        """All rows that match, in no order: a plain query ends at the server's limit."""
        pages = self._client.query_iterator(
            self._name(ending), batch_size=PAGE, filter=wanted, output_fields=list(columns)
        )
        found: list[dict[str, Any]] = []
        try:
            while page := pages.next():
                found += page
        finally:
            pages.close()
        return found

    def _check(self, conditions: Sequence[Condition]) -> None:
        for condition in conditions:
            if not self.accepts(condition):
                raise UsageError(
                    f"Milvus cannot filter by the field {condition.field[:80]!r} with these values: names of letters, "
                    "digits and ' ._:/@-' and printable values can be said to it; search with the index folder at hand"
                )


def _search_settings(plan: EngineIndex, k: int) -> dict[str, JSON]:
    """Search settings for ``k`` hits: a graph must keep at least so many candidates in sight."""
    settings: dict[str, JSON] = dict(plan.search)
    for name in ("ef", "itopk_size", "search_list"):
        if name in settings:
            settings[name] = max(int(settings[name]), k)
    return settings


def _range(number: int) -> str:
    first = number << SHARD_BITS
    return f"key >= {first} and key < {first + (1 << SHARD_BITS)}"


def _loaded(entry: Mapping[str, Any]) -> Loaded:
    return Loaded(entry["number"], entry["documents"], entry["segments"], entry["dead"], entry["done"])


def _entry(done: Loaded) -> dict[str, JSON]:
    return {
        "number": done.number,
        "documents": done.documents,
        "segments": done.segments,
        "dead": done.dead,
        "done": True,
    }
