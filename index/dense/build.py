"""Builds the approximate base of a dense index: sample, train, add block by block, one file."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from unabridged.contracts import JSON, Floats, Rows
from unabridged.errors import DiskFull, RuntimeFailure, ShapeError, UsageError
from unabridged.index.dense._faiss import load_faiss, threads, training_kernels
from unabridged.index.dense._kernels import as_metric, faiss_metric, wrapped
from unabridged.index.dense._lists import PIECES, PieceWriter
from unabridged.index.dense.factory import Factory, parse, piece_bytes
from unabridged.index.dense.gpu.request import DeviceRequest, parse_device

if TYPE_CHECKING:  # recipe imports the grammar from this package
    from unabridged.index.dense.gpu.training import Help
    from unabridged.index.recipe import Recipe

FILE = "base.faiss"
"""Name of the one file inside the folder."""

CHUNK_ROWS = 16_384
"""Rows added at a time, whatever blocks come in: a graph depends on them, and equal data must give equal bytes."""

CODE_POINTS = 65_536
"""Rows that codes learn from at most: 256 for each of the 256 centres of a product quantizer's byte."""

HALF_LIMIT = 1e4
"""Largest absolute value that training rows are kept with as float16: half of their memory, which is most of a
build's.  Of 1,250 centres of 40,000 x 384 clustered rows half moved by less than 5e-5 of their length, nine tenths by
less than 1.1e-4, the farthest by 0.23: a row that changes its list near the end of k-means."""

DECODED_ROWS = 4096
"""Training rows that k-means turns back into float32 at once."""

LEARN_NOTHING = ("Flat", "SQfp16", "SQbf16")
"""Codes without a codebook or a range."""

Blocks = Callable[[], Iterator[Floats]]
Halves = NDArray[np.float16]


def build_base(  # noqa: PLR0913 - what decides the bytes, each by name
    blocks: Blocks,
    n: int,
    dim: int,
    recipe: Recipe,
    folder: Path,
    *,
    metric: str = "ip",
    seed: int = 0,
    workers: int = 1,
    device: str | DeviceRequest = "cpu",
) -> dict[str, JSON]:
    """Writes ``base.faiss`` into the existing ``folder`` and returns the facts that open it again.

    ``blocks()`` yields (n_i, D) float32 or float16 in row order, ``n`` rows in all, each time it is called
    (twice here).  Inverted files need memory for the sample and one piece, whatever ``n``; graphs and
    refined codes are built in memory (``recipe.build_ram`` bytes).  The facts and the bytes depend on data,
    recipe, seed and ``workers`` (threads) only: no time, no path.

    ``device`` (see :mod:`unabridged.index.dense.gpu.request`) finds centres and lists on a GPU.  The file is the
    CPU's, its bytes are not those of a build on the CPU, and the facts say what the GPU did, or why nothing.

    Raises:
        MissingExtra, ResourceError: ``device`` asks for a GPU and there is none that FAISS can use.
        ShapeError: blocks of another width, NaN or infinite values, or another number of rows than ``n``.
        UsageError: a flat recipe, or fewer rows than the recipe learns from.
        DiskFull, RuntimeFailure: no room left, or FAISS refused the data.
    """
    if recipe.is_flat:
        raise UsageError("a flat recipe has nothing to build: search the shards")
    plan = parse(recipe.factory, dim)
    if n < plan.trained_on:
        raise UsageError(f"{recipe.factory!r} learns from at least {plan.trained_on:,} rows, found {n:,}")
    path = folder / FILE
    task = _Task(blocks, n, dim, plan, metric, seed, workers, path)
    try:
        on_gpu = _built(task, parse_device(device))
    except RuntimeError as error:
        raise RuntimeFailure(f"FAISS could not build {recipe.factory!r} over {n:,} x {dim}: {error}") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull(
                f"no room left for the index in {folder}, about {recipe.build_disk:,} bytes needed"
            ) from error
        raise
    return {
        "factory": recipe.factory,
        "metric": as_metric(metric).value,
        "dim": dim,
        "rows": n,
        "file": FILE,
        "bytes": path.stat().st_size,
        "search": dict(recipe.search),
        "train_points": plan.train_points(n),
        "seed": seed,
        "workers": workers,
        "faiss": str(load_faiss().__version__),
        **on_gpu,
    }


