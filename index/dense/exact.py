"""Exact search over mapped shards: what every approximate index is measured against."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from unabridged.contracts import NO_HIT, Floats, Hits, Mask, Rows
from unabridged.errors import ShapeError, UsageError
from unabridged.index.dense._faiss import SMALL_WORK, load_faiss, threads
from unabridged.index.dense._kernels import as_metric, check_queries, knn, pairs, rank

BLOCK_BYTES = 4 << 20
"""Bytes of float32 rows that a batch of queries shares before the next ones are read: they stay in the
CPU's cache.  2 to 6 MiB measured best on 2 cores; a batch of 64 is then faster than one pass per query."""

SLACK = 16
"""Extra candidates per query, so that equal scores at the cut are seen and rarely need a second look."""

QUERY_GROUP = 256
"""Queries per pass over the shards; bounds the candidates held to about QUERY_GROUP * 32 * (k + SLACK)."""


class ExactVectors:
    """N vectors in shards of (n_i, D) float32 or float16, numbered 0 to N - 1 across the shards.

    Shards may be memory maps and are never copied whole; float16 ones are converted block by block.
    Results equal brute force: rows by (-score, row), and at the cut the lowest of equal rows stay.
    """

    def __init__(self, shards: Sequence[Any], metric: str = "ip") -> None:
        self.metric = as_metric(metric)
        self._shards = [_checked(shard, number) for number, shard in enumerate(shards)]
        widths = {shard.shape[1] for shard in self._shards}
        if len(widths) > 1:
            raise ShapeError(f"shards must share one width, found {sorted(widths)}")
        self.dim: int | None = widths.pop() if widths else None
        self._starts: Rows = np.cumsum([0, *(len(shard) for shard in self._shards)], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def is_half(self) -> bool:
        """Whether every vector is stored as float16."""
        return bool(self._shards) and all(shard.dtype == np.float16 for shard in self._shards)

    def search(
        self, queries: Floats, k: int, allow: Mask | None = None, *, within: tuple[int, int] | None = None
    ) -> Hits:
        """The best ``k`` rows of each query, (Q, k), among ``allow`` (N,) and rows ``[start, stop)`` of ``within``.

        Raises:
            ShapeError: queries or ``allow`` of the wrong shape or dtype, NaN or infinite queries.
            UsageError: ``k`` is below 1, or ``within`` does not lie in [0, N].
        """
        floats = check_queries(queries, self.dim, k)
        start, stop = within or (0, len(self))
        if not 0 <= start <= stop <= len(self):
            raise UsageError(f"rows [{start}, {stop}) do not lie within the {len(self)} rows of the index")
        allow = check_allow(allow, len(self))
        possible = stop - start if allow is None else int(np.count_nonzero(allow[start:stop]))
        if possible == 0 or len(floats) == 0:
            return rank(np.empty((len(floats), 0), np.int64), np.empty((len(floats), 0), np.float32), int(k))
        take = min(int(k), possible)

        def search_group(group: Floats) -> Hits:
            return self._search_group(group, take, (start, stop), allow, possible)

        groups = _in_groups(search_group, floats, float(floats.size) * possible)
        rows, scores = (np.concatenate([getattr(g, name) for g in groups]) for name in ("rows", "scores"))
        return rank(rows, scores, int(k))

    def score(self, queries: Floats, rows: Rows) -> Floats:
        """Exact scores (Q, K) float32 of chosen ``rows`` (Q, K); -inf where a row is ``NO_HIT``."""
        self._check_rows(rows)
        return self.score_checked(check_queries(queries, self.dim, 1), rows)

    def score_checked(self, floats: Floats, rows: Rows) -> Floats:
        """As :meth:`score`, for arguments that were checked before."""
        if len(self._shards) == 1 and self._shards[0].dtype == np.float32:
            return pairs(floats, self._shards[0], rows, self.metric)
        out = np.full(rows.shape, -np.inf, dtype=np.float32)
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(owners[rows >= 0]):
            mine = (owners == number) & (rows >= 0)
            shard = self._shards[number]
            local = np.where(mine, rows - self._starts[number], NO_HIT)
            if shard.dtype != np.float32:
                used, inverse = np.unique(local[mine], return_inverse=True)
                shard = np.ascontiguousarray(shard[used], dtype=np.float32)
                local[mine] = inverse
            np.copyto(out, pairs(floats, shard, local, self.metric), where=mine)
        return out

    def gather(self, rows: Rows) -> Floats:
        """A copy of the vectors of ``rows`` (n,): (n, D) float32."""
        wanted = np.asarray(rows, dtype=np.int64)
        self._check_rows(wanted)
        if bool(np.any(wanted < 0)):
            raise UsageError("a row number below 0 has no vector")
        if len(self._shards) == 1:
            return np.asarray(self._shards[0][wanted], dtype=np.float32)
        out = np.empty((len(wanted), self.dim or 0), dtype=np.float32)
        owners = np.searchsorted(self._starts, wanted, side="right") - 1
        for number in np.unique(owners):
            mine = owners == number
            out[mine] = self._shards[number][wanted[mine] - self._starts[number]]
        return out

    def blocks(self, within: tuple[int, int] | None = None, size: int | None = None) -> Iterator[tuple[int, Floats]]:
        """First row and (n, D) float32 of consecutive blocks; float32 shards are views, never copies.

        ``size`` limits the rows of a block; without it a float32 block is as long as its shard.
        """
        first, last = within or (0, len(self))
        per_block = max(1, BLOCK_BYTES // (4 * (self.dim or 1)))
        for begin, shard in zip(self._starts.tolist(), self._shards, strict=False):
            low, high = max(first - begin, 0), min(last - begin, len(shard))
            view = shard.dtype == np.float32
            step = size or (max(1, high - low) if view else per_block)
            for at in range(low, high, step):
                part = shard[at : min(at + step, high)]
                yield begin + at, part if view else np.ascontiguousarray(part, dtype=np.float32)

    def _search_group(
        self, queries: Floats, k: int, within: tuple[int, int], allow: Mask | None, possible: int
    ) -> Hits:
        """The best ``k`` of one group of queries; ``k`` is at most ``possible``, the rows to choose from."""
        wide = min(k + SLACK, possible)
        size = None if len(queries) == 1 else max(BLOCK_BYTES // (4 * (self.dim or 1)), 8 * wide)
        best = _Best(wide)
        for start, block in self.blocks(within, size):
            part = None if allow is None else allow[start : start + len(block)]
            count = len(block) if part is None else int(np.count_nonzero(part))
            if count:
                chosen = None if count == len(block) else part
                found = knn(queries, block, min(wide, count), self.metric, chosen)
                best.add(np.where(found.rows < 0, found.rows, found.rows + start), found.scores)
        hits = best.ranked()
        if wide < possible:  # otherwise every row is here and nothing can be tied with a row outside
            self._settle_ties(queries, hits, k, within, allow)
        return hits.top(k)

    def _settle_ties(self, queries: Floats, hits: Hits, k: int, within: tuple[int, int], allow: Mask | None) -> None:
        """Puts the lowest rows of a tie at the cut into ``hits``, for queries whose tie runs past the slack.

        Rows better than the last candidate are complete.  Equal to it, the kernel kept arbitrary ones, so
        the lowest are looked for again, from the first row on and only until enough are found.
        """
        cut = hits.scores[:, k - 1]
        for query in np.flatnonzero((cut == hits.scores[:, -1]) & np.isfinite(cut)):
            better = int(np.count_nonzero(hits.scores[query] > cut[query]))
            lowest = self._lowest_equal(queries[query : query + 1], float(cut[query]), k - better, within, allow)
            hits.rows[query, better:k] = lowest

    def _lowest_equal(
        self, query: Floats, score: float, count: int, within: tuple[int, int], allow: Mask | None
    ) -> Rows:
        found: list[Rows] = []
        missing = count
        for start, block in self.blocks(within, 8192):
            ids = np.arange(len(block), dtype=np.int64)[None]
            if allow is not None:
                ids = np.where(allow[start : start + len(block)], ids, NO_HIT)
            equal = np.flatnonzero(pairs(query, block, ids, self.metric)[0] == np.float32(score))[:missing]
            found.append(equal + start)
            missing -= len(equal)
            if not missing:
                break
        return np.concatenate(found)

    def _check_rows(self, rows: Rows) -> None:
        if rows.size and (int(rows.max()) >= len(self) or int(rows.min()) < NO_HIT):
            raise UsageError(f"row {int(rows.max())} asked for, the index has rows 0 to {len(self) - 1}")


class _Best:
    """Candidates of several blocks, cut back to ``width`` per query now and then."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._rows: list[Rows] = []
        self._scores: list[Floats] = []
        self._held = 0

    def add(self, rows: Rows, scores: Floats) -> None:
        self._rows.append(rows)
        self._scores.append(scores)
        self._held += rows.shape[1]
        if self._held > 32 * self._width:
            self._shrink()

    def _shrink(self) -> None:
        rows, scores = np.concatenate(self._rows, axis=1), np.concatenate(self._scores, axis=1)
        if rows.shape[1] > self._width:
            keep = np.argpartition(-scores, self._width - 1, axis=1)[:, : self._width]
            rows, scores = np.take_along_axis(rows, keep, axis=1), np.take_along_axis(scores, keep, axis=1)
        self._rows, self._scores, self._held = [rows], [scores], rows.shape[1]

    def ranked(self) -> Hits:
        self._shrink()
        return rank(self._rows[0], self._scores[0], self._width)


def _in_groups(search: Callable[[Floats], Hits], queries: Floats, work: float) -> list[Hits]:
    """Results of groups of queries in order: side by side on as many threads as FAISS may use.

    Each thread goes through all blocks with queries of its own and waits for nobody.  The team that FAISS
    would start inside each block meets at its end: on a busy machine that doubled the time of 250 blocks.
    """
    workers = min(load_faiss().omp_get_max_threads(), len(queries)) if work >= SMALL_WORK else 1
    size = min(QUERY_GROUP, -(-len(queries) // workers))
    groups = [queries[at : at + size] for at in range(0, len(queries), size)]

    def alone(group: Floats) -> Hits:
        with threads(1):
            return search(group)

    if workers == 1:
        return [alone(group) for group in groups]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(alone, groups))


def check_allow(allow: Mask | None, rows: int) -> Mask | None:
    """``allow`` as it came, or :class:`ShapeError` unless it is (rows,) bool."""
    if allow is not None and (allow.shape != (rows,) or allow.dtype != np.bool_):
        raise ShapeError(f"allow must be ({rows},) bool, found {allow.shape} {allow.dtype}")
    return allow


def _checked(shard: Any, number: int) -> Any:
    good = getattr(shard, "ndim", 0) == 2 and shard.dtype in (np.float32, np.float16) and shard.flags.c_contiguous
    if not good:
        found = (getattr(shard, "shape", None), getattr(shard, "dtype", type(shard).__name__))
        raise ShapeError(f"shard {number} must be contiguous (n, D) float32 or float16, found {found[0]} {found[1]}")
    return np.asarray(shard)  # a plain view of the map: slicing the memmap class itself costs microseconds
