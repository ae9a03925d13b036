"""Code search by blocks: truncation, mean, best block, SEA, BM25 and hybrid on real functions of seven languages.

    unabridged eval fetch-local-sets codesearch --out sets/
    python benchmarks/bench_sea.py --set sets/codesearch --cache cache/

writes ``benchmarks/results/sea_cpu.{json,md}``.  Every candidate is cut by the same rule (the honest protocol of
:mod:`unabridged.eval.code_protocols`); the published protocol follows, to show what it measures.  Vectors are kept in
the cache part by part, so an interrupted run goes on; ``--encode-only SECONDS`` does a piece of them and ends.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from numpy.typing import NDArray

import unabridged as ub
from unabridged.apps.pipeline import Pipeline
from unabridged.contracts import Document, Encoder, Level, OverflowPolicy
from unabridged.corpora import ListCorpus
from unabridged.encoders.sea.aggregators import Aggregator
from unabridged.encoders.sea.encoder import SeaEncoder
from unabridged.eval._resample import bootstrap_interval
from unabridged.eval.code_protocols import (
    Blocks,
    Outcome,
    hits_at,
    honest,
    null,
    published,
    reciprocal_ranks,
    relevant_to_any,
)
from unabridged.eval.evidence import read_record
from unabridged.eval.sets import RetrievalSet, facts, read_beir
from unabridged.eval.significance import randomization_p
from unabridged.retrievers.result import Mode
from unabridged.retrievers.scoring import DEFAULT_SCORING, DocumentScoring, Fusion, fuse, score_documents

Array = NDArray[Any]
OUT = Path(__file__).parent / "results" / "sea_cpu.json"
PART = 64
"""Documents between two writes of the cache."""
DEPTH = 100
"""Documents that each list brings to a fusion, as in a search for up to 50."""
BINS = (0, 256, 512, 1024, 10**9)
"""Content tokens of the code that is asked for."""
SEEDS = 16
SHARE = 3
"""Of the queries one in so many, where protocols are compared: a third of the published pools answers some query."""
TRUNCATED, MEAN, BEST = "truncation", "mean of blocks", "best block"


@dataclass
class Vectors:
    """What encoding gave; B documents, S segments, H width."""

    segments: Array  # (S, H)
    offsets: Array  # (B + 1,)
    documents: Array  # (B, H)
    total: Array  # (B,) content tokens
    seen: Array  # (B,)


def encoded(
    encoder: Encoder, texts: Sequence[str], level: Level, overflow: OverflowPolicy, cache: Path, until: float
) -> Vectors | None:
    """The vectors of all texts, from the cache as far as they are there; None when the time is over before the end."""
    cache.mkdir(parents=True, exist_ok=True)
    parts = []
    for start in range(0, len(texts), PART):
        path = cache / f"{start:06d}.npz"
        if not path.exists():
            if time.monotonic() > until:
                return None
            found = encoder.encode_documents(texts[start : start + PART], level=level, overflow=overflow)
            none = np.zeros((0, encoder.dim), np.float32)
            part = path.with_suffix(".part.npz")
            np.savez(
                part,
                segments=none if found.segments is None else found.segments,
                documents=none if found.documents is None else found.documents,
                sizes=np.diff(found.offsets),
                total=found.coverage.total,
                seen=found.coverage.seen,
            )
            part.replace(path)
        with np.load(path) as stored:
            parts.append({name: stored[name] for name in stored.files})
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    offsets = np.concatenate([[0], np.cumsum(whole.pop("sizes"))]).astype(np.int64)
    return Vectors(offsets=offsets, **whole)


def pool_of(whole: RetrievalSet, documents: int | None) -> list[Document]:
    """The first ``documents``: those that answer a query, then others, both in hash order; None: all.

    A query of which some answer is not among them is not asked.
    """
    judged = {name for grades in whole.qrels.values() for name in grades}

    def place(document: Document) -> tuple[bool, bytes]:
        return document.id not in judged, hashlib.sha256(document.id.encode()).digest()

    return sorted(whole.corpus, key=place)[:documents]


def lexical(asked: Sequence[str], corpus: Sequence[Document], cache: Path) -> Array:
    """(Q, B): BM25 of the product's own index, -inf below the first thousand."""
    pipeline = Pipeline(Mode.BM25, building={"level": Level.DOC})
    index, _, _ = pipeline.indexed(ListCorpus(corpus), ub.load_encoder("hashing:16"), cache / f"bm25-{len(corpus)}")
    places = {document.id: at for at, document in enumerate(corpus)}
    scores = np.full((len(asked), len(corpus)), -np.inf, np.float32)
    for row, found in enumerate(index.rank(asked, 1000, mode=Mode.BM25)):
        scores[row, [places[name] for name in found.doc_ids]] = found.scores
    index.close()
    return scores


