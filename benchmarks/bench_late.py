"""Late chunking against plain windows on the demo's speeches: does the best segment hold the answer?

``python benchmarks/bench_late.py`` encodes the 14 speeches with the embedded model in every way below and writes
``benchmarks/results/late_chunking_cpu.{md,json}``.  Segments have at most 128 tokens everywhere, so that all ways
compare segments of one size: ``split`` encodes each alone, ``late`` in windows of the length that is named.
A segment is right if it overlaps the answering passage; ``MRR`` is over all segments of all speeches.
"""

from __future__ import annotations

import csv
import gzip
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, write_results

import unabridged as ub
from unabridged.contracts import Encoded, Level

DATA = Path(__file__).parents[1] / "examples" / "data"
OUT = Path(__file__).parent / "results" / "late_chunking_cpu.json"
SEGMENT = 128
WAYS: dict[str, dict[str, Any]] = {
    "split": {"max_tokens": SEGMENT + 2},
    "late, window 512": {"late_tokens": SEGMENT, "max_tokens": 512},
    "late, window 512, overlap 128": {"late_tokens": SEGMENT, "late_overlap": 128, "max_tokens": 512},
    "late, window 2048 by pi": {"late_tokens": SEGMENT, "extend": "pi", "target_tokens": 2048},
}


def speeches() -> dict[str, str]:
    """Sources by id, as the index spans count their characters."""
    with gzip.open(DATA / "speeches.jsonl.gz", "rt", encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    return {record["_id"]: f"{record['title']} {record['text']}" for record in records}


def questions() -> dict[str, str]:
    """Questions by id."""
    with (DATA / "questions.tsv").open(encoding="utf-8", newline="") as lines:
        return {name: text for name, text in csv.reader(lines, delimiter="\t")}


def measure(found: Encoded, queries: Any, names: list[str], answers: list[dict[str, Any]]) -> dict[str, Any]:
    """How often the best segment is right, the mean reciprocal rank of the first right one, and speeches by MaxP."""
    if found.segments is None:
        raise SystemExit("no segments")
    owners = np.repeat(np.arange(len(names)), np.diff(found.offsets))
    ranks, speech = [], 0
    for vector, answer in zip(queries, answers, strict=True):
        order = np.argsort(-(found.segments @ vector), kind="stable")
        own = owners == names.index(answer["doc_id"])
        right = own & (found.spans[:, 0] < answer["end"]) & (answer["start"] < found.spans[:, 1])
        ranks.append(1 + int(np.flatnonzero(right[order])[0]))
        speech += bool(own[order[0]])
    return {
        "segments": len(owners),
        "right at 1": f"{sum(rank == 1 for rank in ranks)}/{len(ranks)}",
        "MRR": round(float(np.mean([1 / rank for rank in ranks])), 3),
        "right speech at 1": f"{speech}/{len(ranks)}",
    }


def main() -> None:
    texts, asked = speeches(), questions()
    stored = json.loads((DATA / "answers.json").read_text(encoding="utf-8"))
    answers = [stored[name] for name in asked]
    rows = []
    for name, options in WAYS.items():
        encoder = ub.load_encoder(device="cpu", **options)
        queries = encoder.encode_queries(list(asked.values()))
        start = time.perf_counter()
        found = encoder.encode_documents(list(texts.values()), level=Level.SEGMENT)
        seconds = time.perf_counter() - start
        rows.append({"way": name, **measure(found, queries, list(texts), answers), "seconds": round(seconds, 1)})
    title = "Late chunking and plain windows: 10 questions, 14 speeches, segments of 128 tokens"
    write_results(OUT, title, "bench_late.py", rows, machine())


if __name__ == "__main__":
    main()
