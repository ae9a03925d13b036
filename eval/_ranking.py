"""The order in which trec_eval reads a list of results, and where that order is arbitrary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Mask
from unabridged.errors import DuplicateId, ShapeError

Found: TypeAlias = Mapping[str, float] | Sequence[tuple[str, float]]
"""Document id -> score, or pairs of them in any order; higher is better."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The documents of one query, best first."""

    documents: tuple[str, ...]  # (K,)
    tied: Mask  # (K,) bool: the score equals, as float32, the one before

    def tied_within(self, depth: int | None) -> bool:
        """Whether a group of equal scores begins among the first ``depth`` documents (all: None)."""
        return bool(self.tied[: None if depth is None else depth + 1].any())


def rank(query: str, found: Found) -> Ranking:
    """``found`` by descending float32 score, ties by descending id, as trec_eval sorts.

    Raises:
        ShapeError: A score is no number, NaN, infinite, or too large for float32.
        DuplicateId: A document occurs twice.
    """
    pairs = found.items() if isinstance(found, Mapping) else found
    documents = [str(document) for document, _ in pairs]
    if len(set(documents)) < len(documents):
        twice = next(one for at, one in enumerate(documents) if one in documents[:at])
        raise DuplicateId(f"document {twice!r} occurs twice for query {query!r}; keep its best score only")
    scores = _float32(query, [score for _, score in pairs])
    order = np.argsort(-scores, kind="stable")
    tied = np.zeros(len(order), np.bool_)
    tied[1:] = scores[order][1:] == scores[order][:-1]
    if tied.any():
        keyed = sorted(zip(scores.tolist(), documents, strict=True), reverse=True)
        return Ranking(tuple(document for _, document in keyed), tied)
    return Ranking(tuple(documents[row] for row in order.tolist()), tied)


def _float32(query: str, scores: Sequence[float]) -> NDArray[np.float32]:
    try:
        given = np.asarray(scores, dtype=np.float64).reshape(len(scores))
    except (TypeError, ValueError) as error:
        raise ShapeError(f"query {query!r}: scores must be numbers, found {scores!r:.80}") from error
    with np.errstate(over="ignore"):
        rounded: NDArray[np.float32] = given.astype(np.float32)
    if not bool(np.isfinite(rounded).all()):
        bad = given[~np.isfinite(rounded)][0]
        raise ShapeError(f"query {query!r}: scores must be finite float32 numbers, found {bad}; repair the run")
    return rounded