def scored(queries: Array, vectors: Vectors, documents: Array, scoring: DocumentScoring) -> Array:
    """(Q, B): the product's document score over all blocks, with ``documents`` as vectors of the whole."""
    similarities, wholes = queries @ vectors.segments.T, queries @ documents.T
    rows = zip(similarities, wholes, strict=True)
    return np.stack([score_documents(one, vectors.offsets, two, scoring)[0] for one, two in rows])


def fused(dense: Array, words: Array) -> Array:
    """(Q, B): the default fusion of the first hundred of two lists."""

    def first(scores: Array) -> tuple[Array, Array]:
        rows = np.flatnonzero(np.isfinite(scores))
        rows = rows[np.lexsort((rows, -scores[rows]))][:DEPTH]
        return rows.astype(np.int64), scores[rows].astype(np.float32)

    out = np.full(dense.shape, -np.inf, np.float32)
    for row, (one, two) in enumerate(zip(dense, words, strict=True)):
        rows, scores = fuse([first(one), first(two)], Fusion())
        out[row, rows] = scores
    return out


def figures(name: str, scores: Array, labels: list[Array], chosen: Array, base: Array) -> dict[str, Any]:
    """One line of a table, over the queries ``chosen``; ``base`` are the reciprocal ranks (Q,) to compare with."""
    ranks = reciprocal_ranks(scores, labels)
    low, high = bootstrap_interval(ranks[chosen])
    own = float(ranks[chosen].mean())
    line: dict[str, Any] = {"system": name, "MRR": round(own, 4), "low": round(low, 4), "high": round(high, 4)}
    line |= {f"R@{k}": round(float(hits_at(scores, labels, k)[chosen].mean()), 4) for k in (1, 5, 10)}
    line["against truncation"] = f"{100 * (own / float(base[chosen].mean()) - 1):+.1f} %"
    line["p"] = round(randomization_p(ranks[chosen], base[chosen]), 4)
    return line


def by_length(name: str, scores: Array, labels: list[Array], tokens: Array) -> dict[str, Any]:
    """MRR by content tokens of the code that is asked for."""
    ranks = reciprocal_ranks(scores, labels)
    line: dict[str, Any] = {"system": name}
    for low, high in pairwise(BINS):
        chosen = (tokens > low) & (tokens <= high)
        said = f"over {low:,}" if high == BINS[-1] else f"{low + 1:,} to {high:,}"
        line[f"{said} ({int(chosen.sum())})"] = round(float(ranks[chosen].mean()), 3) if chosen.any() else ""
    return line


def uncut(pool: Blocks, queries: Array, labels: list[Array], aggregate: Callable[[Array, Array], Array]) -> Outcome:
    """The honest protocol over beginnings alone."""
    return honest(Blocks(pool.whole, np.arange(len(pool.whole) + 1), pool.whole), queries, labels, aggregate)


