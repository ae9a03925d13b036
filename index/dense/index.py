"""A dense index: an approximate base over the first rows, an exact tail over the rest, one order for both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from unabridged.contracts import Floats, Hits, Mask, Rows
from unabridged.errors import ShapeError
from unabridged.index.dense._kernels import check_queries, rank
from unabridged.index.dense.base import Base
from unabridged.index.dense.exact import ExactVectors, check_allow

if TYPE_CHECKING:  # that package stands on this module
    from unabridged.index.dense.gpu.placement import Placement

TAIL_SHARE = 0.10
"""Share of rows outside the base above which it is worth rebuilding."""

DEAD_SHARE = 0.20
"""Share of deleted rows above which the base is worth rebuilding: they cost time and crowd out candidates."""

SPARSE_SHARE = 0.02
"""Share of allowed rows below which an exact scan of them is both faster and right."""


def needs_rebuild(m: int, n: int, dead: int) -> bool:
    """Whether a base over ``m`` of ``n`` rows, ``dead`` of them deleted, should be built anew.

    False without a base (``m`` = 0): whether one is wanted is the recipe's decision.
    """
    return m > 0 and (n - m > TAIL_SHARE * n or dead > DEAD_SHARE * n)


class DenseIndex:
    """N stored vectors; ``base`` covers the first M of them, or is None for an exact index.

    Candidates of the base are scored again with the stored vectors, so every score is exact, base and tail
    compare, and ties come by row; only which rows were found is approximate.
    """

    def __init__(self, base: Base | None, exact: ExactVectors) -> None:
        if base is not None and (len(base) > len(exact) or base.dim != exact.dim or base.metric is not exact.metric):
            found = (len(base), base.dim, base.metric.value)
            raise ShapeError(
                f"the base has (rows, dim, metric) {found}, the vectors {(len(exact), exact.dim, exact.metric.value)}"
            )
        self.base = base
        self.exact = exact
        self.placement: Placement | None = None
        """Where the base is searched, and why there; None: on the CPU, and nobody asked for anything else."""

    def __len__(self) -> int:
        return len(self.exact)

    @property
    def covered(self) -> int:
        """M, the rows that the base covers."""
        return 0 if self.base is None else len(self.base)

    def search(
        self,
        queries: Floats,
        k: int,
        allow: Mask | None = None,
        *,
        exact: bool = False,
        complete: bool = True,
        params: Mapping[str, int] | None = None,
    ) -> Hits:
        """The best ``k`` rows, (Q, k), among ``allow`` (N,) bool: always min(k, allowed rows) of them.

        ``params`` (nprobe, efSearch, k_factor) holds for this call.  ``exact`` leaves the base aside.  With
        ``complete=False`` a query may get fewer rows, those in the lists it visited: enough for candidates,
        and without the exact scan that fills such a line.

        Raises:
            ShapeError: queries or ``allow`` of the wrong shape or dtype, NaN or infinite queries.
            UsageError: ``k`` below 1, or an unknown setting.
        """
        floats = check_queries(queries, self.exact.dim, k)
        allow = check_allow(allow, len(self))
        m = self.covered
        possible = m if allow is None else int(np.count_nonzero(allow[:m]))
        if self.base is None or exact or possible <= max(k, SPARSE_SHARE * m if allow is not None else 0):
            if self.base is not None and not exact:
                self.base.passed_over(len(floats), all_are_hits=possible <= k)
            return self.exact.search(floats, k, allow)
        hits = self._search_base(self.base, floats, k, None if allow is None else allow[:m], params)
        lacking = hits.rows[:, k - 1] < 0  # possible > k, so a full line was to be had
        short = np.flatnonzero(lacking & complete)
        if len(short):
            found = self.exact.search(floats[short], k, allow, within=(0, m))
            hits.rows[short], hits.scores[short] = found.rows, found.scores
        if m == len(self):
            return hits
        tail = self.exact.search(floats, k, allow, within=(m, len(self)))
        return rank(np.hstack([hits.rows, tail.rows]), np.hstack([hits.scores, tail.scores]), k)

    def gather(self, rows: Rows) -> Floats:
        """A copy of the stored vectors of ``rows`` (n,): (n, D) float32."""
        return self.exact.gather(rows)

    def score(self, query: Floats, rows: Rows) -> Floats:
        """Exact scores (n,) float32 of chosen ``rows`` (n,) for one query (D,), without copying their vectors."""
        scores: Floats = self.exact.score(query[None], np.asarray(rows, np.int64)[None])[0]
        return scores

    def measure_recall(
        self, queries: Floats, k: int = 10, *, params: Mapping[str, int] | None = None, truth: Hits | None = None
    ) -> float:
        """Recall at ``k`` of the base against an exact scan of the rows it covers, from 0 to 1.

        A hit counts when its exact score reaches the exact k-th best, so that equal rows are as good as each
        other.  ``truth`` is that exact scan where the caller has it.  1.0 without a base or without queries.
        """
        if self.base is None or not len(queries):
            return 1.0
        k = min(k, self.covered)
        best = self.truth(queries, k) if truth is None else truth.top(k)
        found = self._search_base(self.base, check_queries(queries, self.exact.dim, k), k, None, params)
        return float(np.mean(found.scores >= best.scores[:, k - 1 : k]))

    def truth(self, queries: Floats, k: int) -> Hits:
        """The exact best ``k`` of the rows that the base covers."""
        return self.exact.search(queries, k, within=(0, self.covered))

    def _search_base(
        self, base: Base, queries: Floats, k: int, allow: Mask | None, params: Mapping[str, int] | None
    ) -> Hits:
        """Candidates of the base with exact scores, the best ``k`` of them."""
        wide = min(k * base.oversampling(params), len(base))
        found = base.candidates(queries, wide, allow, params)
        scores = found.scores if base.scores_are_exact else self.exact.score_checked(queries, found.rows)
        return rank(found.rows, scores, k)
