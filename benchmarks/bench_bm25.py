"""BM25 latency against rank-bm25 and bare bm25s, on synthetic documents with Zipf-distributed words.

    python benchmarks/bench_bm25.py --documents 100000 --out benchmarks/results/bm25_cpu.json

Every side gets the same terms and the same k1, b.  The sides alternate query by query in one process and
medians are taken, so that other load hits all; a ratio above 1 means that ours is faster.  ``cold`` is the
first query of a term after opening (its contributions are computed from the postings), ``warm`` every later
one.  bm25s and rank-bm25 are timed on terms, ours on text, analysis included.  Queries have 5 to 8 terms:
a third among the 100 most frequent words, a third among the next 5,000, a third rarer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unabridged.contracts import NO_HIT, Level
from unabridged.index.lexical import Analyzer, LexicalIndex, LexicalWriter

K = 10
K1, B = 1.5, 0.75
WORDS = 200_000
SEGMENT = 256
ANALYZER = Analyzer(stopwords="none")


def names() -> np.ndarray:
    """(WORDS,) distinct words, most frequent first."""
    return np.array([f"w{number:x}" for number in range(WORDS)], object)


def documents(count: int, mean: int, seed: int = 0) -> Iterator[list[int]]:
    """Word numbers of each document: log-normal lengths, Zipf frequencies with exponent 1.05."""
    random = np.random.default_rng(seed)
    weights = np.cumsum(1.0 / np.arange(1, WORDS + 1) ** 1.05)
    for start in range(0, count, 1000):
        lengths = np.maximum(random.lognormal(np.log(mean), 0.6, min(1000, count - start)).astype(int), 1)
        words = np.searchsorted(weights, random.random(int(lengths.sum())) * weights[-1])
        for part in np.split(words, np.cumsum(lengths)[:-1]):
            yield part.tolist()


def queries(count: int, seed: int = 1) -> list[str]:
    """Queries of 5 to 8 words of mixed frequency."""
    random = np.random.default_rng(seed)
    word = names()
    bands = [(0, 100), (100, 5_100), (5_100, WORDS // 4)]
    return [
        " ".join(word[random.integers(*bands[at % 3])] for at in range(random.integers(5, 9))) for _ in range(count)
    ]


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """The result of a call and its milliseconds."""
    start = time.perf_counter()
    result = call()
    return result, 1000 * (time.perf_counter() - start)


def peak_mb() -> float:
    """The most memory this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def write(folder: Path, corpus: Iterator[list[int]], segment: int | None) -> dict[str, Any]:
    """Indexes the corpus and says how fast; ``segment`` words to a segment, None for one per document."""
    word = names()
    writer = LexicalWriter(folder, ANALYZER)
    seconds = 0.0
    for numbers in corpus:
        parts = word[numbers].tolist()
        text = " ".join(parts)
        starts = [0]
        if segment is not None:
            ends = np.cumsum([len(part) + 1 for part in parts])
            starts += ends[segment - 1 : -1 : segment].tolist()
        start = time.perf_counter()
        writer.add(text, starts)
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    meta = writer.finish()
    merging = time.perf_counter() - start
    size = sum(path.stat().st_size for path in folder.iterdir())
    return {
        **{name: meta[name] for name in ("documents", "segments", "tokens", "terms", "postings")},
        "seconds": seconds + merging,
        "of_that_finish": merging,
        "tokens_per_second": meta["tokens"] / (seconds + merging),
        "bytes_per_posting": size / max(meta["postings"], 1),
        "peak_mb": peak_mb(),
    }


def ours(folder: Path, asked: Sequence[str], level: Level) -> dict[str, Any]:
    """Open time, cold and warm latency of our index alone."""
    opening = statistics.median(timed(lambda: LexicalIndex.open([folder], ANALYZER))[1] for _ in range(15))
    index = LexicalIndex.open([folder], ANALYZER)
    cold = [timed(lambda q=query: index.search([q], K, level=level))[1] for query in asked]
    warm = [timed(lambda q=query: index.search([q], K, level=level))[1] for query in asked]
    return {"open_ms": opening, "cold_ms": statistics.median(cold), **spread("warm", warm)}


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    return {f"{name}_ms": statistics.median(values), f"{name}_p95_ms": float(np.percentile(values, 95))}


