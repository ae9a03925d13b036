"""What comes after the transformer: pooling and dense layers, on the device where the hidden states are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unabridged.contracts import Rows
from unabridged.encoders._hf import DenseSpec, ModelFolder
from unabridged.encoders.pooling import pool
from unabridged.errors import ValidationError

if TYPE_CHECKING:
    import torch


class Head:
    """Hidden states ``(T, H)`` to vectors ``(B, D)`` float32 that are not yet normalised or cut."""

    def __init__(self, folder: ModelFolder, device: str) -> None:
        self._modes = folder.pooling
        self._skips_prompt = not folder.include_prompt
        self._layers = [_layer(spec, device) for spec in folder.dense]

    def __call__(self, hidden: torch.Tensor, offsets: Rows, lead: Rows) -> torch.Tensor:
        """``lead`` ``(B,)`` counts the special and prompt tokens in front of each sequence's text."""
        vectors = pool(hidden, offsets, self._modes, lead if self._skips_prompt else None)
        for layer in self._layers:
            vectors = layer(vectors)
        return vectors


def _layer(spec: DenseSpec, device: str) -> Any:
    from torch import nn

    state = _state(spec)
    linear = nn.Linear(spec.inputs, spec.outputs, bias=spec.bias)
    wanted = {f"linear.{name}": tuple(value.shape) for name, value in linear.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    if found != wanted:
        raise ValidationError(f"{spec.weights} holds {found}, its config.json describes {wanted}.")
    linear.load_state_dict({name.removeprefix("linear."): value.float() for name, value in state.items()})
    return nn.Sequential(linear, getattr(nn, spec.activation)()).to(device).eval()


def _state(spec: DenseSpec) -> Mapping[str, Any]:
    if spec.weights.suffix == ".safetensors":
        from safetensors.torch import load_file

        tensors: Mapping[str, Any] = load_file(spec.weights)
        return tensors
    import torch

    loaded: Mapping[str, Any] = torch.load(spec.weights, map_location="cpu", weights_only=True)
    return loaded
