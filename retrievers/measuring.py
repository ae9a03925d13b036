"""Recall of an approximate base, measured while an index is built, in memory that does not grow with it.

Maps count as memory of the process for as long as they are open, and a measurement touches much of a file.
So stored vectors are read row by row, and the lists of an inverted file are visited section by section, by all
queries at once, with the file opened afresh for each.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unabridged.contracts import NO_HIT, Floats, Hits, Rows
from unabridged.index.dense import DenseIndex, ExactVectors, tune
from unabridged.index.dense.sections import SectionedBase
from unabridged.index.npy import HEADER

Blocks = Callable[[], Iterator[Floats]]

RECALL_K = 10
RECALL_SAMPLE = 200
"""Stored vectors, at a fixed stride, that stand in for queries."""
NOISE = 0.3
"""Length of the noise added to a unit vector, so that it is not its own answer."""


class _FileVectors(ExactVectors):
    """Stored vectors that are scored by reading them; only :meth:`score` is for use."""

    def __init__(self, paths: Sequence[Path], dim: int, dtype: str) -> None:
        super().__init__([])
        self.dim = dim
        self._paths, self._dtype = paths, np.dtype(dtype)
        self._row_bytes = dim * self._dtype.itemsize
        rows = [(path.stat().st_size - HEADER) // self._row_bytes for path in paths]
        self._starts = np.cumsum([0, *rows], dtype=np.int64)

    def score_checked(self, floats: Floats, rows: Rows) -> Floats:
        """Inner products (Q, K) of chosen rows; -inf where a row is ``NO_HIT``."""
        scores = np.full(rows.shape, -np.inf, np.float32)
        for query in range(len(rows)):
            found = np.flatnonzero(rows[query] != NO_HIT)
            order = found[np.argsort(rows[query, found])]
            scores[query, order] = self._read(rows[query, order]) @ floats[query]
        return scores

    def _read(self, wanted: Rows) -> Floats:
        out = np.zeros((len(wanted), self.dim or 0), np.float32)
        for number, path in enumerate(self._paths):
            first, last = np.searchsorted(wanted, self._starts[number : number + 2])
            if first == last:
                continue
            with path.open("rb") as file:
                for place in range(first, last):
                    at = HEADER + int(wanted[place] - self._starts[number]) * self._row_bytes
                    out[place] = np.frombuffer(os.pread(file.fileno(), self._row_bytes, at), self._dtype)
        return out


def measure(
    folder: Path, facts: Mapping[str, Any], paths: Sequence[Path], blocks: Blocks, dtype: str, target: float
) -> tuple[dict[str, Any], float]:
    """The facts with search settings that reach the recall target on a sample, and the recall they reach."""
    index = DenseIndex(SectionedBase(folder, facts), _FileVectors(paths, int(facts["dim"]), dtype))
    queries = sample_queries(blocks, len(index))
    tuned = tune(index, queries, target, k=RECALL_K, truth=exact_top(queries, blocks, RECALL_K))
    return {**facts, "search": dict(tuned.search)}, round(tuned.recall, 4)


def sample_queries(blocks: Blocks, rows: int) -> Floats:
    """Stored vectors at a fixed stride, each moved by noise."""
    wanted: Rows = np.unique(np.linspace(0, rows - 1, min(RECALL_SAMPLE, rows)).astype(np.int64))
    parts, base = [], 0
    for block in blocks():
        local = wanted[(wanted >= base) & (wanted < base + len(block))] - base
        parts.append(block[local])
        base += len(block)
    vectors = np.concatenate(parts)
    noise = np.random.default_rng(0).standard_normal(vectors.shape).astype(np.float32)
    noise *= NOISE * np.linalg.norm(vectors, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors + noise, np.float32)


def exact_top(queries: Floats, blocks: Blocks, k: int) -> Hits:
    """The exact top ``k`` rows by inner product, (Q, k), holding one block at a time."""
    rows = np.full((len(queries), 0), NO_HIT, np.int64)
    scores = np.zeros((len(queries), 0), np.float32)
    base = 0
    for block in blocks():
        hits = ExactVectors([block]).search(queries, k)
        rows = np.hstack([rows, np.where(hits.rows == NO_HIT, NO_HIT, hits.rows + base)])
        scores = np.hstack([scores, hits.scores])
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        rows, scores = np.take_along_axis(rows, best, 1), np.take_along_axis(scores, best, 1)
        base += len(block)
    return Hits(rows, scores)
