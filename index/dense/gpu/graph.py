"""CAGRA graphs, where FAISS has cuVS: built on a GPU, kept as the CPU's graph, searched on either.

Source: Ootomo et al. 2023, CAGRA: Highly Parallel Graph Construction and Approximate Nearest Neighbor Search for GPUs.
"""

from __future__ import annotations

from typing import Any

from unabridged.contracts import Floats
from unabridged.index.dense._faiss import load_faiss
from unabridged.index.dense.gpu.devices import Device, alone_on

STEP = 32
"""Rows kept in sight are a multiple of this."""


def search_params(sight: int, k: int) -> Any:
    """Parameters of a search that keeps ``sight`` rows in sight, and no fewer than ``k``."""
    wide = -(-max(sight, k) // STEP) * STEP
    return load_faiss().SearchParametersCagra(itopk_size=wide)


def built(vectors: Floats, metric: int, degree: int, on: Device) -> Any:
    """A CPU index (``IndexHNSWCagra``) over ``vectors`` (N, D) with ``degree`` edges for each row.

    The device holds the vectors and twice as many edges meanwhile.

    Raises:
        RuntimeError: FAISS could not allocate, or failed.
    """
    faiss = load_faiss()
    config = faiss.GpuIndexCagraConfig()
    config.device = on.number
    config.graph_degree, config.intermediate_graph_degree = degree, 2 * degree
    with alone_on([on]):
        index = faiss.GpuIndexCagra(on.resources, vectors.shape[1], metric, config)
        index.train(vectors)
        return faiss.index_gpu_to_cpu(index)  # owned; a downcast of it would outlive it
