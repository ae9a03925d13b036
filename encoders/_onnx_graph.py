"""A BERT-like encoder as an ONNX graph, built from its weights: no exporter and no tracing.

The graph takes the summed embeddings ``(1, L, H)`` of one sequence and gives its hidden states ``(1, L, H)``.
LayerNormalization after Add, not the fused SkipLayerNormalization: the fused kernel took 2.3 us per token and
layer on AVX2 (onnxruntime 1.32), the two together 0.5.  MultiHeadAttention in float32, not Attention: it keeps no
score matrix.  With all-MiniLM-L6-v2 on one core, tokens per second and memory at 512 tokens 2,800 and 0.6 GB against
2,600 and 0.6, at 4,096 tokens 1,020 and 0.8 GB against 560 and 1.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unabridged._extras import require
from unabridged.encoders import _quant
from unabridged.encoders._packed_weights import Layer, Linear, Norm, Weights

OPSET = 20
IR_VERSION = 9
"""Old enough for onnxruntime 1.20, whatever onnx writes by default."""


class GraphBuilder:
    """Nodes and constants of a graph, with names given by count."""

    def __init__(self) -> None:
        self._onnx = require("onnx", extra="onnx", purpose="the onnx backend")
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def node(self, op: str, inputs: Sequence[str], *, outputs: int = 1, domain: str = "", **attributes: Any) -> str:
        """The name of the node's first output; the others end in ``_1``, ``_2``."""
        name = f"{op}{len(self._nodes)}"
        names = [name, *(f"{name}_{i}" for i in range(1, outputs))]
        self._nodes.append(self._onnx.helper.make_node(op, list(inputs), names, domain=domain, **attributes))
        return name

    def const(self, array: Any) -> str:
        """The name of a constant."""
        name = f"constant{len(self._constants)}"
        self._constants.append(
            self._onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(np.shape(array)), name)
        )
        return name

    def model(self, source: str, result: str, width: int) -> bytes:
        """The serialised model from ``source`` to ``result``, both ``(1, L, width)`` float32."""
        helper, shape = self._onnx.helper, [1, "length", width]
        places = [helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, shape) for name in (source, result)]
        graph = helper.make_graph(self._nodes, "encoder", places[:1], places[1:], self._constants)
        sets = [helper.make_opsetid("", OPSET), helper.make_opsetid(_quant.MICROSOFT, 1)]
        content: bytes = helper.make_model(graph, opset_imports=sets, ir_version=IR_VERSION).SerializeToString()
        return content


def build(weights: Weights, *, int8: bool) -> bytes:
    """The serialised ONNX model; its input is called ``embedded``."""
    graph = GraphBuilder()
    normalize = _Normalize(graph, weights.eps)
    before = weights.norm
    x = normalize("embedded", before)
    for layer in weights.layers:
        mixed = _mix(graph, x, layer, before, weights.heads, int8)
        x = normalize(graph.node("Add", [x, mixed]), layer.attention_norm)
        x = normalize(graph.node("Add", [x, _feed(graph, x, layer, weights.approximate, int8)]), layer.norm)
        before = layer.norm
    return graph.model("embedded", x, weights.width)


class _Normalize:
    def __init__(self, graph: GraphBuilder, eps: float) -> None:
        self._graph, self._eps = graph, eps

    def __call__(self, x: str, norm: Norm) -> str:
        inputs = [x, self._graph.const(norm.weight), self._graph.const(norm.bias)]
        return self._graph.node("LayerNormalization", inputs, axis=-1, epsilon=self._eps)


def _mix(graph: GraphBuilder, x: str, layer: Layer, before: Norm, heads: int, int8: bool) -> str:
    if int8:
        return _quant.plain(graph, _quant.attention(graph, x, layer.qkv, before, heads), layer.out)
    product = graph.node("MatMul", [x, graph.const(layer.qkv.weight.T)])
    parts = graph.const(np.full(3, layer.qkv.weight.shape[1], dtype=np.int64))
    query = graph.node("Split", [product, parts], outputs=3, axis=-1)
    inputs = [query, f"{query}_1", f"{query}_2", graph.const(layer.qkv.bias)]
    mixed = graph.node("MultiHeadAttention", inputs, domain=_quant.MICROSOFT, num_heads=heads)
    return _linear(graph, mixed, layer.out)


def _feed(graph: GraphBuilder, x: str, layer: Layer, approximate: str, int8: bool) -> str:
    if int8:
        inner = _quant.balanced(graph, x, layer.up, layer.attention_norm)
    else:
        inner = graph.node("MatMul", [x, graph.const(layer.up.weight.T)])
    # BiasGelu is exact, FastGelu is the tanh form; both add the bias in the same pass.
    op = "BiasGelu" if approximate == "none" else "FastGelu"
    inner = graph.node(op, [inner, graph.const(layer.up.bias)], domain=_quant.MICROSOFT)
    return _quant.per_token(graph, inner, layer.down) if int8 else _linear(graph, inner, layer.down)


def _linear(graph: GraphBuilder, x: str, linear: Linear) -> str:
    product = graph.node("MatMul", [x, graph.const(linear.weight.T)])
    return graph.node("Add", [product, graph.const(linear.bias)])
