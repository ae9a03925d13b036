"""Peak memory of ``unabridged index`` over many short documents: it must not grow with their number.

    python benchmarks/bench_memory.py [--sizes 50000 1000000] [--dim 64]

Each size is built by the command line in a process of its own with the deterministic hashing encoder, so the
figure is that of the whole program: reading, encoding, BM25, training and adding vectors.  ``peak_mb`` counts
the pages of mapped files too, which the system takes back when it needs them; ``own_peak_mb`` (sampled) is the
program's own memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from machine import machine, write_results

WORDS = 20
VOCABULARY = 50_000


def write_corpus(path: Path, documents: int) -> None:
    """JSONL of random documents of 20 words with Zipf frequencies."""
    rng = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, documents, 10_000):
            rows = min(10_000, documents - start)
            words = np.minimum(rng.zipf(1.3, size=(rows, WORDS)), VOCABULARY)
            for row in range(rows):
                text = " ".join(f"w{word}" for word in words[row])
                file.write(f'{{"_id": "d{start + row}", "text": "n{start + row} {text}"}}\n')


def watch(process: int, peak: list[int]) -> None:
    """Keeps the largest anonymous memory of a process in kB: what is its own, without the files it has mapped."""
    status = Path(f"/proc/{process}/status")
    while True:
        try:
            lines = status.read_text(encoding="ascii").splitlines()
        except OSError:
            return
        found = [int(line.split()[1]) for line in lines if line.startswith("RssAnon")]
        if not found:  # a zombie has no memory
            return
        peak[0] = max(peak[0], *found)
        time.sleep(0.02)


def build(corpus: Path, out: Path, dim: int, recipe: str) -> dict[str, object]:
    """One build in a child process, with its peak resident memory in MB."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "unabridged.apps", "index", str(corpus), "--out", str(out)]
    command += ["--encoder", f"hashing:{dim}", "--recipe", recipe, "--quiet", "--output", "json"]
    with tempfile.TemporaryFile() as answer:
        child = subprocess.Popen(command, stdout=answer)
        own = [0]
        watcher = threading.Thread(target=watch, args=(child.pid, own))
        watcher.start()
        _, status, usage = os.wait4(child.pid, 0)
        watcher.join()
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"the build ended with {child.returncode}")
        answer.seek(0)
        report = json.load(answer)
    return {
        "documents": report["documents"],
        "peak_mb": round(usage.ru_maxrss / 1024, 1),
        "own_peak_mb": round(own[0] / 1024, 1),
        "seconds": round(time.perf_counter() - started, 1),
        "recipe": report["index"]["recipe"],
        "recall_at_10": report["index"]["recall_at_10"],
        "disk_mb": round(sum(p.stat().st_size for p in out.rglob("*") if p.is_file()) / 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[50_000, 1_000_000])
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--recipe", default="auto")
    parser.add_argument("--out", type=Path, help="write the results to this .json, and a table beside it")
    options = parser.parse_args()
    rows = []
    for size in options.sizes:
        folder = Path(tempfile.mkdtemp(prefix="bench-memory-"))
        try:
            write_corpus(folder / "corpus.jsonl", size)
            rows.append(build(folder / "corpus.jsonl", folder / "ix", options.dim, options.recipe))
        finally:
            shutil.rmtree(folder)
        for name in ("peak_mb", "own_peak_mb"):
            rows[-1][f"{name}_ratio"] = round(float(rows[-1][name]) / max(1.0, float(rows[0][name])), 3)
        print(json.dumps(rows[-1]), flush=True)
    if options.out:
        write_results(options.out, "Peak memory of index", "bench_memory.py", rows, machine())


if __name__ == "__main__":
    main()
