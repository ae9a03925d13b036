"""Evaluations while an aggregator learns: when, what they found, and which parameters were the best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from unabridged.files import write_atomic
from unabridged.training.loop import Checkpoint
from unabridged.training.sea.judge import Judge

if TYPE_CHECKING:
    import torch

BEST = "best.safetensors"


class Parameters(Protocol):
    """What has parameters."""

    @property
    def parameters(self) -> Mapping[str, torch.Tensor]:
        """By name."""
        ...


class Watched(Protocol):
    """What is judged."""

    @property
    def tower(self) -> Parameters:
        """What learns."""
        ...

    @property
    def ranks(self) -> Callable[[Judge], NDArray[np.float64]]:
        """1 / rank of each held-out question as it is now."""
        ...


class Watch:
    """Judges the start, every so many steps, and the end; without a judge nothing is done."""

    def __init__(
        self, judge: Judge | None, learner: Watched, checkpoint: Checkpoint, work: Path, every: int, keep: str
    ) -> None:
        self._judge = judge
        self._learner = learner
        self._checkpoint = checkpoint
        self._best = work / BEST
        self._every = every
        self._keeps_best = keep == "best"

    @property
    def curve(self) -> list[tuple[int, float]]:
        """Steps done and MRR of the long questions."""
        return [(int(step), float(value)) for step, value in self._checkpoint.notes.get("evaluations", [])]

    def begin(self) -> None:
        """Judges the start, unless a checkpoint has it."""
        if not self._checkpoint.path.is_file():
            self._evaluate(0)

    def after(self, step: int) -> None:
        """What the loop calls behind every step."""
        if (step + 1) % self._every == 0:
            self._evaluate(step + 1)

    def kept(self) -> int | None:
        """Puts the parameters that are to be written into the tower; their step, None for the last."""
        steps = len(self._checkpoint.losses)
        if self._judge is None:
            return None
        if not self.curve or self.curve[-1][0] != steps:
            self._evaluate(steps)
        if not self._keeps_best:
            return None
        step, _ = max(self.curve, key=lambda one: (one[1], -one[0]))
        if step == steps:
            return None
        self._restore()
        return step

    def _evaluate(self, step: int) -> None:
        if self._judge is None:
            return
        score = self._judge.mean(self._learner.ranks(self._judge))
        curve = self.curve
        first = not curve or score > max(value for _, value in curve)
        self._checkpoint.notes["evaluations"] = [*curve, (step, score)]
        if first and self._keeps_best:
            self._save()

    def _save(self) -> None:
        from safetensors.torch import save

        plain = {name: value.detach().cpu().contiguous() for name, value in self._learner.tower.parameters.items()}
        write_atomic(self._best, save(plain))

    def _restore(self) -> None:
        import torch
        from safetensors.torch import load

        best = load(self._best.read_bytes())
        with torch.no_grad():
            for name, value in self._learner.tower.parameters.items():
                value.copy_(best[name])
