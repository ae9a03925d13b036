"""The operations of a Mamba block by the kernels of mamba_ssm, where that is installed and the device is CUDA.

Only the two scans; everything else is :mod:`unabridged.encoders.mamba.ops_torch`.  The kernels take sequences side by
side, so that packed ones are padded for them: with time steps of 0, which leave a state as it is.

Two things that the kernel of Mamba-1 (``selective_scan_fn``) does not have are added here.  It begins from zero: what a
carried state adds is ``y_t += c_t (exp(a sum step) h)``, some tokens at a time.  And it has no gradient for the state
that it returns: where a gradient is asked for through a state, the scan in blocks of plain torch computes instead.

Letters as in :mod:`unabridged.encoders.mamba.ops_torch`, with L the tokens of the longest sequence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from unabridged._extras import require
from unabridged.contracts import Rows
from unabridged.encoders.mamba import ops_torch
from unabridged.encoders.mamba.ops_torch import conv_silu, rms_norm
from unabridged.encoders.mamba.parts import Scan1, Scan2, Tokens

if TYPE_CHECKING:
    import torch
    from torch.nn import functional
else:
    torch = require("torch", extra="torch", purpose="Mamba encoders")
    from torch.nn import functional

__all__ = ["conv_silu", "rms_norm", "scan1", "scan2"]

SLAB = 64
"""Tokens at a time whose decays ``(B, SLAB, I, N)`` are held: 6 MiB for a sequence of mamba-130m."""
CHUNK = 256
"""Of the kernels of Mamba-2, as published."""


def scan1(
    weights: Scan1, tokens: Tokens, state: torch.Tensor, offsets: Rows, out: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """As :func:`unabridged.encoders.mamba.ops_torch.scan1`; the states have no gradient."""
    if not len(tokens.x) or (torch.is_grad_enabled() and state.requires_grad):
        return ops_torch.scan1(weights, tokens, state, offsets)
    kernels = require("mamba_ssm.ops.selective_scan_interface", extra="mamba-cuda", purpose="kernels of Mamba on a GPU")
    rows = _rows(offsets, tokens.x.device)
    step = functional.softplus(tokens.step.float() + weights.bias)
    x, step, b, c, gate = (
        _padded(tensor.float(), rows).transpose(1, 2) for tensor in (tokens.x, step, tokens.b, tokens.c, tokens.gate)
    )
    y, after = kernels.selective_scan_fn(x, step, weights.a, b, c, D=weights.skip, return_last_state=True)
    passed = torch.cumsum(step, 2)
    y = torch.cat(
        [y[..., at : at + SLAB] + _seen(weights.a, passed, c, state, at) for at in range(0, y.shape[2], SLAB)], 2
    )
    after = after.detach() + torch.exp(passed[:, :, -1, None] * weights.a).detach() * state
    return _packed((y * functional.silu(gate)).transpose(1, 2), rows).to(tokens.x.dtype), after


def scan2(
    weights: Scan2, tokens: Tokens, state: torch.Tensor, offsets: Rows, out: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """As :func:`unabridged.encoders.mamba.ops_torch.scan2`."""
    if not len(tokens.x):
        return ops_torch.scan2(weights, tokens, state, offsets)
    kernels = require("mamba_ssm.ops.triton.ssd_combined", extra="mamba-cuda", purpose="kernels of Mamba on a GPU")
    rows = _rows(offsets, tokens.x.device)
    heads, width, size = state.shape[1:]
    step = functional.softplus(tokens.step.float() + weights.bias).clamp(*weights.limit)
    x, step, b, c = (_padded(tensor.float(), rows) for tensor in (tokens.x, step, tokens.b, tokens.c))
    y, after = kernels.mamba_chunk_scan_combined(
        x.view(*rows.shape, heads, width),
        step,
        weights.a,
        b.view(*rows.shape, weights.groups, size),
        c.view(*rows.shape, weights.groups, size),
        CHUNK,
        D=weights.skip,
        initial_states=state,
        return_final_states=True,
    )
    y = _packed(y.flatten(2), rows) * functional.silu(tokens.gate.float())
    return y.to(tokens.x.dtype), after


def _seen(a: torch.Tensor, passed: torch.Tensor, c: torch.Tensor, state: torch.Tensor, at: int) -> torch.Tensor:
    """What the states before add to the outputs from token ``at`` on: ``(B, I, SLAB)``."""
    decay = torch.exp(passed[:, :, at : at + SLAB, None] * a[:, None])  # (B, I, SLAB, N)
    return torch.einsum("bisn,bin,bns->bis", decay, state, c[:, :, at : at + SLAB])


def _rows(offsets: Rows, device: torch.device) -> torch.Tensor:
    """``(B, L)``: the token of each place, -1 behind the end of a sequence."""
    lengths = np.diff(offsets)
    places = np.arange(int(lengths.max()))
    rows = np.where(places < lengths[:, None], offsets[:-1, None] + places, -1)
    return torch.from_numpy(rows).to(device)


def _padded(tensor: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """``(B, L, C)``, zeros behind the end of a sequence."""
    return torch.cat((tensor, tensor.new_zeros(1, tensor.shape[1])))[rows]


def _packed(tensor: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """``(T, C)`` of ``(B, L, C)``: sequences are packed one after another."""
    return tensor[rows >= 0]
