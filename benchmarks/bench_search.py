"""Search latency of the dense indexes against bare FAISS, on random clustered unit vectors.

    python benchmarks/bench_search.py --rows 10000 100000 1000000 --out benchmarks/results/search_cpu.json

For each size: an exact scan of a mapped file against IndexFlatIP in memory, and the ``ivf`` recipe (opened by
memory-map, hits scored again with the stored vectors) against the same FAISS index read into memory with the
same nprobe.  Both sides alternate in one process and medians are taken, so that other load hits both; ratios
below 1 mean that ours is faster.  Open time and memory come from a fresh process per side.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from unabridged.index.dense import DenseIndex, ExactVectors, FaissBase, build_base
from unabridged.index.dense._faiss import faiss_facts, load_faiss, threads
from unabridged.index.recipe import choose_recipe

K = 10
BATCH = 64


def vectors(path: Path, rows: int, dim: int, seed: int = 0) -> None:
    """Writes (rows, dim) float32 unit vectors around 600 centres, block by block."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((600, dim), dtype=np.float32)
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, dim))
    for start in range(0, rows, 16_384):
        stop = min(start + 16_384, rows)
        block = centres[random.integers(0, 600, stop - start)]
        block = block + np.float32(0.8) * random.standard_normal(block.shape, dtype=np.float32)
        out[start:stop] = block / np.linalg.norm(block, axis=1, keepdims=True)
    out.flush()


def queries_of(stored: np.ndarray, count: int, seed: int = 1) -> np.ndarray:
    """Stored rows with noise, normalized: (count, dim) float32."""
    random = np.random.default_rng(seed)
    rows = stored[np.sort(random.choice(len(stored), count, replace=False))]
    noisy = rows + 0.5 * random.standard_normal(rows.shape, dtype=np.float32) / np.sqrt(rows.shape[1])
    return np.ascontiguousarray(noisy / np.linalg.norm(noisy, axis=1, keepdims=True), dtype=np.float32)


def alternate(
    ours: Callable[[int], object], bare: Callable[[int], object], repeats: int, warm: int
) -> dict[str, float]:
    """Median milliseconds of both sides, called in turn after ``warm`` calls that do not count, and their ratio."""
    taken: dict[str, list[float]] = {"ours": [], "bare": []}
    for number in range(warm):
        ours(number)
        bare(number)
    for number in range(repeats):
        order = (("ours", ours), ("bare", bare)) if number % 2 else (("bare", bare), ("ours", ours))
        for name, call in order:
            start = time.perf_counter()
            call(number)
            taken[name].append(1e3 * (time.perf_counter() - start))
    mine, theirs = statistics.median(taken["ours"]), statistics.median(taken["bare"])
    return {"ours_ms": round(mine, 3), "bare_ms": round(theirs, 3), "ratio": round(mine / theirs, 3)}


def compare(ours: Callable, bare: Callable, queries: np.ndarray, repeats: tuple[int, int, int]) -> dict[str, dict]:
    """Both sides for one query at a time and for a batch."""
    single = len(queries)

    def bare_alone(query: np.ndarray) -> object:
        with threads(1):  # its best: a second thread has nothing to do for one query, and spins
            return bare(query)

    return {
        "single": alternate(
            lambda i: ours(queries[i % single : i % single + 1]),
            lambda i: bare_alone(queries[i % single : i % single + 1]),
            repeats[0],
            repeats[2],
        ),
        f"batch_{BATCH}": alternate(lambda _: ours(queries[:BATCH]), lambda _: bare(queries[:BATCH]), repeats[1], 1),
    }


def build(stored: np.ndarray, folder: Path) -> tuple[dict, float]:
    """The ``ivf`` recipe over the stored vectors: its facts, and the seconds of the build."""
    recipe = choose_recipe("ivf", n=len(stored), dim=stored.shape[1], ram_bytes=1 << 40, disk_bytes=1 << 44)

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, len(stored), 16_384):
            yield stored[start : start + 16_384]

    start = time.perf_counter()
    facts = build_base(blocks, len(stored), stored.shape[1], recipe, folder, workers=os.cpu_count() or 1)
    return facts, time.perf_counter() - start


def measure(rows: int, dim: int, folder: Path, repeats: tuple[int, int, int], with_ivf: bool) -> dict:
    """All figures of one size."""
    faiss = load_faiss()
    path = folder / "vectors.npy"
    vectors(path, rows, dim)
    stored = np.load(path, mmap_mode="r")
    queries = queries_of(stored, 2 * BATCH)
    exact = ExactVectors([stored])
    flat = faiss.IndexFlatIP(dim)
    for start in range(0, rows, 65_536):
        flat.add(np.ascontiguousarray(stored[start : start + 65_536]))
    same = np.array_equal(exact.search(queries[:8], K).rows, flat.search(queries[:8], K)[1])
    flat_search = partial(flat.search, k=K)
    result = {
        "rows": rows,
        "dim": dim,
        "same_hits": bool(same),
        "flat": compare(lambda q: exact.search(q, K), flat_search, queries, repeats),
        "open_flat_ours": probe("flat-ours", folder),
        "open_flat_bare": probe("flat-bare", folder),
    }
    del flat, flat_search
    if not with_ivf:
        return result
    facts, seconds = build(stored, folder)
    (folder / "facts.json").write_text(json.dumps(facts))
    index = DenseIndex(FaissBase.open(folder, facts), exact)
    bare = faiss.read_index(str(folder / facts["file"]))
    params = faiss.SearchParametersIVF(nprobe=facts["search"]["nprobe"])
    result["ivf"] = compare(
        lambda q: index.search(q, K),
        lambda q: bare.search(q, K, params=params),
        queries,
        (4 * repeats[0], 2 * repeats[1], len(queries)),
    )
    result |= {
        "ivf_factory": facts["factory"],
        "ivf_nprobe": facts["search"]["nprobe"],
        "ivf_bytes": facts["bytes"],
        "ivf_build_s": round(seconds, 1),
        "ivf_recall_at_10": round(index.measure_recall(queries, K), 4),
        "open_ivf_ours": probe("ivf-ours", folder),
        "open_ivf_bare": probe("ivf-bare", folder),
    }
    return result


