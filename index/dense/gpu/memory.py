"""A full device: what says so, and halving a batch of queries until it fits."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import numpy as np

from unabridged.contracts import Floats, Hits

SAID = (
    "cudaMalloc error out of memory",
    "cudaMallocManaged error out of memory",
    "error 2 out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "cudaErrorMemoryAllocation",
    "out_of_memory",
)
"""A lack of device memory in the words of FAISS, cuBLAS and cuVS; their errors have no type of their own for it."""


class Unfit(Exception):
    """The vectors or the queries cannot be held on the device in the way that was chosen; the text says why."""


class DeviceFull(Unfit):
    """Not even one query fits, or not the vectors themselves."""


def is_full(error: BaseException) -> bool:
    """Whether ``error`` says that memory ran out.  Any other error is a defect that less work would only hide."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in SAID)


class Batches:
    """How many queries go to the device together: all, until memory runs out; from then on half of what did not fit."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._most: int | None = None

    @property
    def most(self) -> int | None:
        """Queries at once; None: no limit was met."""
        with self._lock:
            return self._most

    def search(self, search: Callable[[Floats], Hits], queries: Floats) -> Hits:
        """The hits of ``queries`` (Q, D), in as many calls as memory needs; other errors pass.

        Raises:
            DeviceFull: one query alone did not fit.
        """
        parts: list[Hits] = []
        at = 0
        while at < len(queries):
            size = min(self.most or len(queries), len(queries) - at)
            try:
                parts.append(search(queries[at : at + size]))
            except (RuntimeError, MemoryError) as error:
                if not is_full(error):
                    raise
                if size == 1:
                    raise DeviceFull(str(error)) from error
                with self._lock:
                    self._most = max(1, min(size // 2, self._most or size))
                continue
            at += size
        if len(parts) == 1:
            return parts[0]
        return Hits(np.concatenate([part.rows for part in parts]), np.concatenate([part.scores for part in parts]))