def against_bm25s(folder: Path, corpus: Iterator[list[int]], asked: Sequence[str], rounds: int) -> dict[str, Any]:
    """Latency beside bare bm25s (numpy and, where it is installed, numba), one query at a time, in turn."""
    import bm25s
    from bm25s.tokenization import Tokenized

    vocabulary = {name: number for number, name in enumerate(names())}
    tokens = Tokenized(list(corpus), vocabulary)
    peers, built = {}, 0.0
    for backend in ("numpy", "numba"):
        try:
            peer = bm25s.BM25(method="lucene", k1=K1, b=B, backend=backend)
        except ImportError:
            continue
        built = timed(lambda p=peer: p.index(tokens, show_progress=False))[1]
        peers[backend] = peer
    index = LexicalIndex.open([folder], ANALYZER, variant="lucene", k1=K1, b=B)
    terms = [query.split() for query in asked]
    calls: dict[str, Callable[[int], Any]] = {"ours": lambda q: index.search([asked[q]], K)}
    for name, peer in peers.items():
        calls[f"bm25s_{name}"] = lambda q, p=peer: p.retrieve([terms[q]], k=K, show_progress=False)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    worst = 0.0
    for turn in range(rounds + 1):
        for q in range(len(asked)):
            results = {}
            for name, call in calls.items():
                results[name], took = timed(lambda c=call, q=q: c(q))
                if turn:  # the first round warms all sides
                    taken[name].append(took)
            real = results["ours"].rows[0] != NO_HIT
            expected = results["bm25s_numpy"].scores[0][real]
            worst = max(worst, float(np.max(np.abs(results["ours"].scores[0][real] / expected - 1))))
    figures = {f"{name}_ms": statistics.median(values) for name, values in taken.items()}
    ratios = {f"times_{name}": figures[f"{name}_ms"] / figures["ours_ms"] for name in calls if name != "ours"}
    return {**figures, **ratios, "largest_relative_difference": worst, "bm25s_index_seconds": built / 1000}


def against_rank_bm25(folder: Path, corpus: Iterator[list[int]], asked: Sequence[str]) -> dict[str, Any]:
    """Latency beside ``rank_bm25.BM25Okapi``, in turn, and the largest relative difference of the scores."""
    import rank_bm25

    word = names()
    oracle = rank_bm25.BM25Okapi((word[numbers].tolist() for numbers in corpus), k1=K1, b=B)
    index = LexicalIndex.open([folder], ANALYZER, variant="okapi", k1=K1, b=B)
    index.search(list(asked), K)
    mine, theirs, worst = [], [], 0.0
    for query in asked:
        terms = query.split()
        scores, took = timed(lambda t=terms: top(oracle.get_scores(t)))
        theirs.append(took)
        hits, took = timed(lambda q=query: index.search([q], K))
        mine.append(took)
        real = hits.rows[0] != NO_HIT
        worst = max(worst, float(np.max(np.abs(hits.scores[0][real] / scores[: real.sum()] - 1))))
    figures = {"ours_ms": statistics.median(mine), "rank_bm25_ms": statistics.median(theirs)}
    return {
        **figures,
        "times_rank_bm25": figures["rank_bm25_ms"] / figures["ours_ms"],
        "largest_relative_difference": worst,
    }


def top(scores: np.ndarray) -> np.ndarray:
    """The K best scores, best first, as rank_bm25's ``get_top_n`` finds them."""
    return scores[np.argsort(scores)[::-1][:K]]


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = [f"# BM25, {report['documents']:,} documents, {report['machine']}", ""]
    lines += ["Lower is better except `times_*`, which say how many times faster ours is.", ""]
    for section, figures in report.items():
        if isinstance(figures, dict):
            lines += [f"## {section}", "", "| figure | value |", "|---|--:|"]
            lines += [f"| {name} | {value:,.6g} |" for name, value in figures.items()]
            lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--words", type=int, default=100, help="median words of a document")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--rank-queries", type=int, default=5, help="queries of rank-bm25, which is slow; 0 leaves it out"
    )
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="run bm25s too")
    parser.add_argument("--long", type=int, default=6_000, help="long documents for the segment search; 0 for none")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    asked = queries(options.queries)
    base = Path(tempfile.mkdtemp(prefix="bench-bm25-"))
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}"
    )
    report: dict[str, Any] = {"documents": options.documents, "machine": machine}

    def corpus() -> Iterator[list[int]]:
        return documents(options.documents, options.words)

    try:
        report["index"] = write(base / "documents", corpus(), None)
        report["documents_search"] = ours(base / "documents", asked, Level.DOC)
        if options.long:  # log-normal with mean 1.2 times the median: about 17 segments of 256 words each
            long = write(base / "long", documents(options.long, 14 * SEGMENT), SEGMENT)
            report["long_index"] = long
            report["segments_search"] = ours(base / "long", asked, Level.SEGMENT)
        if options.peers:
            report["bm25s"] = against_bm25s(base / "documents", corpus(), asked, options.rounds)
        if options.rank_queries:
            report["rank_bm25"] = against_rank_bm25(base / "documents", corpus(), asked[: options.rank_queries])
    finally:
        shutil.rmtree(base)
    print(table(report))
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        options.out.with_suffix(".md").write_text(table(report), encoding="utf-8")


if __name__ == "__main__":
    main()
