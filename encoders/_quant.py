"""Eight-bit matrices and the operators that multiply with them, as ONNX nodes.

What is quantised, and how, was chosen by simulating one matrix kind at a time in float32 (all-MiniLM-L6-v2, 15
windows of up to 160 tokens; lowest cosine to float32).  The simulation balanced channels by ranges of sample text,
the code below by the LayerNorm, so the table ranks the choices and is not what this code reaches:

==================  =======================  =============================
matrix              one scale per sequence   treated as below
==================  =======================  =============================
query, key, value   0.9981                   0.9991   channels balanced
attention output    0.9998                   0.9998   nothing
feed-forward up     0.9958                   0.9989   channels balanced
feed-forward down   0.9943                   0.9979   one scale per token
==================  =======================  =============================

*Balanced* is SmoothQuant (Xiao et al. 2023, arXiv 2211.10438, equation 4, alpha 0.5): input channels with a wide
range are divided by a factor that their weights are multiplied with.  The paper takes ranges from sample text;
after a LayerNorm they follow from its gain and bias, so no text is needed and the result depends on the weights only.

Weights have 7 bits: without VNNI, x86 adds two 8-bit products in 16 bits, and 2 * 255 * 64 is the most that fits.
A sequence is alone in its run, so a scale per tensor is a scale per sequence and no vector depends on batch mates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Floats
from unabridged.encoders._packed_weights import Linear, Norm

SCHEME = "w7a8-1"
"""Part of the passport; changes when vectors would."""
WEIGHT_MAX = 63
GELU_LOW = 0.17
"""gelu is never below -0.16997, so the larger of a row's largest value and this bounds the row on both sides."""
REACH = 2.0
"""Standard deviations a normalised value is taken to reach when channels are balanced.

The graph as a whole on 50 windows of Python sources and Markdown: lowest cosine 0.9927, mean 0.9953.  4 and 8 gave
0.9914 and 0.9924 lowest: chosen on these windows, so other text is the fair test."""
MICROSOFT = "com.microsoft"


class Graph(Protocol):
    """What adds nodes and constants; see :mod:`unabridged.encoders._onnx_graph`."""

    def node(self, op: str, inputs: Sequence[str], *, outputs: int = 1, domain: str = "", **attributes: Any) -> str: ...
    def const(self, array: Any) -> str: ...


def quantize(weight: Floats) -> tuple[NDArray[np.int8], Floats]:
    """``(in, out)`` int8 in [-63, 63] and one float32 scale per output channel of ``weight`` ``(out, in)``."""
    scale = np.maximum(np.abs(weight).max(axis=1), 1e-12).astype(np.float32) / WEIGHT_MAX
    rounded = np.rint(weight / scale[:, None]).astype(np.int8)
    return np.ascontiguousarray(rounded.T), scale


def balance(weight: Floats, norm: Norm) -> Floats:
    """SmoothQuant's divisor ``(in,)`` for the input channels of ``weight`` ``(out, in)``, geometric mean 1."""
    reach = np.maximum(np.abs(norm.bias) + REACH * np.abs(norm.weight), 1e-4)
    wide = np.maximum(np.abs(weight).max(axis=0), 1e-4)
    log = 0.5 * (np.log(reach) - np.log(wide))
    divisor: Floats = np.exp(log - log.mean()).astype(np.float32)
    return divisor


def attention(graph: Graph, x: str, qkv: Linear, norm: Norm, heads: int) -> str:
    """Attention ``(1, L, H)`` of ``x`` ``(1, L, H)`` to itself; ``norm`` is the LayerNorm that gave ``x``."""
    divisor = balance(qkv.weight, norm)
    weight, scale = quantize(qkv.weight * divisor)
    balanced = graph.node("Mul", [x, graph.const(1 / divisor)])
    values = graph.node("DynamicQuantizeLinear", [balanced], outputs=3)
    inputs = [values, graph.const(weight), graph.const(qkv.bias), f"{values}_1", graph.const(scale), ""]
    zeros = graph.const(np.zeros(len(scale), np.int8))
    return graph.node("QAttention", [*inputs, f"{values}_2", zeros], domain=MICROSOFT, num_heads=heads)


def plain(graph: Graph, x: str, linear: Linear) -> str:
    """``linear`` of ``x``, with one scale for the sequence."""
    weight, scale = quantize(linear.weight)
    zeros = np.zeros(len(scale), np.int8)
    inputs = [x, *map(graph.const, (weight, scale, zeros, linear.bias))]
    return graph.node("DynamicQuantizeMatMul", inputs, domain=MICROSOFT)


def balanced(graph: Graph, x: str, linear: Linear, norm: Norm) -> str:
    """``linear`` of ``x`` without its bias, channels balanced; ``norm`` is the LayerNorm that gave ``x``."""
    divisor = balance(linear.weight, norm)
    weight, scale = quantize(linear.weight * divisor)
    scaled = graph.node("Mul", [x, graph.const(1 / divisor)])
    inputs = [scaled, *map(graph.const, (weight, scale, np.zeros(len(scale), np.int8)))]
    return graph.node("DynamicQuantizeMatMul", inputs, domain=MICROSOFT)


def per_token(graph: Graph, x: str, linear: Linear) -> str:
    """``linear`` of ``x``, an output of gelu, with one scale per token."""
    weight, scale = quantize(linear.weight)
    largest = graph.node("ReduceMax", [x, graph.const(np.array([-1], np.int64))], keepdims=1)
    bound = graph.node("Max", [largest, graph.const(np.float32(GELU_LOW))])
    step, zero = graph.const(np.float32(1 / 127)), graph.const(np.uint8(128))
    values = graph.node("QuantizeLinear", [graph.node("Div", [x, bound]), step, zero])
    inputs = [values, graph.const(weight), step, graph.const(scale), zero, graph.const(np.zeros(len(scale), np.int8))]
    product = graph.node("MatMulIntegerToFloat", inputs, domain=MICROSOFT)
    return graph.node("Add", [graph.node("Mul", [product, bound]), graph.const(linear.bias)])