@dataclass(frozen=True, slots=True)
class _Task:
    """What to build, from what, and where to."""

    blocks: Blocks
    n: int
    dim: int
    plan: Factory
    metric: str
    seed: int
    workers: int
    path: Path


def _built(task: _Task, device: DeviceRequest) -> dict[str, JSON]:
    """Writes the file and returns what a GPU did; on the CPU from the start where the GPU's memory does not suffice."""
    if device.kind == "cpu":
        _write(task, None)
        return {}
    from unabridged.index.dense.gpu.memory import is_full
    from unabridged.index.dense.gpu.training import help_for

    gpu = help_for(device, task.plan, task.n, task.dim)
    reason = gpu.reason
    if gpu.on is not None:
        try:
            _write(task, gpu)
            return gpu.as_facts()
        except (RuntimeError, MemoryError) as error:
            if not is_full(error) and device.is_forced:
                raise
            reason = f"the GPU gave up: {' '.join(str(error).split())}"
            for piece in task.path.parent.glob(PIECES):
                piece.unlink()
    _write(task, None)
    return {"built_on": "cpu", "built_on_reason": reason} if reason else {}


def _write(task: _Task, gpu: Help | None) -> None:
    """Samples, trains and adds, with the help of ``gpu`` where there is one."""
    plan = task.plan
    if gpu is not None and gpu.graphs:
        gpu.write_graph(_chunks(task.blocks, task.n, task.dim), task.n, plan, task.metric, task.path)
        return
    halves = bool(plan.nlist) and not plan.rotation
    kind = np.float16 if halves else np.float32
    sample = _sample(task.blocks, task.n, task.dim, plan.train_points(task.n), task.seed, kind)
    index = _trained(sample, plan.text, task.metric, task.seed, task.workers, gpu)
    del sample
    piece = piece_bytes(task.n * plan.code_bytes(task.dim))
    _fill(index, plan, _chunks(task.blocks, task.n, task.dim), task.path, task.workers, piece, gpu)


def _trained(
    sample: Floats | Halves, factory: str, metric: str, seed: int, workers: int, gpu: Help | None = None
) -> Any:
    """An empty index that has learned from ``sample`` (T, D)."""
    faiss = load_faiss()
    index = faiss.index_factory(sample.shape[1], factory, faiss_metric(as_metric(metric)))
    inner = wrapped(index)
    _kept = [_seed(part, seed) for part in inner]  # FAISS holds bare pointers to some of these
    with training_kernels(), threads(workers):
        ivf = next((part for part in inner if isinstance(part, faiss.IndexIVF)), None)
        rotated = any(isinstance(part, faiss.IndexPreTransform) for part in inner)
        if ivf is not None and not rotated:
            _train_lists(ivf, sample, gpu)
            learns = parse(factory, sample.shape[1]).code not in LEARN_NOTHING
            sample = sample[: CODE_POINTS if learns else 1]  # of the residuals that codes learn from FAISS makes a copy
        if len(sample):
            index.train(np.asarray(sample, np.float32))
    return index


def _seed(part: Any, seed: int) -> Any:
    """Fixes all random choices of one part, and silences warnings about sizes that the recipe has checked.

    What is returned must live until the training is over: FAISS keeps bare pointers.
    """
    faiss = load_faiss()
    for owner in (part, getattr(part, "pq", None)):
        clustering = getattr(owner, "cp", None)
        if clustering is not None:
            clustering.seed = seed
            clustering.min_points_per_centroid = 1
    for graph in (part, faiss.downcast_index(part.quantizer) if isinstance(part, faiss.IndexIVF) else None):
        if isinstance(graph, faiss.IndexHNSW):
            graph.hnsw.rng = faiss.RandomGenerator(seed)
    if not isinstance(part, faiss.IndexPreTransform):
        return None
    return _seed_rotation(faiss.downcast_VectorTransform(part.chain.at(0)), seed)


def _seed_rotation(rotation: Any, seed: int) -> Any:
    """Gives OPQ a quantizer of our own to train with: its default one cannot be told to be quiet."""
    faiss = load_faiss()
    quantizer = faiss.ProductQuantizer(rotation.d_out, rotation.M, 8)
    quantizer.cp.seed = seed
    quantizer.cp.min_points_per_centroid = 1
    rotation.pq = quantizer
    return quantizer


