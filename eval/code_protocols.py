"""Two ways to compare a function that was cut into blocks with functions that may not have been; one flatters.

*Honest*: every candidate is cut by the same rule, whether it is relevant or not; its blocks are aggregated, and vectors
are compared by cosine.  This is what an index does by itself.

*Published* (SEA, Hu et al. 2024, arXiv 2208.11271, as its program evaluates): only functions that answer some query of
the test are cut, and the whole function, as far as one window reads, stands before their blocks twice; any other
candidate is its whole function alone; vectors are compared by dot product and never normalised.  Together with an
aggregator whose vector grows with the number of blocks ("attention + mean" as programmed, ``sea_legacy``: for L equal
blocks the norm is (1 + L) / 2) relevant functions win by their length alone.  It is here to show that as a number.

Letters::

    B candidates     S blocks, packed     H width     Q queries
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Floats, Mask, Rows
from unabridged.errors import ShapeError

Aggregate: TypeAlias = Callable[[Floats, Rows], Floats]
"""Blocks ``(S, H)`` and offsets ``(B + 1,)`` to vectors ``(B, H)`` of any norm."""
Labels: TypeAlias = Sequence[Rows]
"""For each query the numbers of its relevant candidates, at least one."""
REPEATS = 2
"""How often the whole function stands before the blocks of a relevant one, as published."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Candidates as vectors of their blocks, and of their beginning as far as one window reads."""

    blocks: Floats  # (S, H) float32
    offsets: Rows  # (B + 1,) int64; no candidate without a block
    whole: Floats  # (B, H) float32

    def __post_init__(self) -> None:
        sizes = np.diff(self.offsets)
        fits = len(self.whole) == len(sizes) and self.whole.shape[1:] == self.blocks.shape[1:]
        if not fits or self.offsets[0] != 0 or self.offsets[-1] != len(self.blocks) or bool(np.any(sizes < 1)):
            raise ShapeError(
                f"expected at least one block of every candidate and one vector of its beginning; found blocks "
                f"{self.blocks.shape}, beginnings {self.whole.shape} and {len(sizes):,} candidates"
            )

    @property
    def sizes(self) -> Rows:
        """(B,): blocks of each candidate."""
        found: Rows = np.diff(self.offsets)
        return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a protocol made of candidates and queries."""

    scores: Floats  # (Q, B) float32, higher is better
    norms: Floats  # (B,) float32, of the vectors that were compared
    raw: Floats  # (B,) float32, before normalisation

    def mean_norms(self, labels: Labels) -> tuple[float, float]:
        """Of the vectors that were compared: of candidates that are relevant to some query, and of all others."""
        relevant = relevant_to_any(labels, len(self.norms))
        return float(self.norms[relevant].mean()), float(self.norms[~relevant].mean())


Protocol: TypeAlias = Callable[[Blocks, Floats, Labels, Aggregate], Outcome]


def honest(candidates: Blocks, queries: Floats, labels: Labels, aggregate: Aggregate) -> Outcome:
    """Cosines of the queries ``(Q, H)`` and the aggregated blocks of every candidate.

    ``labels`` are there to be of one form with :func:`published`; nothing here looks at them.
    """
    del labels
    vectors = aggregate(candidates.blocks, candidates.offsets)
    normed = _normed(vectors)
    return Outcome(_normed(queries) @ normed.T, _norms(normed), _norms(vectors))


def published(candidates: Blocks, queries: Floats, labels: Labels, aggregate: Aggregate) -> Outcome:
    """Dot products as the published program computes them: the labels decide which candidates are cut."""
    relevant = relevant_to_any(labels, len(candidates.whole))
    rows: list[Floats] = []
    for number, cut in enumerate(relevant):
        start, end = candidates.offsets[number : number + 2]
        whole = candidates.whole[number : number + 1]
        # What one window reads to the end has no blocks beside it.
        blocks = candidates.blocks[start:end] if end - start > 1 else candidates.blocks[:0]
        rows.append(np.concatenate([*[whole] * REPEATS, blocks]) if cut else whole)
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    vectors = aggregate(np.concatenate(rows), offsets)
    norms = _norms(vectors)
    return Outcome(queries @ vectors.T, norms, norms)


def reciprocal_ranks(scores: Floats, labels: Labels) -> NDArray[np.float64]:
    """(Q,): 1 / the rank of the best relevant candidate; equal scores of others count as better ones."""
    found = np.empty(len(labels))
    for row, (line, relevant) in enumerate(zip(scores, labels, strict=True)):
        others = np.ones(len(line), bool)
        others[relevant] = False
        found[row] = 1 / (1 + np.count_nonzero(line[others] >= line[relevant].max()))
    return found


def hits_at(scores: Floats, labels: Labels, depth: int) -> NDArray[np.float64]:
    """(Q,): 1 where a relevant candidate is among the first ``depth``, else 0; ties as in :func:`reciprocal_ranks`."""
    return (reciprocal_ranks(scores, labels) >= 1 / depth).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Null:
    """Mean reciprocal rank under labels that mean nothing, and that of a random order."""

    found: float
    chance: float


def null(
    protocol: Protocol, candidates: Blocks, queries: Floats, labels: Labels, aggregate: Aggregate, *, seed: int
) -> Null:
    """What ``protocol`` finds when relevant candidates changed places with others of equally many blocks.

    Lengths of relevant functions stay what they are, and nothing else of them does: a protocol that still finds them
    better than by chance knows the labels.  A query's own answers are no candidates of it, and a query is left out
    when there is nothing to exchange its answers with.

    :class:`ShapeError` when that leaves no query.
    """
    places = displaced(candidates.sizes, seed)
    kept = [at for at, relevant in enumerate(labels) if not np.isin(places[relevant], relevant).any()]
    if not kept:
        raise ShapeError("no relevant candidate has as many blocks as another; a null test needs some that do")
    swapped = [places[labels[at]] for at in kept]
    scores = protocol(candidates, queries[kept], swapped, aggregate).scores.copy()
    chance = []
    for row, at in enumerate(kept):
        scores[row, labels[at]] = -np.inf
        chance.append(expected_reciprocal_rank(len(swapped[row]), len(candidates.whole) - len(labels[at])))
    return Null(float(reciprocal_ranks(scores, swapped).mean()), float(np.mean(chance)))


def displaced(sizes: Rows, seed: int) -> Rows:
    """(B,): another candidate of the same size for each, itself where there is none; no candidate twice."""
    draw = np.random.default_rng(seed)
    places = np.arange(len(sizes))
    for size in np.unique(sizes):
        order = draw.permutation(np.flatnonzero(sizes == size))
        places[order] = np.roll(order, 1)
    return places


def expected_reciprocal_rank(relevant: int, candidates: int) -> float:
    """Of the first of ``relevant`` ones in a random order; for one of B it is (1 + 1/2 + ... + 1/B) / B."""
    orders = comb(candidates, relevant)
    last = candidates - relevant + 1
    return sum(comb(candidates - rank, relevant - 1) / orders / rank for rank in range(1, last + 1))


def relevant_to_any(labels: Labels, candidates: int) -> Mask:
    """(B,): whether a candidate is relevant to some query."""
    found = np.zeros(candidates, bool)
    found[np.concatenate(labels)] = True
    return found


def _norms(vectors: Floats) -> Floats:
    found: Floats = np.linalg.norm(vectors.astype(np.float64), axis=1).astype(np.float32)
    return found


def _normed(vectors: Floats) -> Floats:
    """With norm 1; zeros stay zeros."""
    found: Floats = (vectors / np.maximum(_norms(vectors), np.finfo(np.float32).tiny)[:, None]).astype(np.float32)
    return found
