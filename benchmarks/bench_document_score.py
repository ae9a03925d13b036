"""Which document score, and which fusion with BM25: nDCG@10 on real sets of long and of short documents.

``python benchmarks/bench_document_score.py --out FOLDER`` builds the sets, encodes each once (cached under
FOLDER), prints the tables and writes ``benchmarks/results/document_score.{md,json}``.  ``--sets`` names sets;
``--quick`` takes the part of each set that the committed table was measured on (about 2 million tokens, judged
documents first); ``--results FOLDER`` writes elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
from numpy.typing import NDArray

import unabridged as ub
from unabridged.contracts import Encoder, Level
from unabridged.eval.evidence import read_record
from unabridged.eval.local_sets.build import BUILDERS, build, capped
from unabridged.eval.local_sets.draft import Draft, LocalSet
from unabridged.eval.sets import facts, read_beir
from unabridged.retrievers.scoring import HYBRID_WEIGHTS, DocumentScoring, Fusion, fuse, score_documents

Array = NDArray[Any]
Rule = Callable[["Scored", int], Array]  # a set and the number of a query to a score per document
DEPTH = 100
QUICK = {
    "aafaq": 400_000,
    "pydoc": 200_000,
    "perldoc": 170_000,
    "stdlibmod": 45_000,
    "manpages": 60_000,
    "pgdoc": 180_000,
    "gensimwiki": 999_999,
    "stdlibcode": 45_000,
}
"""Words of each set that ``--quick`` keeps."""
DISCOUNTS = (0.0, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0)
LEADS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)
WEIGHTS = (0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)  # of BM25, the rest is the dense list's


@dataclass
class Scored:
    """One set with every similarity: Q queries, B documents, S segments."""

    facts: dict[str, Any]
    offsets: Array  # (B + 1,)
    similarities: Array  # (Q, S)
    whole: Array  # (Q, B) with the document vector
    bm25: Array  # (Q, B)
    relevant: Array  # (Q, B) bool


@dataclass
class Vectors:
    """What encoding a set gives; ``by`` says with what."""

    offsets: Array
    segments: Array
    documents: Array
    queries: Array
    by: str


def encoded(found: LocalSet, out: Path, encoder: Callable[[], Encoder]) -> Vectors:
    """The vectors of a set, from the cache or through the product's default encoder."""
    path = out / "vectors" / f"{found.whole.name}-{facts(found.whole).revision[:16]}.npz"
    if not path.exists():
        model = encoder()
        texts = [document.source for document in found.whole.corpus]
        parts = model.encode_documents(texts, level=Level.BOTH)
        queries = model.encode_queries([query.text for query in found.whole.queries])
        path.parent.mkdir(parents=True, exist_ok=True)
        by = f"unabridged {version('unabridged')}, passport {model.passport.fingerprint}"
        np.savez(
            path, offsets=parts.offsets, segments=parts.segments, documents=parts.documents, queries=queries, by=by
        )
    with np.load(path) as stored:
        arrays = [stored[name] for name in ("offsets", "segments", "documents", "queries")]
        return Vectors(*arrays, by=str(stored["by"]))


def score(found: LocalSet, vectors: Vectors) -> Scored:
    """All similarities and BM25 scores of a set.  Documents without a segment get a zero one."""
    sizes = np.diff(vectors.offsets)
    filled = np.insert(vectors.segments, vectors.offsets[:-1][sizes == 0], 0.0, axis=0)
    offsets = np.concatenate([[0], np.cumsum(np.maximum(sizes, 1))])
    whole = found.whole
    texts = [document.source for document in whole.corpus]
    options: dict[str, Any] = {"stopwords": "en", "show_progress": False}
    index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    index.index(bm25s.tokenize(texts, **options), show_progress=False)
    asked = bm25s.tokenize([query.text for query in whole.queries], return_ids=False, **options)
    bm25 = np.stack([index.get_scores(terms) if terms else np.zeros(len(texts)) for terms in asked])
    places = {document.id: at for at, document in enumerate(whole.corpus)}
    relevant = np.zeros((len(whole.queries), len(texts)), bool)
    for row, query in enumerate(whole.queries):
        relevant[row, [places[document] for document in whole.qrels[query.id]]] = True
    record = found.record() | {"segments": int(offsets[-1]), "encoded_by": vectors.by}
    return Scored(record, offsets, vectors.queries @ filled.T, vectors.queries @ vectors.documents.T, bm25, relevant)


