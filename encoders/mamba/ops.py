"""The operations of a Mamba block, by the path that is chosen for the device, the type and the packages at hand.

Letters::

    T packed tokens   B sequences   H width   I inner channels   N state   J heads   P channels of one   G groups
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unabridged._extras import require
from unabridged.contracts import Rows
from unabridged.encoders.mamba import ops_torch

if TYPE_CHECKING:
    import torch
    from torch.nn import functional
else:
    torch = require("torch", extra="torch", purpose="Mamba encoders")
    from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Scan1:
    """Of a Mamba-1 layer: ``log_a`` ``(I, N)``, ``skip`` ``(I,)``, ``bias`` of the time step ``(I,)``."""

    log_a: torch.Tensor
    skip: torch.Tensor
    bias: torch.Tensor


@dataclass(frozen=True, slots=True)
class Scan2:
    """Of a Mamba-2 layer: ``log_a``, ``skip`` and ``bias`` of the time step ``(J,)``, and where steps are clamped."""

    log_a: torch.Tensor
    skip: torch.Tensor
    bias: torch.Tensor
    limit: tuple[float, float]


def norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """``weight x / sqrt(mean(x^2) + eps)`` over the last dimension, at least float32 inside."""
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    return functional.rms_norm(exact, (x.shape[-1],), weight.to(exact.dtype), eps)


def gated_norm(y: torch.Tensor, gate: torch.Tensor, weight: torch.Tensor, groups: int, eps: float) -> torch.Tensor:
    """``weight rmsnorm(y silu(gate))`` ``(T, I)``, normalised in ``groups`` of channels."""
    gated = y * functional.silu(gate.to(y.dtype))
    split = gated.view(len(y), groups, y.shape[1] // groups)
    scaled = split * torch.rsqrt(split.square().mean(-1, keepdim=True) + eps)
    normed: torch.Tensor = scaled.view(y.shape) * weight.to(y.dtype)
    return normed


def conv_silu(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, tail: torch.Tensor, offsets: Rows
) -> tuple[torch.Tensor, torch.Tensor]:
    """As :func:`unabridged.encoders.mamba.ops_torch.conv_silu`."""
    return ops_torch.conv_silu(x, weight, bias, tail, offsets)


def scan1(
    weights: Scan1,
    x: torch.Tensor,
    step: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    gate: torch.Tensor,
    state: torch.Tensor,
    offsets: Rows,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``(scan(x, softplus(step + bias)) + skip x) silu(gate)`` ``(T, I)`` in the type of ``x``, and the states."""
    exact = state.dtype
    step = functional.softplus(step.to(exact) + weights.bias.to(exact))
    y, after = ops_torch.selective_scan(x, step, -torch.exp(weights.log_a.to(exact)), b, c, state, offsets)
    y = (y + weights.skip.to(exact) * x) * functional.silu(gate.to(exact))
    return y.to(x.dtype), after


def scan2(
    weights: Scan2,
    x: torch.Tensor,
    step: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    state: torch.Tensor,
    offsets: Rows,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``scan(x, softplus(step + bias)) + skip x`` ``(T, J, P)`` in the type of the state, and the states."""
    exact = state.dtype
    step = functional.softplus(step.to(exact) + weights.bias.to(exact)).clamp(*weights.limit)
    y, after = ops_torch.chunked_scan(x, step, -torch.exp(weights.log_a.to(exact)), b, c, state, offsets)
    return y + weights.skip.to(exact)[:, None] * x, after
