"""The operations of a Mamba block by the compiled kernels: float32 on the CPU.

What a tensor is to a kernel: its memory, not a copy.  Tensors of other types are copied to float32 first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from unabridged._extras import require
from unabridged.contracts import Rows
from unabridged.encoders.mamba import kernels, ops_torch
from unabridged.encoders.mamba.parts import Scan1, Scan2, Tokens
from unabridged.encoders.mamba.threads import run, split

if TYPE_CHECKING:
    import torch
else:
    torch = require("torch", extra="torch", purpose="Mamba encoders")

Made: TypeAlias = "tuple[torch.Tensor, torch.Tensor]"
Given: TypeAlias = "tuple[torch.Tensor, ...]"
Saved: TypeAlias = tuple[Any, Rows, int]
"""States, the first row of each sequence among them, and how many tokens are between two."""
NO_ROWS = np.zeros(0, dtype=np.int64)


def matrix(x: torch.Tensor) -> kernels.Matrix:
    """The rows of ``(T, C)`` float32, whose channels lie side by side."""
    if x.dtype != torch.float32 or x.stride(1) != 1:
        x = x.float().contiguous()
    stride = x.stride(0) if len(x) > 1 else x.shape[1]
    size = (len(x) - 1) * stride + x.shape[1] if len(x) else 0
    return kernels.Matrix(x.detach().as_strided((size,), (1,)).numpy(), stride)


def array(x: torch.Tensor) -> Any:
    """Contiguous float32 of any shape."""
    return x.detach().float().contiguous().numpy()


def launch(kernel: Callable[..., None], offsets: Rows, per_sequence: int, *arguments: Any) -> None:
    """All tasks of a kernel, on torch's number of threads."""
    if len(offsets) > 1:
        run(kernel, offsets, per_sequence, arguments, torch.get_num_threads())


def room(x: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor:
    """Float32 of the shape of ``x``: ``out``, if it can be that."""
    return torch.empty(x.shape, dtype=torch.float32) if out is None or out.dtype != torch.float32 else out


def blocks(channels: int, width: int) -> int:
    """Tasks of ``width`` channels of a sequence."""
    return -(-channels // width)


def conv_silu(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    tail: torch.Tensor,
    offsets: Rows,
    out: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """As :func:`unabridged.encoders.mamba.ops_torch.conv_silu`; into a float32 ``out`` without rounding to x's type."""
    own = x.new_zeros(x.shape[1]) if bias is None else bias
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, weight, own, tail)):
        from unabridged.encoders.mamba.ops_backward import Conv

        made: Made = Conv.apply(x, weight, own, tail, offsets)  # type: ignore[no-untyped-call]
        return made
    exact = room(x, out)
    weights = (array(weight.T), array(own))
    split(kernels.conv, len(x), offsets, weights, (matrix(x), matrix(exact)), array(tail))
    return exact if exact is out else exact.to(x.dtype), ops_torch.tails(x, tail, offsets)


def rms_norm(
    x: torch.Tensor, weight: torch.Tensor, eps: float, groups: int = 1, out: torch.Tensor | None = None
) -> torch.Tensor:
    """As :func:`unabridged.encoders.mamba.ops_torch.rms_norm`."""
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        from unabridged.encoders.mamba.ops_backward import Norm

        made: torch.Tensor = Norm.apply(x, weight, eps, groups)  # type: ignore[no-untyped-call]
        return made
    out = room(x, out)
    split(kernels.norm, len(x), (matrix(x), matrix(out)), array(weight), np.float32(eps), groups)
    return out


def scan1(
    weights: Scan1, tokens: Tokens, state: torch.Tensor, offsets: Rows, out: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """As :func:`unabridged.encoders.mamba.ops_torch.scan1`."""
    given = (weights.a, weights.skip, weights.bias, *tokens, state)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given):
        from unabridged.encoders.mamba.ops_backward import Scan1Function

        made: Made = Scan1Function.apply(*given, offsets)  # type: ignore[no-untyped-call]
        return made
    nothing = np.zeros((0, state.shape[2], state.shape[1]), np.float32)
    return forward1(given, offsets, (nothing, NO_ROWS, 1), out)


def scan2(
    weights: Scan2, tokens: Tokens, state: torch.Tensor, offsets: Rows, out: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """As :func:`unabridged.encoders.mamba.ops_torch.scan2`."""
    given = (weights.a, weights.skip, weights.bias, *tokens, state)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given):
        from unabridged.encoders.mamba.ops_backward import Scan2Function

        made: Made = Scan2Function.apply(*given, offsets, weights.limit)  # type: ignore[no-untyped-call]
        return made
    nothing = np.zeros((0, state.shape[1], state.shape[3], state.shape[2]), np.float32)
    return forward2(given, weights.limit, offsets, (nothing, NO_ROWS, 1), out)


def forward1(
    given: Given, offsets: Rows, saved: Saved, out: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of a, skip, bias, x, step, b, c, gate and states; ``saved`` is filled with states, if it has rows."""
    a, skip, bias, x, *others, state = given
    out = room(x, out)
    after = torch.empty(state.shape, dtype=torch.float32)
    launch(
        kernels.scan1,
        offsets,
        blocks(len(a), kernels.WIDTH),
        (array(a.T * float(kernels.LOG2E)), array(skip), array(bias)),
        (*(matrix(tensor) for tensor in (x, *others)), matrix(out)),
        (array(state), after.numpy(), *saved),
    )
    return out.to(x.dtype), after


def forward2(
    given: Given, limit: tuple[float, float], offsets: Rows, saved: Saved, out: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """As :func:`forward1`, for Mamba-2."""
    a, skip, bias, x, *others, state = given
    out = room(x, out)
    after = torch.empty(state.shape, dtype=torch.float32)
    launch(
        kernels.scan2,
        offsets,
        len(a),
        (array(a), array(skip), array(bias), *bounds(limit), others[1].shape[1] // state.shape[3]),
        (*(matrix(tensor) for tensor in (x, *others)), matrix(out)),
        (array(state), after.numpy(), *saved),
    )
    return out.to(x.dtype), after


def bounds(limit: tuple[float, float]) -> tuple[np.float32, np.float32]:
    """Of a time step, in the type of the kernels."""
    return np.float32(limit[0]), np.float32(limit[1])
