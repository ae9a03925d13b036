"""The approximate base of each vector set: when to build one, where it lives, what recall it reaches."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unabridged.contracts import Floats, Mask
from unabridged.index.dense import DenseIndex, ExactVectors, FaissBase, build_base, needs_rebuild
from unabridged.index.dense.gpu import DeviceRequest, placed
from unabridged.index.npy import map_array
from unabridged.index.recipe import Recipe, choose_recipe
from unabridged.index.shard import describe, shard_name
from unabridged.memory import give_back
from unabridged.retrievers.measuring import RECALL_SAMPLE, measure
from unabridged.retrievers.state import SETS, IndexState
from unabridged.retrievers.vectors import read_blocks


def machine_ram() -> int:
    """Physical memory in bytes (8 GiB where the system does not say): a fixed fact, so that recipes do not vary."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 << 30


def set_rows(state: IndexState, name: str) -> int:
    """Rows of a vector set over all shards."""
    return state.segment_rows if name == "segments" else state.rows


def set_paths(folder: Path, state: IndexState, name: str) -> list[Path]:
    """The vector files of a set, in row order."""
    return [folder / "shards" / entry["name"] / f"{name}.npy" for entry in state.shard_entries]


def kept_sets(state: IndexState) -> list[str]:
    """The vector sets that the level of the index keeps."""
    level = state.settings.level
    return [name for name, kept in zip(SETS, (level.has_segments, level.has_documents), strict=True) if kept]


def recipe_of(state: IndexState, folder: Path, name: str) -> Recipe:
    """The recipe for a set at its present size, a pure function of sizes, settings and the machine."""
    return choose_recipe(
        state.settings.recipe,
        n=set_rows(state, name),
        dim=state.passport.dim,
        ram_bytes=machine_ram(),
        disk_bytes=shutil.disk_usage(folder).total,
        recall_target=state.settings.recall_target,
    )


def refresh_bases(folder: Path, state: IndexState, alive: Mask, device: str = "cpu") -> dict[str, Mapping[str, Any]]:
    """The bases for the state that is about to be committed: kept where they still serve, built where not.

    ``device`` may help to build them (:func:`unabridged.index.dense.build.build_base`).
    """
    bases: dict[str, Mapping[str, Any]] = {}
    for name in kept_sets(state):
        recipe = recipe_of(state, folder, name)
        if recipe.is_flat:
            continue
        old = state.dense.get(name)
        dead = int((~alive).sum())
        names = [entry["name"] for entry in state.shard_entries]
        serves = (
            old is not None
            and old["request"] == state.settings.recipe
            and list(old["shards"]) == names[: len(old["shards"])]
            and not needs_rebuild(int(old["rows"]), set_rows(state, name), dead)
        )
        if old is not None and serves:
            bases[name] = old
        elif name == "documents" and "segments" in bases and state.rows == state.segment_rows:
            bases[name] = bases["segments"]  # every document is one segment: both sets are the same vectors
        else:
            bases[name] = _build(folder, state, name, recipe, device)
    return bases


def _build(folder: Path, state: IndexState, name: str, recipe: Recipe, device: str) -> dict[str, Any]:
    paths, dim, dtype = set_paths(folder, state, name), state.passport.dim, state.settings.vector_dtype
    work = folder / "work" / f"dense-{name}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    rows = set_rows(state, name)

    def blocks() -> Iterator[Floats]:
        return read_blocks(paths, dim, dtype)

    give_back()
    facts = build_base(blocks, rows, dim, recipe, work, device=device)
    give_back()
    facts, recall = measure(work, facts, paths, blocks, dtype, state.settings.recall_target)
    files = describe(work)
    target = folder / "dense" / shard_name(files)
    target.parent.mkdir(exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    work.rename(target)
    return {
        "folder": f"dense/{target.name}",
        "request": state.settings.recipe,
        "rows": rows,
        "shards": [entry["name"] for entry in state.shard_entries],
        "facts": facts,
        "files": files,
        "recall_at_10": recall,
        "recall_sample": min(RECALL_SAMPLE, rows),
    }


def open_dense(
    folder: Path, state: IndexState, device: str | DeviceRequest = "cpu"
) -> tuple[DenseIndex | None, DenseIndex | None]:
    """The dense indexes over segments and over documents, mapped; None for a set that the level does not keep.

    Each lies where ``device`` says, as far as it fits there.
    """
    opened = {}
    for name in kept_sets(state):
        graph = str(state.dense[name]["facts"].get("graph", "")) if name in state.dense else ""
        opened[name] = placed(_open_set(folder, state, name), device, name=name, graph=graph)
    return opened.get("segments"), opened.get("documents")


def _open_set(folder: Path, state: IndexState, name: str) -> DenseIndex:
    entry = state.dense.get(name)
    base = None if entry is None else FaissBase.open(folder / entry["folder"], entry["facts"])
    return DenseIndex(base, ExactVectors([map_array(path) for path in set_paths(folder, state, name)]))
