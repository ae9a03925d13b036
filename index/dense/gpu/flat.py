"""Exact search on GPUs: stored vectors copied there block by block, and every hit scored again with what is stored.

A device holds parts, each a flat index of FAISS that fits it twice: FAISS copies an index whenever rows are added.
What comes back is more than was asked for, is scored on the CPU by the same kernel as an exact scan, and is complete
except for rows whose score the device rounded below that of all rows asked for (:data:`ROUNDING`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any

import numpy as np

from unabridged.contracts import NO_HIT, Floats, Hits, Mask
from unabridged.index.dense._faiss import load_faiss
from unabridged.index.dense._kernels import Metric, check_queries, faiss_metric, rank
from unabridged.index.dense.exact import ExactVectors, check_allow
from unabridged.index.dense.gpu.copies import Copies, as_hits
from unabridged.index.dense.gpu.devices import Device, alone_on, device
from unabridged.index.dense.gpu.kinds import ALL_ARE_HITS, EXTRA, FEW_ALLOWED, FULL, GONE, refusal, to_ask
from unabridged.index.dense.gpu.memory import Batches, DeviceFull, Unfit
from unabridged.index.dense.gpu.placement import REPLICATED, Placement
from unabridged.index.dense.gpu.sizes import part_bytes
from unabridged.index.dense.gpu.trail import Trail

BLOCK_ROWS = 32_768
"""Rows copied at a time: as many as FAISS itself takes together."""
HALF_MOST = 65_504.0
"""Largest float16."""
ROUNDING = {False: 2.0**-14, True: 2.0**-10}
"""Float16 or not -> by how much of |query| * |row| a device's inner product may be off: both rounded to 11 bits, or a
sum of a thousand products in float32 at its worst (twice that for squared distances).  A row can only be missing if it
scores within twice that of the last hit; about a hundredth of it is usual."""


@dataclass(slots=True)
class _Parts:
    """Rows on one device: first row and index of each part."""

    device: Device
    parts: list[tuple[int, Any]] = field(default_factory=list)

    def search(self, queries: Floats, k: int) -> list[tuple[Floats, Any]]:
        """Scores and rows (Q, k) of each part, missing ones -1."""
        found = []
        with self.device.lock:
            for start, index in self.parts:
                scores, rows = index.search(queries, min(k, int(index.ntotal)))
                rows[rows >= 0] += start
                short = ((0, 0), (0, k - rows.shape[1]))
                found.append((np.pad(scores, short), np.pad(rows, short, constant_values=NO_HIT)))
        return found


class FlatCopy:
    """All rows, on one device or divided over several."""

    def __init__(self, devices: Sequence[_Parts], metric: Metric) -> None:
        self._devices = list(devices)
        self._higher = metric is Metric.IP

    def search(self, queries: Floats, k: int, params: Any = None) -> Hits:
        """The best ``k`` rows of each query, (Q, k), as the devices see them."""
        if len(self._devices) == 1:
            found = self._devices[0].search(queries, k)
        else:
            with ThreadPoolExecutor(len(self._devices)) as pool:
                found = list(chain.from_iterable(pool.map(lambda parts: parts.search(queries, k), self._devices)))
        if len(found) == 1:
            return as_hits(*found[0], higher=self._higher)
        scores, rows = (np.stack(arrays) for arrays in zip(*found, strict=True))
        return as_hits(*load_faiss().merge_knn_results(scores, rows, keep_max=self._higher), higher=self._higher)


def copy_to(exact: ExactVectors, placement: Placement, room: Mapping[int, int]) -> Copies:
    """The vectors on the devices of ``placement``; ``room``: bytes free on each for vectors and their copies.

    Raises:
        Unfit: a value that float16 cannot hold.
        RuntimeError: FAISS could not allocate, or failed.
    """
    rows, numbers = len(exact), placement.devices
    if placement.spread == REPLICATED:
        whole = [_filled(exact, (0, rows), number, placement, room) for number in numbers]
        return Copies([FlatCopy([one], exact.metric) for one in whole])
    ranges = zip(numbers, _ranges((0, rows), len(numbers)), strict=True)
    return Copies([FlatCopy([_filled(exact, part, number, placement, room) for number, part in ranges], exact.metric)])


def _filled(
    exact: ExactVectors, within: tuple[int, int], number: int, placement: Placement, room: Mapping[int, int]
) -> _Parts:
    """Rows ``[first, last)`` on device ``number``."""
    faiss = load_faiss()
    dim, half = exact.dim or 0, placement.float16
    config = faiss.GpuIndexFlatConfig()
    config.device, config.useFloat16, config.use_cuvs = number, half, False
    row_bytes = dim * (2 if half else 4)
    need = (within[1] - within[0]) * row_bytes
    count = -(-need // part_bytes(need, room[number]))
    held = _Parts(device(number))
    with alone_on([held.device]):
        for first, last in _ranges(within, count):
            index = faiss.GpuIndexFlat(held.device.resources, dim, faiss_metric(exact.metric), config)
            for at in range(first, last, BLOCK_ROWS):
                for _, block in exact.blocks((at, min(at + BLOCK_ROWS, last))):
                    if half and float(np.abs(block).max(initial=0.0)) > HALF_MOST:
                        raise Unfit(f"a vector holds values beyond {HALF_MOST:,.0f}, the largest float16")
                    index.add(np.ascontiguousarray(block))
            held.parts.append((first, index))
    return held


def _ranges(within: tuple[int, int], count: int) -> Iterator[tuple[int, int]]:
    """``[first, last)`` in ``count`` ranges of about equal length."""
    first, last = within
    return pairwise(first + (last - first) * at // count for at in range(count + 1))


class DeviceFlat:
    """The base of a dense index that is the stored vectors themselves, on a GPU: N rows, exact scores.

    Scores equal those of an exact scan to the bit.  Rows equal them, too, except for rows within rounding of the
    device at the cut.  Calls that the device cannot answer go to the CPU, with the reason in ``trail``.
    """

    scores_are_exact = True

    def __init__(self, exact: ExactVectors, copies: Copies, placement: Placement, trail: Trail) -> None:
        self.exact, self.placement, self.trail = exact, placement, trail
        self.dim, self.metric = exact.dim or 0, exact.metric
        self.settings: dict[str, int] = {}
        self._copies = copies
        self._batches = Batches()

    def __len__(self) -> int:
        return len(self.exact)

    @property
    def knobs(self) -> dict[str, int]:
        """There is nothing to tune."""
        return {"k_factor": max(len(self), 1)}

    def oversampling(self, params: Mapping[str, int] | None = None) -> int:
        """Candidates are final, so one for each hit."""
        return 1

    def passed_over(self, queries: int, *, all_are_hits: bool) -> None:
        """Notes that the allowed rows were scanned on the CPU, and why."""
        self.trail.note(ALL_ARE_HITS if all_are_hits else FEW_ALLOWED, queries)

    def search(self, queries: Floats, k: int, *, allow: Mask | None = None) -> Hits:
        """The best ``k`` rows of each query, (Q, k), padded."""
        floats = check_queries(queries, self.dim, k)
        hits = self.candidates(floats, int(k), check_allow(allow, len(self)))
        return rank(hits.rows, hits.scores, int(k))

    def candidates(
        self,
        queries: Floats,
        k: int,
        allow: Mask | None = None,
        params: Mapping[str, int] | None = None,
    ) -> Hits:
        """The best min(k, allowed rows) of each query, in order, for checked arguments."""
        possible = len(self) if allow is None else int(np.count_nonzero(allow))
        wanted = min(k, possible)
        if not wanted or not len(queries):
            return Hits(np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32))
        ask, why = self._ask(queries, wanted, possible)
        if not why:
            try:
                found = self._batches.search(lambda part: self._copies.search(part, ask), queries)
            except DeviceFull:
                why = FULL
        if why:
            self.trail.note(why, len(queries))
            return self.exact.search(queries, wanted, allow)
        return self._settled(queries, found.rows, wanted, allow)

    def _ask(self, queries: Floats, wanted: int, possible: int) -> tuple[int, str]:
        """Rows to ask the device for, or the reason why it cannot answer."""
        spare = max(EXTRA, wanted) if self.placement.float16 else EXTRA
        ask = to_ask(wanted, possible, len(self), spare=spare)
        if ask > self.placement.limit:
            ask = to_ask(wanted, possible, len(self), spare=EXTRA)
        if self.placement.float16 and float(np.abs(queries).max()) > HALF_MOST:
            return 0, f"a query holds values beyond {HALF_MOST:,.0f}, the largest float16: searched on the CPU"
        return ask, refusal(self.placement.as_kind, ask)

    def _settled(self, queries: Floats, rows: Any, wanted: int, allow: Mask | None) -> Hits:
        """Exact scores and order; queries whose cut goes through equal scores, or that lack rows, go to the CPU."""
        complete = rows.shape[1] >= len(self)
        if allow is not None:
            rows = np.where((rows >= 0) & allow[rows], rows, NO_HIT)
        scores = self.exact.score_checked(queries, rows)
        hits = rank(rows, scores, wanted)
        if complete:
            return hits
        lowest = np.where(rows >= 0, scores, np.inf).min(axis=1)
        lacking = hits.rows[:, -1] < 0
        tied = ~lacking & (hits.scores[:, -1] == lowest)
        for which, why in (
            (lacking, GONE),
            (tied, "more equal scores at the cut than a GPU index shows: searched on the CPU"),
        ):
            again = np.flatnonzero(which)
            if len(again):
                self.trail.note(why, len(again))
                found = self.exact.search(queries[again], wanted, allow)
                hits.rows[again], hits.scores[again] = found.rows, found.scores
        return hits
