"""Which kind of GPU index holds what a factory string builds, and what such an index refuses.

Facts of FAISS 1.15: GPUs have flat vectors, inverted files of flat, scalar-quantized or product-quantized codes, and
with cuVS the graph CAGRA.  There are no HNSW graphs, RaBitQ codes or fast-scan codes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from unabridged.index.dense.factory import Factory
from unabridged.index.dense.gpu.driver import SHARED

CLASSIC_LIMIT = 2_048
"""Most hits per query, and most lists visited by one, of FAISS's own GPU code."""
CUVS_LIMIT = 16_384
"""Likewise of cuVS."""
CAGRA_LIMIT = 512
"""Most hits per query of CAGRA: rows kept in sight beyond that change the way it searches."""
CUVS_BITS = range(4, 9)
"""Bits per code of product quantizers that cuVS has; FAISS's own code has 8."""
PQ_CODES = (1, 2, 3, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96)
"""Bytes per code that FAISS's own code has kernels for."""
SQ_CODES = ("SQ8", "SQ6", "SQ4", "SQfp16")
"""Scalar quantizers that it has (bfloat16 is missing)."""

CPU, FLAT, IVF_FLAT, IVF_SQ, IVF_PQ, CAGRA = "cpu", "flat", "ivf-flat", "ivf-sq", "ivf-pq", "cagra"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of GPU index, or the CPU with the reason."""

    name: str
    reason: str = ""
    cuvs: bool = False
    half_tables: bool = False
    """Of product quantizers: look-up tables of float16, where those of float32 do not fit a block's shared memory."""

    @property
    def limit(self) -> int:
        """Most hits per query, and most lists visited by one; 0 on the CPU, which has none."""
        if self.name in (CPU, CAGRA):
            return 0 if self.name == CPU else CAGRA_LIMIT
        return CUVS_LIMIT if self.cuvs else CLASSIC_LIMIT


def kind_of(factory: Factory | None, dim: int, *, cuvs: bool = False, shared: int = SHARED, graph: str = "") -> Kind:
    """The kind for the index of ``factory`` (None: exact search of the vectors), of rows of width ``dim``.

    ``cuvs``: whether FAISS has it.  Its code is used only for what FAISS's own cannot hold, since it trains and rounds
    in other ways.  ``shared`` is the shared memory of a block in bytes, ``graph`` what a graph's file was built by.
    Codes without lists are held as flat vectors: those that are stored lose nothing, and a scan of them is as fast.
    """
    if factory is None:
        return Kind(FLAT)
    if factory.links:
        if graph == CAGRA and cuvs:
            return Kind(CAGRA, cuvs=True)
        return Kind(CPU, "HNSW graphs are not implemented on GPUs" if graph != CAGRA else "CAGRA needs FAISS with cuVS")
    if factory.fast_scan:
        return Kind(CPU, "fast-scan codes are not implemented on GPUs")
    if factory.code == "RaBitQ":
        return Kind(CPU, "RaBitQ codes are not implemented on GPUs")
    if not factory.nlist:
        return Kind(FLAT)
    if factory.code == "Flat":
        return Kind(IVF_FLAT)
    width = factory.rotation if factory.rotation > 0 else dim
    if factory.code == "PQ":
        return _product(factory, width, cuvs, shared)
    return _scalar(factory, width, shared)


def _scalar(factory: Factory, width: int, shared: int) -> Kind:
    if factory.code not in SQ_CODES:
        return Kind(CPU, f"codes {factory.code} are not implemented on GPUs, only {', '.join(SQ_CODES)}")
    widest = shared // 8 - 1  # two float32 of each dimension lie in shared memory
    if factory.code != "SQfp16" and width > widest:
        return Kind(CPU, f"{factory.code} on a GPU has at most {widest:,} dimensions, found {width:,}")
    return Kind(IVF_SQ)


def _product(factory: Factory, width: int, cuvs: bool, shared: int) -> Kind:
    if factory.bits == 8 and factory.subvectors in PQ_CODES:
        table = factory.subvectors * 256
        if 4 * table <= shared:
            return Kind(IVF_PQ)
        if 2 * table <= shared:
            return Kind(IVF_PQ, half_tables=True)
    if cuvs and factory.bits in CUVS_BITS and factory.bits * factory.subvectors % 8 == 0:
        return Kind(IVF_PQ, cuvs=True)
    fitting = [m for m in PQ_CODES if m * 512 <= shared and width % m == 0]
    return Kind(
        CPU,
        f"product quantizers on GPUs have 8 bits and one of {fitting} sub-vectors for width {width}, "
        f"found {factory.subvectors} of {factory.bits} bits" + ("" if cuvs else " (FAISS with cuVS has more)"),
    )


def refusal(kind: Kind, k: int, probes: int = 1) -> str:
    """Why the device cannot answer a call for ``k`` hits that visits ``probes`` lists; empty where it can."""
    for what, count in (("hits per query", k), ("lists visited", probes)):
        if count > kind.limit:
            return f"{count:,} {what} are more than the {kind.limit:,} of a GPU index: searched on the CPU"
    return ""


ALL_ARE_HITS = "every allowed row is a hit: scored on the CPU"
FEW_ALLOWED = "so few rows are allowed that these alone were scanned, on the CPU"
GONE = "what the filter allows was not among the nearest rows: searched on the CPU"
FULL = "the memory of the GPU was full for a single query: searched on the CPU"
"""Reasons that all kinds share."""

EXTRA = 32
"""Rows asked for beyond the wanted ones, at least, so that those with equal scores at the cut are seen."""


def to_ask(wanted: int, allowed: int, rows: int, *, spare: int = 0) -> int:
    """Rows to ask for so that ``wanted`` of them are likely among the ``allowed`` of ``rows``.

    The device knows nothing of filters: it is asked for more, and what is not allowed is dropped.  Two standard
    deviations of chance are added, as for rows allowed at random; whoever asks looks whether it was enough.
    """
    if allowed >= rows:
        return min(rows, wanted + spare)
    share = max(allowed, 1) / rows
    expected = (wanted + spare) / share
    return min(rows, math.ceil(expected + 2 * math.sqrt(expected * (1 - share) / share)))