def by_file(functions: LocalSet, vectors: Vectors) -> tuple[LocalSet, Vectors]:
    """One function as a needle in its file: stdlibcode's functions, joined by file, windows as they were.

    All other sets ask what a document or a part of several windows is about; here one window answers.
    """
    files: dict[str, list[int]] = {}
    texts = []
    for number, document in enumerate(functions.whole.corpus):
        files.setdefault(document.id.partition(":")[0], []).append(number)
        texts.append(document.text)
    whole = Draft("stdlibfile", "the functions of stdlibcode, joined by file", functions.licence)
    order = [number for members in files.values() for number in members]
    whole.documents = {name: "\n".join(texts[n] for n in members) for name, members in files.items()}
    for query in functions.whole.queries:
        whole.judge(query.id, query.text, query.id.partition(":")[0])
    starts, sizes = vectors.offsets, np.diff(vectors.offsets)
    segments = np.concatenate([vectors.segments[starts[n] : starts[n + 1]] for n in order])
    offsets = np.cumsum([0, *(sizes[members].sum() for members in files.values())])
    means = np.add.reduceat(segments, offsets[:-1])
    documents = means / np.linalg.norm(means, axis=1, keepdims=True)
    return whole.done(), Vectors(offsets, segments, documents, vectors.queries, vectors.by)


def pooled(sets: Sequence[LocalSet], vectors: Sequence[Vectors]) -> tuple[LocalSet, Vectors]:
    """All documents in one corpus, with 100 queries of each set: lengths of all kinds compete."""
    whole = Draft("pooled", "all sets above in one corpus", "those of the sets")
    kept = []
    for found in (one.whole for one in sets):
        whole.documents |= {f"{found.name}/{document.id}": document.source for document in found.corpus}
        for query in found.queries[:100]:
            judged = (f"{found.name}/{document}" for document in found.qrels[query.id])
            whole.judge(f"{found.name}/{query.id}", query.text, *judged)
        kept.append(min(100, len(found.queries)))
    starts = np.cumsum([0, *(len(part.segments) for part in vectors)])
    offsets = [[0], *(part.offsets[1:] + start for part, start in zip(vectors, starts, strict=False))]
    queries = np.concatenate([part.queries[:n] for part, n in zip(vectors, kept, strict=True)])
    segments = np.concatenate([part.segments for part in vectors])
    documents = np.concatenate([part.documents for part in vectors])
    by = "; ".join(sorted({part.by for part in vectors}))
    return whole.done(), Vectors(np.concatenate(offsets), segments, documents, queries, by)


def per_query(rule: Rule, on: Scored, k: int = 10) -> Array:
    """nDCG@k (Q,) in percent with binary gains, ties by row."""
    gains = 1.0 / np.log2(np.arange(2, k + 2))
    values = []
    for query, relevant in enumerate(on.relevant):
        best = np.argsort(-rule(on, query), kind="stable")[:k]
        values.append(float(gains[: len(best)] @ relevant[best]) / gains[: relevant.sum()].sum())
    return 100 * np.array(values)


def ndcg(rule: Rule, on: Scored) -> float:
    """Mean nDCG@10 in percent."""
    return float(per_query(rule, on).mean())


def difference(rule: Rule, baseline: Rule, on: Scored) -> str:
    """Mean paired difference in nDCG@10 with its standard error over queries."""
    gains = per_query(rule, on) - per_query(baseline, on)
    return f"{gains.mean():+.1f} ± {gains.std() / len(gains) ** 0.5:.1f}"


def dense(**options: Any) -> Rule:
    """The product's document score with these options."""
    scoring = DocumentScoring(**options)
    return lambda on, q: score_documents(on.similarities[q], on.offsets, on.whole[q], scoring)[0]


def hybrid(inner: Rule, fusion: Fusion, depth: int = DEPTH) -> Rule:
    """The product's fusion of the first ``depth`` of a dense list and of the BM25 list."""

    def ranking(scores: Array, rows: Array) -> tuple[Array, Array]:
        rows = rows[np.lexsort((rows, -scores[rows]))][:depth]
        return rows, scores[rows].astype(np.float32)

    def rule(on: Scored, q: int) -> Array:
        found, lexical = inner(on, q), on.bm25[q]
        rows, scores = fuse([ranking(found, np.arange(len(found))), ranking(lexical, np.flatnonzero(lexical))], fusion)
        out = np.full(len(found), -np.inf)
        out[rows] = scores
        return out

    return rule


def weighted(weight: float, depth: int = DEPTH, **options: Any) -> Rule:
    """Weighted fusion with ``weight`` for BM25."""
    return hybrid(dense(**options), Fusion("weighted", weights=(1 - weight, weight)), depth)


