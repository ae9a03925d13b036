"""Blocks as what :mod:`unabridged.training.retriever` draws from: the tokens of a text are the numbers of its blocks.

Letters::

    N texts     S their blocks, packed
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unabridged.contracts import Rows
from unabridged.training.sea.data import PairTexts
from unabridged.training.shelf import Shelf


@dataclass(frozen=True)
class BlockShelf(Shelf):
    """N texts; text n is blocks ``offsets[n]:offsets[n + 1]``."""

    sizes: Rows  # (N,) what a text costs: its blocks, or the tokens of all of them

    @property
    def lengths(self) -> Rows:
        """What each text costs, ``(N,)``."""
        return self.sizes

    def packed(self, rows: Rows) -> tuple[Rows, Rows]:
        """Numbers of the blocks of ``rows`` one text after another, and the offsets of the texts."""
        counts = np.diff(self.offsets)[rows]
        offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
        blocks: Rows = np.repeat(self.offsets[rows] - offsets[:-1], counts) + np.arange(offsets[-1])
        return blocks, offsets

    @classmethod
    def of(cls, data: PairTexts, offsets: Rows, sizes: Rows | None = None) -> BlockShelf:
        """The texts of ``data`` with the blocks that ``offsets`` ``(N + 1,)`` gives them."""
        blocks = int(offsets[-1])
        return cls(
            folder=Path(),
            ids=np.arange(blocks, dtype=np.int32),
            offsets=offsets,
            places=np.zeros(len(data) + 1, dtype=np.int64),
            roles=data.roles,
            queries=data.queries,
            positives=data.positives,
            negatives=data.negatives,
            lone=np.zeros(0, dtype=np.int64),
            facts={"digest": data.digest},
            sizes=np.diff(offsets) if sizes is None else sizes,
        )
