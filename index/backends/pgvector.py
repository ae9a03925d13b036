"""PostgreSQL with pgvector as an engine.

Four tables carry the collection's name: ``NAME_segments`` and ``NAME_documents`` with half-precision vectors,
``NAME_shards`` with what is loaded, ``NAME_state``.  A shard is written and noted in one transaction, so a load that
was killed has whole shards alone.  Scores are inner products, in which a vector of zeros is a row like any other (an
index by cosine leaves such rows out); documents without any token are in the ledger of the folder and not here.

Filters act behind an index: few matching rows are scanned exactly, many by going on with the index scan.  What the
plan of a query says is what is reported as applied.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from unabridged.contracts import JSON, NO_HIT, Floats, Hits, Rows
from unabridged.errors import BackendMismatch, RuntimeFailure, UsageError
from unabridged.index.backends._postgres import check_extension, connected, database_errors, halves, psycopg, where
from unabridged.index.backends._tables import Tables
from unabridged.index.backends.address import Address
from unabridged.index.backends.conditions import Condition
from unabridged.index.backends.contract import (
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
from unabridged.index.backends.recipes import EngineIndex, pgvector_index

WIDEST, WIDEST_INDEX = 16_000, 4_000
"""Dimensions of a half-precision vector, and of one with an index."""
FEW_MATCHES = 20_000
"""Up to so many matching rows are scanned exactly: a millisecond for every 2,000 of 384 dimensions."""
EF_LIMIT = 1_000
"""Largest ``hnsw.ef_search``; beyond it the scan goes on iteratively."""
TUPLES = 2_000_000
"""Rows that an iterative scan may look at; pgvector's own 20,000 end it early for filters that few rows pass."""
NEAREST = "SELECT key, vector <#> %s AS away FROM {table} WHERE {where} ORDER BY vector <#> %s LIMIT %s"
"""The search; ``<#>`` is the negative inner product."""
WORK_MEMORY = (64, 4_096)
"""MiB for building an index, at least and at most."""


