"""Compiled kernels of a Mamba block for the CPU, float32: the state of a recurrence never leaves the first cache.

Each kernel does tasks ``first`` to ``last``: a task of a scan is one sequence and :data:`WIDTH` channels (Mamba-1) or
one sequence and one head (Mamba-2), time runs inside it, and the innermost loops run over channels, so that they become
SIMD instructions.  What stands between two matmuls of a layer is one pass: time step, recurrence, skip, gate.  Loops
are nested as deep as the arithmetic is: a call per token would cost more than a token (hence ``noqa: C901``).

Numba and not a C++ extension: no compiler is needed where it runs.  Measured (``benchmarks/results/mamba_cpu.md``,
mamba-130m, 2,048 tokens, two AVX2 cores): 3.6 s, of which 2.0 s are the matmuls, where transformers takes 17.7 s; a C++
extension was not timed against it.  Compiling takes 5 s per variant and 6 to 9 s for its gradients, once: the machine
code is kept beside this file, or in the user's cache folder where that cannot be written.

No ``prange``: kernels let the interpreter go, and :mod:`unabridged.encoders.mamba.threads` gives them to as many
threads as torch uses; no thread count is set, so none has to be restored, and several callers do no harm.  There is no
vector ``exp`` in Numba without Intel's SVML: one of degree 6 is here.

A matrix of tokens is a :class:`Matrix`, its memory from its first element on and the distance of its rows: a part of
the columns of another one is passed without a copy, and the compiler still sees contiguous channels.

Letters::

    T packed tokens   B sequences   C convolved channels   K width of the convolution
    I inner channels   N state   J heads   P channels of a head   G groups of heads
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from unabridged._extras import require

numba = require("numba", extra="mamba", purpose="compiled kernels of Mamba")
_F = TypeVar("_F", bound=Callable[..., Any])
_f = np.float32
_i = np.int32

WIDTH = 256
"""Channels of a task of :func:`scan1`: with a state of 16 two arrays of 16 KiB are walked per token; 64 channels take
1.5 times as long, 128 a sixth more."""
LOG2E = _f(1.4426950408889634)
LN2 = _f(0.6931471805599453)
_LOWEST = _f(-126.0)  # of a power of 2 that is a normal float32
_HALF, _ONE, _TWO, _ZERO = _f(0.5), _f(1.0), _f(2.0), _f(0.0)
# 2^x on [-1/2, 1/2]: interpolation at Chebyshev points, degree 6, relative error below 1e-8 before rounding
_E1, _E2, _E3 = _f(6.93147207e-01), _f(2.40226512e-01), _f(5.55032721e-02)
_E4, _E5, _E6 = _f(9.61802560e-03), _f(1.34004322e-03), _f(1.54697320e-04)
# atanh(sqrt v) / sqrt v on [0, 1/9], degree 5 likewise
_A1, _A2, _A3 = _f(0.3333334), _f(0.19999347), _f(0.14310312)
_A4, _A5 = _f(0.10697134), _f(0.12204702)


class Matrix(NamedTuple):
    """Rows of float32 with a distance between them: element ``[t, c]`` is ``flat[t * stride + c]``."""

    flat: Any
    stride: int


def compiled(function: _F) -> _F:
    """``function`` as machine code, on its first call or from the cache of an earlier process.

    Sums may be taken in another order and multiplied-and-added at once; NaN and infinity mean what they mean.
    """
    options = {"fastmath": {"contract", "reassoc"}, "error_model": "numpy", "nogil": True}
    try:
        return cast("_F", numba.njit(function, cache=True, **options))
    except RuntimeError:  # no folder to keep a cache in: then every process compiles for itself
        return cast("_F", numba.njit(function, **options))


@compiled
def exp2n(x: Any) -> Any:
    """``2^x`` for ``x <= 0``; NaN stays NaN, and below 2^-126 it is 2^-126."""
    x = _LOWEST if x < _LOWEST else x
    whole = _i(x - _HALF)
    rest = x - _f(whole)
    power = _E6
    power = power * rest + _E5
    power = power * rest + _E4
    power = power * rest + _E3
    power = power * rest + _E2
    power = power * rest + _E1
    power = power * rest + _ONE
    return power * _i((whole + _i(127)) << _i(23)).view(np.float32)


@compiled
def softplus(x: Any) -> Any:
    """``log(1 + e^x)``, exact to rounding for small and large ones: ``log1p(u) = 2 atanh(u / (2 + u))``."""
    u = exp2n(-abs(x) * LOG2E)
    s = u / (_TWO + u)
    v = s * s
    q = _A5
    q = q * v + _A4
    q = q * v + _A3
    q = q * v + _A2
    q = q * v + _A1
    q = q * v + _ONE
    return (_ZERO if x < _ZERO else x) + _TWO * s * q


@compiled
def sigmoid(x: Any) -> Any:
    """``1 / (1 + e^-x)``."""
    e = exp2n(-abs(x) * LOG2E)
    return (e if x < _ZERO else _ONE) / (_ONE + e)


@compiled
def norm(first: int, last: int, tokens: Any, weight: Any, eps: Any, groups: int) -> None:
    """Rows ``first`` to ``last``: ``out = weight x / sqrt(mean(x^2) + eps)``, the mean over each of ``groups`` runs."""
    x, out = tokens
    size = len(weight) // groups
    for task in range(first * groups, last * groups):
        t, at = task // groups, (task % groups) * size
        row = x.flat[t * x.stride + at : t * x.stride + at + size]
        to = out.flat[t * out.stride + at : t * out.stride + at + size]
        total = _ZERO
        for j in range(size):
            total += row[j] * row[j]
        scale = _ONE / np.sqrt(total / _f(size) + eps)
        for j in range(size):
            to[j] = row[j] * scale * weight[at + j]


@compiled
def conv(first: int, last: int, offsets: Any, weights: Any, tokens: Any, before: Any) -> None:
    """Tokens ``first`` to ``last``: ``out = silu(bias + sum_k weight[k] x[t - K + 1 + k])``.

    weights: ``(K, C)``, ``(C,)``.  tokens: x, out.  before: the tails ``(B, C, K - 1)``.  By tokens, not by channels:
    a row of x is 6 KiB in one piece, and four of them stay in the first cache.
    """
    weight, bias = weights
    x, out = tokens
    width, channels = weight.shape
    reach = width - 1
    s = np.searchsorted(offsets, first, side="right") - 1
    for t in range(first, last):
        while t >= offsets[s + 1]:
            s += 1
        start = offsets[s]
        to = out.flat[t * out.stride : t * out.stride + channels]
        if width == 4 and t - start >= 3:  # every published model, and all but three tokens
            row0 = x.flat[(t - 3) * x.stride : (t - 3) * x.stride + channels]
            row1 = x.flat[(t - 2) * x.stride : (t - 2) * x.stride + channels]
            row2 = x.flat[(t - 1) * x.stride : (t - 1) * x.stride + channels]
            row3 = x.flat[t * x.stride : t * x.stride + channels]
            for j in range(channels):
                value = bias[j] + weight[0, j] * row0[j] + weight[1, j] * row1[j]
                value += weight[2, j] * row2[j] + weight[3, j] * row3[j]
                to[j] = value * sigmoid(value)
            continue
        for j in range(channels):
            to[j] = bias[j]
        for k in range(width):
            at = t - reach + k
            for j in range(channels):
                value = x.flat[at * x.stride + j] if at >= start else before[s, j, at - start + reach]
                to[j] += weight[k, j] * value
        for j in range(channels):
            to[j] = to[j] * sigmoid(to[j])


@compiled
def scan1(first: int, last: int, offsets: Any, weights: Any, tokens: Any, states: Any) -> None:  # noqa: C901
    """Mamba-1 from the raw time step to the gate; states go into ``saved`` every ``every`` tokens, if it has rows.

    weights: ``log2(e) a`` ``(N, I)``, skip ``(I,)``, bias ``(I,)``.  tokens: x, step, b, c, gate, out.
    states: before and after ``(B, I, N)``; saved ``(M, N, I)`` and the first row of each sequence in it ``(B,)``;
    ``every``.
    """
    scale, skip, bias = weights
    x, step, b, c, gate, out = tokens
    before, after, saved, rows, every = states
    state, channels = scale.shape
    blocks = (channels + WIDTH - 1) // WIDTH
    h = np.empty((state, WIDTH), np.float32)
    a = np.empty((state, WIDTH), np.float32)
    delta = np.empty(WIDTH, np.float32)
    entering = np.empty(WIDTH, np.float32)
    y = np.empty(WIDTH, np.float32)
    for task in range(first, last):
        s = task // blocks
        at = (task % blocks) * WIDTH
        w = min(WIDTH, channels - at)
        for n in range(state):
            for j in range(w):
                a[n, j] = scale[n, at + j]
                h[n, j] = before[s, at + j, n]
        for t in range(offsets[s], offsets[s + 1]):
            if len(saved) and (t - offsets[s]) % every == 0:
                row = rows[s] + (t - offsets[s]) // every
                for n in range(state):
                    for j in range(w):
                        saved[row, n, at + j] = h[n, j]
            x_t = x.flat[t * x.stride + at : t * x.stride + at + w]
            step_t = step.flat[t * step.stride + at : t * step.stride + at + w]
            for j in range(w):
                delta[j] = softplus(step_t[j] + bias[at + j])
                entering[j] = delta[j] * x_t[j]
                y[j] = skip[at + j] * x_t[j]
            for n in range(0, state - 3, 4):  # four at a time: the loop reads and writes less
                b_0, b_1 = b.flat[t * b.stride + n], b.flat[t * b.stride + n + 1]
                b_2, b_3 = b.flat[t * b.stride + n + 2], b.flat[t * b.stride + n + 3]
                c_0, c_1 = c.flat[t * c.stride + n], c.flat[t * c.stride + n + 1]
                c_2, c_3 = c.flat[t * c.stride + n + 2], c.flat[t * c.stride + n + 3]
                for j in range(w):
                    value_0 = h[n, j] * exp2n(delta[j] * a[n, j]) + entering[j] * b_0
                    value_1 = h[n + 1, j] * exp2n(delta[j] * a[n + 1, j]) + entering[j] * b_1
                    value_2 = h[n + 2, j] * exp2n(delta[j] * a[n + 2, j]) + entering[j] * b_2
                    value_3 = h[n + 3, j] * exp2n(delta[j] * a[n + 3, j]) + entering[j] * b_3
                    h[n, j] = value_0
                    h[n + 1, j] = value_1
                    h[n + 2, j] = value_2
                    h[n + 3, j] = value_3
                    y[j] += value_0 * c_0 + value_1 * c_1 + value_2 * c_2 + value_3 * c_3
            for n in range(state - state % 4, state):
                b_0, c_0 = b.flat[t * b.stride + n], c.flat[t * c.stride + n]
                for j in range(w):
                    value_0 = h[n, j] * exp2n(delta[j] * a[n, j]) + entering[j] * b_0
                    h[n, j] = value_0
                    y[j] += value_0 * c_0
            gate_t = gate.flat[t * gate.stride + at : t * gate.stride + at + w]
            out_t = out.flat[t * out.stride + at : t * out.stride + at + w]
            for j in range(w):
                out_t[j] = y[j] * gate_t[j] * sigmoid(gate_t[j])
        for n in range(state):
            for j in range(w):
                after[s, at + j, n] = h[n, j]


@compiled
def scan2(first: int, last: int, offsets: Any, weights: Any, tokens: Any, states: Any) -> None:  # noqa: C901
    """Mamba-2 from the raw time step to the gate, head by head, as a recurrence.

    weights: a, skip and bias ``(J,)``, the lowest and the highest time step, G.  tokens: x, step, b, c, gate, out.
    states: before and after ``(B, J, P, N)``; saved ``(M, J, N, P)``, rows and every as in :func:`scan1`.
    """
    a, skip, bias, low, high, groups = weights
    x, step, b, c, gate, out = tokens
    before, after, saved, rows, every = states
    heads, width, state = before.shape[1:]
    together = heads // groups
    h = np.empty((state, width), np.float32)
    entering = np.empty(width, np.float32)
    y = np.empty(width, np.float32)
    for task in range(first, last):
        s = task // heads
        head = task % heads
        at = head * width
        shared = (head // together) * state
        for n in range(state):
            for p in range(width):
                h[n, p] = before[s, head, p, n]
        for t in range(offsets[s], offsets[s + 1]):
            if len(saved) and (t - offsets[s]) % every == 0:
                saved[rows[s] + (t - offsets[s]) // every, head] = h
            delta = min(max(softplus(step.flat[t * step.stride + head] + bias[head]), low), high)
            kept = exp2n(delta * a[head] * LOG2E)
            x_t = x.flat[t * x.stride + at : t * x.stride + at + width]
            for p in range(width):
                entering[p] = delta * x_t[p]
                y[p] = skip[head] * x_t[p]
            b_t = b.flat[t * b.stride + shared : t * b.stride + shared + state]
            c_t = c.flat[t * c.stride + shared : t * c.stride + shared + state]
            for n in range(0, state - 3, 4):
                b_0, b_1, b_2, b_3 = b_t[n], b_t[n + 1], b_t[n + 2], b_t[n + 3]
                c_0, c_1, c_2, c_3 = c_t[n], c_t[n + 1], c_t[n + 2], c_t[n + 3]
                for p in range(width):
                    value_0 = h[n, p] * kept + entering[p] * b_0
                    value_1 = h[n + 1, p] * kept + entering[p] * b_1
                    value_2 = h[n + 2, p] * kept + entering[p] * b_2
                    value_3 = h[n + 3, p] * kept + entering[p] * b_3
                    h[n, p] = value_0
                    h[n + 1, p] = value_1
                    h[n + 2, p] = value_2
                    h[n + 3, p] = value_3
                    y[p] += value_0 * c_0 + value_1 * c_1 + value_2 * c_2 + value_3 * c_3
            for n in range(state - state % 4, state):
                for p in range(width):
                    value_0 = h[n, p] * kept + entering[p] * b_t[n]
                    h[n, p] = value_0
                    y[p] += value_0 * c_t[n]
            gate_t = gate.flat[t * gate.stride + at : t * gate.stride + at + width]
            out_t = out.flat[t * out.stride + at : t * out.stride + at + width]
            for p in range(width):
                out_t[p] = y[p] * gate_t[p] * sigmoid(gate_t[p])
        for n in range(state):
            for p in range(width):
                after[s, head, p, n] = h[n, p]
