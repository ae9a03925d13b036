"""Tasks of a kernel over as many threads as torch uses, each the same amount of tokens.

The kernels let the interpreter go.  Neither torch's nor Numba's number of threads is touched, so that there is nothing
to restore, and several callers at a time only share the pool.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from queue import SimpleQueue
from typing import Any

import numpy as np

from unabridged.contracts import Rows

PARTS = 4
"""Per thread, so that one that is held up by something else holds up no other."""
WORTH = 16
"""Tokens times tasks that a second thread is worth waking for."""


def run(kernel: Callable[..., None], offsets: Rows, per_sequence: int, arguments: Sequence[Any], threads: int) -> None:
    """``kernel(first, last, offsets, *arguments)`` for all tasks, ``per_sequence`` of each sequence, in that order."""
    lengths = np.diff(offsets)
    tasks = len(lengths) * per_sequence
    if threads == 1 or tasks == 1 or int(lengths.sum()) * per_sequence < WORTH:
        kernel(0, tasks, offsets, *arguments)
        return
    # A sequence has a state to read and to write too, which costs about as much as a token.
    ends = np.cumsum(np.repeat(lengths + 1, per_sequence))
    count = threads * PARTS
    cuts = np.searchsorted(ends, ends[-1] * np.arange(1, count) / count) + 1
    bounds = np.minimum(np.concatenate(([0], cuts, [tasks])), tasks).tolist()
    parts = [(a, b) for a, b in pairwise(bounds) if a < b]
    spread(lambda a, b: kernel(a, b, offsets, *arguments), parts, threads)


def split(kernel: Callable[..., None], tasks: int, *arguments: Any) -> None:
    """``kernel(first, last, *arguments)`` for ``tasks`` tasks of equal size, on torch's number of threads."""
    import torch

    if not tasks:
        return
    parts = min(tasks, torch.get_num_threads())
    bounds = [tasks * part // parts for part in range(parts + 1)]
    spread(lambda a, b: kernel(a, b, *arguments), list(pairwise(bounds)), parts)


def spread(function: Callable[[int, int], None], parts: Sequence[tuple[int, int]], threads: int) -> None:
    """``function`` for every part, each taken by the thread that is free; returns, or raises, when all are done."""
    waiting: SimpleQueue[tuple[int, int] | None] = SimpleQueue()
    for part in (*parts, *[None] * threads):
        waiting.put(part)

    def work() -> None:
        while (part := waiting.get()) is not None:
            function(*part)

    jobs = [_pool(os.getpid()).submit(work) for _ in range(min(threads, len(parts)) - 1)]
    try:
        work()
    finally:
        errors = [job.exception() for job in jobs]
    for error in errors:
        if error is not None:
            raise error


@lru_cache(1)
def _pool(process: int) -> ThreadPoolExecutor:
    """Of this process: threads do not survive a fork."""
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix=f"mamba-{process}")
