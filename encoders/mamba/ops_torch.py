"""The operations of a Mamba block in plain torch: differentiable, on every device, in every floating point type.

They are what runs where no compiled kernel does, and what the kernels are compared with.  States and all that goes on
inside a recurrence are at least float32, whatever the type of the activations.

Letters::

    T packed tokens   B sequences   C convolved channels   K width of the convolution
    I inner channels   N state   J heads   P channels of a head   G groups of heads   M chunks   Q tokens of one
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from unabridged._extras import require
from unabridged.contracts import Rows
from unabridged.encoders.mamba.parts import Scan1, Scan2, Tokens
from unabridged.encoders.mamba.steps import Steps

if TYPE_CHECKING:
    import torch
    from torch.nn import functional
else:
    torch = require("torch", extra="torch", purpose="Mamba encoders")
    from torch.nn import functional

CHUNK = 64
"""Tokens of a chunk of Mamba-2.  Exact for every size; 64 makes the three matmuls of a head of 64 equally large."""
CHUNK_FLOATS = 1 << 23
"""Of the ``(M, J, Q, Q)`` decays at a time, at most, where no gradient is asked for: 32 MiB."""


def conv_silu(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    tail: torch.Tensor,
    offsets: Rows,
    out: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``silu(bias + sum_k weight[:, k] x[t - K + 1 + k])`` ``(T, C)``, and the new tail.

    ``x`` ``(T, C)``, ``weight`` ``(C, K)``, ``bias`` ``(C,)``.  ``tail`` ``(B, C, K - 1)`` has the inputs before each
    sequence, and what comes back the last inputs of all.
    """
    tokens, width = len(x), weight.shape[1]
    reach = width - 1
    source = _with_tails(x, tail)
    starts, lengths = offsets[:-1], np.diff(offsets)
    place = np.arange(tokens) - np.repeat(starts, lengths)
    first = np.repeat(tokens + reach * np.arange(len(lengths)), lengths)
    total = x * weight[:, reach]
    for back in range(1, width):
        rows = np.where(place >= back, np.arange(tokens) - back, first + place - back + reach)
        total = total + source[_on(rows, x)] * weight[:, reach - back]
    if bias is not None:
        total = total + bias
    return functional.silu(total), tails(x, tail, offsets)


def tails(x: torch.Tensor, tail: torch.Tensor, offsets: Rows) -> torch.Tensor:
    """``(B, C, K - 1)``: the last inputs of the convolution in each sequence, those before it included."""
    reach, lengths = tail.shape[2], np.diff(offsets)
    if len(lengths) == 1 and len(x) >= reach:
        return x[len(x) - reach :].T.contiguous()[None]
    before = len(x) + reach * np.arange(len(lengths))
    kept = lengths[:, None] - reach + np.arange(reach)
    rows = np.where(kept >= 0, offsets[:-1, None] + kept, before[:, None] + kept + reach)
    if bool((kept >= 0).all()):
        return x[_on(rows, x)].transpose(1, 2).contiguous()
    return _with_tails(x, tail)[_on(rows, x)].transpose(1, 2).contiguous()


def _with_tails(x: torch.Tensor, tail: torch.Tensor) -> torch.Tensor:
    return torch.cat((x, tail.to(x.dtype).transpose(1, 2).reshape(-1, x.shape[1])))


def rms_norm(
    x: torch.Tensor, weight: torch.Tensor, eps: float, groups: int = 1, out: torch.Tensor | None = None
) -> torch.Tensor:
    """``weight x / sqrt(mean(x^2) + eps)`` of ``(T, C)``, the mean over each of ``groups`` runs of channels.

    At least float32, inside and behind.
    """
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    weight = weight.to(exact.dtype)
    if groups == 1:
        return functional.rms_norm(exact, (x.shape[1],), weight, eps)
    size = x.shape[1] // groups
    normed = functional.rms_norm(exact.reshape(len(x), groups, size), (size,), None, eps)
    scaled: torch.Tensor = normed.view(x.shape) * weight
    return scaled


