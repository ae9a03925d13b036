"""Naive twins of what the product does, and fixtures of some folders, shared by tests."""

from __future__ import annotations

import numpy as np
import pytest

from unabridged.retrievers.opened import Index
from unabridged.retrievers.scoring import score_documents


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tiny matrices on one thread: waiting for a second one costs more than it gives, above all on a busy machine.

    Holds for the folder whose conftest, or the file, that imports it.
    """
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def brute_force_documents(index: Index, query: str) -> list[tuple[str, float]]:
    """Every living document by the index's score, from its own vectors, one document at a time."""
    vector = index.encoder.encode_queries([query])[0]
    found = []
    for shard in index.shards:
        for row in range(len(shard.array("keys"))):
            piece = shard.piece(row)
            offsets = np.array([0, len(piece.segments)])
            whole = np.array([piece.document @ vector], np.float32)
            score, _ = score_documents((piece.segments @ vector).astype(np.float32), offsets, whole, index.scoring)
            found.append((shard.id(row), float(score[0])))
    return sorted(found, key=lambda pair: -pair[1])
