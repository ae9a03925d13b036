"""Latency of ``Index.search_one`` on an open index of 100,000 segments, besides encoding the query.

    python benchmarks/bench_latency.py [--documents 10000] [--words 640] [--window 66] [--dim 384]

Documents of Zipf words are indexed with the deterministic hashing encoder, so the figure is that of the search
itself: candidates, exact scores of all their segments, BM25, fusion, the winning span. Also the time to open.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import machine, write_results

import unabridged as ub
from unabridged.encoders.hashing import HashingEncoder
from unabridged.retrievers.opened import Index

VOCABULARY = 30_000


def documents(count: int, words: int) -> list[dict[str, str]]:
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        ids = np.minimum(rng.zipf(1.25, size=int(rng.integers(words // 2, words * 3 // 2))), VOCABULARY)
        made.append({"_id": f"d{number}", "text": " ".join(f"w{i}" for i in ids)})
    return made


def queries(count: int) -> list[str]:
    """Five to eight words each, frequent and rare ones mixed."""
    rng = np.random.default_rng(1)
    made = []
    for _ in range(count):
        ids = np.minimum(rng.zipf(1.25, size=int(rng.integers(5, 9))) + rng.integers(0, 200), VOCABULARY)
        made.append(" ".join(f"w{i}" for i in ids))
    return made


def measure(index: Index, asked: list[str], mode: str, level: str) -> dict[str, object]:
    for query in asked[:20]:
        index.search_one(query, mode=mode, level=level)
    times = []
    for query in asked[20:]:
        timings = index.search_one(query, mode=mode, level=level).timings
        times.append(timings["total_ms"] - timings.get("encode_ms", 0.0))
    p50, p95 = np.percentile(times, [50, 95])
    return {"mode": mode, "level": level, "p50_ms": round(float(p50), 2), "p95_ms": round(float(p95), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=10_000)
    parser.add_argument("--words", type=int, default=640)
    parser.add_argument("--window", type=int, default=66)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--queries", type=int, default=220)
    parser.add_argument("--out", type=Path, help="write the results to this .json, and a table beside it")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-latency-"))
    try:
        encoder = HashingEncoder(dim=options.dim, window=options.window)
        built = ub.build_index(documents(options.documents, options.words), encoder, folder / "ix")
        print(json.dumps(built.report["index"]), built.state.summary()["segments"], "segments", flush=True)
        opens = []
        for _ in range(20):
            started = time.perf_counter()
            ub.open_index(folder / "ix")
            opens.append((time.perf_counter() - started) * 1000)
        index = ub.open_index(folder / "ix")
        asked = queries(options.queries)
        rows = []
        for mode in ("dense", "bm25", "hybrid"):
            for level in ("doc", "segment"):
                rows.append({"segments": index.state.summary()["segments"], **measure(index, asked, mode, level)})
                print(json.dumps(rows[-1]), flush=True)
        rows.append({"mode": "open_index", "p50_ms": round(float(np.median(opens)), 2)})
        print(json.dumps(rows[-1]), flush=True)
        if options.out:
            write_results(options.out, "Search latency on an open index", "bench_latency.py", rows, machine())
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