def rules() -> dict[str, dict[str, Rule]]:
    """Tables of named rules."""
    rrf, first, best, ours = Fusion("rrf"), dense(method="first"), dense(method="max"), dense()
    return {
        "Document scores (dense alone)": {
            "BM25": lambda on, q: on.bm25[q],
            "first window": first,
            "best window (MaxP)": best,
            "mean of windows": dense(method="mean"),
            "document vector": lambda on, q: on.whole[q],
            **{f"top-{k} mean": dense(method="topk", k=k) for k in (2, 3, 5)},
            **{f"softmax mean, T={t}": dense(method="softmax", temperature=t) for t in (0.02, 0.05)},
            **{
                f"{a} MaxP + {1 - a:.1f} document": dense(method="combined", alpha=a, lead=0.0)
                for a in (0.5, 0.7, 0.8, 0.9)
            },
            **{
                f"{1 - f:.2f} (0.8 MaxP + 0.2 document) + {f} first": dense(method="combined", alpha=0.8, lead=f)
                for f in LEADS[1:]
            },
            **{
                f"MaxP - {c} expected maximum": dense(method="combined", alpha=1.0, lead=0.0, draws=c)
                for c in (0.1, 0.2, 0.5)
            },
            "0.7 (MaxP - 0.2 exp. max.) + 0.3 document": dense(method="combined", alpha=0.7, lead=0.0, draws=0.2),
            **{f"discounted, r={r}": dense(method="discounted", discount=r) for r in DISCOUNTS[1:-1]},
        },
        f"Fusion with BM25 (first {DEPTH} of each list)": {
            "RRF(BM25, first)": hybrid(first, rrf),
            "RRF(BM25, MaxP)": hybrid(best, rrf),
            "RRF(BM25, default)": hybrid(ours, rrf),
            "RRF, BM25 weighs 0.5": hybrid(ours, Fusion("rrf", weights=(1.0, 0.5))),
            "RRF k=10, BM25 weighs 0.5": hybrid(ours, Fusion("rrf", k=10, weights=(1.0, 0.5))),
            "0.2 BM25 + 0.8 MaxP": weighted(0.2, method="max"),
            "0.2 BM25 + 0.8 first": weighted(0.2, method="first"),
            "0.2 BM25 + 0.8 discounted": weighted(0.2, method="discounted"),
            **{f"{w} BM25 + {1 - w:.2f} default": weighted(w) for w in WEIGHTS[1:]},
            **{f"0.2 BM25 + 0.8 default, first {d}": weighted(0.2, d) for d in (20, 50, 200)},
        },
    }


def leave_one_out(sets: Sequence[Scored], choices: dict[float, Rule]) -> dict[str, dict[str, float]]:
    """For each set the parameter that is best on the mean of the *other* sets, and what it gives here."""
    table = {choice: np.array([ndcg(rule, on) for on in sets]) for choice, rule in choices.items()}
    report: dict[str, dict[str, float]] = {}
    if len(sets) < 2:
        return report
    for held, on in enumerate(sets):
        others = {c: float(np.delete(v, held).mean()) for c, v in table.items()}
        chosen = max(others, key=lambda c: others[c])
        report[on.facts["name"]] = {"chosen": chosen, "ndcg": float(table[chosen][held])}
    return report


def as_table(names: Sequence[str], rows: dict[str, list[float]]) -> str:
    """A markdown table, with the mean of the columns last."""
    lines = ["| | " + " | ".join([*names, "mean"]) + " |", "|---|" + "--:|" * (len(names) + 1)]
    for name, values in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{v:.1f}" for v in [*values, float(np.mean(values))]) + " |")
    return "\n".join(lines)


