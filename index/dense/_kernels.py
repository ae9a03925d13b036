"""Scores of queries against rows: thin wrappers over the C++ kernels of FAISS, on memory that numpy owns.

Every score is computed pair by pair, in one order of summation, so that it has the same bits alone, in a
batch, in any block and in any shard.  Higher is better everywhere: the inner product, or minus the squared
distance.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import NO_HIT, Floats, Hits, Mask, Rows
from unabridged.errors import ShapeError, UsageError
from unabridged.index.dense._faiss import load_faiss, threads

Bits = NDArray[np.uint8]


class Metric(str, Enum):
    """How two vectors are compared."""

    IP = "ip"
    L2 = "l2"


def as_metric(name: str) -> Metric:
    """The metric of that name; :class:`UsageError` lists the names otherwise."""
    try:
        return Metric(name)
    except ValueError:
        raise UsageError(f"found metric {name!r}, expected one of {[m.value for m in Metric]}") from None


def faiss_metric(metric: Metric) -> int:
    """The number that FAISS has for ``metric``."""
    faiss = load_faiss()
    return int(faiss.METRIC_INNER_PRODUCT if metric is Metric.IP else faiss.METRIC_L2)


def check_queries(queries: Any, dim: int | None, k: int) -> Floats:
    """Queries as contiguous (Q, D) float32; float64 and float16 are cast.

    Raises:
        ShapeError: not two-dimensional, not floating, another width, NaN or infinite (also after the cast).
        UsageError: ``k`` is below 1.
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise UsageError(f"k must be a whole number of at least 1, found {k!r}")
    array = np.asarray(queries)
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
        raise ShapeError(f"queries must be (Q, D) floating, found shape {array.shape} of {array.dtype}")
    if dim is not None and array.shape[1] != dim:
        raise ShapeError(f"queries have width {array.shape[1]}, the index has {dim}: encode them with its own encoder")
    with np.errstate(over="ignore"):
        floats = np.ascontiguousarray(array, dtype=np.float32)
    if not bool(np.isfinite(floats).all()):
        bad = int(np.flatnonzero(~np.isfinite(floats).all(axis=1))[0])
        raise ShapeError(f"query {bad} holds NaN or infinite values, expected finite float32")
    return floats


def wrapped(index: Any) -> list[Any]:
    """A FAISS index and what it wraps, outermost first, each in its own class."""
    faiss = load_faiss()
    found = [faiss.downcast_index(index)]
    while True:
        last = found[-1]
        if isinstance(last, faiss.IndexPreTransform):
            found.append(faiss.downcast_index(last.index))
        elif isinstance(last, faiss.IndexRefine):
            found.append(faiss.downcast_index(last.base_index))
        else:
            return found


def pack(allow: Mask) -> Bits:
    """A bitmap of ``allow``, lowest bit first, as the selectors of FAISS read it."""
    return np.packbits(allow, bitorder="little")


def selector(bits: Bits) -> Any:
    """A row selector over ``bits``; the caller keeps ``bits`` alive as long as it is in use."""
    faiss = load_faiss()
    return faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))


def knn(queries: Floats, block: Floats, k: int, metric: Metric, allow: Mask | None = None) -> Hits:
    """The best ``k`` rows of one block, without a copy of it: (Q, k), rows counted from the block's start.

    The scores are right at ties, the choice of rows at the cut is not: of equal scores the kernel keeps
    whichever its heap holds.  :class:`~unabridged.index.dense.exact.ExactVectors` settles that.
    """
    faiss = load_faiss()
    scores = np.empty((len(queries), k), dtype=np.float32)
    rows = np.empty((len(queries), k), dtype=np.int64)
    bits = None if allow is None else pack(allow)
    chosen = None if bits is None else selector(bits)
    shape = (block.shape[1], len(queries), len(block), k)
    pointers = [faiss.swig_ptr(array) for array in (queries, block, scores, rows)]
    if metric is Metric.IP:
        faiss.knn_inner_product(*pointers[:2], *shape, *pointers[2:], chosen)
    else:
        faiss.knn_L2sqr(*pointers[:2], *shape, *pointers[2:], None, chosen)
        np.negative(scores, out=scores)
    scores[rows < 0] = -np.inf
    return Hits(rows, scores)


def pairs(queries: Floats, block: Floats, rows: Rows, metric: Metric) -> Floats:
    """Scores of chosen rows: (Q, K) for ``rows`` (Q, K) of the block, -inf where a row is negative."""
    faiss = load_faiss()
    ids = np.ascontiguousarray(rows, dtype=np.int64)
    out = np.empty(ids.shape, dtype=np.float32)
    kernel = faiss.fvec_inner_products_by_idx if metric is Metric.IP else faiss.fvec_L2sqr_by_idx
    pointers = [faiss.swig_ptr(array) for array in (out, queries, block, ids)]
    with threads(1):  # a team of idle threads costs more than these few products
        kernel(*pointers, block.shape[1], len(queries), ids.shape[1])
    if metric is Metric.L2:
        np.negative(out, out=out)
    out[ids < 0] = -np.inf
    return out


def rank(rows: Rows, scores: Floats, k: int) -> Hits:
    """The first ``k`` of each line by (-score, row); padded with ``NO_HIT`` and -inf to width ``k``."""
    order = np.lexsort((rows, -scores), axis=-1)[:, :k]
    short = k - order.shape[1]
    line = np.arange(len(order))[:, None]  # half the time of take_along_axis at these sizes
    best, values = rows[line, order], scores[line, order]
    if short:
        best = np.pad(best, ((0, 0), (0, short)), constant_values=NO_HIT)
        values = np.pad(values, ((0, 0), (0, short)), constant_values=-np.inf)
    return Hits(best, values)
