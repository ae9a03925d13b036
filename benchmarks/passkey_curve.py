"""Passkey accuracy by method and length, written cell by cell: what is in the results file already is not run again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from machine import machine, write_results

from unabridged.apps.plots import lines, save_panels
from unabridged.apps.trials import Trial, measure
from unabridged.contracts import Encoder, Level, OverflowPolicy
from unabridged.eval.synth.passkey import passkey


def curve(
    encoders: Mapping[str, Callable[[], Encoder]],
    lengths: Sequence[int],
    results: Path,
    title: str,
    command: str,
    documents: int = 100,
    queries: int = 50,
    seeds: int = 1,
) -> list[dict[str, Any]]:
    """One row per cell: method, length, accuracy@1, share of tokens read, tokens per second.

    With several ``seeds`` there are documents and questions for each, and a cell is their mean.  A document that is
    longer than an encoder's window is cut there: every method gives one vector per document.
    """
    rows = json.loads(results.read_text(encoding="utf-8"))["rows"] if results.is_file() else []
    queries = min(queries, documents)
    done = {(row["method"], row["length"]) for row in rows}
    for name, load in encoders.items():
        trial = None
        for length in lengths:
            if (name, length) in done:
                continue
            trial = trial or Trial(name, load(), Level.DOC, OverflowPolicy.TRUNCATE)
            cells = [
                measure(trial, passkey(length, seed, documents=documents, queries=queries)) for seed in range(seeds)
            ]
            cell, each = cells[0], [round(cell.accuracy, 3) for cell in cells]
            accuracy = round(sum(each) / seeds, 3)
            rows.append({
                "method": name, "length": length, "accuracy@1": accuracy, "read": round(cell.read, 3),
                "tokens": round(cell.tokens), "tokens/s": round(cell.tokens_per_second),
                "queries": queries, "documents": documents, **({"by seed": each} if seeds > 1 else {}),
            })  # fmt: skip
            order = {method: at for at, method in enumerate(encoders)}
            rows.sort(key=lambda row: (order.get(row["method"], len(order)), row["length"]))
            write_results(results, title, command, rows, machine())
            print(f"{name} {length}: {each} ({sum(cell.seconds for cell in cells):.0f} s)", flush=True)
    return rows


def draw(rows: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """The curves as a PNG."""
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        series.setdefault(row["method"], []).append((row["length"], row["accuracy@1"]))
    save_panels(path, [lines(series, "passkey", "nominal tokens", "accuracy@1", log="x", unit=True)], title, columns=1)
    print(path)
