"""Rows of an opened index and keys of an engine, one into the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unabridged.contracts import NO_HIT, Mask, Rows
from unabridged.errors import BackendMismatch
from unabridged.index.backends import Recorded, SearchBackend
from unabridged.index.backends.contract import SHARD_BITS, VectorSet
from unabridged.index.dense import ExactVectors
from unabridged.index.npy import map_array
from unabridged.retrievers.dense import set_paths
from unabridged.retrievers.opened import Index


@dataclass(frozen=True, slots=True)
class EngineRows:
    """Which row of the index each key of the engine is."""

    numbers: Rows  # (shards,) of the engine, ascending
    documents: Rows  # (shards,) first document row of each
    segments: Rows  # (shards,) first segment row of each
    alive: Mask | None  # (N,) documents that the engine holds; None: all
    index: Index

    @classmethod
    def of(cls, index: Index, backend: SearchBackend, recorded: Recorded | None = None) -> EngineRows:
        """The map for an index whose shards are all loaded.

        Raises:
            BackendMismatch: some are not.
        """
        known = recorded or backend.recorded()
        entries = index.state.shard_entries
        if known is None or any(entry["name"] not in known.shards for entry in entries):
            raise BackendMismatch(f"{backend.shown} lacks shards of {index.folder}; run 'unabridged index' again")
        numbers = np.array([known.shards[entry["name"]].number for entry in entries], np.int64)
        bases = [
            np.concatenate([[0], np.cumsum([entry[kind] for entry in entries])]).astype(np.int64)[:-1]
            for kind in ("documents", "segments")
        ]
        order = np.argsort(numbers)
        return cls(numbers[order], bases[0][order], bases[1][order], index.searched, index)

    def to_index(self, which: VectorSet, keys: Rows) -> Rows:
        """Rows of the index for keys, of any shape; ``NO_HIT`` stays, and is what an unknown shard's key becomes."""
        if not len(self.numbers):
            return np.full(keys.shape, NO_HIT, np.int64)
        shards = keys >> SHARD_BITS
        at = np.minimum(np.searchsorted(self.numbers, shards), len(self.numbers) - 1)
        known = (keys >= 0) & (self.numbers[at] == shards)
        bases = self.segments if which == "segments" else self.documents
        rows: Rows = np.where(known, bases[at] + (keys & ((1 << SHARD_BITS) - 1)), NO_HIT)
        return rows

    def living(self, which: VectorSet) -> Mask:
        """The rows that the engine holds, (N,) bool."""
        alive = np.ones(self.index.rows.documents, bool) if self.alive is None else self.alive
        return self.index.rows.segment_mask(alive) if which == "segments" else alive


def stored_vectors(index: Index, which: VectorSet) -> ExactVectors:
    """The vectors of a set as the folder holds them, mapped."""
    return ExactVectors([map_array(path) for path in set_paths(index.folder, index.state, which)])