class PgvectorBackend:
    """One collection in a PostgreSQL database; one connection, used by one thread at a time."""

    name = "pgvector"
    limit = 16_384
    tolerance = 1e-4
    """Both sides are rounded to 11 bits: at 384 dimensions the error of a product has a deviation of 2e-5."""
    stand_in = False

    def __init__(self, address: Address) -> None:
        self.address = address
        self.shown = address.shown
        self._lock = threading.RLock()
        self._tables = Tables(connected(address), address)
        self._layout: Layout | None = None

    def recorded(self) -> Recorded | None:
        """See :class:`SearchBackend`."""
        with self._lock, database_errors(self.address):
            there = self._tables.there()
            if not there:
                return None
            if not {self._tables.name("state"), self._tables.name("shards")} <= there:
                raise BackendMismatch(
                    f"{self.shown} has tables {', '.join(sorted(there))} that unabridged did not make: name another "
                    "collection"
                )
            self._tables.prepare()
            row = self._tables.run("SELECT facts FROM {state}").fetchone()
            shards = {
                name: Loaded(number, documents, segments, dead)
                for name, number, documents, segments, dead in self._tables.run(
                    "SELECT name, number, documents, segments, dead FROM {shards} ORDER BY number"
                )
            }
            found = recorded_from(row[0] if row else None, shards, self.shown)
            self._layout = found.layout
            return found

    def create(self, layout: Layout) -> None:
        """See :class:`SearchBackend`."""
        if not 1 <= layout.dim <= WIDEST:
            raise UsageError(f"pgvector holds half-precision vectors up to {WIDEST:,} wide, these are {layout.dim:,}")
        pgvector_index(self.address.index or layout.recipe, layout.rows, layout.dim, WIDEST_INDEX)
        sql = psycopg().sql
        with self._lock, database_errors(self.address):
            check_extension(self._tables.connection, self.address)
            self._tables.prepare()
            with self._tables.connection.transaction():
                self._tables.run(
                    "CREATE TABLE {state} (one boolean PRIMARY KEY DEFAULT TRUE CHECK (one), facts jsonb NOT NULL)"
                )
                self._tables.run(
                    "CREATE TABLE {shards} (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text UNIQUE "
                    "NOT NULL, documents bigint NOT NULL, segments bigint NOT NULL, dead text NOT NULL)"
                )
                for which in ("segments", "documents"):
                    self._tables.run(
                        "CREATE TABLE {table} (key bigint PRIMARY KEY, document bigint NOT NULL, doc_id text NOT NULL, "
                        "first bigint NOT NULL, last bigint NOT NULL, metadata jsonb NOT NULL, body text, "
                        "vector halfvec({dim}))",
                        table=self._tables.table(which),
                        dim=sql.Literal(layout.dim),
                    )
                self._tables.save(recorded_as(layout, "", 0, 0))
            self._layout = layout

    def begin(self, generation: int, expected: int, rows: int) -> None:
        """See :class:`SearchBackend`.  Search indexes are dropped where the load more than doubles the rows."""
        layout = self._made
        with self._lock, database_errors(self.address), self._tables.connection.transaction():
            grown = replace(layout, rows=rows)
            self._tables.save(recorded_as(grown, "", generation, expected))
            self._layout = grown
            held = sum(self._count(which) for which in layout.sets)
            if rows * len(layout.sets) > 2 * held:
                for which in layout.sets:
                    for kind in ("hnsw", "ivfflat"):
                        self._tables.run("DROP INDEX IF EXISTS {index}", index=self._tables.index(which, kind))

    def load(self, shard: str, batches: Iterable[Batch], dead: str) -> Loaded:
        """See :class:`SearchBackend`; one transaction."""
        with self._lock, database_errors(self.address), self._tables.connection.transaction():
            self._tables.unload(shard)
            [number] = self._tables.run(
                "INSERT INTO {shards} (name, documents, segments, dead) VALUES (%s, 0, 0, %s) RETURNING number",
                [shard, dead],
            ).fetchone()
            documents = segments = 0
            for batch in batches:
                self._tables.copy(number, batch)
                documents += len(batch.documents)
                segments += len(batch.segments)
            self._tables.run(
                "UPDATE {shards} SET documents = %s, segments = %s WHERE number = %s", [documents, segments, number]
            )
            return Loaded(number, documents, segments, dead)

    def remove(self, shard: str, documents: Rows, segments: Rows, dead: str) -> Loaded:
        """See :class:`SearchBackend`; one transaction."""
        with self._lock, database_errors(self.address), self._tables.connection.transaction():
            [number] = self._tables.run("SELECT number FROM {shards} WHERE name = %s FOR UPDATE", [shard]).fetchone()
            gone = keys_of(number, documents).tolist()
            segments_gone = self._tables.run(
                "DELETE FROM {table} WHERE key = ANY(%s)",
                [keys_of(number, segments).tolist()],
                self._tables.table("segments"),
            ).rowcount
            documents_gone = self._tables.run(
                "DELETE FROM {table} WHERE key = ANY(%s)", [gone], self._tables.table("documents")
            ).rowcount
            row = self._tables.run(
                "UPDATE {shards} SET documents = documents - %s, segments = segments - %s, dead = %s WHERE number = %s "
                "RETURNING documents, segments",
                [documents_gone, segments_gone, dead, number],
            ).fetchone()
            return Loaded(number, row[0], row[1], dead)

    def unload(self, shard: str) -> None:
        """See :class:`SearchBackend`; one transaction."""
        with self._lock, database_errors(self.address), self._tables.connection.transaction():
            self._tables.unload(shard)

    def finish(self, content: str, generation: int) -> None:
        """See :class:`SearchBackend`."""
        layout = self._made
        with self._lock, database_errors(self.address):
            for which in layout.sets:
                self._build(which, self._wanted(which))
                self._tables.run("ANALYZE {table}", table=self._tables.table(which))
            expected = self._tables.run("SELECT count(*) FROM {shards}").fetchone()[0]
            self._tables.save(recorded_as(layout, content, generation, expected))

    def accepts(self, condition: Condition) -> bool:
        """Every portable condition."""
        return "\0" not in condition.field

    def count(self, which: VectorSet, conditions: Sequence[Condition] = ()) -> int:
        """See :class:`SearchBackend`."""
        with self._lock, database_errors(self.address):
            return self._count(which, conditions)

    def search(self, which: VectorSet, queries: Floats, k: int, conditions: Sequence[Condition] = ()) -> Found:
        """See :class:`SearchBackend`.  Lines that the index leaves short are scanned exactly."""
        layout = self._made
        floats = checked_queries(queries, layout.dim, k, self.limit)
        self._check(conditions)
        keys = np.full((len(floats), k), NO_HIT, np.int64)
        scores = np.full((len(floats), k), -np.inf, np.float32)
        reasons: list[str] = []
        kind, settings = "exact", {}
        with self._lock, database_errors(self.address):
            few = bool(conditions) and self._few(which, conditions)
            plan = self._wanted(which)
            with self._tables.connection.transaction():
                settings = self._set(plan, k, exact=few, forced=bool(conditions) and not few)
                kind = self._planned(which, floats, k, conditions)
                for at, query in enumerate(floats):
                    found = self._nearest(which, query, k, conditions)
                    place_hits(keys[at], scores[at], found)
            short: list[int] = np.flatnonzero(keys[:, -1] == NO_HIT).tolist() if kind != "exact" else []
            matching = self._count(which, conditions) if len(short) else 0
            lacking = [at for at in short if int((keys[at] != NO_HIT).sum()) < min(k, matching)]
            if lacking:
                reasons.append(f"{len(lacking)} short lines of the index were scanned exactly")
                with self._tables.connection.transaction():
                    self._set(plan, k, exact=True, forced=False)
                    for at in lacking:
                        place_hits(keys[at], scores[at], self._nearest(which, floats[at], k, conditions))
                        got = int((keys[at] != NO_HIT).sum())
                        if got < min(k, matching):
                            raise RuntimeFailure(
                                f"{self.shown} returned {got} of {min(k, matching)} rows that match; run VACUUM and "
                                "REINDEX on its tables"
                            )
        if few:
            reasons.append(f"at most {FEW_MATCHES:,} rows match the filter: scanned exactly")
        if plan.note:
            reasons.append(plan.note)
        returned = int((keys != NO_HIT).sum())
        exact = kind == "exact"
        applied = Applied(kind, {} if exact else settings, returned, exact, "; ".join(reasons))
        return Found(Hits(keys, scores), applied)

    def fetch(self, which: VectorSet, column: Column, keys: Sequence[int], *, vectors: bool = False) -> list[Stored]:
        """See :class:`SearchBackend`."""
        columns = "key, document, doc_id, first, last, metadata, body" + (", vector" if vectors else "")
        with self._lock, database_errors(self.address):
            rows = self._tables.run(
                "SELECT " + columns + " FROM {table} WHERE {column} = ANY(%s) ORDER BY key",
                [[int(one) for one in keys]],
                self._tables.table(which),
                column=psycopg().sql.Identifier(column),
            ).fetchall()
        found = []
        for row in rows:
            vector = row[7].to_numpy().astype(np.float32) if vectors and row[7] is not None else None
            found.append(Stored(row[0], row[1], row[2], row[3], row[4], row[5], row[6], vector))
        return found

    def structure(self, which: VectorSet) -> Mapping[str, JSON]:
        """See :class:`SearchBackend`: from the catalogue of the database."""
        with self._lock, database_errors(self.address):
            rows = self._tables.connection.execute(
                "SELECT am.amname, c.reloptions, pg_relation_size(c.oid), i.indisvalid FROM pg_index i JOIN pg_class c "
                "ON c.oid = i.indexrelid JOIN pg_am am ON am.oid = c.relam JOIN pg_class t ON t.oid = i.indrelid WHERE "
                "t.relname = %s AND pg_table_is_visible(t.oid) AND am.amname IN ('hnsw', 'ivfflat')",
                [self._tables.name(which)],
            ).fetchall()
            size = self._tables.connection.execute(
                "SELECT pg_table_size(c.oid) FROM pg_class c WHERE relname = %s AND pg_table_is_visible(c.oid)",
                [self._tables.name(which)],
            ).fetchone()
        body: dict[str, JSON] = {"index": "exact", "table_bytes": size[0] if size else 0}
        for kind, options, held, valid in rows:
            body |= {"index": kind, "options": list(options or ()), "index_bytes": held, "valid": valid}
        return body

    def drop(self) -> None:
        """See :class:`SearchBackend`."""
        with self._lock, database_errors(self.address):
            for which in ("segments", "documents", "shards", "state"):
                self._tables.run("DROP TABLE IF EXISTS {table}", table=self._tables.table(which))
            self._layout = None

    def close(self) -> None:
        """See :class:`SearchBackend`."""
        self._tables.connection.close()

    @property
    def _made(self) -> Layout:
        if self._layout is None and self.recorded() is None:
            raise BackendMismatch(f"{self.shown} holds no collection; load one with: unabridged index … --backend")
        if self._layout is None:
            raise BackendMismatch(f"{self.shown} has no layout")
        return self._layout

    def _count(self, which: VectorSet, conditions: Sequence[Condition] = ()) -> int:
        clause, parameters = where(conditions)
        row = self._tables.run(
            "SELECT count(*) FROM {table} WHERE {where}", parameters, self._tables.table(which), where=clause
        )
        return int(row.fetchone()[0])

    def _few(self, which: VectorSet, conditions: Sequence[Condition]) -> bool:
        """Whether so few rows match that an exact scan of them is best; counts no further than that."""
        clause, parameters = where(conditions)
        row = self._tables.run(
            "SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {where} LIMIT %s) AS matching",
            [*parameters, FEW_MATCHES + 1],
            self._tables.table(which),
            where=clause,
        )
        return int(row.fetchone()[0]) <= FEW_MATCHES

    def _wanted(self, which: VectorSet) -> EngineIndex:
        layout = self._made
        return pgvector_index(self.address.index or layout.recipe, layout.rows, layout.dim, WIDEST_INDEX)

    def _set(self, plan: EngineIndex, k: int, *, exact: bool, forced: bool) -> dict[str, JSON]:
        """Settings of this transaction.  ``exact`` forbids the index, ``forced`` forbids to sort without it."""
        settings: dict[str, JSON] = {}
        if plan.kind == "hnsw":
            settings = {"hnsw.ef_search": min(EF_LIMIT, max(k + k // 2, plan.search["ef_search"]))}
            settings |= {"hnsw.iterative_scan": "relaxed_order", "hnsw.max_scan_tuples": TUPLES}
            settings |= {"hnsw.scan_mem_multiplier": 8}
        elif plan.kind == "ivfflat":
            settings = {"ivfflat.probes": min(plan.search["probes"], plan.build["lists"])}
            settings |= {"ivfflat.iterative_scan": "relaxed_order", "ivfflat.max_probes": plan.build["lists"]}
        planner = {"enable_indexscan": "off"} if exact else {"enable_sort": "off"} if forced else {}
        for name, value in {**settings, **planner}.items():
            self._tables.connection.execute("SELECT set_config(%s, %s, true)", [name, str(value)])
        return settings

    def _nearest(
        self, which: VectorSet, query: Floats, k: int, conditions: Sequence[Condition]
    ) -> list[tuple[int, float]]:
        from pgvector import HalfVector

        vector = HalfVector(halves(query))
        clause, parameters = where(conditions)
        rows = self._tables.run(NEAREST, [vector, *parameters, vector, k], self._tables.table(which), where=clause)
        return [(key, -away) for key, away in rows]

    def _planned(self, which: VectorSet, queries: Floats, k: int, conditions: Sequence[Condition]) -> str:
        """The index that the planner takes for such a query: hnsw, ivfflat or exact."""
        if not len(queries):
            return "exact"
        from pgvector import HalfVector

        vector = HalfVector(halves(queries[0]))
        clause, parameters = where(conditions)
        row = self._tables.run(
            "EXPLAIN (FORMAT JSON) " + NEAREST,
            [vector, *parameters, vector, k],
            self._tables.table(which),
            where=clause,
        ).fetchone()
        used = set(_index_names(row[0]))
        for kind in ("hnsw", "ivfflat"):
            if f"{self._tables.name(which)}_{kind}" in used:
                return kind
        return "exact"

    def _build(self, which: VectorSet, plan: EngineIndex) -> None:
        """The search index and those that filters and deletions need, where they are absent."""
        for kind in {"hnsw", "ivfflat"} - {plan.kind}:
            self._tables.run("DROP INDEX IF EXISTS {index}", index=self._tables.index(which, kind))
        rows = self._count(which)
        needed = rows * (2 * self._made.dim + 16 * plan.build.get("m", 16) + 256) * 13 // 10
        memory = min(max(needed >> 20, WORK_MEMORY[0]), WORK_MEMORY[1])
        with self._build_memory(memory):
            for ending, expression in (("document", "(document)"), ("fields", "USING gin (metadata jsonb_path_ops)")):
                self._tables.run(
                    "CREATE INDEX IF NOT EXISTS {index} ON {table} " + expression,
                    table=self._tables.table(which),
                    index=self._tables.index(which, ending),
                )
            if plan.kind == "exact":
                return
            options = (
                psycopg()
                .sql.SQL(", ")
                .join(
                    psycopg().sql.SQL("{} = {}").format(psycopg().sql.Identifier(name), psycopg().sql.Literal(value))
                    for name, value in plan.build.items()
                )
            )
            self._tables.run(
                "CREATE INDEX IF NOT EXISTS {index} ON {table} USING " + plan.kind + " (vector halfvec_ip_ops) "
                "WITH ({options})",
                table=self._tables.table(which),
                index=self._tables.index(which, plan.kind),
                options=options,
            )

    @contextlib.contextmanager
    def _build_memory(self, megabytes: int) -> Iterator[None]:
        """Memory for building, in this transaction; one worker, since more of them share it through /dev/shm."""
        with self._tables.connection.transaction():
            settings = {"maintenance_work_mem": f"{megabytes}MB", "max_parallel_maintenance_workers": "0"}
            for name, value in settings.items():
                self._tables.connection.execute("SELECT set_config(%s, %s, true)", [name, value])
            yield

    def _check(self, conditions: Sequence[Condition]) -> None:
        for condition in conditions:
            if not self.accepts(condition):
                raise UsageError(f"PostgreSQL cannot filter by the field {condition.field!r}")


def _index_names(plan: Any) -> Iterator[str]:
    """Every index that a plan in JSON names."""
    if isinstance(plan, dict):
        if "Index Name" in plan:
            yield plan["Index Name"]
        for value in plan.values():
            yield from _index_names(value)
    elif isinstance(plan, list):
        for value in plan:
            yield from _index_names(value)
