"""The files of one lexical folder.

Letters: V terms, P postings, S segments, N documents.

================== ================= ============================================================
meta.json                            counts, dtype of tf, analyzer settings
terms.bin          bytes             the sorted vocabulary, UTF-8, without separators
term_ends.npy      (V,) int64        end of each term in it
ends.npy           (V,) int64        end of each term's postings
rows.npy           (P,) uint32       segment of each posting, ascending within a term
tf.npy             (P,) uint8/16/32  how often; the smallest dtype that holds the largest
document_df.npy    (V,) uint32       documents that hold the term
segment_terms.npy  (S,) uint32       length of each segment in terms
documents.npy      (S,) uint32       document of each segment
document_terms.npy (N,) uint32       length of each document in terms
offsets.npy        (N + 1,) int64    segments of document d are offsets[d] to offsets[d + 1]
================== ================= ============================================================

Nothing in them depends on other folders, on time, or on how often the writer spilled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from unabridged.errors import ManifestMismatch
from unabridged.index.npy import HEADER, ArrayFile, map_array, map_bytes

FORMAT = "unabridged-lexical"
VERSION = 1

META = "meta.json"
TERMS = "terms.bin"
TERM_ENDS = "term_ends.npy"
ENDS = "ends.npy"
ROWS = "rows.npy"
TF = "tf.npy"
DOCUMENT_DF = "document_df.npy"
SEGMENT_TERMS = "segment_terms.npy"
DOCUMENTS = "documents.npy"
DOCUMENT_TERMS = "document_terms.npy"
OFFSETS = "offsets.npy"

RUNS = "runs"
WIDE_TF = "tf-wide.npy"
MOST_ROWS = 1 << 32
"""Segments one folder can number; more go into another folder."""


def create(path: Path, dtype: DTypeLike) -> ArrayFile:
    """An empty growing array, also where a file of an earlier attempt lies."""
    file = ArrayFile(path, dtype)
    file.cut(0)
    return file


def map_file(path: Path, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """A memory map of an array, refused unless it is whole and has this dtype and shape."""
    try:
        array = map_array(path)
    except (OSError, ValueError, EOFError) as error:
        raise ManifestMismatch(f"{path} is not a whole {dtype} array of shape {shape}: {error}") from error
    if array.dtype.name != dtype or array.shape != shape:
        raise ManifestMismatch(f"{path} holds {array.dtype} {array.shape}, expected {dtype} {shape}")
    size = path.stat().st_size
    if size != HEADER + array.nbytes:
        raise ManifestMismatch(f"{path} has {size} bytes, expected {HEADER + array.nbytes}")
    return array


def map_blob(path: Path, size: int) -> NDArray[np.uint8]:
    """A memory map of a file of exactly ``size`` bytes."""
    try:
        blob = map_bytes(path)
    except OSError as error:
        raise ManifestMismatch(f"{path} cannot be read: {error}") from error
    if len(blob) != size:
        raise ManifestMismatch(f"{path} has {len(blob)} bytes, expected {size}")
    return blob
