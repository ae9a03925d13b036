"""The bootstrap of a mean, in blocks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unabridged.errors import ShapeError, UsageError

RESAMPLES = 10_000
LEVEL = 0.95
BLOCK = 1 << 20
"""Drawn values in memory at once: 16 MiB with their indices."""


def bootstrap_interval(
    values: NDArray[np.float64], *, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The percentile interval (low, high) of the mean of ``values`` (Q,), by resampling with replacement.

    Source: Efron (1979).  The same seed gives the same interval.

    Raises:
        ShapeError: No value, or one that is not finite.
        UsageError: ``level`` is not between 0 and 1, ``resamples`` is below 1, or ``seed`` below 0.
    """
    if not 0 < level < 1 or resamples < 1:
        raise UsageError(f"need 0 < level < 1 and resamples >= 1, got level={level}, resamples={resamples}")
    check_seed(seed)
    if values.ndim != 1 or not values.size or not bool(np.isfinite(values).all()):
        raise ShapeError(f"an interval needs finite values of shape (Q,), found shape {values.shape}")
    draw = np.random.default_rng(seed)
    block = max(1, BLOCK // len(values))
    means = np.empty(resamples)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        means[start : start + size] = values[draw.integers(0, len(values), (size, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def check_seed(seed: int) -> None:
    """:class:`UsageError` for a seed that no generator takes."""
    if seed < 0:
        raise UsageError(f"a seed must be at least 0, got {seed}")