def report(sets: Sequence[Scored]) -> tuple[str, dict[str, Any]]:
    """The results as markdown and as JSON."""
    names = [on.facts["name"] for on in sets]
    data: dict[str, Any] = {"sets": [on.facts for on in sets], "tables": {}}
    packages = {name: version(name) for name in ("unabridged", "numpy", "bm25s")}
    data["versions"] = {"python": platform.python_version(), **packages}
    text = ["# Document scores: nDCG@10", "", (__doc__ or "").strip(), ""]
    text += ["| set | documents | queries | words mean (median, max) | windows | origin |", "|---|--:|--:|---|--:|---|"]
    for one in data["sets"]:
        words = f"{one['words_mean']} ({one['words_median']}, {one['words_max']})"
        cells = (one[key] for key in ("name", "documents", "queries"))
        text.append("| " + " | ".join(map(str, [*cells, words, one["segments"], one["origin"]])) + " |")
    for title, table in rules().items():
        rows = {name: [ndcg(rule, on) for on in sets] for name, rule in table.items()}
        data["tables"][title] = {name: dict(zip(names, values, strict=True)) for name, values in rows.items()}
        text += ["", f"## {title}", "", as_table(names, rows)]
    alone = [on for on in sets if on.facts["name"] != "pooled"]
    held = {
        "alpha": leave_one_out(alone, {a: dense(method="combined", alpha=a) for a in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)}),
        "lead": leave_one_out(alone, {f: dense(method="combined", lead=f) for f in LEADS}),
        "lead, hybrid": leave_one_out(alone, {f: weighted(0.2, method="combined", lead=f) for f in LEADS}),
        "discount": leave_one_out(alone, {r: dense(method="discounted", discount=r) for r in DISCOUNTS}),
        "BM25 weight": leave_one_out(alone, {w: weighted(w) for w in WEIGHTS}),
    }
    data["leave_one_set_out"] = held
    text += ["", "## Leave one set out", "", "The parameter that is best on the other sets, and its nDCG@10 here.", ""]
    text += ["| | " + " | ".join(on.facts["name"] for on in alone) + " |", "|---|" + "---|" * len(alone)]
    for name, found in held.items():
        text.append(f"| {name} | " + " | ".join(f"{r['chosen']}: {r['ndcg']:.1f}" for r in found.values()) + " |")
    pairs = {
        "default dense - first window": (dense(), dense(method="first")),
        "default dense - MaxP": (dense(), dense(method="max")),
        "discounted - MaxP": (dense(method="discounted"), dense(method="max")),
        "default hybrid - RRF(BM25, MaxP)": (hybrid(dense(), Fusion()), hybrid(dense(method="max"), Fusion("rrf"))),
        "default hybrid - default dense": (hybrid(dense(), Fusion()), dense()),
    }
    text += ["", "## Paired differences, with standard error over queries", ""]
    text += ["| | " + " | ".join(names) + " |", "|---|" + "--:|" * len(names)]
    data["differences"] = {name: [difference(*pair, on) for on in sets] for name, pair in pairs.items()}
    text += [f"| {name} | " + " | ".join(found) + " |" for name, found in data["differences"].items()]
    text += ["", f"Defaults: `{DocumentScoring()}`, `{Fusion()}` with weights {HYBRID_WEIGHTS} for dense and BM25."]
    encoders = Counter(one["encoded_by"] for one in data["sets"][: len(alone)])
    text += ["", f"Encoded by: {', '.join(encoders)}. Versions: {json.dumps(data['versions'])}.", ""]
    return "\n".join(text), data


def loaded(name: str, out: Path, words: int | None) -> LocalSet:
    """A set as it is in ``out``, built where it is not there yet; with ``words`` the part that ``--quick`` takes."""
    build(name, out)
    whole, record = read_beir(out / name), read_record(out / name)
    part = whole if words is None else capped(whole, words, 1000)
    return LocalSet(part, (), record["origin"], record["licence"])


def prepare(names: Iterable[str], quick: bool, out: Path) -> tuple[list[LocalSet], list[Vectors]]:
    """Sets and vectors; the encoder is loaded once, and only if something is not in the cache."""
    encoders: list[Encoder] = []

    def encoder() -> Encoder:
        if not encoders:
            encoders.append(ub.load_encoder())
        return encoders[0]

    sets, vectors = [], []
    for name in names:
        sets.append(loaded(name, out / "sets", QUICK[name] if quick else None))
        print(json.dumps(sets[-1].record()), flush=True)
        vectors.append(encoded(sets[-1], out, encoder))
    return sets, vectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="cache of packages, sets and vectors")
    parser.add_argument("--sets", nargs="+", default=list(QUICK), choices=list(BUILDERS), metavar="SET")
    parser.add_argument("--quick", action="store_true", help="parts of the sets; the whole ones take hours on a CPU")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sets, vectors = prepare(arguments.sets, arguments.quick, arguments.out)
    scored = [score(found, part) for found, part in zip(sets, vectors, strict=True)]
    for found, part in zip(sets, vectors, strict=True):
        if found.whole.name == "stdlibcode":
            scored.append(score(*by_file(found, part)))
    if len(sets) > 1:
        scored.append(score(*pooled(sets, vectors)))
    text, data = report(scored)
    print(text)
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "document_score.md").write_text(text)
    (arguments.results / "document_score.json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
