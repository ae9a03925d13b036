"""Rewrites an index without its deleted documents and in few shards; no text is encoded again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from unabridged.errors import UsageError
from unabridged.index.dense.gpu import checked
from unabridged.index.pieces import Piece, join
from unabridged.index.shard import Record, ShardWriter
from unabridged.manifest import check_hashes, load_manifest
from unabridged.retrievers.commit import commit
from unabridged.retrievers.lexical import write_lexical
from unabridged.retrievers.lock import locked
from unabridged.retrievers.staging import COMPACTION, Staging
from unabridged.retrievers.state import IndexState
from unabridged.retrievers.units import UNIT_CHARACTERS, UNIT_DOCUMENTS


def compact(folder: Path, *, index_device: str = "auto") -> dict[str, Any]:
    """Replaces the shards of ``folder`` by fresh ones with the living documents, in their order.

    The old index serves until the new manifest is in place; a kill before that leaves it as it was, and a
    second call continues.  The old files go with the next commit, so that open readers can finish.
    ``index_device`` may help to build an approximate index again, as in :func:`unabridged.retrievers.build.build`.

    Raises:
        MissingExtra, ResourceError: ``index_device`` asks for a GPU and there is none that FAISS can use.
        UsageError: there is an unfinished build to be finished first.
    """
    checked(index_device)
    with locked(folder):
        state = IndexState.from_manifest(load_manifest(folder))
        check_hashes(folder, state.files())
        unfinished = folder / "work" / "identity.json"
        if unfinished.is_file() and COMPACTION not in unfinished.read_text(encoding="utf-8"):
            raise UsageError(
                f"{folder} has an unfinished build; run its 'unabridged index' command until it is done, then compact"
            )
        alive = state.alive(folder)

        def writer(path: Path) -> ShardWriter:
            settings = state.settings
            return ShardWriter(path, level=settings.level, dim=state.passport.dim, dtype=settings.vector_dtype)

        staging = Staging(
            folder,
            f"{COMPACTION} {state.generation}",
            state.generation,
            writer,
            lambda path: write_lexical(path, state.settings),
        )
        try:
            done = sum(int(entry["documents"]) for entry in staging.finished) + staging.place()[1]
            _copy(state, folder, staging, np.flatnonzero(alive)[done:])
            staging.close_shard()
            emptied = IndexState(state.settings, state.passport, state.generation)
            kept = int(alive.sum())
            final = commit(folder, state, emptied, staging.finished, np.ones(kept, bool), index_device=index_device)
        except BaseException:
            staging.abandon()
            raise
        staging.remove()
    return {"documents": kept, "shards": len(final.shard_entries), "removed": int((~alive).sum())}


def _copy(state: IndexState, folder: Path, staging: Staging, rows: np.ndarray[Any, np.dtype[np.int64]]) -> None:
    """Appends documents ``rows`` of the old shards, in units that are durable one by one."""
    records: list[Record] = []
    pieces: list[Piece] = []
    characters = 0
    base = 0
    for shard, entry in zip(state.shards(folder), state.shard_entries, strict=True):
        size = int(entry["documents"])
        for row in rows[(rows >= base) & (rows < base + size)] - base:
            records.append(shard.record(int(row)))
            pieces.append(shard.piece(int(row)))
            characters += len(records[-1].source)
            if characters >= UNIT_CHARACTERS or len(records) >= UNIT_DOCUMENTS:
                staging.add_unit(records, join(pieces), [])
                records, pieces, characters = [], [], 0
        base += size
    if records:
        staging.add_unit(records, join(pieces), [])