def probe(side: str, folder: Path) -> dict[str, float]:
    """Open time, first search and memory of one side in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--probe", side, "--folder", str(folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def run_probe(side: str, folder: Path) -> dict[str, float]:
    faiss = load_faiss()
    before = status_mb("RssAnon")
    start = time.perf_counter()
    if side == "flat-bare":
        index = faiss.IndexFlatIP(np.load(folder / "vectors.npy", mmap_mode="r").shape[1])
        index.add(np.load(folder / "vectors.npy"))
    elif side == "ivf-bare":
        index = faiss.read_index(str(folder / "base.faiss"))
    else:
        stored = ExactVectors([np.load(folder / "vectors.npy", mmap_mode="r")])
        facts = json.loads((folder / "facts.json").read_text()) if side == "ivf-ours" else None
        index = DenseIndex(None if facts is None else FaissBase.open(folder, facts), stored)
    opened = time.perf_counter() - start
    query = queries_of(np.load(folder / "vectors.npy", mmap_mode="r"), 1)
    start = time.perf_counter()
    index.search(query, K)
    return {
        "open_ms": round(1e3 * opened, 2),
        "first_search_ms": round(1e3 * (time.perf_counter() - start), 2),
        "own_memory_mb": round(status_mb("RssAnon") - before, 1),
        "peak_rss_mb": round(status_mb("VmHWM"), 1),
    }


def status_mb(name: str) -> float:
    """One line of /proc/self/status in MB; 0 where there is none."""
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name + ":")), 0.0)


def table(results: list[dict]) -> str:
    """All sizes as one Markdown table."""
    lines = [
        "| rows | index | queries | ours ms | bare FAISS ms | ratio |",
        "|--:|---|---|--:|--:|--:|",
    ]
    opened = ["| rows | side | open ms | first search ms | own memory MB | peak RSS MB |", "|--:|---|--:|--:|--:|--:|"]
    for result in results:
        for kind in ("flat", "ivf"):
            for shape, row in result.get(kind, {}).items():
                lines.append(
                    f"| {result['rows']:,} | {kind} | {shape} | {row['ours_ms']} | {row['bare_ms']} | {row['ratio']} |"
                )
        for name, row in result.items():
            if name.startswith("open_"):
                opened.append(
                    f"| {result['rows']:,} | {name[5:].replace('_', ' ')} | {row['open_ms']} "
                    f"| {row['first_search_ms']} | {row['own_memory_mb']} | {row['peak_rss_mb']} |"
                )
        if "ivf" in result:
            opened.append(
                f"| {result['rows']:,} | {result['ivf_factory']} nprobe {result['ivf_nprobe']}: recall@10 "
                f"{result['ivf_recall_at_10']}, built in {result['ivf_build_s']} s, "
                f"{result['ivf_bytes']:,} bytes | | | | |"
            )
    return "\n".join([*lines, "", *opened])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--no-ivf", action="store_true", help="exact scans only")
    parser.add_argument("--out", type=Path, help="JSON file; a Markdown table is written beside it")
    parser.add_argument(
        "--tmp", type=Path, help="folder for the vectors (1.5 GB at 1,000,000 rows), removed at the end"
    )
    parser.add_argument("--probe", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        print(json.dumps(run_probe(options.probe, options.folder)))
        return
    results = []
    for rows in options.rows:
        repeats = (60, 12, 2) if rows <= 20_000 else (30, 6, 2) if rows <= 200_000 else (15, 3, 2)
        with tempfile.TemporaryDirectory(dir=options.tmp) as name:
            results.append(measure(rows, options.dim, Path(name), repeats, not options.no_ivf))
        print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    text = table(results)
    print(text)
    if options.out:
        facts = {**faiss_facts(), "python": platform.python_version(), "cpus": os.cpu_count()}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps({"machine": facts, "k": K, "results": results}, indent=1) + "\n")
        options.out.with_suffix(".md").write_text(
            f"# Dense search against bare FAISS\n\n`python benchmarks/bench_search.py --rows "
            f"{' '.join(str(r['rows']) for r in results)}` on {facts['cpus']} CPUs, FAISS {facts['version']} "
            f"({facts['compile_options']}). Medians of alternating calls; ratio = ours / bare.\n\n{text}\n"
        )


if __name__ == "__main__":
    main()
