"""The parameters of a Mamba from a model folder, under one set of names for every published layout.

==============================  ==================================  =================
mamba_ssm                       transformers                        here
==============================  ==================================  =================
backbone.embedding.weight       backbone.embeddings.weight          embeddings.weight
backbone.layers.0.mixer.A_log   backbone.layers.0.mixer.A_log       layers.0.mixer.A_log
backbone.norm_f.weight          backbone.norm_f.weight              norm_f.weight
lm_head.weight                  lm_head.weight                      (not needed)
==============================  ==================================  =================

Read are ``model.safetensors``, ``pytorch_model.bin`` (weights only: nothing in it is executed), and both in shards by
their ``.index.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from unabridged._extras import require
from unabridged.encoders._extension_file import read_json
from unabridged.encoders.mamba.config import MambaConfig
from unabridged.errors import MissingFile, ValidationError

if TYPE_CHECKING:
    import torch

SAFETENSORS = "model.safetensors"
TORCH = "pytorch_model.bin"
_NOT_NEEDED = {"lm_head.weight"}


def load_tensors(folder: Path, config: MambaConfig) -> dict[str, torch.Tensor]:
    """Canonical name to tensor, as stored, on the CPU: exactly the names and shapes of ``config.shapes()``.

    Raises:
        MissingFile: no file of weights, or a shard that the index names is not there.
        ValidationError: a tensor that is missing, unknown, twice, or of another shape than the configuration says:
            by its name, with both shapes; a file that is damaged, or tensors that are no plain floating point numbers.
    """
    require("torch", extra="torch", purpose="Mamba encoders")
    import torch

    expected = config.shapes()
    found: dict[str, torch.Tensor] = {}
    for path in _files(Path(folder)):
        for stored, shape, load in stored_tensors(path):
            name = canonical(stored)
            if name in _NOT_NEEDED:
                continue
            if name not in expected:
                raise ValidationError(
                    f"{path} holds {stored}, which a Mamba-{config.variant} of this config.json does not have. Restore "
                    "the configuration that belongs to the weights."
                )
            if name in found:
                raise ValidationError(f"{path} holds {stored} a second time. Restore the folder.")
            if shape != expected[name]:
                raise ValidationError(
                    f"{path}: {stored} has shape {shape}, and config.json makes it {expected[name]}. Restore the "
                    "configuration that belongs to the weights."
                )
            tensor = load()
            if not tensor.is_floating_point() or tensor.layout is not torch.strided or tensor.is_meta:
                raise ValidationError(
                    f"{path}: {stored} is a tensor of {tensor.dtype}, {tensor.layout} on {tensor.device}; expected "
                    "floating point numbers side by side. Load the checkpoint that was not quantised or packed."
                )
            found[name] = tensor
    if missing := sorted(set(expected) - set(found)):
        raise ValidationError(
            f"{folder} lacks {len(missing)} of {len(expected)} tensors, the first is {missing[0]} of shape "
            f"{expected[missing[0]]}. Restore the folder."
        )
    return {name: found[name] for name in expected}


def canonical(name: str) -> str:
    """The name here of a parameter of either layout."""
    name = name.removeprefix("backbone.")
    return "embeddings.weight" if name == "embedding.weight" else name


def _files(folder: Path) -> list[Path]:
    for name in (SAFETENSORS, TORCH):
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _shards(index)
    raise MissingFile(f"{folder} has no {SAFETENSORS} and no {TORCH}, whole or in shards. Restore the folder.")


def _shards(index: Path) -> list[Path]:
    named = read_json(index).get("weight_map")
    if not isinstance(named, Mapping) or not all(isinstance(name, str) for name in named.values()):
        raise ValidationError(f"{index} should hold a weight_map of tensor names to file names. Restore the file.")
    paths = [index.parent / name for name in sorted(set(named.values()))]
    for path in paths:
        if path.parent != index.parent:
            raise ValidationError(f"{index} names {path.name} outside of its folder. Restore the file.")
        if not path.is_file():
            raise MissingFile(f"{index} names {path.name}, which is not there. Restore the folder.")
    return paths


def stored_tensors(path: Path) -> Iterator[tuple[str, tuple[int, ...], Callable[[], torch.Tensor]]]:
    """Name, shape and reader of each tensor of a file, as stored; safetensors are read one by one.

    :class:`ValidationError` if it is no such file, or holds something else than tensors by name.
    """
    torch = require("torch", extra="torch", purpose="Mamba encoders")
    if path.suffix == ".safetensors":
        safetensors = require("safetensors", extra="torch", purpose="reading model.safetensors")
        try:
            with safetensors.safe_open(str(path), framework="pt", device="cpu") as file:
                for name in file.keys():  # noqa: SIM118  (the file is no mapping)
                    shape = tuple(file.get_slice(name).get_shape())
                    yield name, shape, partial(file.get_tensor, name)
        except safetensors.SafetensorError as error:
            raise ValidationError(f"{path} is not a file of safetensors ({error}). Restore the file.") from error
        return
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle fails as whatever its bytes happen to mean
        raise ValidationError(
            f"{path} does not load as a file of tensors alone ({error}). Restore the file."
        ) from error
    if not isinstance(content, Mapping):
        raise ValidationError(f"{path} should hold tensors by name and holds a {type(content).__name__}.")
    for name, tensor in content.items():
        if not isinstance(tensor, torch.Tensor):
            raise ValidationError(
                f"{path} should hold tensors by name and holds a {type(tensor).__name__} under {name!r}. Store the "
                "model's state_dict() by itself."
            )
        yield str(name), tuple(tensor.shape), partial(content.__getitem__, name)
