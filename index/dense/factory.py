"""FAISS factory strings as data: what a string builds, and how many bytes it will take.

Grammar (the part of it that we build and can plan for)::

    [OPQm[_d],] [IVFk[_HNSWm],] CODE [,Refine(STORE) | ,RFlat]        HNSWm[,STORE]
    CODE  = STORE | PQm[xb][np] | PQmx4fs | RaBitQ[b] | RaBitQfs
    STORE = Flat | SQ8 | SQ6 | SQ4 | SQfp16 | SQbf16
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from unabridged.errors import UsageError

PIECE_BYTES = 8 << 20
"""Bytes of codes that an inverted file collects in memory before they go to disk, at least."""

MOST_PIECES = 256
"""Pieces of one inverted file: all are open at once while they are joined, and systems allow about 1,000 files."""

POINTS_PER_CENTROID = 32
"""Training rows per list: the lower end of the usual 30 to 256, since k-means is most of the build."""

SQ_TRAINING = 65_536
"""Rows that scalar quantizers learn their range from, and RaBitQ its centre."""

STORES = {"Flat": 32.0, "SQ8": 8.0, "SQ6": 6.0, "SQ4": 4.0, "SQfp16": 16.0, "SQbf16": 16.0}
"""Store -> bits per dimension."""

_STORE = r"(?P<store>Flat|SQ8|SQ6|SQ4|SQfp16|SQbf16)"
_OPQ = re.compile(r"OPQ(?P<m>\d+)(?:_(?P<d>\d+))?")
_IVF = re.compile(r"IVF(?P<nlist>[1-9]\d*)(?:_HNSW(?P<m>\d+))?")
_HNSW = re.compile(rf"HNSW(?P<m>[1-9]\d*)(?:[,_]{_STORE})?")
_CODE = re.compile(rf"{_STORE}|PQ(?P<m>[1-9]\d*)(?:x(?P<bits>\d+))?(?P<tail>np|fs|fsr)?|RaBitQ(?P<rbits>[1-9]|fs)?")
_REFINE = re.compile(rf"RFlat|Refine\({_STORE}\)")


@dataclass(frozen=True, slots=True)
class Factory:
    """One parsed string.  Zero or empty means that the part is absent; ``code`` is one of Flat, SQ…, PQ, RaBitQ."""

    code: str
    bits: int = 0  # of PQ and RaBitQ, per sub-vector or per dimension
    subvectors: int = 0  # of PQ
    fast_scan: bool = False
    links: int = 0  # of an HNSW graph over the rows
    nlist: int = 0
    coarse_links: int = 0  # of an HNSW graph over the list centres
    rotation: int = 0  # width after OPQ, -1 for unchanged
    refine: str = ""
    text: str = ""

    @property
    def trained_on(self) -> int:
        """Rows needed at the very least: one per list, and one per codebook entry."""
        return max(self.nlist, 2**self.bits if self.code == "PQ" else 1)

    def train_points(self, rows: int) -> int:
        """Rows to train on out of ``rows``."""
        codebook = 64 * 2**self.bits if self.code == "PQ" else 0
        ranges = (
            SQ_TRAINING if self.code.startswith("SQ") or self.refine.startswith("SQ") or self.code == "RaBitQ" else 0
        )
        return min(rows, max(self.nlist * POINTS_PER_CENTROID, codebook, ranges if not self.nlist else 0))

    @property
    def streams(self) -> bool:
        """Whether the build needs memory for one piece only, and the file is mapped when it is opened."""
        return bool(self.nlist) and not self.fast_scan and not self.refine

    def code_bytes(self, dim: int) -> float:
        """Bytes of one row's code, links, id and refine copy."""
        width = self.rotation if self.rotation > 0 else dim
        if self.code == "PQ":
            size = float((self.subvectors * self.bits + 7) // 8)
        elif self.code == "RaBitQ":
            factors = 8 if self.bits == 1 else 20
            size = float((width + 7) // 8 + factors) if self.bits == 1 else (width * self.bits) / 8 + factors
        else:
            size = width * STORES[self.code] / 8
        size += 8.0 if self.nlist else 0.0
        size += 8.0 * self.links + 16.0 if self.links else 0.0
        return size + (dim * STORES[self.refine] / 8 if self.refine else 0.0)

    def overhead_bytes(self, dim: int) -> float:
        """Bytes that do not grow with the rows: centres, their graph, codebooks, list sizes and padding."""
        width = self.rotation if self.rotation > 0 else dim
        total = 4.0 * dim * width if self.rotation else 0.0
        total += self.nlist * (4.0 * width + 8.0)
        total += self.nlist * (8.0 * self.coarse_links + 16.0) if self.coarse_links else 0.0
        total += 4.0 * width * 2**self.bits if self.code == "PQ" else 8.0 * width
        if self.fast_scan:  # rows are packed by 32, so a list wastes half a pack on average
            packed = self.code_bytes(dim) - (dim * STORES[self.refine] / 8 if self.refine else 0.0)
            total += max(self.nlist, 1) * 16 * packed
        return total + 256.0

    def file_bytes(self, rows: int, dim: int) -> int:
        """Predicted size of the index file."""
        return round(rows * self.code_bytes(dim) + self.overhead_bytes(dim))

    def build_ram(self, rows: int, dim: int) -> int:
        """Predicted memory of the build beyond the interpreter: sample and its copy, centres, codes in memory."""
        sample = 2 * 4 * dim * self.train_points(rows)
        codes = rows * self.code_bytes(dim)
        held = 2 * piece_bytes(codes) if self.streams else 1.3 * codes
        return round(sample + 2 * self.overhead_bytes(dim) + held)


def piece_bytes(codes: float) -> int:
    """Bytes of a piece for ``codes`` bytes in all."""
    return max(PIECE_BYTES, math.ceil(codes / MOST_PIECES))


def parse(text: str, dim: int) -> Factory:
    """The parsed string, with ``np`` added to 8-bit product quantizers.

    Without ``np`` FAISS runs an annealing step of minutes whose result only other search modes use.

    Raises:
        UsageError: the string is outside the grammar above, or does not fit the width ``dim``.
    """
    graph = _HNSW.fullmatch(text)
    if graph:
        return Factory(code=graph["store"] or "Flat", links=int(graph["m"]), text=text)
    parts = text.split(",")
    rotation = _OPQ.fullmatch(parts[0])
    parts = parts[1:] if rotation else parts
    lists = _IVF.fullmatch(parts[0]) if parts else None
    parts = parts[1:] if lists else parts
    code = _CODE.fullmatch(parts[0]) if parts else None
    refine = _REFINE.fullmatch(parts[1]) if len(parts) == 2 else None
    if code is None or len(parts) > 2 or (len(parts) == 2 and refine is None):
        raise UsageError(_unknown(text))
    kind, bits, subvectors, fast = _code(code)
    width = int(rotation["d"] or -1) if rotation else 0
    _check_widths(text, dim if width <= 0 else width, kind, subvectors)
    written = f"PQ{subvectors}np" if kind == "PQ" and bits == 8 and not fast else parts[0]
    tail = [] if refine is None else [parts[1]]
    head = [part.group(0) for part in (rotation, lists) if part]
    return Factory(
        code=kind,
        bits=bits,
        subvectors=subvectors,
        fast_scan=fast,
        nlist=int(lists["nlist"]) if lists else 0,
        coarse_links=int(lists["m"] or 0) if lists else 0,
        rotation=width,
        refine=(refine["store"] or "Flat") if refine else "",
        text=",".join([*head, written, *tail]),
    )


def _code(match: re.Match[str]) -> tuple[str, int, int, bool]:
    """Kind, bits, sub-vectors and fast scan of one CODE."""
    if match["store"]:
        return match["store"], 0, 0, False
    if match["m"]:
        fast = (match["tail"] or "").startswith("fs")
        return "PQ", int(match["bits"] or 8), int(match["m"]), fast
    return "RaBitQ", int(match["rbits"]) if (match["rbits"] or "fs") != "fs" else 1, 0, match["rbits"] == "fs"


def _check_widths(text: str, width: int, kind: str, subvectors: int) -> None:
    if kind == "PQ" and width % subvectors:
        fits = [m for m in range(1, width + 1) if width % m == 0]
        raise UsageError(f"{text!r}: {subvectors} sub-vectors do not divide width {width}, expected one of {fits}")


def _unknown(text: str) -> str:
    return (
        f"found recipe {text!r}, expected auto, flat, hnsw, ivf, ivf-sq8, ivf-pq, rabitq, or a FAISS factory "
        "string such as HNSW32, IVF1024,SQ8, IVF1024,PQ48np,Refine(SQ8) or IVF1024_HNSW32,RaBitQfs,Refine(SQ8)"
    )
