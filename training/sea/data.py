"""Pairs of questions and code as numbered texts, some of the pairs held out.

The texts are held in memory, each once: some hundred megabytes for a quarter of a million functions.

Letters::

    N texts     P pairs that are learned from     E pairs that are held out
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import JSON, Rows
from unabridged.errors import CorpusError, UsageError
from unabridged.training.pairs import Pair
from unabridged.training.shelf import DOCUMENT, QUERY

Ragged = tuple[Rows, Rows]
"""Values, and offsets of the lists in them."""


@dataclass(frozen=True)
class PairTexts:
    """N texts; pairs are rows of them."""

    texts: Sequence[str]  # N
    roles: NDArray[np.uint8]  # (N,) a text that is asked and the same text that is found are two
    queries: Rows  # (P,)
    positives: Ragged
    negatives: Ragged
    held_queries: Rows  # (E,)
    held_positives: Ragged
    candidates: Rows
    """Documents among which the held-out questions find theirs; none where nothing is held out."""

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def digest(self) -> str:
        """SHA-256 of texts, roles and pairs."""
        hashed = hashlib.sha256(self.roles.tobytes())
        for text in self.texts:
            data = text.encode("utf-8", "surrogatepass")
            hashed.update(len(data).to_bytes(8, "little") + data)
        for rows in (
            self.queries,
            *self.positives,
            *self.negatives,
            self.held_queries,
            *self.held_positives,
            self.candidates,
        ):
            hashed.update(rows.tobytes() + b"|")
        return hashed.hexdigest()

    @property
    def facts(self) -> dict[str, JSON]:
        """Counts, for reports."""
        return {
            "pairs": len(self.queries),
            "held_out": len(self.held_queries),
            "questions_read": int(np.count_nonzero(self.roles == QUERY)),
            "documents": int(np.count_nonzero(self.roles == DOCUMENT)),
            "negatives": len(self.negatives[0]),
        }


def collect(
    pairs: Iterable[Pair], hold_out: int = 0, judged: Sequence[Pair] = (), among: Iterable[str] = ()
) -> PairTexts:
    """The texts of ``pairs``, and what a training is judged by.

    That are the last ``hold_out`` pairs by the SHA-256 of question and answer, so the same ones in whatever order they
    come, which find their answers among all documents; or the pairs ``judged``, which find theirs among the texts
    ``among``.  A pair whose question is that of a held-out one is not learned from.

    Raises:
        UsageError: both ways to judge were asked for, or nothing would be left to learn from.
        CorpusError: there is no pair, or a fault of the data by file and line.
    """
    if hold_out < 0 or (hold_out and judged):
        raise UsageError(f"Hold out some pairs, 0 or more, or name a held-out set; got {hold_out} and {len(judged)}.")
    found = list(pairs)
    if not found:
        raise CorpusError("There is no pair to learn from: the data are empty.")
    order = sorted(range(len(found)), key=lambda number: _key(found[number]))
    held = list(judged) or [found[number] for number in order[len(order) - hold_out :]]
    asked = {pair.query for pair in held}
    kept = [pair for pair in found if pair.query not in asked]
    if not kept:
        raise UsageError(f"Of {len(found):,} pairs {len(held):,} are held out, which leaves nothing to learn from.")
    numbering = _Numbering()
    learned = numbering.rows(kept)
    documents = [text for pair in held for text in pair.positives]
    if judged:
        candidates = [numbering.row(DOCUMENT, text) for text in (*among, *documents)]
        known = numbering.rows(held)
    else:
        known = numbering.rows(held)
        candidates = [row for row, role in enumerate(numbering.roles) if role == DOCUMENT and held]
    roles = np.array(numbering.roles, dtype=np.uint8)
    among_ = np.unique(np.array(candidates, dtype=np.int64))
    return PairTexts(numbering.texts, roles, *learned, known[0], known[1], among_)


@dataclass
class _Numbering:
    """Texts in order of their first appearance."""

    texts: list[str] = field(default_factory=list)
    roles: list[int] = field(default_factory=list)
    known: dict[tuple[int, str], int] = field(default_factory=dict)

    def row(self, role: int, text: str) -> int:
        row = self.known.setdefault((role, text), len(self.texts))
        if row == len(self.texts):
            self.texts.append(text)
            self.roles.append(role)
        return row

    def rows(self, pairs: Sequence[Pair]) -> tuple[Rows, Ragged, Ragged]:
        queries = [self.row(QUERY, pair.query) for pair in pairs]
        right, wrong = (
            [list(dict.fromkeys(self.row(DOCUMENT, text) for text in texts)) for texts in lists]
            for lists in ([pair.positives for pair in pairs], [pair.negatives for pair in pairs])
        )
        return np.array(queries, dtype=np.int64), ragged(right), ragged(wrong)


def ragged(lists: Sequence[Sequence[int]]) -> Ragged:
    """Lists of rows one after another, and where each begins."""
    values = np.array([row for rows in lists for row in rows], dtype=np.int64)
    return values, np.concatenate(([0], np.cumsum([len(rows) for rows in lists]))).astype(np.int64)


def _key(pair: Pair) -> bytes:
    said = "\0".join((pair.query, *pair.positives))
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).digest()
