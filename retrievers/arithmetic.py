"""Time and memory by arithmetic, for what a plan cannot try: operations of a model, and of building lists."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from unabridged.contracts import Encoder
from unabridged.encoders._hf import weight_files
from unabridged.index.dense.factory import parse
from unabridged.index.recipe import Recipe, base_operations
from unabridged.retrievers.calibration import Spent

ENCODE_EFFICIENCY = 0.62
"""Encoding reaches this part of the machine's matrix multiplication rate on a CPU (benchmarks/bench_encode.py)."""
BUILD_EFFICIENCY = 0.7
"""So does the building of inverted lists (44 and 49 of 64 GFLOP/s at 0.1 and 1 M x 384: benchmarks/bench_search.py)."""
BUILD_WIDTH = 384


def base_seconds(recipe: Recipe) -> Spent:
    """What training and filling the approximate index takes on this machine's CPU; nothing for a flat one."""
    if recipe.is_flat:
        return Spent()
    seconds = base_operations(parse(recipe.factory, recipe.dim), recipe.rows, recipe.dim) / (
        BUILD_EFFICIENCY * matrix_rate(BUILD_WIDTH, 4 * BUILD_WIDTH)
    )
    return Spent(seconds, seconds)


def encoder_config(encoder: Encoder) -> Mapping[str, Any]:
    """The model's config.json, or nothing for an encoder without one."""
    return getattr(getattr(encoder, "folder", None), "config", {})


def flops_per_token(config: Mapping[str, Any]) -> float | None:
    """Floating-point operations of one token in the matrix multiplications of a transformer encoder; else None."""
    if "mamba" in str(config.get("model_type")):
        return None
    try:
        hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
        inner = int(config.get("intermediate_size", 4 * hidden))
    except (KeyError, TypeError, ValueError):
        return None
    return 2.0 * layers * (4 * hidden * hidden + 2 * hidden * inner)


def weights_bytes(encoder: Encoder) -> int:
    """Bytes of the model in memory, in float32; of another than a transformer those of its file."""
    config = encoder_config(encoder)
    flops = flops_per_token(config)
    if flops is None:
        folder = getattr(encoder, "folder", None)
        return 0 if folder is None else sum(path.stat().st_size for path in weight_files(folder.path))
    return round(4 * (flops / 2 + int(config.get("vocab_size", 0)) * int(config["hidden_size"])))


def encode_rate(encoder: Encoder) -> float | None:
    """Tokens per second to expect on this machine's CPU."""
    config = encoder_config(encoder)
    flops = flops_per_token(config)
    if not flops:
        return None
    hidden = int(config["hidden_size"])
    return ENCODE_EFFICIENCY * matrix_rate(hidden, int(config.get("intermediate_size", 4 * hidden))) / flops


@cache
def matrix_rate(inner: int, outer: int, seconds: float = 0.3) -> float:
    """Floating-point operations per second of numpy's matrix product, the best of some tries."""
    rows = 1024
    left, right = np.ones((rows, inner), np.float32), np.ones((inner, outer), np.float32)
    best, end = 0.0, time.perf_counter() + seconds
    while True:
        started = time.perf_counter()
        left @ right
        now = time.perf_counter()
        best = max(best, 2.0 * rows * inner * outer / (now - started))
        if now > end:
            return best
