"""The weights of BERT-like encoders under one set of names, read from safetensors.

BERT, RoBERTa, XLM-RoBERTa, CamemBERT, DistilBERT and MPNet are one computation (Devlin et al. 2019, arXiv
1810.04805, figure 1) with different names for its matrices: embeddings, then layers of self-attention and a
two-matrix feed-forward, each followed by residual and LayerNorm.  MPNet adds a bias by relative position.

Letters::

    H hidden width     F feed-forward width     V vocabulary     P positions
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Floats, Rows
from unabridged.encoders._hf import ModelFolder, weight_files
from unabridged.encoders._rows import MatrixRows, counted, counted_without_pads, planned
from unabridged.encoders.extension import NO_PLAN, Plan

ACTIVATIONS: Mapping[str, str] = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
"""``hidden_act`` of config.json -> ``approximate`` of torch's gelu."""


@dataclass(frozen=True, slots=True)
class Linear:
    """``x @ weight.T + bias``; weight is ``(out, in)``, bias ``(out,)``, both float32."""

    weight: Floats
    bias: Floats


@dataclass(frozen=True, slots=True)
class Norm:
    """LayerNorm's gain and bias, ``(H,)`` float32 each."""

    weight: Floats
    bias: Floats


@dataclass(frozen=True, slots=True)
class Layer:
    """One block; query, key and value are one ``(3H, H)`` matrix in this order."""

    qkv: Linear
    out: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    norm: Norm


@dataclass(frozen=True, slots=True)
class Weights:
    """A whole encoder.  ``words`` is ``(V, H)``; ``positions`` is ``(P, H)`` and has the type vector added."""

    words: Floats
    positions: Floats
    norm: Norm
    layers: tuple[Layer, ...]
    heads: int
    eps: float
    approximate: str
    """``none`` or ``tanh``, for torch's gelu."""
    first_position: int = 0
    """RoBERTa-like models: ``padding_idx + 1``, the row of the first token."""
    pad: int | None = None
    """RoBERTa-like models: the token that takes no position of its own."""
    relative: Floats | None = field(default=None, repr=False)
    """MPNet: ``(buckets, heads)``, added to attention scores by relative position."""

    @property
    def width(self) -> int:
        """H."""
        return int(self.words.shape[1])

    def position_rows(self, ids: NDArray[np.int32], offsets: Rows, plan: Plan = NO_PLAN) -> MatrixRows:
        """The rows of :attr:`positions` that each token takes; counted as the model's own code does."""
        places = counted(offsets) if self.pad is None else counted_without_pads(ids, offsets, self.pad)
        return planned(plan, places, offsets, self.first_position)

    def sharpened(self, temperature: float) -> Weights:
        """The same with every attention score divided by ``temperature``: queries are, and MPNet's bias is."""
        if temperature == 1.0:
            return self
        return replace(
            self,
            layers=tuple(replace(layer, qkv=_cooled(layer.qkv, temperature)) for layer in self.layers),
            relative=None if self.relative is None else (self.relative / temperature).astype(np.float32),
        )


@dataclass(frozen=True, slots=True)
class _Names:
    """Where a family keeps its matrices, relative to its prefix; ``{}`` is the number of the layer."""

    layer: str = "encoder.layer.{}."
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    out: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    norm: str = "output.LayerNorm"


_BERT = _Names()
_MPNET = _Names(
    query="attention.attn.q",
    key="attention.attn.k",
    value="attention.attn.v",
    out="attention.attn.o",
    attention_norm="attention.LayerNorm",
)
_DISTIL = _Names(
    layer="transformer.layer.{}.",
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    out="attention.out_lin",
    attention_norm="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    norm="output_layer_norm",
)
FAMILIES: Mapping[str, _Names] = {
    "bert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "camembert": _BERT,
    "distilbert": _DISTIL,
    "mpnet": _MPNET,
}
"""``model_type`` of config.json -> names."""
_OFFSET_FAMILIES = {"roberta", "xlm-roberta", "camembert", "mpnet"}
_WORDS = "embeddings.word_embeddings.weight"


