"""One commit: dense structures, deletions and the manifest become visible at one instant."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from unabridged.contracts import Mask
from unabridged.files import TEMPORARY_SUFFIX, sync_folder, write_atomic
from unabridged.manifest import save_manifest
from unabridged.retrievers.dense import refresh_bases
from unabridged.retrievers.state import IndexState
from unabridged.retrievers.verified import mark_verified

RECORDED = (
    "unabridged",
    "numpy",
    "faiss-cpu",
    "faiss-gpu",
    "faiss-gpu-cuvs",
    "torch",
    "transformers",
    "tokenizers",
    "bm25s",
)
"""Packages whose versions a manifest records."""


def commit(
    folder: Path,
    before: IndexState | None,
    state: IndexState,
    staged: Sequence[Mapping[str, Any]],
    alive: Mask,
    *,
    index_device: str = "cpu",
) -> IndexState:
    """Publishes staged shards and deletions and returns the new state; without any change it writes nothing.

    ``before`` is what the folder holds, ``state`` what this run starts from; ``alive`` covers the documents of
    ``state`` and then those of ``staged``.  Files that ``before`` needs stay until the next commit, for readers.
    ``index_device`` may help to build approximate indexes.
    """
    entries = (*state.shard_entries, *({**entry, "name": entry["shard"]} for entry in staged))
    entries = tuple({key: value for key, value in entry.items() if key != "shard"} for entry in entries)
    grown = replace(state, shard_entries=entries)
    grown = replace(grown, deleted=_save_deleted(folder, grown, alive))
    grown = replace(grown, dense=refresh_bases(folder, grown, alive, index_device))
    if before is not None and grown.content() == before.content():
        return before
    grown = replace(grown, generation=state.generation + 1, versions=_versions())
    save_manifest(folder, grown.as_manifest())
    clean(folder, [grown] if before is None else [before, grown])
    mark_verified(folder, grown)
    return grown


def _save_deleted(folder: Path, state: IndexState, alive: Mask) -> dict[str, Any] | None:
    """Writes the rows that are gone and returns the manifest's entry for them, with what they held."""
    rows = np.flatnonzero(~alive).astype(np.int64)
    if len(rows) == 0:
        return None
    totals = Counter({"documents": len(rows), "segments": 0, "tokens_total": 0, "tokens_seen": 0, "truncated": 0})
    base = 0
    for shard, entry in zip(state.shards(folder), state.shard_entries, strict=True):
        local = rows[(rows >= base) & (rows < base + entry["documents"])] - base
        ends = np.asarray(shard.array("segment_ends"))
        starts = np.concatenate([[0], ends[:-1]])
        totals["segments"] += int((ends[local] - starts[local]).sum())
        totals.update(shard.counts(local))
        base += int(entry["documents"])
    buffer = io.BytesIO()
    np.save(buffer, rows, allow_pickle=False)
    data = buffer.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    name = f"deleted/{digest[:32]}.npy"
    (folder / "deleted").mkdir(exist_ok=True)
    if not (folder / name).exists():
        write_atomic(folder / name, data)
    return {"file": name, "bytes": len(data), "sha256": digest, **totals}


def _versions() -> dict[str, str]:
    found = {}
    for package in RECORDED:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def clean(folder: Path, states: Sequence[IndexState]) -> None:
    """Deletes what none of some generations names: the new one, and the one that readers may have open."""
    shards = {str(entry["name"]) for state in states for entry in state.shard_entries}
    bases = {str(base["folder"]).partition("/")[2] for state in states for base in state.dense.values()}
    for kind, wanted in (("shards", shards), ("dense", bases)):
        for path in (folder / kind).glob("*"):
            if path.name not in wanted:
                shutil.rmtree(path, ignore_errors=True)
    kept = {Path(state.deleted["file"]).name for state in states if state.deleted is not None}
    for path in (folder / "deleted").glob("*"):
        if path.name not in kept:
            path.unlink(missing_ok=True)
    for path in folder.glob(f"*{TEMPORARY_SUFFIX}"):
        if not path.name.startswith("failed"):
            path.unlink(missing_ok=True)
    sync_folder(folder)