def protocols(pool: Blocks, queries: Array, labels: list[Array], legacy: Aggregator) -> list[dict[str, Any]]:
    """The same vectors by both protocols: MRR, norms, and MRR under labels that mean nothing."""
    lines = []
    mended = Aggregator("attention_plus_mean", legacy.parameters)
    mask = relevant_to_any(labels, len(pool.whole))
    for name, protocol, aggregator in (
        ("honest, nothing cut: truncation", uncut, mended),
        ("honest, true mean", honest, mended),
        ("honest, the sum that is called mean", honest, legacy),
        ("published, true mean", published, mended),
        ("published", published, legacy),
    ):
        found = protocol(pool, queries, labels, aggregator)
        relevant, others = found.mean_norms(labels)
        nulls = [null(protocol, pool, queries, labels, aggregator, seed=seed) for seed in range(SEEDS)]
        lines.append({
            "protocol": name,
            "MRR": round(float(reciprocal_ranks(found.scores, labels).mean()), 4),
            "norm of relevant": round(relevant, 3),
            "of others": round(others, 3),
            "before normalisation": f"{found.raw[mask].mean():.3f} / {found.raw[~mask].mean():.3f}",
            "MRR, labels permuted": round(float(np.mean([one.found for one in nulls])), 5),
            "chance": round(nulls[0].chance, 5),
        })  # fmt: skip
    return lines


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return [*head, *("| " + " | ".join(str(row.get(name, "")) for name in names) + " |" for row in rows), ""]


def sea_encoder(name: str) -> SeaEncoder:
    """The encoder that aggregates; ``blocks`` and ``header`` are the plain mean of the embedded model's blocks."""
    if name in ("blocks", "header"):
        return SeaEncoder(ub.load_encoder("embedded", split="syntax", header=name == "header"), Aggregator("mean"))
    found = ub.load_encoder(name)
    if not isinstance(found, SeaEncoder):
        raise SystemExit(f"{name} is no encoder that aggregates blocks; name a folder of train sea")
    return found


def attention(aggregator: Aggregator, width: int) -> Aggregator:
    """The published formula with the attention of ``aggregator``; with equal weights where it has none."""
    parameters = aggregator.parameters or {
        "weight": np.zeros(width, np.float32),
        "bias": np.zeros(1, np.float32),
    }
    return Aggregator("sea_legacy", parameters)


