"""Bytes that vector sets take on a GPU."""

from __future__ import annotations

from unabridged.index.dense.factory import STORES, Factory
from unabridged.index.dense.gpu.kinds import CAGRA, FLAT, IVF_PQ, Kind

MIB, GIB = 1 << 20, 1 << 30
TEMPORARY = ((4 * GIB, 512 * MIB), (8 * GIB, 1_024 * MIB))
"""Total memory of a GPU up to which FAISS takes that much for intermediate results."""
MOST_TEMPORARY = 1_536 * MIB
PINNED = 256 * MIB
"""Bytes of the machine's own memory that FAISS pins for copies to each GPU."""
MARGIN = 512 * MIB
"""Left free: cuBLAS takes memory of its own, and what does not fit the temporary part is allocated beside it."""
PAIR = 32
"""Rows of inverted lists lie in packs of this many."""
LIST_BYTES = 1_024
"""Of a list: two allocations, rounded up, and its place in the tables."""
GRAPH_DEGREE = 64
"""Edges of a row in a CAGRA graph, 4 bytes each."""
MOST_PART, LEAST_PART = 8 * GIB, 64 * MIB


def temporary_bytes(total: int) -> int:
    """What FAISS takes for intermediate results of a GPU with ``total`` bytes."""
    return next((size for limit, size in TEMPORARY if total <= limit), MOST_TEMPORARY)


def device_bytes(kind: Kind, factory: Factory | None, rows: int, dim: int, *, float16: bool) -> int:
    """Bytes of ``rows`` rows of width ``dim`` in an index of ``kind``, without what FAISS takes besides."""
    if kind.name == FLAT or factory is None:
        return rows * (dim * (2 if float16 else 4) + 4)  # a norm for each
    if kind.name == CAGRA:
        return rows * (4 * dim + 4 * GRAPH_DEGREE)
    width = factory.rotation if factory.rotation > 0 else dim
    code_bits = factory.subvectors * factory.bits if kind.name == IVF_PQ else width * STORES[factory.code]
    row = code_bits / 8 + 8
    lists = factory.nlist * (4 * width + 4 + LIST_BYTES + PAIR / 2 * row)
    tables = 4.0 * width * 2**factory.bits if factory.code == "PQ" else 0.0
    return round(rows * row + lists + tables)


def part_bytes(need: int, free: int) -> int:
    """Bytes of one part of flat vectors on a device where ``need`` of them shall lie.

    FAISS copies a part whenever rows are added to it, so filling one takes its size twice for a moment, and no copy
    may be larger than what stays free.
    """
    return max(LEAST_PART, min(MOST_PART, free - need))
