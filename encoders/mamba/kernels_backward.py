"""Compiled gradients of the kernels, float32: what was inside a recurrence is computed again, a few tokens at a time.

Forward, the state is saved every :data:`EVERY` tokens.  Backward, the states in between are computed again from the
saved one into a buffer of the second cache, and walked from the last token to the first.  Unlike forward, a task is a
block of channels or a head of *all* sequences, so that no two tasks add to one gradient; what is summed over channels,
the gradients of b and c, is written per task and summed by the caller.

Letters as in :mod:`unabridged.encoders.mamba.kernels`, with E the tasks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from unabridged.encoders.mamba.kernels import LN2, LOG2E, compiled, exp2n, sigmoid, softplus

EVERY = 16
"""Tokens between two saved states: as many floats as one activation in Mamba-1 with a state of 16."""
WIDTH = 128
"""Channels of a task: a state of 16 for each of :data:`EVERY` tokens is 128 KiB."""
_ONE, _ZERO = np.float32(1.0), np.float32(0.0)


@compiled
def norm_backward(first: int, last: int, tokens: Any, weight: Any, eps: Any, groups: int) -> None:
    """Rows ``first`` to ``last``.  tokens: x, the gradient of the output, that of x, and that of the weight per row."""
    x, given, to_x, to_weight = tokens
    size = len(weight) // groups
    for task in range(first * groups, last * groups):
        t, at = task // groups, (task % groups) * size
        row = x.flat[t * x.stride + at : t * x.stride + at + size]
        g = given.flat[t * given.stride + at : t * given.stride + at + size]
        to_row = to_x.flat[t * to_x.stride + at : t * to_x.stride + at + size]
        per_row = to_weight.flat[t * to_weight.stride + at : t * to_weight.stride + at + size]
        squares = _ZERO
        along = _ZERO
        for j in range(size):
            squares += row[j] * row[j]
            along += row[j] * g[j] * weight[at + j]
        mean = squares / np.float32(size) + eps
        scale = _ONE / np.sqrt(mean)
        pull = along / (mean * np.float32(size))
        for j in range(size):
            per_row[j] = g[j] * row[j] * scale
            to_row[j] = scale * (g[j] * weight[at + j] - row[j] * pull)


@compiled
def conv_inside(first: int, last: int, offsets: Any, weights: Any, tokens: Any, sums: Any) -> None:  # noqa: C901
    """Tokens ``first`` to ``last``: the gradient before silu, and the sums for weight and bias of these tokens.

    weights: weight ``(K, C)``, bias ``(C,)``.  tokens: x, the gradient of the output, what is made; the tails before
    ``(B, C, K - 1)``.  sums: the number of parts, and ``(parts, K + 1, C)``, zeros before: bias behind the weights.
    """
    weight, bias = weights
    x, given, made, before = tokens
    parts, total = sums
    width, channels = weight.shape
    reach = width - 1
    mine = total[(first * parts + offsets[-1] - 1) // offsets[-1]]
    s = np.searchsorted(offsets, first, side="right") - 1
    row = np.empty((width, channels), np.float32)
    for t in range(first, last):
        while t >= offsets[s + 1]:
            s += 1
        start = offsets[s]
        for k in range(width):
            at = t - reach + k
            if at >= start:
                row[k] = x.flat[at * x.stride : at * x.stride + channels]
            else:
                row[k] = before[s, :, at - start + reach]
        to = made.flat[t * made.stride : t * made.stride + channels]
        g = given.flat[t * given.stride : t * given.stride + channels]
        for j in range(channels):
            to[j] = bias[j]
        for k in range(width):
            for j in range(channels):
                to[j] += weight[k, j] * row[k, j]
        for j in range(channels):
            gate = sigmoid(to[j])
            to[j] = g[j] * gate * (_ONE + to[j] * (_ONE - gate))
            mine[width, j] += to[j]
        for k in range(width):
            for j in range(channels):
                mine[k, j] += to[j] * row[k, j]


@compiled
def conv_outside(first: int, last: int, offsets: Any, weight: Any, tokens: Any, tails: Any) -> None:
    """Tokens ``first`` to ``last``: the gradient of x from those before silu that x has a part in.

    tokens: what :func:`conv_inside` made, the gradient of x.  tails: the gradient of the tails behind.
    """
    made, to_x = tokens
    width, channels = weight.shape
    reach = width - 1
    s = np.searchsorted(offsets, first, side="right") - 1
    for t in range(first, last):
        while t >= offsets[s + 1]:
            s += 1
        end = offsets[s + 1]
        to = to_x.flat[t * to_x.stride : t * to_x.stride + channels]
        for j in range(channels):
            to[j] = _ZERO
        for k in range(width):
            at = t + reach - k
            if at < end:
                g = made.flat[at * made.stride : at * made.stride + channels]
                for j in range(channels):
                    to[j] += weight[k, j] * g[j]
        if t >= end - reach:
            for j in range(channels):
                to[j] += tails[s, j, t - end + reach]


@compiled
def conv_before(first: int, last: int, offsets: Any, weight: Any, made: Any, tails: Any) -> None:
    """Sequences ``first`` to ``last``: the gradient of the tails before.  tails: that of those behind, and that."""
    behind, to_before = tails
    width, channels = weight.shape
    reach = width - 1
    for s in range(first, last):
        length = offsets[s + 1] - offsets[s]
        for i in range(reach):
            for j in range(channels):
                total = behind[s, j, i - length] if i >= length else _ZERO
                for k in range(i + 1):
                    if i - k < length:
                        total += weight[k, j] * made.flat[(offsets[s] + i - k) * made.stride + j]
                to_before[s, j, i] = total


@compiled
def scan1_backward(first: int, last: int, offsets: Any, weights: Any, tokens: Any, states: Any) -> None:  # noqa: C901
    """Tasks are blocks of channels.

    weights: ``log2(e) a`` ``(N, I)``, skip ``(I,)``, bias ``(I,)`` and the gradients of a ``(N, I)`` and skip, zeros
    before.  tokens: x, step, b, c, gate, the gradient of the output; the gradients of x, step, gate; of b and c
    ``(E, T, N)``.  states: saved ``(M, N, I)``, the first row of each sequence in it ``(B,)``; the gradient of the
    states behind and of those before ``(B, I, N)``.
    """
    scale, skip, bias, to_a, to_skip = weights
    x, step, b, c, gate, given, to_x, to_step, to_gate, to_b, to_c = tokens
    saved, rows, after_given, to_before = states
    state, channels = scale.shape
    h = np.empty((EVERY + 1, state, WIDTH), np.float32)
    kept = np.empty((EVERY, state, WIDTH), np.float32)
    y = np.empty((EVERY, WIDTH), np.float32)
    delta = np.empty((EVERY, WIDTH), np.float32)
    back = np.empty((state, WIDTH), np.float32)
    slow = np.empty((5, WIDTH), np.float32)
    entering, to_y, to_entering, to_delta, x_row = slow[0], slow[1], slow[2], slow[3], slow[4]
    for task in range(first, last):
        at = task * WIDTH
        w = min(WIDTH, channels - at)
        for s in range(len(offsets) - 1):
            start, end = offsets[s], offsets[s + 1]
            for n in range(state):
                for j in range(w):
                    back[n, j] = after_given[s, at + j, n]
            for piece in range((end - start + EVERY - 1) // EVERY - 1, -1, -1):
                low = start + piece * EVERY
                high = min(low + EVERY, end)
                for n in range(state):
                    for j in range(w):
                        h[0, n, j] = saved[rows[s] + piece, n, at + j]
                for t in range(low, high):
                    i = t - low
                    x_t = x.flat[t * x.stride + at : t * x.stride + at + w]
                    step_t = step.flat[t * step.stride + at : t * step.stride + at + w]
                    for j in range(w):
                        delta[i, j] = softplus(step_t[j] + bias[at + j])
                        entering[j] = delta[i, j] * x_t[j]
                        y[i, j] = skip[at + j] * x_t[j]
                    for n in range(state):
                        b_t = b.flat[t * b.stride + n]
                        c_t = c.flat[t * c.stride + n]
                        for j in range(w):
                            power = exp2n(delta[i, j] * scale[n, at + j])
                            value = h[i, n, j] * power + entering[j] * b_t
                            kept[i, n, j] = power
                            h[i + 1, n, j] = value
                            y[i, j] += value * c_t
                for t in range(high - 1, low - 1, -1):
                    i = t - low
                    x_t = x.flat[t * x.stride + at : t * x.stride + at + w]
                    gate_t = gate.flat[t * gate.stride + at : t * gate.stride + at + w]
                    g = given.flat[t * given.stride + at : t * given.stride + at + w]
                    to_gate_t = to_gate.flat[t * to_gate.stride + at : t * to_gate.stride + at + w]
                    for j in range(w):
                        x_row[j] = x_t[j]
                        open_ = sigmoid(gate_t[j])
                        to_y[j] = g[j] * gate_t[j] * open_
                        to_gate_t[j] = g[j] * y[i, j] * open_ * (_ONE + gate_t[j] * (_ONE - open_))
                        to_skip[at + j] += to_y[j] * x_row[j]
                        entering[j] = delta[i, j] * x_row[j]
                        to_entering[j] = _ZERO
                        to_delta[j] = _ZERO
                    for n in range(state):
                        b_t = b.flat[t * b.stride + n]
                        c_t = c.flat[t * c.stride + n]
                        sum_b = _ZERO
                        sum_c = _ZERO
                        for j in range(w):
                            g_h = back[n, j] + to_y[j] * c_t
                            sum_c += to_y[j] * h[i + 1, n, j]
                            sum_b += g_h * entering[j]
                            to_entering[j] += g_h * b_t
                            back[n, j] = g_h * kept[i, n, j]
                            to_power = back[n, j] * h[i, n, j]
                            to_delta[j] += to_power * scale[n, at + j]
                            to_a[n, at + j] += to_power * delta[i, j]
                        to_b[task, t, n] = sum_b
                        to_c[task, t, n] = sum_c
                    to_x_t = to_x.flat[t * to_x.stride + at : t * to_x.stride + at + w]
                    to_step_t = to_step.flat[t * to_step.stride + at : t * to_step.stride + at + w]
                    step_t = step.flat[t * step.stride + at : t * step.stride + at + w]
                    for j in range(w):
                        to_x_t[j] = skip[at + j] * to_y[j] + delta[i, j] * to_entering[j]
                        slope = sigmoid(step_t[j] + bias[at + j])
                        to_step_t[j] = (x_row[j] * to_entering[j] + to_delta[j] * LN2) * slope
            for n in range(state):
                for j in range(w):
                    to_before[s, at + j, n] = back[n, j]


@compiled
def scan2_backward(first: int, last: int, offsets: Any, weights: Any, tokens: Any, states: Any) -> None:  # noqa: C901
    """Tasks are heads.

    weights: a, skip, bias ``(J,)``, lowest and highest step, G, and the gradients of a and skip ``(J,)``, zeros before.
    tokens as in :func:`scan1_backward`, steps ``(T, J)``, b and c per head ``(J, T, N)``.  states: saved
    ``(M, J, N, P)``, rows, the gradients of the states behind and before ``(B, J, P, N)``.
    """
    a, skip, bias, lowest, highest, groups, to_a, to_skip = weights
    x, step, b, c, gate, given, to_x, to_step, to_gate, to_b, to_c = tokens
    saved, rows, after_given, to_before = states
    heads, width, state = to_before.shape[1:]
    together = heads // groups
    h = np.empty((EVERY + 1, state, width), np.float32)
    y = np.empty((EVERY, width), np.float32)
    back = np.empty((state, width), np.float32)
    slow = np.empty((3, width), np.float32)
    entering, to_y, to_entering = slow[0], slow[1], slow[2]
    for head in range(first, last):
        at = head * width
        shared = (head // together) * state
        for s in range(len(offsets) - 1):
            start, end = offsets[s], offsets[s + 1]
            for n in range(state):
                for p in range(width):
                    back[n, p] = after_given[s, head, p, n]
            for piece in range((end - start + EVERY - 1) // EVERY - 1, -1, -1):
                low = start + piece * EVERY
                high = min(low + EVERY, end)
                h[0] = saved[rows[s] + piece, head]
                for t in range(low, high):
                    i = t - low
                    delta = min(max(softplus(step.flat[t * step.stride + head] + bias[head]), lowest), highest)
                    kept = exp2n(delta * a[head] * LOG2E)
                    x_t = x.flat[t * x.stride + at : t * x.stride + at + width]
                    for p in range(width):
                        entering[p] = delta * x_t[p]
                        y[i, p] = skip[head] * x_t[p]
                    b_t = b.flat[t * b.stride + shared : t * b.stride + shared + state]
                    c_t = c.flat[t * c.stride + shared : t * c.stride + shared + state]
                    for n in range(0, state - 1, 2):
                        b_0, b_1, c_0, c_1 = b_t[n], b_t[n + 1], c_t[n], c_t[n + 1]
                        for p in range(width):
                            value_0 = h[i, n, p] * kept + entering[p] * b_0
                            value_1 = h[i, n + 1, p] * kept + entering[p] * b_1
                            h[i + 1, n, p] = value_0
                            h[i + 1, n + 1, p] = value_1
                            y[i, p] += value_0 * c_0 + value_1 * c_1
                    for n in range(state - state % 2, state):
                        for p in range(width):
                            value_0 = h[i, n, p] * kept + entering[p] * b_t[n]
                            h[i + 1, n, p] = value_0
                            y[i, p] += value_0 * c_t[n]
                for t in range(high - 1, low - 1, -1):
                    i = t - low
                    raw = step.flat[t * step.stride + head] + bias[head]
                    free = softplus(raw)
                    delta = min(max(free, lowest), highest)
                    kept = exp2n(delta * a[head] * LOG2E)
                    x_t = x.flat[t * x.stride + at : t * x.stride + at + width]
                    gate_t = gate.flat[t * gate.stride + at : t * gate.stride + at + width]
                    g = given.flat[t * given.stride + at : t * given.stride + at + width]
                    to_gate_t = to_gate.flat[t * to_gate.stride + at : t * to_gate.stride + at + width]
                    sum_skip = _ZERO
                    for p in range(width):
                        open_ = sigmoid(gate_t[p])
                        to_y[p] = g[p] * gate_t[p] * open_
                        to_gate_t[p] = g[p] * y[i, p] * open_ * (_ONE + gate_t[p] * (_ONE - open_))
                        sum_skip += to_y[p] * x_t[p]
                        entering[p] = delta * x_t[p]
                        to_entering[p] = _ZERO
                    to_skip[head] += sum_skip
                    to_power = _ZERO
                    b_t = b.flat[t * b.stride + shared : t * b.stride + shared + state]
                    c_t = c.flat[t * c.stride + shared : t * c.stride + shared + state]
                    for n in range(0, state - 1, 2):
                        b_0, b_1, c_0, c_1 = b_t[n], b_t[n + 1], c_t[n], c_t[n + 1]
                        sum_b_0 = sum_b_1 = sum_c_0 = sum_c_1 = _ZERO
                        for p in range(width):
                            g_0 = back[n, p] + to_y[p] * c_0
                            g_1 = back[n + 1, p] + to_y[p] * c_1
                            sum_c_0 += to_y[p] * h[i + 1, n, p]
                            sum_c_1 += to_y[p] * h[i + 1, n + 1, p]
                            sum_b_0 += g_0 * entering[p]
                            sum_b_1 += g_1 * entering[p]
                            to_entering[p] += g_0 * b_0 + g_1 * b_1
                            to_power += g_0 * h[i, n, p] + g_1 * h[i, n + 1, p]
                            back[n, p] = g_0 * kept
                            back[n + 1, p] = g_1 * kept
                        to_b[head, t, n], to_b[head, t, n + 1] = sum_b_0, sum_b_1
                        to_c[head, t, n], to_c[head, t, n + 1] = sum_c_0, sum_c_1
                    for n in range(state - state % 2, state):
                        sum_b_0 = sum_c_0 = _ZERO
                        for p in range(width):
                            g_0 = back[n, p] + to_y[p] * c_t[n]
                            sum_c_0 += to_y[p] * h[i + 1, n, p]
                            sum_b_0 += g_0 * entering[p]
                            to_entering[p] += g_0 * b_t[n]
                            to_power += g_0 * h[i, n, p]
                            back[n, p] = g_0 * kept
                        to_b[head, t, n], to_c[head, t, n] = sum_b_0, sum_c_0
                    to_power *= kept
                    to_x_t = to_x.flat[t * to_x.stride + at : t * to_x.stride + at + width]
                    to_delta = to_power * a[head]
                    for p in range(width):
                        to_x_t[p] = skip[head] * to_y[p] + delta * to_entering[p]
                        to_delta += x_t[p] * to_entering[p]
                    to_a[head] += to_power * delta
                    inside = free >= lowest and free <= highest
                    to_step.flat[t * to_step.stride + head] = to_delta * sigmoid(raw) if inside else _ZERO
            for n in range(state):
                for p in range(width):
                    to_before[s, head, p, n] = back[n, p]
