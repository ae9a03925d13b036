"""Versions of what decides numbers and speed; no name of the machine."""

from __future__ import annotations

import os
import platform

from unabridged.versions import installed

PACKAGES = ("unabridged", "numpy", "torch", "transformers", "faiss-cpu", "faiss-gpu", "bm25s", "onnxruntime", "mteb")


def versions() -> dict[str, str]:
    """Package name to version, for those that are installed, with Python's and the number of cores."""
    return {"python": platform.python_version(), "cores": str(os.cpu_count()), **installed(PACKAGES)}
