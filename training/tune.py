"""From a model folder and a corpus to a model folder with tuned positions, through any number of interruptions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unabridged.contracts import JSON, Document, Failure, Floats
from unabridged.encoders._extension_file import read_json
from unabridged.encoders._hf import ModelFolder, read_folder, weight_files
from unabridged.encoders._tokens import Tokenizer
from unabridged.encoders.export import Export
from unabridged.encoders.extension import Extension
from unabridged.encoders.methods import Method
from unabridged.encoders.positions import ratio
from unabridged.errors import UsageError
from unabridged.files import disk_errors
from unabridged.progress import Listener
from unabridged.training.loop import Checkpoint, Schedule, fit
from unabridged.training.texts import Pieces, cut
from unabridged.training.tuned_positions import PositionTask, Tuning

if TYPE_CHECKING:
    import torch

UNFINISHED = ".unfinished"
"""Behind the name of the folder that is made: where its checkpoint lies until it is done."""
TABLES = ("position_ids", "token_type_ids")
"""Numbers by position that some checkpoints hold; they are as long as the old matrix, and are left out."""
MATRIX = "embeddings.position_embeddings.weight"


@dataclass(frozen=True, slots=True)
class Report:
    """What was done."""

    out: Path
    rows_per_position: int
    texts: int
    tokens: int
    """Of all epochs."""
    steps: int
    first_loss: float
    """Mean of the first tenth of the steps."""
    last_loss: float
    """Mean of the last tenth."""

    def as_json(self) -> dict[str, JSON]:
        """The fields as JSON."""
        return {**asdict(self), "out": str(self.out)}


def tune_positions(
    folder: ModelFolder,
    documents: Iterable[Document | Failure],
    out: Path,
    tuning: Tuning,
    schedule: Schedule,
    listener: Listener | None = None,
) -> Report:
    """Trains the new rows and writes the model folder ``out``; the same call continues what was interrupted.

    Raises:
        UsageError: ``out`` is there already, or the model cannot be tuned.
        ValidationError: ``out`` was begun with other settings or other texts.
        CorpusError: no text.
    """
    check_free(out)
    scale = tuning.scale(folder)
    original = int(folder.limit or 0)
    pieces = cut(documents, Tokenizer(folder), original, tuning.seed)
    task = PositionTask(folder, pieces, tuning)
    work = out.with_name(out.name + UNFINISHED)
    work.mkdir(parents=True, exist_ok=True)
    settings = {**tuning.facts, **asdict(schedule), "weights": folder.weights_sha256, "texts": _digest(pieces)}
    losses = fit(task, schedule, Checkpoint(work / "checkpoint.safetensors", settings), listener)
    write_tuned(folder, task.matrix, scale * original, out)
    shutil.rmtree(work)
    tenth = max(1, len(losses) // 10)
    tokens = int(pieces.lengths.sum()) * schedule.epochs
    ends = float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))
    return Report(out, scale, len(pieces), tokens, len(losses), *ends)


def write_tuned(folder: ModelFolder, matrix: Floats, target: int, out: Path) -> None:
    """``folder`` with ``matrix`` for its positions as the folder ``out``; a kill leaves nothing by that name.

    Loads with ``load_encoder(out)``.  transformers alone loads it as well; whoever calls it there passes
    ``position_ids`` of 0, s, 2s, ... for texts up to the trained length.
    """
    check_free(out)
    original = int(folder.limit or 0)
    extension = Extension(Method.PI, target, original_tokens=original, rows_per_position=ratio(target, original))
    prompts = [
        next((folder.prompts[name] for name in names if name in folder.prompts), "")
        for names in (("query",), ("document", "passage", "corpus"))
    ]
    work = out.with_name(out.name + UNFINISHED) / "folder"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with disk_errors(work):
        Export(folder, extension, target, target, *prompts).write(work)
        _replace_matrix(folder, work, matrix)
        config = read_json(work / "config.json")
        config["max_position_embeddings"] = len(matrix)
        (work / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        read_folder(work).plan(extension)
        if out.is_dir():
            out.rmdir()
        work.replace(out)


def check_free(out: Path) -> None:
    """:class:`UsageError` unless ``out`` is absent or an empty folder."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"{out} exists already. Name a folder that does not.")


def _replace_matrix(folder: ModelFolder, work: Path, matrix: Floats) -> None:
    """One safetensors file in place of the copied weights, every other tensor as it was."""
    import torch
    from safetensors.torch import save_file

    tensors = {name: value for path in weight_files(folder.path) for name, value in _load(path).items()}
    kept = {name: value.contiguous() for name, value in tensors.items() if name.rpartition(".")[2] not in TABLES}
    name = next(name for name in kept if name.endswith(MATRIX))
    kept[name] = torch.from_numpy(matrix).to(kept[name].dtype).contiguous()
    for path in (*work.glob("*.bin"), *work.glob("*.safetensors"), *work.glob("*.index.json")):
        path.unlink()
    save_file(kept, work / "model.safetensors", {"format": "pt"})


def _load(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    import torch

    loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return loaded


def _digest(pieces: Pieces) -> str:
    import hashlib

    return hashlib.sha256(pieces.ids.tobytes() + pieces.offsets.tobytes()).hexdigest()