def _train_lists(ivf: Any, sample: Floats | Halves, gpu: Help | None = None) -> None:
    """Finds the centres with k-means; a graph over them is linked with one thread, else it is not repeatable."""
    faiss = load_faiss()
    clustering = faiss.Clustering(ivf.d, ivf.nlist, ivf.cp)
    centres = faiss.IndexFlat(ivf.d, ivf.metric_type) if gpu is None else gpu.centres(ivf.d, ivf.metric_type)
    with nullcontext() if gpu is None else gpu.alone():
        if sample.dtype == np.float16:
            clustering.decode_block_size = DECODED_ROWS
            codec = faiss.IndexScalarQuantizer(ivf.d, faiss.ScalarQuantizer.QT_fp16)
            clustering.train_encoded(np.ascontiguousarray(sample).view(np.uint8), codec, centres)
        else:
            clustering.train(sample, centres)
    with threads(1):
        ivf.quantizer.add(faiss.vector_to_array(clustering.centroids).reshape(ivf.nlist, ivf.d))


def _fill(
    index: Any,
    plan: Factory,
    chunks: Iterator[Floats],
    path: Path,
    workers: int,
    piece: int,
    gpu: Help | None = None,
) -> None:
    """Adds all rows in order, under their own numbers, and writes the file.

    The training kernels find the lists of 1,000,000 rows several times faster.
    """
    faiss = load_faiss()
    with training_kernels(), threads(1 if plan.links else workers):
        if not plan.streams:
            for chunk in chunks:
                index.add(chunk)
            faiss.write_index(index, str(path))
            return
        make = PieceWriter if gpu is None else gpu.writer
        writer, start = make(index, path.parent, piece), 0
        for chunk in chunks:
            writer.add(chunk, np.arange(start, start + len(chunk), dtype=np.int64))
            start += len(chunk)
        writer.finish(path)


def _chunks(blocks: Blocks, n: int, dim: int) -> Iterator[Floats]:
    """The same rows in chunks of CHUNK_ROWS, checked: (n_i, D) finite float32, ``n`` in all."""
    held: list[Floats] = []
    waiting = seen = 0
    for block in blocks():
        if block.ndim != 2 or block.shape[1] != dim:
            raise ShapeError(f"block at row {seen} has shape {block.shape}, expected (rows, {dim})")
        if not bool(np.isfinite(block).all()):
            raise ShapeError(f"the block at row {seen} holds NaN or infinite values, expected finite ones")
        seen += len(block)
        at = 0
        while at < len(block):
            part = block[at : at + CHUNK_ROWS - waiting]
            held.append(np.asarray(part, dtype=np.float32))
            at, waiting = at + len(part), waiting + len(part)
            if waiting == CHUNK_ROWS:
                yield _joined(held)
                held, waiting = [], 0
    if waiting:
        yield _joined(held)
    if seen != n:
        raise ShapeError(f"the blocks hold {seen:,} rows, expected {n:,}")


def _joined(parts: list[Floats]) -> Floats:
    return np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts))


def _sample(blocks: Blocks, n: int, dim: int, points: int, seed: int, kind: DTypeLike = np.float32) -> Floats | Halves:
    """About ``points`` of ``n`` rows, (T, D), chosen by the hash of their number: never just the first ones.

    At least one row per list is there: with 30 rows asked for each, the count strays by far less.  They are kept
    as ``kind``, or as float32 from the first value on that float16 cannot hold.
    """
    if not points:
        return np.empty((0, dim), dtype=np.float32)
    most = min(n, int(1.05 * points) + CHUNK_ROWS)
    picked: Any = np.empty((most, dim), dtype=kind)  # pages that stay empty cost nothing
    start = count = 0
    limit = np.uint64(2**64 - 1 if points >= n else int(points / n * 2**64) - 1)
    for chunk in _chunks(blocks, n, dim):
        chosen = row_hash(np.arange(start, start + len(chunk), dtype=np.int64), seed) <= limit
        rows = chunk[chosen][: len(picked) - count]
        if picked.dtype == np.float16 and len(rows) and float(np.abs(rows).max()) > HALF_LIMIT:
            picked = picked.astype(np.float32)
        picked[count : count + len(rows)] = rows
        start, count = start + len(chunk), count + len(rows)
    sample: Floats | Halves = picked[:count]
    return sample


def row_hash(rows: Rows, seed: int) -> NDArray[np.uint64]:
    """A 64-bit hash of row numbers (n,): the finalizer of SplitMix64 (Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):
        state = rows.astype(np.uint64) + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed: NDArray[np.uint64] = state ^ (state >> np.uint64(31))
    return mixed
