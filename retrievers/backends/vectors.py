"""A set of vectors whose candidates come from an engine and whose scores come from the stored vectors.

It stands where :class:`~unabridged.index.dense.DenseIndex` stands in a dense stage.  An engine's own scores are of
less precision, and its filters are only part of ours, so its answer is taken as candidates: a few more are asked for
than wanted, those not allowed are dropped, all are scored exactly, and where the cut is too close to tell, or too few
are left, more are asked for.  A line that the engine cannot fill is filled by an exact scan, and that is counted.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unabridged.contracts import JSON, NO_HIT, Floats, Hits, Mask, Rows
from unabridged.index.backends import Applied, SearchBackend
from unabridged.index.backends.conditions import Condition
from unabridged.index.backends.contract import VectorSet
from unabridged.index.dense import ExactVectors
from unabridged.retrievers.backends.rows import EngineRows

SLACK = 16
"""Candidates beyond those wanted, at least."""
GROWTH = 4
RARE = 0.02
"""Share of allowed rows below which a filter that the engine cannot apply is answered by an exact scan of them."""


class Usage:
    """What engine searches did, for a report; safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._last: dict[str, Applied] = {}

    def note(self, which: str, applied: Applied) -> None:
        """One search of the engine."""
        with self._lock:
            self._counts["searches"] += 1
            self._last[which] = applied

    def scanned(self, reason: str) -> None:
        """One search answered from the folder, with the reason."""
        with self._lock:
            self._counts[f"exact scan here: {reason}"] += 1

    def as_json(self) -> dict[str, JSON]:
        """Counts, and what was applied last for each set of vectors."""
        with self._lock:
            return {**self._counts, "applied": {which: one.as_json() for which, one in self._last.items()}}


class EngineVectors:
    """N stored vectors, searched by an engine."""

    def __init__(
        self,
        which: VectorSet,
        exact: ExactVectors,
        backend: SearchBackend,
        rows: EngineRows,
        usage: Usage,
        conditions: Sequence[Condition] = (),
        whole: bool = True,
    ) -> None:
        self.which, self.exact, self.backend, self.rows, self.usage = which, exact, backend, rows, usage
        self.conditions = [one for one in conditions if backend.accepts(one)]
        self.whole = whole and len(self.conditions) == len(conditions)

    def __len__(self) -> int:
        return len(self.exact)

    def gather(self, rows: Rows) -> Floats:
        """A copy of the stored vectors of ``rows`` (n,): (n, D) float32."""
        return self.exact.gather(rows)

    def score(self, query: Floats, rows: Rows) -> Floats:
        """Exact scores (n,) float32 of chosen ``rows`` for one query (D,)."""
        scores: Floats = self.exact.score(query[None], np.asarray(rows, np.int64)[None])[0]
        return scores

    def search(
        self,
        queries: Floats,
        k: int,
        allow: Mask | None = None,
        *,
        complete: bool = True,
        params: Mapping[str, int] | None = None,
    ) -> Hits:
        """The best ``k`` rows, (Q, k), among ``allow`` (N,) bool, with exact scores; ties by row.

        With ``complete=False`` a line may be shorter than it could be.
        """
        possible = len(self) if allow is None else int(np.count_nonzero(allow))
        lines = [self._line(query, k, allow, possible, complete) for query in queries]
        rows = np.full((len(queries), k), NO_HIT, np.int64)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        for at, (found, values) in enumerate(lines):
            rows[at, : len(found)], scores[at, : len(found)] = found, values
        return Hits(rows, scores)

    def _line(self, query: Floats, k: int, allow: Mask | None, possible: int, complete: bool) -> tuple[Rows, Floats]:
        if not possible:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        wanted = min(k, possible)
        share = 1.0 if self.whole else possible / max(len(self), 1)
        if wanted > self.backend.limit:
            return self._scan(query, k, allow, f"more than the {self.backend.limit:,} hits that an engine gives")
        if share < RARE:
            return self._scan(query, k, allow, "a filter that the engine cannot apply and few documents pass")
        ask = min(math.ceil((wanted + max(SLACK, wanted // 4)) / share), self.backend.limit)
        while True:
            rows, scores, last, returned = self._asked(query, ask, allow)
            all_there = returned < ask
            settled = all_there or (len(rows) > wanted and last < scores[wanted - 1] - self.backend.tolerance)
            if settled or ask == self.backend.limit or (not complete and len(rows) >= wanted):
                break
            ask = min(ask * GROWTH, self.backend.limit)
        if complete and len(rows) < wanted:
            return self._scan(query, k, allow, "the engine gave too few")
        return rows[:wanted], scores[:wanted]

    def _asked(self, query: Floats, ask: int, allow: Mask | None) -> tuple[Rows, Floats, float, int]:
        """Allowed candidates with exact scores, best first; the engine's last score; how many it returned."""
        found = self.backend.search(self.which, query[None], ask, self.conditions)
        self.usage.note(self.which, found.applied)
        keys = found.hits.rows[0]
        keys = keys[keys != NO_HIT]
        last = float(found.hits.scores[0, len(keys) - 1]) if len(keys) else -math.inf
        rows = self.rows.to_index(self.which, keys)
        rows = rows[rows != NO_HIT]
        rows = rows if allow is None else rows[allow[rows]]
        scores = self.score(query, rows)
        order = np.lexsort((rows, -scores))
        return rows[order], scores[order], last, len(keys)

    def _scan(self, query: Floats, k: int, allow: Mask | None, reason: str) -> tuple[Rows, Floats]:
        self.usage.scanned(reason)
        hits = self.exact.search(query[None], k, allow)
        real: Any = hits.rows[0] != NO_HIT
        return hits.rows[0][real], hits.scores[0][real]
