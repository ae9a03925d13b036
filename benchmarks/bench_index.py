"""What ``index`` costs over bare encoding: reading, hashing, windows, BM25, fsync, manifest.

    python benchmarks/bench_index.py [--rounds 3] [--documents 3]

The demo's speeches are encoded in the very units a build forms, and built into an index, in turn and in one
process with one warm encoder; medians are compared.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from machine import machine, write_results

import unabridged as ub
from unabridged.contracts import Document
from unabridged.retrievers.units import UNIT_CHARACTERS

CORPUS = Path(__file__).parent.parent / "examples" / "data" / "speeches.jsonl.gz"


def units(documents: list[Document]) -> list[list[str]]:
    """The runs of texts that a build encodes together."""
    runs: list[list[str]] = [[]]
    for document in documents:
        runs[-1].append(document.source)
        if sum(map(len, runs[-1])) >= UNIT_CHARACTERS:
            runs.append([])
    return [run for run in runs if run]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--documents", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the results to this .json, and a table beside it")
    options = parser.parse_args()
    documents = [item for item in ub.read_corpus(CORPUS) if isinstance(item, Document)][: options.documents]
    encoder = ub.load_encoder()
    encoder.encode_documents([documents[0].source[:5000]])
    encode, build = [], []
    tokens = 0
    for _ in range(options.rounds):
        started = time.perf_counter()
        for run in units(documents):
            encoder.encode_documents(run)
        encode.append(time.perf_counter() - started)
        folder = Path(tempfile.mkdtemp(prefix="bench-index-"))
        started = time.perf_counter()
        tokens = ub.build_index(documents, encoder, folder / "ix").report["tokens_seen"]
        build.append(time.perf_counter() - started)
        shutil.rmtree(folder)
    bare, whole = statistics.median(encode), statistics.median(build)
    row = {
        "documents": len(documents),
        "tokens": tokens,
        "encode_s": round(bare, 2),
        "index_s": round(whole, 2),
        "overhead": round(whole / bare - 1, 4),
        "tokens_per_second": round(tokens / whole),
    }
    print(json.dumps(row))
    if options.out:
        write_results(options.out, "Index over bare encoding", "bench_index.py", [row], machine())


if __name__ == "__main__":
    main()
