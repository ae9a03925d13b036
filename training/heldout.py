"""How good the model is on queries that it does not learn from, while it learns: nDCG@10 of a small set.

Letters::

    N documents     Q queries     D embedding width
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from unabridged.contracts import JSON, Floats, Rows
from unabridged.encoders._tokens import Ids
from unabridged.encoders.pooling import finish
from unabridged.errors import UsageError
from unabridged.eval._set import RetrievalSet
from unabridged.eval.measures import evaluate
from unabridged.eval.sets import read_beir
from unabridged.training.gradcache import plan_chunks
from unabridged.training.shelf import DOCUMENT, QUERY, Framing

MEASURE = "nDCG@10"
DEPTH = 10
Embedder = Callable[[Rows, Rows], Floats]
"""Packed tokens ``(T,)`` int64 and offsets ``(B + 1,)`` to vectors ``(B, D)`` float32."""


def small_set(folder: Path, split: str, queries: int | None, seed: int) -> RetrievalSet:
    """The BEIR folder, with ``queries`` of its queries drawn by ``seed``; all documents."""
    if queries is not None and queries < 1:
        raise UsageError(f"An evaluation asks at least 1 query, got {queries}.")
    whole = read_beir(folder, split)
    if queries is None or queries >= len(whole.queries):
        return whole
    chosen = np.sort(np.random.default_rng([seed, 4]).choice(len(whole.queries), queries, replace=False))
    asked = tuple(whole.queries[number] for number in chosen.tolist())
    return replace(whole, queries=asked, qrels={query.id: whole.qrels[query.id] for query in asked})


@dataclass(frozen=True)
class HeldOut:
    """A set as tokens, and its judgements."""

    name: str
    queries: Sequence[tuple[str, Ids]]  # Q
    documents: Sequence[tuple[str, Ids]]  # N
    qrels: dict[str, dict[str, int]]
    cut: int
    """Documents that are longer than ``max_tokens`` of the framing: their ends are not read here."""
    queries_cut: int = 0
    """And queries."""

    @classmethod
    def of(cls, whole: RetrievalSet, framing: Framing) -> HeldOut:
        """``whole`` as ``framing`` reads it."""
        documents, cut = [], 0
        for document in whole.corpus:
            words = framing.words([document.source], DOCUMENT)[0]
            cut += len(words.ids) > framing.max_tokens
            documents.append((document.id, framing.sequence(words, 0, framing.max_tokens)))
        most = framing.max_tokens
        found = framing.words([query.text for query in whole.queries], QUERY)
        asked = [framing.sequence(words, 0, most) for words in found]
        names = [query.id for query in whole.queries]
        qrels = {query: dict(grades) for query, grades in whole.qrels.items()}
        queries_cut = sum(len(words.ids) > most for words in found)
        return cls(whole.name, list(zip(names, asked, strict=True)), documents, qrels, cut, queries_cut)

    def score(self, embed: Embedder, chunk_tokens: int) -> float:
        """The mean nDCG@10 of an exact search by cosine."""
        queries, documents = (
            _vectors([ids for _, ids in texts], embed, chunk_tokens) for texts in (self.queries, self.documents)
        )
        scores = queries @ documents.T
        depth = min(DEPTH, len(self.documents))
        best = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
        run = {
            query: {self.documents[row][0]: float(scores[number, row]) for row in best[number].tolist()}
            for number, (query, _) in enumerate(self.queries)
        }
        return float(evaluate(run, self.qrels, [MEASURE]).means[0])

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what is asked and judged: evaluations of two sets are not compared."""
        hashed = hashlib.sha256(json.dumps(self.qrels, sort_keys=True).encode())
        for texts in (self.queries, self.documents):
            for name, ids in texts:
                hashed.update(f"{json.dumps(name)} {len(ids)} ".encode() + ids.astype(np.int32).tobytes())
        return hashed.hexdigest()

    @property
    def facts(self) -> dict[str, JSON]:
        """For reports."""
        return {
            "name": self.name,
            "queries": len(self.queries),
            "documents": len(self.documents),
            "cut": self.cut,
            "queries_cut": self.queries_cut,
        }


def _vectors(texts: Sequence[Ids], embed: Embedder, chunk_tokens: int) -> Floats:
    """``(n, D)`` of norm 1."""
    chunks = plan_chunks(np.array([len(ids) for ids in texts], dtype=np.int64), chunk_tokens)
    made = []
    for chunk in chunks:
        parts = [texts[row] for row in chunk.tolist()]
        offsets = np.concatenate(([0], np.cumsum([len(part) for part in parts]))).astype(np.int64)
        made.append(embed(np.concatenate(parts).astype(np.int64), offsets))
    vectors = np.concatenate(made)[np.argsort(np.concatenate(chunks), kind="stable")]
    return finish(vectors, truncate_dim=None, normalize=True)
