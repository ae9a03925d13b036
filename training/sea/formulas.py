"""The formulas of :mod:`unabridged.encoders.sea.aggregators` with gradients.

Letters::

    B documents     S their blocks, packed     H width of a vector     K of a hidden layer
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from unabridged.contracts import Rows
from unabridged.encoders.sea.aggregators import KINDS, Aggregator
from unabridged.errors import ShapeError, UsageError

if TYPE_CHECKING:
    import torch

HIDDEN = 128
"""K of the authors' two-layer attention."""


def start(kind: str, layers: int, width: int, hidden: int, seed: int) -> Aggregator:
    """An aggregator before training: its blocks weigh nearly the same, since its scores are small.

    :class:`UsageError` for a formula without parameters, or a size that cannot be.
    """
    if kind not in KINDS or not KINDS[kind]:
        learned = ", ".join(name for name, learned in KINDS.items() if learned)
        raise UsageError(f"An aggregator that learns is one of {learned}, got {kind!r}.")
    if layers not in (1, 2) or hidden < 1 or seed < 0:
        raise UsageError(
            f"Attention has 1 or 2 layers, a hidden width of at least 1 and a seed of at least 0, got layers={layers}, "
            f"hidden={hidden}, seed={seed}."
        )
    chance = np.random.default_rng([seed, 5])
    if layers == 1:
        weight = chance.standard_normal(width) / width
        return Aggregator(kind, {"weight": weight.astype(np.float32), "bias": np.zeros(1, dtype=np.float32)})
    matrix = chance.standard_normal((hidden, width)) / width**0.5
    output = chance.standard_normal(hidden) / hidden
    return Aggregator(kind, {"hidden": matrix.astype(np.float32), "output": output.astype(np.float32)})


def aggregate(kind: str, parameters: Mapping[str, torch.Tensor], blocks: torch.Tensor, offsets: Rows) -> torch.Tensor:
    """``(B, H)`` of blocks ``(S, H)``, document b being rows ``offsets[b]:offsets[b + 1]``; none may be empty."""
    import torch

    counts = np.diff(offsets)
    if bool(np.any(counts < 1)):
        raise ShapeError("Every document of a training step needs at least one block.")
    lengths = torch.from_numpy(counts).to(blocks.device)
    owners = torch.repeat_interleave(torch.arange(len(counts), device=blocks.device), lengths)
    even = (1.0 / lengths.to(blocks.dtype))[owners]
    if kind in ("mean", "max"):
        return _sum(even, blocks, owners, len(counts)) if kind == "mean" else _max(blocks, lengths)
    attention = softmax(scores(parameters, blocks), lengths, owners)
    if kind == "attention_plus_max":
        return 0.5 * _sum(attention, blocks, owners, len(counts)) + 0.5 * _max(blocks, lengths)
    weights = {
        "attention": attention,
        "attention_plus_mean": 0.5 * attention + 0.5 * even,
        "sea_legacy": 0.5 * attention + 0.5,
    }[kind]
    return _sum(weights, blocks, owners, len(counts))


def scores(parameters: Mapping[str, torch.Tensor], blocks: torch.Tensor) -> torch.Tensor:
    """The attention's score of each block, ``(S,)``."""
    import torch

    if "weight" in parameters:
        return blocks @ parameters["weight"] + parameters["bias"]
    return torch.tanh(blocks @ parameters["hidden"].T) @ parameters["output"]


def softmax(values: torch.Tensor, lengths: torch.Tensor, owners: torch.Tensor) -> torch.Tensor:
    """The softmax ``(S,)`` of values ``(S,)`` among those of one owner, ``lengths`` ``(B,)`` of them in a row each."""
    import torch

    top = torch.segment_reduce(values.detach(), "max", lengths=lengths)
    powers = torch.exp(values - top[owners])
    total = torch.zeros(len(lengths), dtype=values.dtype, device=values.device).index_add(0, owners, powers)
    return powers / total[owners]


def _sum(weights: torch.Tensor, blocks: torch.Tensor, owners: torch.Tensor, count: int) -> torch.Tensor:
    import torch

    zeros = torch.zeros((count, blocks.shape[1]), dtype=blocks.dtype, device=blocks.device)
    return zeros.index_add(0, owners, weights[:, None] * blocks)


def _max(blocks: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.segment_reduce(blocks, "max", lengths=lengths)
