"""What ``unabridged plan`` says of time, memory and disk, against what ``index`` then takes.

    python benchmarks/bench_plan.py [--characters 2000000] [--corpora speeches library skewed] [--out RESULTS.json]

Three corpora that every machine has: the demo's speeches (long prose), the modules of the running Python's own
library (code of all lengths), and its docstrings (short prose) beside one document, the language reference of its
help, that holds 40 % of all tokens.  ``plan`` and then ``index`` run as processes of their own, with the embedded
encoder; an index is built from nothing.  ``wall`` is seconds by the clock, ``cpu`` those of all processors together,
which other programs on the machine disturb less; ``peak_mb`` is the largest resident memory of ``index``.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from machine import machine, write_results

import unabridged as ub
from unabridged.contracts import Document

SPEECHES = Path(__file__).parent.parent / "examples" / "data" / "speeches.jsonl.gz"
SHARE = 0.4
SHORT_DOCSTRING = 100


def modules() -> Iterator[tuple[str, str]]:
    """Name and text of every module of the standard library, tests aside."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if not {"site-packages", "test", "tests", "idlelib", "pydoc_data", "__pycache__"} & set(parts):
            text = path.read_text(encoding="utf-8", errors="replace")
            if text.strip():
                yield "/".join(parts), text


def docstrings() -> Iterator[tuple[str, str]]:
    """Name and docstring of every function and class that has more than a line to say."""
    for name, text in modules():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                tree = ast.parse(text)
            except SyntaxError:  # templates of some modules
                continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                said = ast.get_docstring(node)
                if said and len(said) >= SHORT_DOCSTRING:
                    yield f"{name}:{node.lineno}", said


def upto(items: Iterator[tuple[str, str]], characters: int) -> list[tuple[str, str]]:
    """Every n-th item, so that about ``characters`` come together from all of the library."""
    held = list(items)
    step = max(1, sum(len(text) for _, text in held) // characters)
    return held[::step]


def speeches(_: int) -> list[tuple[str, str]]:
    return [(item.id, item.source) for item in ub.read_corpus(SPEECHES) if isinstance(item, Document)]


def library(characters: int) -> list[tuple[str, str]]:
    return upto(modules(), characters)


def skewed(characters: int) -> list[tuple[str, str]]:
    """Short documents, and one in their middle with 40 % of the tokens."""
    from pydoc_data.topics import topics

    encoder = ub.load_encoder()
    reference = "\n\n".join(topics.values())[: round(SHARE * characters)]
    wanted = int(encoder.count_tokens([reference])[0]) * (1 - SHARE) / SHARE
    held, kept = list(docstrings()), []
    counts = encoder.count_tokens([text for _, text in held])
    every = max(1, int(counts.sum() / wanted))
    for (name, text), count in list(zip(held, counts.tolist(), strict=True))[::every]:
        if wanted > 0:
            kept.append((name, text))
            wanted -= count
    middle = len(kept) // 2
    return [*kept[:middle], ("reference", reference), *kept[middle:]]


CORPORA: dict[str, Callable[[int], list[tuple[str, str]]]] = {
    "speeches": speeches,
    "library": library,
    "skewed": skewed,
}


def child(*words: str) -> tuple[dict[str, object], dict[str, float]]:
    """The answer of one command, and what it took."""
    command = [sys.executable, "-m", "unabridged.apps", *words, "--output", "json"]
    started = time.perf_counter()
    with tempfile.TemporaryFile() as answer:
        process = subprocess.Popen(command, stdout=answer)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{words[0]} ended with {process.returncode}")
        answer.seek(0)
        body = json.load(answer)
    most = usage.ru_maxrss if sys.platform == "darwin" else usage.ru_maxrss * 1024
    return body, {
        "wall": time.perf_counter() - started,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": float(most),
    }


def compare(name: str, characters: int) -> dict[str, object]:
    """One corpus: planned, then indexed."""
    folder = Path(tempfile.mkdtemp(prefix="bench-plan-"))
    try:
        documents = CORPORA[name](characters)
        corpus = folder / "corpus.jsonl"
        with corpus.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"_id": key, "text": text}) + "\n" for key, text in documents)
        plan, planning = child("plan", str(corpus))
        before = os.getloadavg()[0]
        report, took = child("index", str(corpus), "--out", str(folder / "ix"), "--quiet")
        after = os.getloadavg()[0]
        disk = sum(path.stat().st_size for path in (folder / "ix").rglob("*") if path.is_file())
        longest = max(int(plan["longest_characters"]), 1) / max(int(plan["characters"]), 1)
    finally:
        shutil.rmtree(folder)
    row: dict[str, object] = {
        "corpus": name,
        "documents": report["documents"],
        "tokens": report["tokens_total"],
        "longest_share": round(longest, 2),
        "load_before": round(before, 1),
        "load_after": round(after, 1),
        "plan_s": round(planning["wall"], 1),
    }
    pairs = {
        "tokens": (plan["tokens"], report["tokens_total"], 0),
        "vectors": (plan["vectors"], report["vectors"], 0),
        "wall_s": (plan["seconds"], took["wall"], 1),
        "cpu_s": (plan["cpu_seconds"], took["cpu"], 1),
        "peak_mb": (float(plan["ram"]) / 1e6, took["peak"] / 1e6, 1),
        "disk_mb": (float(plan["disk"]) / 1e6, disk / 1e6, 2),
    }
    for kind, (planned, actual, digits) in pairs.items():
        if kind not in ("tokens", "vectors"):
            row[f"{kind}_planned"], row[f"{kind}_actual"] = round(float(planned), digits), round(float(actual), digits)
        row[f"{kind.partition('_')[0]}_ratio"] = round(float(planned) / float(actual), 3)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--characters", type=int, default=2_000_000, help="of the library and the skewed corpus, about")
    parser.add_argument("--corpora", nargs="+", choices=CORPORA, default=list(CORPORA))
    parser.add_argument("--out", type=Path, help="write the results to this .json, and a table beside it")
    options = parser.parse_args()
    rows = []
    for name in options.corpora:
        rows.append(compare(name, options.characters))
        print(json.dumps(rows[-1]), flush=True)
    if options.out:
        command = f"bench_plan.py --characters {options.characters} --corpora {' '.join(options.corpora)}"
        write_results(options.out, "The plan against what index takes", command, rows, machine())


if __name__ == "__main__":
    main()
