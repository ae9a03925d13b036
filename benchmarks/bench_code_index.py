"""Functions found by what they do: one command indexes a source tree, one finds each function's file and lines.

    unabridged index src/ --encoder sea --out idx/ --output json 2> /dev/null > built.json
    python benchmarks/bench_code_index.py library=Lib,idx,built.json --out benchmarks/results/code_index.md

Each of ``benchmarks/code_index_queries.json`` names a file, a function in it and a description in other words.  The
function's lines are read from the source tree.  What is counted within the first 1 and 5 hits of ``unabridged search``
is the right file, a range of lines of the function (a long one has several blocks), and the range with its ``def``.
Level ``doc``, the default, ranks files and shows the best block of each; level ``segment`` ranks blocks, of which one
file may have several.  The file of the queries has to be left out of the index: it holds every description.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import machine

QUERIES = Path(__file__).parent / "code_index_queries.json"
DEPTH = 5
LEVELS = ("doc", "segment")
COUNTED = ("right file", "and lines of the function", "and the line of its def")


@dataclass(frozen=True, slots=True)
class Asked:
    """One description and what the search gave."""

    query: str
    file: str
    function: str
    lines: tuple[int, int]
    """The first, with the ``def``, and the last."""
    ranks: tuple[int | None, int | None, int | None]
    """From 1, one for each of :data:`COUNTED`; None: not among the first."""
    first: str
    """The first hit, ``path:first-last``."""


def lines_of(path: Path, name: str) -> tuple[int, int]:
    """The first and the last line of what has a qualified name; ends the run where it is not there."""
    body: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body
    first, last = 0, 0
    for part in name.split("."):
        inside = [node for one in body for node in ast.walk(one)]
        found = [one for one in inside if isinstance(one, (ast.FunctionDef, ast.ClassDef)) and one.name == part]
        if not found:
            sys.exit(f"{path} has no {name}")
        first, last, body = found[0].lineno, found[0].end_lineno or found[0].lineno, found[0].body
    return first, last


def search(index: Path, queries: list[str], level: str) -> list[list[dict[str, Any]]]:
    """The hits of each query, by one command."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "queries.tsv"
        table.write_text("".join(f"{n}\t{query}\n" for n, query in enumerate(queries)), encoding="utf-8")
        command = [Path(sys.executable).with_name("unabridged"), "search", index, "--queries", table]
        command += ["-k", str(DEPTH), "--level", level, "--output", "json"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    results = json.loads(done.stdout)["results"]
    return [results[str(n)]["hits"] for n in range(len(queries))]


def asked(source: Path, file: str, function: str, query: str, hits: list[dict[str, Any]]) -> Asked:
    """Judges the hits of one query."""
    first, last = lines_of(source / file, function)
    ranges = {place: hit["lines"] for place, hit in enumerate(hits, 1) if hit["doc_id"] == file}
    inside = [place for place, (begin, end) in ranges.items() if begin <= last and end >= first]
    right = [place for place in inside if ranges[place][0] <= first]
    lines = hits[0].get("lines") if hits else None
    shown = "" if not hits else hits[0]["doc_id"] + (f":{lines[0]}-{lines[1]}" if lines else "")
    ranks = (min(ranges, default=None), min(inside, default=None), min(right, default=None))
    return Asked(query, file, function, (first, last), ranks, shown)


def rate(found: list[Asked], which: int, depth: int) -> str:
    """So many of all within the first ``depth``."""
    count = sum(1 for one in found if (rank := one.ranks[which]) is not None and rank <= depth)
    return f"{count} of {len(found)}"


def rates(found: dict[str, list[Asked]]) -> list[str]:
    """The table of what was found at each level."""
    return [
        "|" + "".join(f" | {level}, first 1 | {level}, first {DEPTH}" for level in found) + " |",
        "|---|" + "--:|--:|" * len(found),
        *(
            f"| {name}" + "".join(f" | {rate(of, row, 1)} | {rate(of, row, DEPTH)}" for of in found.values()) + " |"
            for row, name in enumerate(COUNTED)
        ),
        "",
    ]


def each(found: dict[str, list[Asked]]) -> list[str]:
    """The table of single questions."""
    shown = {level: [" / ".join(str(rank or "-") for rank in one.ranks) for one in of] for level, of in found.items()}
    return [
        f"Ranks among the first {DEPTH}: of the file / of lines of the function / of the line of its def.",
        "",
        "| asked | function | lines |" + "".join(f" {level} | first hit |" for level in found),
        "|---|---|--:|" + "---|---|" * len(found),
        *(
            f"| {one.query} | {one.file} `{one.function}` | {one.lines[0]:,}-{one.lines[1]:,} |"
            + "".join(f" {shown[level][row]} | {of[row].first} |" for level, of in found.items())
            for row, one in enumerate(next(iter(found.values())))
        ),
        "",
    ]


def section(name: str, source: Path, index: Path, built: Path) -> list[str]:
    """What is said of one tree."""
    queries = json.loads(QUERIES.read_text(encoding="utf-8"))[name]
    report = json.loads(built.read_text(encoding="utf-8").strip().splitlines()[-1])
    lines = sum(path.read_bytes().count(b"\n") for path in source.rglob("*.py"))
    begin = time.perf_counter()
    hits = {level: search(index, [query for _, _, query in queries], level) for level in LEVELS}
    took = (time.perf_counter() - begin) / len(LEVELS)
    found = {
        level: [asked(source, *one, got) for one, got in zip(queries, of, strict=True)] for level, of in hits.items()
    }
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in report["failed_reasons"].items())
    return [
        f"## {name}",
        "",
        f"{report['documents']:,} documents, {report['tokens_seen']:,} of {report['tokens_total']:,} tokens read, "
        f"{report['failed']:,} items failed{f' ({reasons})' if reasons else ''}, {report['vectors']:,} vectors; "
        f"{lines:,} lines of Python in {report['seconds']:,.0f} s, {lines / report['seconds']:,.0f} lines a second, "
        f"beside other work; {len(queries)} searches by one command {took:.1f} s, with start and loading of the model.",
        "",
        *rates(found),
        *each(found),
    ]


def main() -> None:
    """Searches and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", nargs="+", help="name=SOURCE,INDEX,REPORT; names are those of the queries")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/code_index.md"))
    given = parser.parse_args()
    facts = machine()
    text = [
        "# Functions found by what they do",
        "",
        f"`--encoder sea` (embedded MiniLM, shipped aggregator), hybrid search; {facts['processor']}, "
        f"{facts['cores']} cores.",
        "",
    ]
    for tree in given.trees:
        name, _, rest = tree.partition("=")
        text += section(name, *map(Path, rest.split(",")))
    given.out.write_text("\n".join(text), encoding="utf-8")
    sys.stdout.write("\n".join(text))


if __name__ == "__main__":
    main()
