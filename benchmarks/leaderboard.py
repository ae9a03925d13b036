"""Every system of the project on every local set, and ``docs/results.md`` from the records.

    unabridged eval fetch-local-sets --out sets/
    python benchmarks/leaderboard.py --sets sets/ --out runs/

Interrupted at any moment, the same line continues.  ``--systems`` and ``--only`` choose a part; the page is made of
all runs that are finished.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from unabridged.apps.leaderboard import Board, collect, render
from unabridged.apps.pipeline import Pipeline
from unabridged.apps.progress import progress
from unabridged.apps.run_commands import describe, evidence_in
from unabridged.apps.runs import System, run_system
from unabridged.contracts import Encoder, Level, OverflowPolicy
from unabridged.encoders.load import load_encoder
from unabridged.eval.sets import facts, read_set
from unabridged.files import write_atomic
from unabridged.retrievers.result import Mode
from unabridged.retrievers.scoring import DocumentScoring, Fusion

BASELINE = "BM25"
PI_TOKENS = 2048
ONE_VECTOR: dict[str, Any] = {"overflow": OverflowPolicy.TRUNCATE, "level": Level.DOC}


@cache
def encoder(**options: Any) -> Encoder:
    """The embedded model."""
    return load_encoder(None, **options)


SYSTEMS: dict[str, tuple[Callable[[], Encoder], Pipeline]] = {
    "BM25": (encoder, Pipeline(Mode.BM25)),
    "MiniLM, first 256 tokens": (encoder, Pipeline(Mode.DENSE, building=ONE_VECTOR)),
    f"MiniLM, PI to {PI_TOKENS:,} tokens": (
        partial(encoder, extend="pi", target_tokens=PI_TOKENS),
        Pipeline(Mode.DENSE, building=ONE_VECTOR),
    ),
    "MiniLM, best window": (encoder, Pipeline(Mode.DENSE, scoring=DocumentScoring("max"))),
    "MiniLM, split": (encoder, Pipeline(Mode.DENSE)),
    "BM25 and first window by ranks": (
        encoder,
        Pipeline(scoring=DocumentScoring("first"), fusion=Fusion("rrf")),
    ),
    "BM25 and best window by ranks": (
        encoder,
        Pipeline(scoring=DocumentScoring("max"), fusion=Fusion("rrf")),
    ),
    "hybrid, fixed weights": (
        encoder,
        Pipeline(scoring=DocumentScoring(alpha=0.7), fusion=Fusion("weighted", weights=(0.7, 0.3))),
    ),
    "default (hybrid)": (encoder, Pipeline()),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=Path, required=True, help="what fetch-local-sets made")
    parser.add_argument("--out", type=Path, required=True, help="indexes and runs")
    parser.add_argument("--only", nargs="*", default=[], metavar="SET")
    parser.add_argument("--systems", nargs="*", default=list(SYSTEMS))
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"))
    asked = parser.parse_args()
    names = asked.only or sorted(path.parent.name for path in asked.sets.glob("*/corpus.jsonl"))
    for name in names:
        folder = asked.sets / name
        whole = read_set(folder)
        known = facts(whole)
        evidence = evidence_in(folder, whole)
        for system in asked.systems:
            load, pipeline = SYSTEMS[system]
            with progress(False) as listener:
                record = run_system(
                    whole,
                    known,
                    System(system, load(), pipeline),
                    asked.out,
                    evidence=evidence,
                    listener=listener,
                    notice=print,
                )
            print(describe(record), flush=True)
    board = Board(collect(asked.out)).ordered(list(SYSTEMS), names)
    page = render(board, BASELINE, "python benchmarks/leaderboard.py --sets sets/ --out runs/")
    write_atomic(asked.page, page.encode())
    print(asked.page)


if __name__ == "__main__":
    main()
