"""Dense vectors to ranked rows: an exact scan of mapped shards, with an optional approximate base.

Importing this package loads numpy only; FAISS is loaded by the first search or build.
"""

from __future__ import annotations

from unabridged.index.dense.base import FaissBase
from unabridged.index.dense.build import build_base
from unabridged.index.dense.exact import ExactVectors
from unabridged.index.dense.index import DenseIndex, needs_rebuild
from unabridged.index.dense.tune import tune

__all__ = ["DenseIndex", "ExactVectors", "FaissBase", "build_base", "needs_rebuild", "tune"]
