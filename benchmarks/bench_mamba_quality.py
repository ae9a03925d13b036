"""The trained Mamba beside BM25 and MiniLM on real sets, by the length of the document that answers.

    unabridged eval fetch-local-sets --out sets/
    python benchmarks/bench_mamba_quality.py --sets sets/ --out runs/

Every system reads whole sets through the same indexes, searches and records as ``unabridged eval beir``.  The
table pools the queries of all sets into bins by the tokens of their relevant document: mean nDCG@10, and the interval
in which
95 % of bootstrap samples of the queries lie.  Interrupted, the same line continues.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, write_results

from unabridged.apps.bins import LENGTHS
from unabridged.apps.pipeline import Pipeline
from unabridged.apps.progress import progress
from unabridged.apps.run_commands import describe, evidence_in
from unabridged.apps.runs import QUERIES, RECORD, System, run_system
from unabridged.contracts import Encoder, Level, OverflowPolicy
from unabridged.encoders.load import load_encoder
from unabridged.eval.sets import facts, read_set
from unabridged.retrievers.result import Mode
from unabridged.retrievers.scoring import DocumentScoring

SETS = ("aafaq", "gensimwiki", "longcode", "stdlibmod")
"""Documents of 15,500, 4,600, 900 and 2,500 words on average; none of them was seen in training."""
MEASURE = "nDCG@10"
PI_TOKENS = 2048
RESAMPLES = 2_000


@cache
def encoder(name: str | None, **options: Any) -> Encoder:
    return load_encoder(name, **options)


def systems(mamba: str) -> dict[str, tuple[Callable[[], Encoder], Pipeline]]:
    minilm, ours = partial(encoder, None), partial(encoder, mamba)
    one_vector: dict[str, Any] = {"overflow": OverflowPolicy.TRUNCATE, "level": Level.DOC}
    return {
        "BM25": (minilm, Pipeline(Mode.BM25)),
        "MiniLM, truncated at 256": (minilm, Pipeline(Mode.DENSE, building=one_vector)),
        f"MiniLM, PI to {PI_TOKENS:,}": (
            partial(encoder, None, extend="pi", target_tokens=PI_TOKENS),
            Pipeline(Mode.DENSE, building=one_vector),
        ),
        "MiniLM, split": (minilm, Pipeline(Mode.DENSE)),
        "MiniLM, split, with BM25": (minilm, Pipeline()),
        "Mamba, one vector of all": (ours, Pipeline(Mode.DENSE, scoring=DocumentScoring(alpha=0.0, lead=0.0))),
        "Mamba, split": (ours, Pipeline(Mode.DENSE)),
        "Mamba, split, with BM25": (ours, Pipeline()),
    }


def pooled(out: Path, sets: list[str], system: str) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of the relevant document and nDCG@10 of all queries of all sets."""
    tokens, values = [], []
    for name in sets:
        for record in sorted((out / "runs" / name).glob(f"*/{RECORD}")):
            if json.loads(record.read_text())["system"]["name"] != system:
                continue
            for line in (record.parent / QUERIES).read_text().splitlines():
                query = json.loads(line)
                tokens.append(query["tokens"])
                values.append(query["values"][MEASURE])
    return np.array(tokens), np.array(values)


def interval(values: np.ndarray) -> str:
    """Mean and bootstrap interval, in hundredths."""
    chance = np.random.default_rng(0)
    means = chance.choice(values, (RESAMPLES, len(values))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5]) * 100
    return f"{values.mean() * 100:.1f} ({low:.0f}-{high:.0f})"


def table(out: Path, sets: list[str], names: list[str]) -> list[dict[str, Any]]:
    rows = []
    for system in names:
        tokens, values = pooled(out, sets, system)
        if not len(values):
            continue
        row: dict[str, Any] = {"system": system, "queries": len(values), "all": interval(values)}
        bins = np.searchsorted(LENGTHS, tokens, side="right")
        for number in range(len(LENGTHS) + 1):
            held = values[bins == number]
            if len(held):
                start = (0, *LENGTHS)[number]
                end = f"-{LENGTHS[number]}" if number < len(LENGTHS) else "+"
                row[f"{start}{end} ({len(held)})"] = interval(held)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=Path, required=True, help="what fetch-local-sets made")
    parser.add_argument("--out", type=Path, required=True, help="indexes and runs")
    parser.add_argument("--mamba", default="mamba", help="a Mamba folder")
    parser.add_argument("--only", nargs="*", default=list(SETS), metavar="SET")
    parser.add_argument("--systems", nargs="*", metavar="NAME")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/mamba_quality_cpu.json"))
    asked = parser.parse_args()
    known = systems(asked.mamba)
    for name in asked.only:
        folder = asked.sets / name
        whole = read_set(folder)
        evidence = evidence_in(folder, whole)
        for system in asked.systems or known:
            load, pipeline = known[system]
            with progress(False) as listener:
                own = System(system, load(), pipeline)
                record = run_system(
                    whole, facts(whole), own, asked.out, evidence=evidence, listener=listener, notice=print
                )
            print(describe(record), flush=True)
    rows = table(asked.out, asked.only, list(known))
    title = f"{MEASURE} by tokens of the relevant document, on {', '.join(asked.only)} (queries; 95 % intervals)"
    write_results(asked.results, title, "bench_mamba_quality.py --sets sets/ --out runs/", rows, machine())
    print(asked.results.with_suffix(".md").read_text())


if __name__ == "__main__":
    main()
