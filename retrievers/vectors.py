"""The vectors of an index, read in blocks: sequential reads keep a build's memory flat where a map would not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from unabridged.contracts import Floats
from unabridged.index.npy import HEADER

BLOCK_ROWS = 8192
"""Rows read at a time: 12 MB at 384 dimensions."""


def read_blocks(paths: Sequence[Path], dim: int, dtype: str) -> Iterator[Floats]:
    """The rows of some ``.npy`` files of one width, in order, as float32 blocks."""
    kind = np.dtype(dtype)
    for path in paths:
        with path.open("rb") as file:
            file.seek(HEADER)
            while True:
                block = np.fromfile(file, kind, BLOCK_ROWS * dim)
                if block.size == 0:
                    break
                yield block.reshape(-1, dim).astype(np.float32, copy=False)
