"""Which operations compute a Mamba: chosen when a model is made, and told to ``doctor``."""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import version
from typing import cast

from unabridged.encoders.mamba.parts import Operations
from unabridged.errors import UsageError

PATHS = {
    "numba": "unabridged.encoders.mamba.ops_numba",
    "torch": "unabridged.encoders.mamba.ops_torch",
    "mamba_ssm": "unabridged.encoders.mamba.ops_ssm",
}
"""By name: the module with the operations."""


def scan_path(device: str = "cpu") -> tuple[str, str]:
    """The path that a float32 or bfloat16 model on ``device`` takes, and why, in one sentence; imports neither."""
    kind = device.partition(":")[0]
    if kind == "cuda" and importlib.util.find_spec("mamba_ssm") is not None:
        return "mamba_ssm", f"kernels of mamba_ssm {version('mamba_ssm')}"
    if kind == "cuda":
        return "torch", 'scans in blocks, in plain torch; faster with mamba_ssm: pip install "unabridged[mamba-cuda]"'
    if kind != "cpu":
        return "torch", f"scans in blocks, in plain torch, on {device}"
    if importlib.util.find_spec("numba") is None:
        return "torch", 'numba is not installed, so that scans are slow: pip install "unabridged[mamba]"'
    return "numba", f"kernels compiled by numba {version('numba')}"


def operations(path: str) -> Operations:
    """The operations of the path called ``path``."""
    if path not in PATHS:
        raise UsageError(f"There is no path {path!r} of a Mamba scan, only {sorted(PATHS)}.")
    return cast("Operations", importlib.import_module(PATHS[path]))
