"""Functions found by what they do: one command indexes a source tree, one finds each function's file and lines.

    unabridged index src/ --encoder sea --out idx/ --output json 2> /dev/null > built.json
    python benchmarks/bench_code_index.py library=Lib,idx,built.json --out benchmarks/results/code_index.md

Each of ``benchmarks/code_index_queries.json`` names a file, a function in it and a description in other words.  The
function's lines are read from the source tree.  A hit has the right file and a range of lines that holds the line of
the ``def``; it counts within the first 1 and 5 of ``unabridged search``.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import machine

QUERIES = Path(__file__).parent / "code_index_queries.json"
DEPTH = 5


@dataclass(frozen=True, slots=True)
class Asked:
    """One description and what the search gave."""

    query: str
    file: str
    function: str
    line: int
    """Of the ``def``."""
    ranks: tuple[int | None, int | None]
    """Of the file, and of the file with the line in the range, from 1; None: not among the first."""
    first: str
    """The first hit, ``path:first-last``."""


def line_of(path: Path, name: str) -> int:
    """The line of the ``def`` of a qualified name; ends the run where it is not there."""
    body: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body
    line = 0
    for part in name.split("."):
        inside = [node for one in body for node in ast.walk(one)]
        found = [one for one in inside if isinstance(one, (ast.FunctionDef, ast.ClassDef)) and one.name == part]
        if not found:
            sys.exit(f"{path} has no {name}")
        line, body = found[0].lineno, found[0].body
    return line


def search(index: Path, query: str) -> list[dict[str, Any]]:
    """The hits of one command."""
    command = [
        Path(sys.executable).with_name("unabridged"),
        "search",
        index,
        query,
        "-k",
        str(DEPTH),
        "--output",
        "json",
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    hits: list[dict[str, Any]] = json.loads(done.stdout)["hits"]
    return hits


def asked(index: Path, source: Path, file: str, function: str, query: str) -> Asked:
    """Searches once."""
    line = line_of(source / file, function)
    hits = search(index, query)
    files = [place for place, hit in enumerate(hits, 1) if hit["doc_id"] == file]
    right = [place for place in files if hits[place - 1]["lines"][0] <= line <= hits[place - 1]["lines"][1]]
    lines = hits[0].get("lines") if hits else None
    first = "" if not hits else hits[0]["doc_id"] + (f":{lines[0]}-{lines[1]}" if lines else "")
    return Asked(query, file, function, line, (next(iter(files), None), next(iter(right), None)), first)


def rate(found: list[Asked], which: int, depth: int) -> str:
    """So many of all within the first ``depth``."""
    count = sum(1 for one in found if (rank := one.ranks[which]) is not None and rank <= depth)
    return f"{count} of {len(found)}"


def section(name: str, source: Path, index: Path, built: Path) -> list[str]:
    """What is said of one tree."""
    queries = json.loads(QUERIES.read_text(encoding="utf-8"))[name]
    report = json.loads(built.read_text(encoding="utf-8").strip().splitlines()[-1])
    lines = sum(path.read_bytes().count(b"\n") for path in source.rglob("*.py"))
    begin = time.perf_counter()
    found = [asked(index, source, *one) for one in queries]
    took = (time.perf_counter() - begin) / max(1, len(found))
    return [
        f"## {name}",
        "",
        f"{report['documents']:,} documents, {report['tokens_seen']:,} of {report['tokens_total']:,} tokens read, "
        f"{report['failed']:,} items failed, {report['vectors']:,} vectors; {lines:,} lines of Python in "
        f"{report['seconds']:,.0f} s, {lines / report['seconds']:,.0f} lines a second, beside other work; one search "
        f"{took:.1f} s, starting Python and loading the model included.",
        "",
        "| within the first | 1 | 5 |",
        "|---|--:|--:|",
        f"| right file | {rate(found, 0, 1)} | {rate(found, 0, DEPTH)} |",
        f"| and the line of the def | {rate(found, 1, 1)} | {rate(found, 1, DEPTH)} |",
        "",
        "| asked | function | line | rank of the file | with the line | first hit |",
        "|---|---|--:|--:|--:|---|",
        *(
            f"| {one.query} | {one.file} `{one.function}` | {one.line:,} | {one.ranks[0] or ''} | {one.ranks[1] or ''} "
            f"| {one.first} |"
            for one in found
        ),
        "",
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
        f"`--encoder sea` (embedded MiniLM, shipped aggregator), default search; {facts['processor']}, "
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
