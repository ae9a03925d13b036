"""Gradients of the compiled operations, for torch's automatic differentiation.

Letters::

    T packed tokens   B sequences   C convolved channels   I inner channels   N state   J heads   M saved states
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from unabridged._extras import require
from unabridged.contracts import Rows
from unabridged.encoders.mamba import kernels, kernels_backward, ops_numba
from unabridged.encoders.mamba.kernels_backward import EVERY
from unabridged.encoders.mamba.ops_numba import array, matrix
from unabridged.encoders.mamba.threads import split

if TYPE_CHECKING:
    import torch
    from torch.autograd import Function
else:
    torch = require("torch", extra="torch", purpose="training a Mamba")
    from torch.autograd import Function


class Norm(Function):
    """:func:`unabridged.encoders.mamba.ops_numba.rms_norm`."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> torch.Tensor:
        """Of x, weight, eps and groups."""
        ctx.save_for_backward(*given[:2])
        ctx.eps, ctx.groups = given[2:]
        return ops_numba.rms_norm(*given)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Of the output."""
        x, weight = tensors = ctx.saved_tensors
        to_x, to_weight = torch.empty(x.shape), torch.empty(x.shape)
        tokens = tuple(matrix(tensor) for tensor in (x, gradients[0], to_x, to_weight))
        split(kernels_backward.norm_backward, len(x), tokens, array(weight), np.float32(ctx.eps), ctx.groups)
        return (*_like((to_x, to_weight.sum(0)), tensors), None, None)


class Conv(Function):
    """:func:`unabridged.encoders.mamba.ops_numba.conv_silu`."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Of x, weight, bias, tail and offsets."""
        ctx.offsets = given[-1]
        ctx.save_for_backward(*given[:-1])
        return ops_numba.conv_silu(*given)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Of the output and the tails behind."""
        x, weight, bias, tail = tensors = ctx.saved_tensors
        own = (array(weight.T), array(bias))
        made, to_x, to_tail = torch.empty(x.shape), torch.empty(x.shape), torch.empty(tail.shape)
        parts = max(1, min(len(x), torch.get_num_threads()))
        sums = np.zeros((parts, weight.shape[1] + 1, len(bias)), np.float32)
        tokens = (matrix(x), matrix(gradients[0]), matrix(made), array(tail))
        split(kernels_backward.conv_inside, len(x), ctx.offsets, own, tokens, (parts, sums))
        behind = array(gradients[1])
        split(kernels_backward.conv_outside, len(x), ctx.offsets, own[0], (matrix(made), matrix(to_x)), behind)
        split(kernels_backward.conv_before, len(tail), ctx.offsets, own[0], matrix(made), (behind, to_tail.numpy()))
        total = torch.from_numpy(sums.sum(0))
        return (*_like((to_x, total[:-1].T, total[-1], to_tail), tensors), None)


class Scan1Function(Function):
    """:func:`unabridged.encoders.mamba.ops_numba.scan1`."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Of a, skip, bias, x, step, b, c, gate, states and offsets."""
        *tensors, offsets = given
        rows, count = _saved_rows(offsets)
        saved = torch.empty(count, *tensors[0].T.shape)
        made = ops_numba.forward1(tuple(tensors), offsets, (saved.numpy(), rows, EVERY))
        ctx.offsets, ctx.rows = offsets, rows
        ctx.save_for_backward(*tensors, saved)
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Of the output and the states behind."""
        *tensors, saved = ctx.saved_tensors
        a, skip, bias, x, step, b, c, gate, state = tensors
        tasks = ops_numba.blocks(len(a), kernels_backward.WIDTH)
        to_a, to_skip = np.zeros(a.T.shape, np.float32), np.zeros(skip.shape, np.float32)
        to_x, to_step, to_gate = (torch.empty(tensor.shape) for tensor in (x, step, gate))
        to_b, to_c = torch.empty(tasks, *b.shape), torch.empty(tasks, *c.shape)
        to_state = torch.empty(state.shape)
        split(
            kernels_backward.scan1_backward,
            tasks,
            ctx.offsets,
            (array(a.T * float(kernels.LOG2E)), array(skip), array(bias), to_a, to_skip),
            (
                *(matrix(tensor) for tensor in (x, step, b, c, gate, gradients[0], to_x, to_step, to_gate)),
                to_b.numpy(),
                to_c.numpy(),
            ),
            (saved.numpy(), ctx.rows, array(gradients[1]), to_state.numpy()),
        )
        own = (torch.from_numpy(to_a).T, torch.from_numpy(to_skip), to_step.sum(0))
        made = (*own, to_x, to_step, to_b.sum(0), to_c.sum(0), to_gate, to_state)
        return (*_like(made, tensors), None)


class Scan2Function(Function):
    """:func:`unabridged.encoders.mamba.ops_numba.scan2`."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Of a, skip, bias, x, step, b, c, gate, states, offsets and the limits of a time step."""
        *tensors, offsets, limit = given
        rows, count = _saved_rows(offsets)
        heads, width, size = tensors[-1].shape[1:]
        saved = torch.empty(count, heads, size, width)
        made = ops_numba.forward2(tuple(tensors), limit, offsets, (saved.numpy(), rows, EVERY))
        ctx.offsets, ctx.rows, ctx.limit = offsets, rows, limit
        ctx.save_for_backward(*tensors, saved)
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Of the output and the states behind."""
        *tensors, saved = ctx.saved_tensors
        a, skip, bias, x, step, b, c, gate, state = tensors
        heads, size = len(a), state.shape[3]
        groups = b.shape[1] // size
        to_a, to_skip = np.zeros(a.shape, np.float32), np.zeros(skip.shape, np.float32)
        to_x, to_step, to_gate = (torch.empty(tensor.shape) for tensor in (x, step, gate))
        to_b, to_c = torch.empty(heads, len(x), size), torch.empty(heads, len(x), size)
        to_state = torch.empty(state.shape)
        split(
            kernels_backward.scan2_backward,
            heads,
            ctx.offsets,
            (array(a), array(skip), array(bias), *ops_numba.bounds(ctx.limit), groups, to_a, to_skip),
            (
                *(matrix(tensor) for tensor in (x, step, b, c, gate, gradients[0], to_x, to_step, to_gate)),
                to_b.numpy(),
                to_c.numpy(),
            ),
            (saved.numpy(), ctx.rows, array(gradients[1]), to_state.numpy()),
        )
        shared = (_per_group(tensor, groups) for tensor in (to_b, to_c))
        own = (torch.from_numpy(to_a), torch.from_numpy(to_skip), to_step.sum(0))
        made = (*own, to_x, to_step, *shared, to_gate, to_state)
        return (*_like(made, tensors), None, None)


def _saved_rows(offsets: Rows) -> tuple[Rows, int]:
    """The first saved state of each sequence, and the number of all."""
    counts = -(-np.diff(offsets) // EVERY)
    return np.cumsum(counts) - counts, int(counts.sum())


def _per_group(made: torch.Tensor, groups: int) -> torch.Tensor:
    """``(J, T, N)`` summed over the heads of a group: ``(T, G N)``."""
    heads, tokens, size = made.shape
    return made.view(groups, heads // groups, tokens, size).sum(1).transpose(0, 1).reshape(tokens, groups * size)


def _like(made: Any, tensors: Any) -> Any:
    return (gradient.to(tensor.dtype) for gradient, tensor in zip(made, tensors, strict=True))
