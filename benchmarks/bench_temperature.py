"""What the softmax temperature does to retrieval of real long documents: nDCG@10 and the likeness of vectors.

    python benchmarks/bench_temperature.py --out FOLDER [--sets aafaq pydoc] [--temperatures 1 0.9 0.8 0.7]

Sets are built into FOLDER (``unabridged eval fetch-local-sets``).  Each document has one vector: of its first 512
tokens, or of its first 2,048 by position interpolation (``--target``).  ``cosine`` is the mean over all pairs of
document vectors: the length collapse that TempScale (arXiv 2410.24200) is against.  Differences are to temperature 1,
paired by query, with their standard error.  The embedded encoder, queries and documents at the same temperature.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine, write_results

import unabridged as ub
from unabridged.contracts import Floats, Level, OverflowPolicy
from unabridged.eval.local_sets.build import build, capped
from unabridged.eval.sets import RetrievalSet, read_beir

K = 10
WORDS = {"pydoc": 250_000, "stdlibmod": 250_000}
"""Words that are taken of the larger sets, so that a run takes minutes."""


def vectors(found: RetrievalSet, target: int | None, temperature: float) -> tuple[Floats, Floats, int]:
    """Document vectors (B, D), query vectors (Q, D) and the tokens that were read of the documents."""
    extension: dict[str, Any] = {"extend": "pi", "target_tokens": target} if target else {"max_tokens": 512}
    model = ub.load_encoder(temperature=temperature, **extension)
    texts = [document.source for document in found.corpus]
    got = model.encode_documents(texts, level=Level.DOC, overflow=OverflowPolicy.TRUNCATE)
    return got.documents, model.encode_queries([query.text for query in found.queries]), int(got.coverage.seen.sum())


def per_query(found: RetrievalSet, documents: Floats, queries: Floats) -> np.ndarray:
    """nDCG@10 of each query, (Q,), in percent; ties by order of the corpus."""
    names = [document.id for document in found.corpus]
    discounts = 1 / np.log2(np.arange(2, K + 2))
    scores = []
    for query, vector in zip(found.queries, queries, strict=True):
        grades = found.qrels[query.id]
        best = np.argsort(-(documents @ vector), kind="stable")[:K]
        gains = np.array([grades.get(names[row], 0) for row in best], float)
        ideal = np.sort([float(g) for g in grades.values()])[::-1][:K]
        scores.append(100 * float(gains @ discounts[: len(gains)]) / float(ideal @ discounts[: len(ideal)]))
    return np.array(scores)


def mean_cosine(documents: Floats) -> float:
    """Over all pairs of different unit vectors."""
    total = np.asarray(documents, np.float64).sum(axis=0)
    count = len(documents)
    return float((total @ total - count) / (count * (count - 1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--sets", nargs="+", default=["aafaq", "pydoc", "stdlibmod", "gensimwiki"])
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1.0, 0.9, 0.8, 0.7])
    parser.add_argument("--target", type=int, default=2048, help="0: only the first 512 tokens")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results" / "temperature_cpu.json")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in options.sets:
        build(name, options.out)
        found = capped(read_beir(options.out / name), WORDS.get(name, 10**9), 10**9)
        for target in (None, options.target or None)[: 2 if options.target else 1]:
            base = None
            for temperature in options.temperatures:
                documents, queries, seen = vectors(found, target, temperature)
                scores = per_query(found, documents, queries)
                base = scores if base is None else base
                change = scores - base
                rows.append(
                    {
                        "set": name,
                        "documents": len(list(found.corpus)),
                        "queries": len(found.queries),
                        "reads": f"PI {target}" if target else "first 512",
                        "tokens": seen,
                        "temperature": temperature,
                        "nDCG@10": round(float(scores.mean()), 2),
                        "change": round(float(change.mean()), 2),
                        "standard error": round(float(change.std(ddof=1) / np.sqrt(len(change))), 2),
                        "cosine": round(mean_cosine(documents), 4),
                    }
                )
                print(rows[-1], flush=True)
    write_results(options.results, "Temperature on real long documents", "bench_temperature.py", rows, machine())


if __name__ == "__main__":
    main()
