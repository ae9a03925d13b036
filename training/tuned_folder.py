"""A model folder with another position matrix in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unabridged.contracts import Floats
from unabridged.encoders._extension_file import read_json
from unabridged.encoders._hf import ModelFolder, read_folder, weight_files
from unabridged.encoders.export import Export
from unabridged.encoders.extension import Extension
from unabridged.encoders.methods import Method
from unabridged.encoders.prompts import Prompts

if TYPE_CHECKING:
    import torch

TABLES = ("position_ids", "token_type_ids")
"""Numbers by position that some checkpoints hold; they are as long as the old matrix, and are left out."""
MATRIX = "embeddings.position_embeddings.weight"


def write_tuned(folder: ModelFolder, matrix: Floats, scale: int, made: Path) -> None:
    """Makes the folder ``made``: that of ``folder`` with ``matrix`` ``(lead + s Lo, H)`` for its positions.

    Loads with ``load_encoder``.  transformers alone loads it as well; whoever calls it there passes
    ``position_ids`` of 0, s, 2s, ... for texts up to the trained length.
    """
    original = int(folder.limit or 0)
    target = scale * original
    extension = Extension(Method.PI, target, original_tokens=original, rows_per_position=scale)
    made.mkdir(parents=True)
    Export(folder, extension, target, target, *Prompts.of(folder.prompts)).write(made)
    _replace_matrix(folder, made, matrix)
    config = {**read_json(made / "config.json"), "max_position_embeddings": len(matrix)}
    (made / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    read_folder(made).plan(extension)


def _replace_matrix(folder: ModelFolder, made: Path, matrix: Floats) -> None:
    """One safetensors file in place of the copied weights, every other tensor as it was."""
    import torch
    from safetensors.torch import save_file

    tensors = {name: value for path in weight_files(folder.path) for name, value in _load(path).items()}
    kept = {name: value.contiguous() for name, value in tensors.items() if name.rpartition(".")[2] not in TABLES}
    name = next(name for name in kept if name.endswith(MATRIX))
    kept[name] = torch.from_numpy(matrix).to(kept[name].dtype).contiguous()
    for path in (*made.glob("*.bin"), *made.glob("*.safetensors"), *made.glob("*.index.json")):
        path.unlink()
    save_file(kept, made / "model.safetensors", {"format": "pt"})


def _load(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    import torch

    loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return loaded