def why_not(folder: ModelFolder) -> str | None:
    """Why this module cannot compute ``folder``'s model, for people; None if it can.  Reads no weights."""
    config = folder.config
    kind = config.get("model_type")
    if kind not in FAMILIES:
        return f"model type {kind!r} is not one of {', '.join(FAMILIES)}"
    activation = config.get("activation" if kind == "distilbert" else "hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        return f"activation {activation!r} is not one of {', '.join(ACTIVATIONS)}"
    if config.get("position_embedding_type", "absolute") != "absolute":
        return f"position_embedding_type {config['position_embedding_type']!r} is not 'absolute'"
    if config.get("is_decoder") or config.get("add_cross_attention") or config.get("sinusoidal_pos_embds"):
        return "the model is a decoder or computes its position vectors"
    if any(path.suffix != ".safetensors" for path in weight_files(folder.path)):
        return "the weights are not in safetensors"
    return None


def read_weights(folder: ModelFolder) -> Weights:
    """All matrices of ``folder``'s model in float32; call only where :func:`why_not` is None."""
    config = folder.config
    kind = str(config["model_type"])
    tensors = _tensors(folder)
    names = FAMILIES[kind]
    distil = kind == "distilbert"
    positions = tensors["embeddings.position_embeddings.weight"]
    types = tensors.get("embeddings.token_type_embeddings.weight")
    pad = int(config.get("pad_token_id", 1)) if kind in _OFFSET_FAMILIES else None
    return Weights(
        words=tensors[_WORDS],
        positions=positions if types is None else positions + types[0],
        norm=_norm(tensors, "embeddings.LayerNorm"),
        layers=tuple(
            _layer(tensors, names, i) for i in range(int(config["n_layers" if distil else "num_hidden_layers"]))
        ),
        heads=int(config["n_heads" if distil else "num_attention_heads"]),
        eps=1e-12 if distil else float(config.get("layer_norm_eps", 1e-12)),
        approximate=ACTIVATIONS[str(config.get("activation" if distil else "hidden_act", "gelu"))],
        first_position=0 if pad is None else pad + 1,
        pad=pad,
        relative=tensors.get("encoder.relative_attention_bias.weight") if kind == "mpnet" else None,
    )


def _cooled(qkv: Linear, temperature: float) -> Linear:
    """Query rows divided in float64 and rounded once; keys and values as they are."""
    scale = np.ones(len(qkv.bias))
    scale[: len(scale) // 3] = 1.0 / temperature
    return Linear((qkv.weight * scale[:, None]).astype(np.float32), (qkv.bias * scale).astype(np.float32))


def _tensors(folder: ModelFolder) -> dict[str, Floats]:
    from safetensors.torch import load_file

    found = {name: tensor for path in weight_files(folder.path) for name, tensor in load_file(path).items()}
    prefix = next(name.removesuffix(_WORDS) for name in found if name.endswith(_WORDS))
    return {
        _modern(name.removeprefix(prefix)): tensor.float().numpy()
        for name, tensor in found.items()
        if name.startswith(prefix) and tensor.is_floating_point()
    }


def _modern(name: str) -> str:
    """Checkpoints converted from TensorFlow call LayerNorm's gain gamma and its bias beta."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _norm(tensors: Mapping[str, Floats], name: str) -> Norm:
    return Norm(tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def _linear(tensors: Mapping[str, Floats], *names: str) -> Linear:
    weights = [tensors[f"{name}.weight"] for name in names]
    biases = [tensors[f"{name}.bias"] for name in names]
    if len(names) == 1:
        return Linear(weights[0], biases[0])
    return Linear(np.concatenate(weights), np.concatenate(biases))


def _layer(tensors: Mapping[str, Floats], names: _Names, number: int) -> Layer:
    at = names.layer.format(number)
    return Layer(
        qkv=_linear(tensors, at + names.query, at + names.key, at + names.value),
        out=_linear(tensors, at + names.out),
        attention_norm=_norm(tensors, at + names.attention_norm),
        up=_linear(tensors, at + names.up),
        down=_linear(tensors, at + names.down),
        norm=_norm(tensors, at + names.norm),
    )
