"""Copies of one set on several GPUs: large batches are divided between them, small ones go to each in turn."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any, Protocol

import numpy as np

from unabridged.contracts import Floats, Hits

SHARE = 64
"""Queries for each copy from which a batch is divided."""


class Copy(Protocol):
    """The whole set, on one device or divided over several."""

    def search(self, queries: Floats, k: int, params: Any = None) -> Hits:
        """``k`` rows of each query, (Q, k), in no order; missing ones have row -1.  Higher scores are better."""


class Copies:
    """One or several copies, searched as one; safe to share by threads."""

    def __init__(self, copies: Sequence[Copy]) -> None:
        self._copies = list(copies)
        self._turn = count()

    def __len__(self) -> int:
        return len(self._copies)

    def search(self, queries: Floats, k: int, params: Any = None) -> Hits:
        """As :meth:`Copy.search`."""
        shares = min(len(self._copies), len(queries) // SHARE)
        if shares < 2:
            return self._copies[next(self._turn) % len(self._copies)].search(queries, k, params)
        groups = np.array_split(queries, shares)
        with ThreadPoolExecutor(shares) as pool:
            parts = list(pool.map(lambda copy, part: copy.search(part, k, params), self._copies[:shares], groups))
        return Hits(np.concatenate([part.rows for part in parts]), np.concatenate([part.scores for part in parts]))


def as_hits(scores: Floats, rows: Any, *, higher: bool) -> Hits:
    """What FAISS returned as hits: distances negated unless ``higher`` scores are better, missing ones -inf."""
    found = np.asarray(scores, np.float32) if higher else -np.asarray(scores, np.float32)
    found[rows < 0] = -np.inf
    return Hits(rows, found)
