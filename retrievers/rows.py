"""Row arithmetic of an opened index: documents and segments are numbered through the shards in order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unabridged.contracts import Mask, Rows
from unabridged.index.shard import Shard


class RowMap:
    """Which segments belong to which document.  Arrays are built at first use: 8 bytes per document."""

    def __init__(self, shards: Sequence[Shard], documents: Sequence[int], segments: Sequence[int]) -> None:
        self._shards = list(shards)
        self._document_bases = np.concatenate([[0], np.cumsum(documents)]).astype(np.int64)
        self._segment_bases = np.concatenate([[0], np.cumsum(segments)]).astype(np.int64)
        self._starts: Rows | None = None

    @property
    def documents(self) -> int:
        """Documents in all shards, deleted ones included."""
        return int(self._document_bases[-1])

    @property
    def starts(self) -> Rows:
        """First segment row of every document, and the total at the end, (N + 1,) int64."""
        if self._starts is None:
            ends = [
                np.asarray(shard.array("segment_ends")) + base
                for shard, base in zip(self._shards, self._segment_bases, strict=False)
            ]
            self._starts = np.concatenate([np.zeros(1, np.int64), *ends])
        return self._starts

    def owners(self, segments: Rows) -> Rows:
        """The document row of each segment row."""
        return np.searchsorted(self.starts, segments, side="right").astype(np.int64) - 1

    def ranges(self, documents: Rows) -> tuple[Rows, Rows]:
        """All segment rows of some documents, packed: rows (S,) and offsets (B + 1,)."""
        first, last = self.starts[documents], self.starts[documents + 1]
        counts = last - first
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - first, counts)
        return rows.astype(np.int64), offsets

    def segment_mask(self, documents: Mask) -> Mask:
        """A mask over documents, widened to their segments."""
        return np.repeat(documents, np.diff(self.starts))

    def locate(self, document: int) -> tuple[Shard, int, int]:
        """Shard, row inside it, and segment base of the shard, for a document row."""
        number = int(np.searchsorted(self._document_bases, document, side="right")) - 1
        return self._shards[number], document - int(self._document_bases[number]), int(self._segment_bases[number])
