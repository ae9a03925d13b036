"""What an index holds already: documents by id, texts by content.

Both look-ups are sorted arrays of 64-bit hashes (16 bytes per document each), checked against the stored
string or the full 16-byte key, so a hash collision costs a comparison and never an answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Mask, Rows
from unabridged.index.pieces import Piece
from unabridged.index.shard import Record, Shard, id_hash


class Known:
    """The documents of some shards, numbered through them in order.  ``alive`` (N,) bool leaves out deleted ones."""

    def __init__(self, shards: Sequence[Shard], alive: Mask | None = None) -> None:
        self.shards = list(shards)
        sizes = [len(shard.array("keys")) for shard in self.shards]
        self.bases: Rows = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.alive: Mask = np.ones(len(self), bool) if alive is None else np.array(alive, bool)
        self._ids, self._id_rows = self._sorted([np.asarray(s.array("id_hashes")) for s in self.shards])
        heads = [np.ascontiguousarray(np.asarray(s.array("keys"))[:, :8]).view(np.uint64).ravel() for s in self.shards]
        self._keys, self._key_rows = self._sorted(heads)

    def __len__(self) -> int:
        return int(self.bases[-1])

    @staticmethod
    def _sorted(parts: list[NDArray[np.uint64]]) -> tuple[NDArray[np.uint64], Rows]:
        values = np.concatenate(parts) if parts else np.zeros(0, np.uint64)
        order = np.argsort(values, kind="stable")
        return values[order], order.astype(np.int64)

    def locate(self, row: int) -> tuple[Shard, int]:
        """The shard of document ``row`` and its row inside it."""
        number = int(np.searchsorted(self.bases, row, side="right")) - 1
        return self.shards[number], row - int(self.bases[number])

    def _candidates(self, values: NDArray[np.uint64], rows: Rows, wanted: int) -> Rows:
        first = np.searchsorted(values, np.array([wanted], np.uint64), side="left")[0]
        last = np.searchsorted(values, np.array([wanted], np.uint64), side="right")[0]
        return rows[first:last]

    def find_ids(self, identifier: str) -> list[int]:
        """The rows of the living documents with this id, ascending.

        There is one at most in a committed index; a continued update has the old version and the staged one.
        """
        found = []
        for row in self._candidates(self._ids, self._id_rows, id_hash(identifier)).tolist():
            shard, local = self.locate(row)
            if self.alive[row] and shard.id(local) == identifier:
                found.append(row)
        return sorted(found)

    def find_key(self, key: bytes) -> int | None:
        """A row, living or not, whose text has this content key, or None."""
        head = int.from_bytes(key[:8], "little")
        for row in self._candidates(self._keys, self._key_rows, head):
            shard, local = self.locate(int(row))
            if shard.array("keys")[local].tobytes() == key:
                return int(row)
        return None

    def record(self, row: int) -> Record:
        """The stored record of document ``row``."""
        shard, local = self.locate(row)
        return shard.record(local)

    def same(self, row: int, record: Record) -> bool:
        """Whether document ``row`` has the text and the metadata of ``record``."""
        shard, local = self.locate(row)
        return shard.array("keys")[local].tobytes() == record.key and shard.metadata(local) == record.metadata

    def piece(self, row: int) -> Piece:
        """The stored encoder result of document ``row``."""
        shard, local = self.locate(row)
        return shard.piece(local)
