"""Low-rank additions put into the weights of a loaded model: ``W + (alpha / r) B A`` (LoRA, arXiv 2106.09685).

::

    FOLDER/adapter_config.json            the field's own keys: r, lora_alpha, base_model_name_or_path
    FOLDER/adapter_model.safetensors      two matrices for each layer that was changed

Nothing but torch and safetensors is needed: what is asked of an adapter is that all of it is used, or it is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unabridged._extras import require
from unabridged.encoders._hashes import files_sha256
from unabridged.errors import MissingFile, ValidationError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_ENDS = (".lora_A.weight", ".lora_B.weight")
_PLAIN = {"bias": ("none", None), "use_dora": (False, None), "use_rslora": (False, None)}
"""Keys with the values that the sum above holds for; empty ones are let pass too."""
_EMPTY = ("rank_pattern", "alpha_pattern", "modules_to_save", "trainable_token_indices", "target_parameters")


@dataclass(frozen=True, slots=True)
class Adapter:
    """A folder of low-rank additions."""

    folder: Path
    base: str
    """The model that it was trained on, as it names it."""
    scale: float
    """By which the product of its matrices is multiplied."""

    @property
    def sha256(self) -> str:
        """Of both files."""
        return files_sha256([self.folder / CONFIG, self.folder / WEIGHTS])


def is_adapter(folder: Path) -> bool:
    """Whether ``folder`` holds additions and no model of its own."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def read_adapter(folder: Path) -> Adapter:
    """The adapter in ``folder``; :class:`ValidationError` where it is of a kind that is not a plain LoRA."""
    if not (folder / WEIGHTS).is_file():
        raise MissingFile(f"{folder} has {CONFIG} and no {WEIGHTS}.")
    try:
        said: Any = json.loads((folder / CONFIG).read_bytes())
        base, rank, alpha = said["base_model_name_or_path"], said["r"], said["lora_alpha"]
        scale = float(alpha) / int(rank)
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise ValidationError(
            f"{folder / CONFIG} should say base_model_name_or_path, r and lora_alpha: {error!r}."
        ) from error
    odd = [key for key, known in _PLAIN.items() if said.get(key) not in known]
    odd += [key for key in _EMPTY if said.get(key)]
    if said.get("peft_type") != "LORA" or odd:
        raise ValidationError(f"{folder / CONFIG} is no plain LoRA: {', '.join(odd) or said.get('peft_type')}.")
    if not isinstance(base, str) or not base:
        raise ValidationError(f"{folder / CONFIG} names no base model.")
    return Adapter(folder, base, scale)


def apply(adapter: Adapter, model: Any) -> None:
    """Adds ``adapter`` to the weights of ``model``, in float32; :class:`ValidationError` where it does not fit them."""
    torch = require("torch", extra="llm-local", purpose="local language models")
    from safetensors.torch import load_file

    found = load_file(adapter.folder / WEIGHTS)
    layers = dict(model.named_modules())
    names = {name.removesuffix(end) for name in found for end in _ENDS if name.endswith(end)}
    stray = set(found) - {name + end for name in names for end in _ENDS}
    missing = {name + end for name in names for end in _ENDS} - set(found)
    if stray or missing or not names:
        raise ValidationError(
            f"{adapter.folder / WEIGHTS} should hold pairs of matrices {' and '.join(_ENDS)}: "
            f"{min(stray | missing, default='it holds none')}."
        )
    with torch.no_grad():
        for name in sorted(names):
            down, up = (found[name + end].to(torch.float32) for end in _ENDS)
            weight = getattr(layers.get(name.removeprefix(_PREFIX)), "weight", None)
            if weight is None or up.ndim != 2 or down.ndim != 2 or (up.shape[0], down.shape[1]) != tuple(weight.shape):
                raise ValidationError(f"{adapter.folder}: {name} does not fit the model that it is to be added to.")
            more = adapter.scale * (up @ down)
            if not bool(torch.isfinite(more).all()):
                raise ValidationError(f"{adapter.folder}: {name} holds numbers that are not finite.")
            weight.copy_((weight.to(torch.float32) + more.to(weight.device)).to(weight.dtype))