def write(path: Path, body: dict[str, Any], parts: dict[str, list[dict[str, Any]]]) -> None:
    """The figures as JSON and as a page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(body | {"tables": parts}, indent=1) + "\n", encoding="utf-8")
    on = body["machine"]
    lines = [f"# {body['title']}", "", f"`{body['command']}` on {on['processor']}, {on['cores']} cores,"]
    lines += ["Python " + on["python"] + ", " + ", ".join(f"{k} {v}" for k, v in on["versions"].items()) + ".", ""]
    lines += [*body["notes"], ""]
    for title, rows in parts.items():
        lines += [f"## {title}", "", *table(rows)]
    path.with_suffix(".md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", type=Path, required=True, help="what fetch-local-sets codesearch made")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--sea", default="sea", help="a folder of train sea; blocks, header: no training")
    parser.add_argument("--documents", type=int, help="of the pool, those that answer a query first [all]")
    parser.add_argument("--encode-only", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--results", type=Path, default=OUT)
    asked = parser.parse_args()
    until = time.monotonic() + asked.encode_only if asked.encode_only else float("inf")
    whole = read_beir(asked.set)
    known, record = facts(whole), read_record(asked.set)
    corpus = pool_of(whole, asked.documents)
    texts = [document.source for document in corpus]
    sea = sea_encoder(asked.sea)
    plain = ub.load_encoder("embedded")
    begun = time.perf_counter()

    def vectors(encoder: Encoder, level: Level, overflow: OverflowPolicy) -> Vectors | None:
        folder = f"{known.revision[:12]}-{encoder.passport.fingerprint[:12]}-{overflow.value}"
        return encoded(encoder, texts, level, overflow, asked.cache / folder, until)

    beginnings = vectors(plain, Level.DOC, OverflowPolicy.TRUNCATE)
    cut = None if beginnings is None else vectors(sea.base, Level.BOTH, OverflowPolicy.SPLIT)
    if beginnings is None or cut is None:
        print("more to encode: run it again")
        return
    if asked.encode_only:
        print("all vectors are in the cache")
        return
    seconds = time.perf_counter() - begun
    places = {document.id: at for at, document in enumerate(corpus)}
    queries = [query for query in whole.queries if all(name in places for name in whole.qrels[query.id])]
    questions = plain.encode_queries([query.text for query in queries])
    labels = [np.array([places[name] for name in whole.qrels[query.id]]) for query in queries]
    own = np.array([places[query.id] for query in queries])
    tokens = beginnings.total[own]
    over = beginnings.seen[own] < beginnings.total[own]
    words = lexical([query.text for query in queries], corpus, asked.cache)
    pool = Blocks(cut.segments, cut.offsets, beginnings.documents)

    def aggregated(aggregator: Callable[[Array, Array], Array]) -> Array:
        return honest(pool, questions, labels, aggregator).scores

    documents = sea.aggregator(cut.segments, cut.offsets)
    documents /= np.linalg.norm(documents, axis=1, keepdims=True)
    shipped = f"SEA ({sea.aggregator.kind})"
    dense = scored(questions, cut, documents, DEFAULT_SCORING)
    systems = {
        TRUNCATED: questions @ beginnings.documents.T,
        MEAN: aggregated(Aggregator("mean")),
        BEST: scored(questions, cut, documents, DocumentScoring("max")),
        shipped: aggregated(sea.aggregator),
        "default dense score, SEA as the whole": dense,
        "BM25": words,
        "BM25 and truncation": fused(questions @ beginnings.documents.T, words),
        "hybrid (default)": fused(dense, words),
    }
    base = reciprocal_ranks(systems[TRUNCATED], labels)
    sizes, legacy = np.diff(cut.offsets), attention(sea.aggregator, sea.dim)
    third = range(0, len(labels), SHARE)
    single = [at for at, relevant in enumerate(labels) if sizes[relevant].max() == 1][::SHARE]
    everything = np.ones(len(own), bool)
    parts = {
        f"All {len(own)} queries": [figures(n, s, labels, everything, base) for n, s in systems.items()],
        f"The {int(over.sum())} queries whose function is longer than the window": [
            figures(n, s, labels, over, base) for n, s in systems.items()
        ],
        "MRR by content tokens of the function": [by_length(n, s, labels, tokens) for n, s in systems.items()],
        f"Protocols, every third query ({len(third)})": protocols(
            pool, questions[third], [labels[at] for at in third], legacy
        ),
        f"Protocols, every third query whose function is one block ({len(single)})": protocols(
            pool, questions[single], [labels[at] for at in single], legacy
        ),
    }
    notes = [
        f"{len(corpus):,} of {known.documents:,} functions, {len(queries):,} of {known.queries:,} queries; content "
        f"{known.revision[:16]}; {int(cut.total.sum()):,} tokens in {len(cut.segments):,} blocks "
        f"({np.mean(sizes):.1f} a function, at most {sizes.max()}); "
        f"{int((beginnings.seen < beginnings.total).sum()):,} functions are longer than the window of "
        f"{plain.window} tokens.",
        "Relevant: the function that the question was written above (and any with the same words above it).  "
        "Intervals: bootstrap, 95 %.  p: paired randomisation against truncation.",
        f"Aggregator: {sea.passport.source}, fingerprint {sea.passport.fingerprint[:16]}.  Languages: "
        + ", ".join(f"{name} {one['queries']}" for name, one in record["languages"].items()) + ".",
        "Published protocol: only functions that answer a query are cut, the whole stands before their blocks twice, "
        "dot product without normalisation.  Labels permuted: relevant functions changed places with others of equally "
        "many blocks; an honest protocol keeps what such functions have in common and no more.",
    ]  # fmt: skip
    body = {
        "title": "Code search by blocks of functions",
        "command": f"python benchmarks/bench_sea.py --set sets/codesearch --cache cache/{_named(asked)}",
        "machine": machine(),
        "notes": notes,
        "seconds, what the cache had not": round(seconds, 1),
    }
    write(asked.results, body, parts)
    print(asked.results.with_suffix(".md").read_text(encoding="utf-8"))


def _named(asked: argparse.Namespace) -> str:
    part = "" if asked.documents is None else f" --documents {asked.documents}"
    return part + ("" if asked.sea == "sea" else f" --sea {Path(asked.sea).name}")


if __name__ == "__main__":
    main()
