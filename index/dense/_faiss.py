"""The one module that imports FAISS, and the only one that touches its process-wide settings."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from importlib import metadata, util
from typing import Any

from unabridged.contracts import JSON
from unabridged.errors import MissingExtra, RuntimeFailure, UsageError, ValidationError

WHEELS = (
    "faiss-cpu",
    "faiss-gpu",
    "faiss-gpu-cuvs",
    "faiss-gpu-cu11",
    "faiss-gpu-cu12",
    "faiss-gpu-cu12-cuvs",
    "faiss-gpu-cu13-cuvs",
    "faiss-cuda",
)
"""Distributions that all install a module named ``faiss``; two of them overwrite each other's files."""

MINIMUM = (1, 15)
"""Readers before 1.15 crash on some damaged files instead of raising."""

BLAS_THRESHOLD = 20
"""Queries from which training uses BLAS; the wheels say 128,000, which trains about nine times slower."""

BLAS_BLOCK = 1024
"""Training rows compared with the centres at once; the wheels say 4,096, a table of 16 MiB.  1,250
centres of 40,000 x 384 rows took 2.0 s with either."""

SMALL_WORK = 1 << 26
"""Multiply-adds (5 to 10 ms of one core) up to which a team of threads is not worth waking.  On a busy machine
two threads took 38 ms for 12 queries over 2,000 x 32 where one took 1.8: idle threads spin."""

_TRAINING = threading.RLock()
_READING = threading.RLock()


def installed_wheels() -> list[str]:
    """The names of the installed distributions that own a module ``faiss``, sorted.

    The known names are asked one by one (about a millisecond); mapping every installed package to its
    modules takes hundreds, too much before the first search.
    """
    found = []
    for name in WHEELS:
        try:
            metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        found.append(name)
    return sorted(found)


@lru_cache(maxsize=1)
def load_faiss() -> Any:
    """The ``faiss`` module, checked once.

    Raises:
        MissingExtra: it is not installed, or older than 1.15.
        ValidationError: more than one FAISS wheel is installed.
        RuntimeFailure: it is installed and does not load.
    """
    wheels = installed_wheels()
    if len(wheels) > 1:
        raise ValidationError(
            f"found {len(wheels)} packages that all install a module named faiss ({', '.join(wheels)}), expected one. "
            f"Keep one: pip uninstall -y {' '.join(wheels)} && pip install {wheels[-1]}"
        )
    if util.find_spec("faiss") is None:
        raise MissingExtra('faiss is not installed. Install it with: pip install "unabridged[cpu]"')
    try:
        module: Any = importlib.import_module("faiss")
    except (RuntimeError, OSError) as error:
        raise RuntimeFailure(
            f"faiss is installed ({', '.join(wheels) or 'owner unknown'}) but does not load: {error}. "
            f'Reinstall it with: pip install --force-reinstall "{wheels[0] if wheels else "faiss-cpu"}>=1.15"'
        ) from error
    _check_version(str(module.__version__), wheels)
    return module


def _check_version(version: str, wheels: list[str]) -> None:
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < MINIMUM:
        other = next((name for name in wheels if name not in ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs")), "")
        way = f'pip uninstall -y {other} && pip install "faiss-gpu>=1.15"' if other else (
            f'pip install -U "{wheels[0] if wheels else "faiss-cpu"}>=1.15"'
        )  # fmt: skip
        raise MissingExtra(
            f"faiss {version} was found ({', '.join(wheels) or 'owner unknown'}), at least "
            f"{MINIMUM[0]}.{MINIMUM[1]} is needed. Get it with: {way}"
        )


def faiss_facts() -> Mapping[str, JSON]:
    """What ``doctor`` prints: version, compile options, GPUs, threads, BLAS threshold and owner of the module."""
    faiss = load_faiss()
    owners = installed_wheels() or sorted(set(metadata.packages_distributions().get("faiss", [])))
    return {
        "version": str(faiss.__version__),
        "compile_options": str(faiss.get_compile_options()).strip(),
        "gpus": _gpus(faiss, owners),
        "threads": int(faiss.omp_get_max_threads()),
        "blas_threshold": int(faiss.cvar.distance_compute_blas_threshold),
        "owner": ", ".join(owners) or "unknown",
    }


def _gpus(faiss: Any, owners: list[str]) -> int:
    """GPUs that FAISS sees; it is not asked where its answer could be the end of the process."""
    from unabridged.index.dense.gpu.driver import read_driver
    from unabridged.index.dense.gpu.wheel import too_old

    driver = read_driver(memory=False)
    return 0 if not driver.gpus or too_old(owners, driver.version) else int(faiss.get_num_gpus())


@contextmanager
def training_kernels() -> Iterator[None]:
    """Lets FAISS train with BLAS in small blocks, and restores its settings at the end, also after an error.

    The threshold is one number for the whole process, so only one builder at a time gets in.  Searches that
    run meanwhile in other threads may differ in the last bit of a candidate's score; final scores do not,
    since they are computed pair by pair.
    """
    faiss = load_faiss()
    with _TRAINING:
        before = int(faiss.cvar.distance_compute_blas_threshold)
        block = int(faiss.cvar.distance_compute_blas_query_bs)
        faiss.cvar.distance_compute_blas_threshold = min(before, BLAS_THRESHOLD)
        faiss.cvar.distance_compute_blas_query_bs = min(block, BLAS_BLOCK)
        try:
            yield
        finally:
            faiss.cvar.distance_compute_blas_threshold = before
            faiss.cvar.distance_compute_blas_query_bs = block


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Runs FAISS with ``count`` threads in the calling thread (None leaves it), and restores what was there."""
    if count is None:
        yield
        return
    if count < 1:
        raise UsageError(f"threads must be at least 1, found {count}")
    faiss = load_faiss()
    before = int(faiss.omp_get_max_threads())
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def team_for(work: float) -> AbstractContextManager[None]:
    """One thread for ``work`` multiply-adds that are too few to share, and the caller's setting otherwise."""
    return threads(1 if work < SMALL_WORK else None)


@contextmanager
def reading_at_most(limit: int) -> Iterator[None]:
    """Lets the file reader allocate at most ``limit`` bytes per array, so that a damaged size is refused."""
    faiss = load_faiss()
    with _READING:
        before = faiss.get_deserialization_vector_byte_limit()
        faiss.set_deserialization_vector_byte_limit(limit)
        try:
            yield
        finally:
            faiss.set_deserialization_vector_byte_limit(before)