def scan1(
    weights: Scan1, tokens: Tokens, state: torch.Tensor, offsets: Rows, out: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """``(scan(x, softplus(step + bias)) + skip x) silu(gate)`` ``(T, I)`` of Mamba-1, and the states ``(B, I, N)``."""
    x, step, b, c, gate = (tensor.to(state.dtype) for tensor in tokens)
    step = functional.softplus(step + weights.bias)
    scan = selective_scan if x.device.type == "cpu" else blocked_scan
    y, after = scan(x, step, weights.a, b, c, state, offsets)
    return ((y + weights.skip * x) * functional.silu(gate)).to(tokens.x.dtype), after


def scan2(
    weights: Scan2, tokens: Tokens, state: torch.Tensor, offsets: Rows, out: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """``(scan(x, softplus(step + bias)) + skip x) silu(gate)`` ``(T, I)`` of Mamba-2, and the states."""
    x, step, b, c, gate = (tensor.to(state.dtype) for tensor in tokens)
    heads, width, size = state.shape[1:]
    x = x.reshape(len(x), heads, width)
    b, c = (tensor.reshape(len(x), weights.groups, size) for tensor in (b, c))
    step = functional.softplus(step + weights.bias).clamp(*weights.limit)
    y, after = chunked_scan(x, step, weights.a, b, c, state, offsets)
    y = (y + weights.skip[:, None] * x).reshape(gate.shape) * functional.silu(gate)
    return y.to(tokens.x.dtype), after


def selective_scan(
    x: torch.Tensor,
    step: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    state: torch.Tensor,
    offsets: Rows,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``h = exp(step a) h + step x b; y = h c`` of Mamba-1: ``y`` ``(T, I)`` and the states behind every sequence.

    ``x`` ``(T, I)``, ``step`` ``(T, I)`` above 0, ``a`` ``(I, N)`` below 0, ``b`` and ``c`` ``(T, N)``, ``state``
    ``(B, I, N)``.  Token by token, all sequences in lock step: nothing of size ``T I N`` is made.  Selective SSM, Gu
    and Dao 2023, equation 2a with the discretisation of algorithm 2.
    """
    steps = Steps.of(offsets, 1)
    kind = state.dtype
    x, step, b, c = (tensor.to(kind) for tensor in (x, step, b, c))
    order = _on(steps.order, x)
    running = state[order]
    ended: list[torch.Tensor] = []
    outputs: list[torch.Tensor] = []
    at = 0
    for count in steps.active.tolist():
        rows = _on(steps.starts[at : at + count], x)
        at += count
        if count < len(running):
            ended.append(running[count:])
            running = running[:count]
        delta, entering = step[rows], x[rows]
        running = torch.exp(delta[:, :, None] * a) * running
        running = running + (delta * entering)[:, :, None] * b[rows][:, None, :]
        outputs.append(torch.matmul(running, c[rows][:, :, None])[:, :, 0])
    ended.append(running)
    after = torch.cat(ended[::-1])[_on(np.argsort(steps.order, kind="stable"), x)]
    if not outputs:
        return x.new_zeros(x.shape), after
    return torch.cat(outputs)[_on(np.argsort(steps.starts, kind="stable"), x)], after


def blocked_scan(
    x: torch.Tensor,
    step: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    state: torch.Tensor,
    offsets: Rows,
) -> tuple[torch.Tensor, torch.Tensor]:
    """:func:`selective_scan` in about ``3 sqrt(L)`` steps instead of L, for devices on which a step is a launch.

    All blocks of ``sqrt(L)`` tokens run from zero in lock step, then their end states are chained, and then what came
    into each block is added to its outputs: ``y_t += c_t (exp(a sum step) H)``.  Every factor is at most 1, and nothing
    is divided.  Memory ``sqrt(L) I N`` per longest text, and as often again in training.
    """
    kind = state.dtype
    x, step, b, c = (tensor.to(kind) for tensor in (x, step, b, c))
    size = max(1, math.isqrt(int(np.diff(offsets).max(initial=1))))
    steps = Steps.of(offsets, size)
    rows = _on(steps.rows(slice(None), size, len(x)), x)
    x_q, step_q, b_q, c_q = (_take(tensor, rows) for tensor in (x, step, b, c))  # (M, Q, ...)
    passed = torch.cumsum(step_q, 1)[..., None]  # (M, Q, I, 1)
    local = x.new_zeros(len(rows), *a.shape)
    outputs = []
    for q in range(size):
        kept = torch.exp(step_q[:, q, :, None] * a)
        local = kept * local + (step_q[:, q] * x_q[:, q])[:, :, None] * b_q[:, q, None, :]
        outputs.append(torch.matmul(local, c_q[:, q, :, None])[:, :, 0])
    before, running, ended = _carry(local, torch.exp(passed[:, -1] * a), state[_on(steps.order, x)], steps.active)
    for q in range(size):
        outputs[q] = outputs[q] + torch.matmul(torch.exp(passed[:, q] * a) * before, c_q[:, q, :, None])[:, :, 0]
    after = torch.cat([*ended, running][::-1])[_on(np.argsort(steps.order, kind="stable"), x)]
    if not len(x):
        return x.new_zeros(x.shape), after
    inside = _on(np.flatnonzero(steps.rows(slice(None), size, -1) >= 0), x)
    return torch.stack(outputs, 1).flatten(0, 1)[inside][_on(_places(steps), x)], after


def chunked_scan(
    x: torch.Tensor,
    step: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    c: torch.Tensor,
    state: torch.Tensor,
    offsets: Rows,
) -> tuple[torch.Tensor, torch.Tensor]:
    """``h = exp(step a) h + step x (x) b; y = h c`` of Mamba-2 per head: ``y`` ``(T, J, P)`` and the states behind.

    ``x`` ``(T, J, P)``, ``step`` ``(T, J)``, ``a`` ``(J,)`` below 0, ``b`` and ``c`` ``(T, G, N)``, ``state``
    ``(B, J, P, N)``.  As matmuls over chunks of a sequence (state-space duality, Dao and Gu 2024, section 6).  Their
    listing forms sums of ``step a`` between two tokens by masked cumulative sums ``(Q, Q)``; here they are differences
    of float64 sums, which is as exact and a fraction of the work.  Without gradient some chunks at a time.
    """
    kind = state.dtype
    x, step, b, c = (tensor.to(kind) for tensor in (x, step, b, c))
    size = max(1, min(CHUNK, int(np.diff(offsets).max(initial=1))))
    steps = Steps.of(offsets, size)
    running = state[_on(steps.order, x)]
    ended: list[torch.Tensor] = []
    outputs: list[torch.Tensor] = []
    graph = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, step, a, b, c, state))
    most = len(steps.starts) if graph else max(1, CHUNK_FLOATS // (x.shape[1] * size * size))
    for pieces, active in steps.slices(most):
        rows = _on(steps.rows(pieces, size, len(x)), x)
        y, running, done = _chunks([_take(tensor, rows) for tensor in (x, step, b, c)], a, running, active)
        ended += done
        inside = _on(np.flatnonzero(steps.rows(pieces, size, -1) >= 0), x)
        outputs.append(y.reshape(-1, *x.shape[1:])[inside])
    ended.append(running)
    after = torch.cat(ended[::-1])[_on(np.argsort(steps.order, kind="stable"), x)]
    if not outputs:
        return x.new_zeros(x.shape), after
    return torch.cat(outputs)[_on(_places(steps), x)], after


def _chunks(
    tokens: list[torch.Tensor], a: torch.Tensor, running: torch.Tensor, active: Rows
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Output ``(M, Q, J, P)`` of some steps of chunks, the states that go on, and those that ended, in that order."""
    x, step, b, c = tokens
    chunks, size, heads, width = x.shape
    groups, state = b.shape[2:]
    inside = heads // groups
    passed = torch.cumsum((step * a).double(), 1).transpose(1, 2)  # (M, J, Q)
    later = torch.ones(size, size, dtype=torch.bool, device=x.device).triu(1)
    decay = (passed[..., :, None] - passed[..., None, :]).to(x.dtype).masked_fill(later, -torch.inf).exp()
    b, c = b.transpose(1, 2), c.transpose(1, 2)  # (M, G, Q, N)
    alike = (c @ b.transpose(2, 3))[:, :, None]  # (M, G, 1, Q, Q)
    weights = (decay.view(chunks, groups, inside, size, size) * alike).view(chunks, heads, size, size)
    entering = (x * step[..., None]).transpose(1, 2)  # (M, J, Q, P)
    y = weights @ entering
    left = (passed[..., -1:] - passed).to(x.dtype).exp()[..., None]
    added = (entering * left).view(chunks, groups, inside, size, width).transpose(3, 4)
    added = added.reshape(chunks, groups, inside * width, size) @ b
    added = added.view(chunks, heads, width, state)
    kept = passed[..., -1].to(x.dtype).exp()[..., None, None]  # (M, J, 1, 1)
    before, running, done = _carry(added, kept, running, active)
    seen = c @ before.view(chunks, groups, inside * width, state).transpose(2, 3)  # (M, G, Q, inside P)
    seen = seen.view(chunks, groups, size, inside, width).transpose(2, 3).reshape(chunks, heads, size, width)
    y = y + seen * passed.to(x.dtype).exp()[..., None]
    return y.transpose(1, 2), running, done


def _carry(
    added: torch.Tensor, kept: torch.Tensor, running: torch.Tensor, active: Rows
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """The states before every chunk ``(M, J, P, N)``, those that go on, and those that ended."""
    before: list[torch.Tensor] = []
    done: list[torch.Tensor] = []
    at = 0
    for count in active.tolist():
        if count < len(running):
            done.append(running[count:])
            running = running[:count]
        before.append(running)
        running = kept[at : at + count] * running + added[at : at + count]
        at += count
    return torch.cat(before) if before else added, running, done


def _take(tensor: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The tokens ``rows`` ``(M, Q)``; a row behind the last token gives zeros, with which a state stays as it is."""
    padded = torch.cat((tensor, tensor.new_zeros(1, *tensor.shape[1:])))
    return padded[rows]


def _places(steps: Steps) -> Rows:
    """``(T,)``: where the output of each token stands among those of all pieces."""
    lengths = steps.ends - steps.starts
    first = np.cumsum(lengths) - lengths
    by_start = np.argsort(steps.starts, kind="stable")
    mine = lengths[by_start]
    inner = np.arange(int(mine.sum())) - np.repeat(np.cumsum(mine) - mine, mine)
    places: Rows = np.repeat(first[by_start], mine) + inner
    return places


def _on(rows: Rows, like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(rows)).to(like.device)
