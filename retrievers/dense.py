"""The approximate base of each vector set: when to build one, where it lives, what recall it reaches."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unabridged.contracts import NO_HIT, Floats, Hits, Mask, Rows
from unabridged.index.dense import DenseIndex, ExactVectors, FaissBase, build_base, needs_rebuild, tune
from unabridged.index.npy import map_array
from unabridged.index.recipe import Recipe, choose_recipe
from unabridged.index.shard import describe, shard_name
from unabridged.retrievers.state import SETS, IndexState
from unabridged.retrievers.vectors import read_blocks

RECALL_K = 10
NOISE = 0.3
RECALL_SAMPLE = 200
"""Stored vectors, chosen by a fixed stride, that stand in for queries when recall is measured at build time."""


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


def refresh_bases(folder: Path, state: IndexState, alive: Mask) -> dict[str, Mapping[str, Any]]:
    """The bases for the state that is about to be committed: kept where they still serve, built where not."""
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
        bases[name] = old if old is not None and serves else _build(folder, state, name, recipe)
    return bases


def _build(folder: Path, state: IndexState, name: str, recipe: Recipe) -> dict[str, Any]:
    paths, dim, dtype = set_paths(folder, state, name), state.passport.dim, state.settings.vector_dtype
    work = folder / "work" / f"dense-{name}"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    rows = set_rows(state, name)

    def blocks() -> Iterator[Floats]:
        return read_blocks(paths, dim, dtype)

    facts = build_base(blocks, rows, dim, recipe, work)
    facts, recall = measure(work, facts, paths, blocks, state.settings.recall_target)
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


def measure(
    work: Path, facts: Mapping[str, Any], paths: list[Path], blocks: Callable[[], Iterator[Floats]], target: float
) -> tuple[dict[str, Any], float]:
    """Search settings that reach the recall target on a sample of stored vectors, and the recall they reach.

    The truth is searched block by block over the files, so memory does not grow with the index.
    """
    index = DenseIndex(FaissBase.open(work, facts), ExactVectors([map_array(path) for path in paths]))
    queries = sample_queries(blocks, len(index))
    tuned = tune(index, queries, target, k=RECALL_K, truth=exact_top(queries, blocks, RECALL_K))
    return {**facts, "search": dict(tuned.search)}, round(tuned.recall, 4)


def sample_queries(blocks: Callable[[], Iterator[Floats]], rows: int) -> Floats:
    """Stored vectors at a fixed stride, each moved by noise of 0.3 of its length so that it is not its own answer."""
    wanted: Rows = np.unique(np.linspace(0, rows - 1, min(RECALL_SAMPLE, rows)).astype(np.int64))
    parts, base = [], 0
    for block in blocks():
        local = wanted[(wanted >= base) & (wanted < base + len(block))] - base
        parts.append(block[local])
        base += len(block)
    vectors = np.concatenate(parts)
    noise = np.random.default_rng(0).standard_normal(vectors.shape).astype(np.float32)
    noise *= NOISE * np.linalg.norm(vectors, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors + noise, np.float32)


def exact_top(queries: Floats, blocks: Callable[[], Iterator[Floats]], k: int) -> Hits:
    """The exact top ``k`` rows by inner product, (Q, k), holding one block at a time."""
    rows = np.full((len(queries), 0), NO_HIT, np.int64)
    scores = np.zeros((len(queries), 0), np.float32)
    base = 0
    for block in blocks():
        hits = ExactVectors([block]).search(queries, k)
        rows = np.hstack([rows, np.where(hits.rows == NO_HIT, NO_HIT, hits.rows + base)])
        scores = np.hstack([scores, hits.scores])
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        rows, scores = np.take_along_axis(rows, best, 1), np.take_along_axis(scores, best, 1)
        base += len(block)
    return Hits(rows, scores)


def open_dense(folder: Path, state: IndexState) -> tuple[DenseIndex | None, DenseIndex | None]:
    """The dense indexes over segments and over documents, mapped; None for a set that the level does not keep."""
    opened = {name: _open_set(folder, state, name) for name in kept_sets(state)}
    return opened.get("segments"), opened.get("documents")


def _open_set(folder: Path, state: IndexState, name: str) -> DenseIndex:
    entry = state.dense.get(name)
    base = None if entry is None else FaissBase.open(folder / entry["folder"], entry["facts"])
    return DenseIndex(base, ExactVectors([map_array(path) for path in set_paths(folder, state, name)]))
