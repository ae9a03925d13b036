"""Versions of what decides numbers and speed; no name of the machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("unabridged", "numpy", "torch", "transformers", "faiss-cpu", "faiss-gpu", "bm25s", "onnxruntime", "mteb")


def versions() -> dict[str, str]:
    """Package name to version, for those that are installed, with Python's and the number of cores."""
    return {"python": platform.python_version(), "cores": str(os.cpu_count()), **installed(PACKAGES)}


def installed(packages: Iterable[str]) -> dict[str, str]:
    """Package name to version, for those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
