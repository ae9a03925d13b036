"""The four tables of a collection in PostgreSQL: their names, and writing to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unabridged.contracts import JSON, Floats, Rows
from unabridged.index.backends._postgres import halves, json_of, psycopg, text_of
from unabridged.index.backends.address import Address
from unabridged.index.backends.contract import SHARD_BITS, Batch, keys_of


class Tables:
    """The tables of one collection, and the connection to them."""

    def __init__(self, connection: Any, address: Address) -> None:
        self.connection, self.address = connection, address
        self._ready = False

    def prepare(self) -> None:
        """Teaches the connection the vector types, once."""
        if not self._ready:
            from pgvector.psycopg import register_vector

            register_vector(self.connection)
            self._ready = True

    def name(self, ending: str) -> str:
        """The name of the table with that ending."""
        return f"{self.address.collection}_{ending}"

    def table(self, ending: str) -> Any:
        """That name, quoted."""
        return psycopg().sql.Identifier(self.name(ending))

    def index(self, which: str, kind: str) -> Any:
        """The quoted name of an index of a table."""
        return psycopg().sql.Identifier(f"{self.name(which)}_{kind}")

    def run(self, text: str, parameters: Sequence[Any] = (), table: Any = None, **parts: Any) -> Any:
        """Runs a statement of ours; names come in as quoted identifiers, values as parameters."""
        names = {"state": self.table("state"), "shards": self.table("shards"), **parts}
        statement = psycopg().sql.SQL(text).format(**names, **({} if table is None else {"table": table}))
        return self.connection.execute(statement, parameters or None)

    def there(self) -> set[str]:
        """Which of the collection's names are tables, or anything else, in this database."""
        names = [self.name(ending) for ending in ("segments", "documents", "shards", "state")]
        rows = self.connection.execute(
            "SELECT relname FROM pg_class WHERE relname = ANY(%s) AND pg_table_is_visible(oid)", [names]
        )
        return {name for (name,) in rows}

    def save(self, body: Mapping[str, JSON]) -> None:
        """Keeps what the collection says about itself."""
        from psycopg.types.json import Jsonb

        self.run(
            "INSERT INTO {state} (facts) VALUES (%s) ON CONFLICT (one) DO UPDATE SET facts = EXCLUDED.facts",
            [Jsonb(body)],
        )

    def unload(self, shard: str) -> None:
        """Removes a shard and its rows, where they are there."""
        row = self.run("DELETE FROM {shards} WHERE name = %s RETURNING number", [shard]).fetchone()
        for which in ("segments", "documents") if row else ():
            first = row[0] << SHARD_BITS
            self.run(
                "DELETE FROM {table} WHERE key >= %s AND key < %s",
                [first, first + (1 << SHARD_BITS)],
                self.table(which),
            )

    def copy(self, number: int, batch: Batch) -> None:
        """Appends the rows of a batch, by binary COPY."""
        keys = keys_of(number, batch.documents)
        ids = [text_of(one) for one in batch.ids]
        metadata = [json_of(one) for one in batch.metadata]
        if batch.document_vectors is not None:
            rows = zip(keys.tolist(), range(len(ids)), [0] * len(ids), batch.lengths.tolist(), strict=True)
            self._write("documents", rows, keys, ids, metadata, None, batch.document_vectors)
        if batch.segment_vectors is not None:
            starts, ends = batch.spans.T.tolist() if len(batch.spans) else ([], [])
            own = keys_of(number, batch.segments).tolist()
            rows = zip(own, batch.owners.tolist(), starts, ends, strict=True)
            self._write("segments", rows, keys, ids, metadata, batch.texts, batch.segment_vectors)

    def _write(
        self,
        which: str,
        rows: Iterable[tuple[int, int, int, int]],
        documents: Rows,
        ids: Sequence[str],
        metadata: Sequence[bytes],
        texts: Sequence[str] | None,
        vectors: Floats,
    ) -> None:
        from pgvector import HalfVector
        from psycopg.types.json import Jsonb

        values = halves(vectors)
        owners = documents.tolist()
        objects = [Jsonb(one, dumps=bytes) for one in metadata]
        text = psycopg().sql.SQL("COPY {} FROM STDIN WITH (FORMAT BINARY)").format(self.table(which))
        with self.connection.cursor() as cursor, cursor.copy(text) as copy:
            copy.set_types(["int8", "int8", "text", "int8", "int8", "jsonb", "text", "halfvec"])
            for at, (key, owner, start, end) in enumerate(rows):
                body = None if texts is None else text_of(texts[at])
                vector = HalfVector(values[at])
                copy.write_row((key, owners[owner], ids[owner], start, end, objects[owner], body, vector))
