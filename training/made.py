"""From a task to the model folder it makes, through any number of interruptions.

::

    OUT.unfinished/checkpoint.safetensors     while it trains
    OUT.unfinished/folder/                    while the folder is written
    OUT/                                      renamed into place when everything is in it
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from unabridged.contracts import JSON
from unabridged.files import check_free, disk_errors, folder_files, sync_file, sync_folder
from unabridged.progress import Listener
from unabridged.training.loop import Checkpoint, Schedule, Task, fit
from unabridged.training.texts import Pieces

UNFINISHED = ".unfinished"
"""Behind the name of the folder that is made: where its checkpoint lies until it is done."""


class FolderTask(Task, Protocol):
    """A task whose result is a model folder."""

    @property
    def facts(self) -> Mapping[str, JSON]:
        """What a run must share with the one that it continues, besides texts and schedule."""
        ...

    @property
    def pieces(self) -> Pieces:
        """The texts."""
        ...

    def write(self, work: Path) -> None:
        """Makes the folder ``work / "folder"``; may use the rest of ``work``."""
        ...


@dataclass(frozen=True, slots=True)
class Report:
    """What was done."""

    out: Path
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


def train_folder(task: FolderTask, schedule: Schedule, out: Path, listener: Listener | None = None) -> Report:
    """Trains ``task`` and writes the model folder ``out``; the same call continues what was interrupted.

    Raises:
        UsageError: ``out`` is there already.
        ValidationError: ``out`` was begun with other settings or other texts.
    """
    check_free(out)
    work = out.with_name(out.name + UNFINISHED)
    work.mkdir(parents=True, exist_ok=True)
    settings = {**task.facts, **schedule.facts, "texts": digest(task.pieces)}
    losses = fit(task, schedule, Checkpoint(work / "checkpoint.safetensors", settings), listener)
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    finish(work, out, task.write)
    tokens = sum(task.tokens(rows) for _, _, rows in schedule.plan(task))
    return Report(out, len(task.pieces), tokens, len(losses), *ends(losses))


def finish(work: Path, out: Path, write: Callable[[Path], None]) -> None:
    """Puts the folder ``work / "folder"``, which ``write`` makes in ``work``, at ``out``, and removes ``work``."""
    with disk_errors(work):
        write(work)
        for path in folder_files(work / "folder").values():  # before the checkpoint that they come from is removed
            sync_file(path)
        if out.is_dir():
            out.rmdir()
        (work / "folder").replace(out)
        sync_folder(out.parent)
    shutil.rmtree(work)


def ends(losses: Sequence[float]) -> tuple[float, float]:
    """The mean of the first and of the last tenth."""
    tenth = max(1, len(losses) // 10)
    return float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))


def digest(pieces: Pieces) -> str:
    """SHA-256 of the texts and of how they are cut."""
    return hashlib.sha256(pieces.ids.tobytes() + pieces.offsets.tobytes()).hexdigest()
