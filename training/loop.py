"""One training loop: batches, AdamW, a rate that rises and falls, checkpoints that continue to the same bytes.

Every random choice belongs to a task and is drawn from (seed, epoch, number of the batch), so a checkpoint holds no
state of a generator: parameters, the optimizer's moments, the losses so far and what was noted are all there is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from unabridged.contracts import JSON, Rows
from unabridged.errors import UsageError, ValidationError
from unabridged.files import write_atomic
from unabridged.progress import Listener, Meter

if TYPE_CHECKING:
    import torch

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps of each parameter."""
SHAPES = ("linear", "cosine")
"""How the rate falls to 0 after it has risen."""


class Task(Protocol):
    """What is trained, on what."""

    @property
    def parameters(self) -> Mapping[str, torch.Tensor]:
        """The tensors that change, by name; nothing else may."""
        ...

    def batches(self, epoch: int) -> list[Rows]:
        """The texts of each batch; as many batches in every epoch."""
        ...

    def tokens(self, rows: Rows) -> int:
        """Tokens in a batch."""
        ...

    def loss(self, epoch: int, number: int, rows: Rows) -> torch.Tensor:
        """What batch ``number`` of ``epoch`` makes small; a pure function of the arguments and the parameters."""
        ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast."""

    epochs: int = 3
    lr: float = 1e-3
    warmup_steps: int = 20
    """Steps in which the rate rises from near 0; after them it falls to 0."""
    weight_decay: float = 0.0
    clip: float = 1.0
    """Largest norm of the gradient."""
    checkpoint_steps: int = 20
    shape: str = "linear"
    """How it falls: ``linear`` or ``cosine``."""
    steps: int | None = None
    """No more steps than these, of however many epochs that takes; None: all of ``epochs``."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or not 0 < self.lr < math.inf or self.checkpoint_steps < 1:
            raise UsageError(
                f"Training needs at least 1 epoch, a finite rate above 0 and a checkpoint step of at least 1, got "
                f"epochs={self.epochs}, lr={self.lr}, checkpoint_steps={self.checkpoint_steps}."
            )
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"Training needs at least 1 step, got steps={self.steps}.")
        if self.shape not in SHAPES:
            raise UsageError(f"The rate falls {' or '.join(SHAPES)}, got shape={self.shape!r}.")
        if not 0 <= self.weight_decay < math.inf or not self.clip > 0 or self.warmup_steps < 0:
            raise UsageError(
                f"Training needs a weight decay and warm-up of at least 0 and a clip above 0, got weight_decay="
                f"{self.weight_decay}, warmup_steps={self.warmup_steps}, clip={self.clip}."
            )

    def rate(self, step: int, total: int) -> float:
        """The rate of step 0, 1, ... of ``total``."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / (self.warmup_steps + 1)
        left = max(0.0, (total - step) / max(1, total - self.warmup_steps))
        return self.lr * (left if self.shape == "linear" else (1 - math.cos(math.pi * left)) / 2)

    def plan(self, task: Task) -> list[tuple[int, int, Rows]]:
        """Epoch, number and texts of every step."""
        found: list[tuple[int, int, Rows]] = []
        epoch = 0
        while epoch < self.epochs if self.steps is None else len(found) < self.steps:
            found.extend((epoch, number, rows) for number, rows in enumerate(task.batches(epoch)))
            epoch += 1
        return found[: self.steps]

    @property
    def facts(self) -> dict[str, JSON]:
        """What of it changes what is learned, the defaults of what came later left out: old runs continue."""
        facts: dict[str, JSON] = asdict(self)
        del facts["checkpoint_steps"]
        for name, default in (("shape", "linear"), ("steps", None)):
            if facts[name] == default:
                del facts[name]
        return facts


def _nothing(step: int) -> None:
    """What happens after a step where nothing else is said."""


@dataclass(frozen=True, slots=True)
class Extras:
    """What a task may ask of the loop besides."""

    undecayed: frozenset[str] = frozenset()
    """Names of the parameters that ``weight_decay`` leaves alone."""
    after: Callable[[int], None] = _nothing
    """Called behind each step that was computed, with its number; may write notes."""


NO_EXTRAS = Extras()


@dataclass
class Checkpoint:
    """One safetensors file with everything that a continued run needs, replaced as a whole."""

    path: Path
    settings: Mapping[str, JSON]
    """What must be the same for a run to be continued."""
    losses: list[float] = field(default_factory=list)
    notes: dict[str, JSON] = field(default_factory=dict)
    """What else a run has found out so far, such as its evaluations."""

    def save(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Writes parameters, moments, losses and notes; after a kill the file holds the old state or the new."""
        from safetensors.torch import save

        plain = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        write_atomic(self.path, save(plain, {"state": json.dumps([self.settings, self.losses, self.notes])}))

    def load(self) -> dict[str, torch.Tensor]:
        """What :meth:`save` wrote, nothing if it never did.

        :class:`ValidationError` if the file is of a run with other settings, or is no checkpoint.
        """
        if not self.path.is_file():
            return {}
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(self.path), "pt") as file:
                settings, self.losses, *notes = json.loads((file.metadata() or {})["state"])
                self.notes.update(*notes)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        except (SafetensorError, KeyError, ValueError) as error:
            raise ValidationError(
                f"{self.path} should be the checkpoint of an unfinished training and does not load as one ({error!r}). "
                "Restore it, or remove it to begin again."
            ) from error
        wanted = json.loads(json.dumps(self.settings))
        if settings != wanted:
            name = next(name for name in sorted({*settings, *wanted}) if settings.get(name) != wanted.get(name))
            raise ValidationError(
                f"{self.path} is an unfinished training with {name}={settings.get(name)!r}, and {wanted.get(name)!r} "
                "was asked for. Continue with the settings it began with, or remove it."
            )
        return tensors


def fit(
    task: Task,
    schedule: Schedule,
    checkpoint: Checkpoint,
    listener: Listener | None = None,
    extras: Extras = NO_EXTRAS,
) -> list[float]:
    """Trains ``task`` from the checkpoint, or from the start, to the end; gives the loss of every step.

    Interrupted at any moment and called again, it ends with the same parameters.  One event per step: its documents
    are texts, and its unit of work is the token.  :class:`ValidationError` names the step whose loss or gradient is not
    finite.
    """
    parameters = task.parameters
    optimizer = _optimizer(parameters, schedule, extras.undecayed)
    _restore(checkpoint.load(), parameters, optimizer)
    steps = schedule.plan(task)
    sizes = [task.tokens(rows) for _, _, rows in steps]
    meter = Meter(sum(len(rows) for _, _, rows in steps), sum(sizes), listener)
    for step, (epoch, number, rows) in zip(count(), steps, strict=False):
        done = step < len(checkpoint.losses)
        if not done:
            checkpoint.losses.append(_step(task, optimizer, schedule, (epoch, number, rows), step, len(steps)))
            extras.after(step)
            if (step + 1) % schedule.checkpoint_steps == 0:
                checkpoint.save(_state(parameters, optimizer))
        meter.advance(documents=len(rows), characters=sizes[step], tokens=0 if done else sizes[step], worked=not done)
        if not done:
            meter.report("train")
    checkpoint.save(_state(parameters, optimizer))
    return checkpoint.losses


def _optimizer(parameters: Mapping[str, torch.Tensor], schedule: Schedule, undecayed: frozenset[str]) -> Any:
    import torch

    kept = [value for name, value in parameters.items() if name in undecayed]
    groups: list[dict[str, Any]] = [{"params": [value for name, value in parameters.items() if name not in undecayed]}]
    if kept:
        groups.append({"params": kept, "weight_decay": 0.0})
    return torch.optim.AdamW(groups, schedule.lr, weight_decay=schedule.weight_decay)


def _step(task: Task, optimizer: Any, schedule: Schedule, batch: tuple[int, int, Rows], step: int, total: int) -> float:
    import torch

    for group in optimizer.param_groups:
        group["lr"] = schedule.rate(step, total)
    optimizer.zero_grad()
    loss = task.loss(*batch)
    if not math.isfinite(float(loss.detach())):
        raise ValidationError(
            f"The loss of step {step + 1} of {total} is {float(loss.detach())}. Lower the rate (now {schedule.lr}) or "
            "the clip, or train in float32; the run continues from its last checkpoint if its settings stay the same."
        )
    loss.backward()  # type: ignore[no-untyped-call]
    norm = float(torch.nn.utils.clip_grad_norm_(list(task.parameters.values()), schedule.clip))
    if not math.isfinite(norm):  # a step with it would make every parameter NaN, and the next checkpoint with them
        raise ValidationError(
            f"The gradient of step {step + 1} of {total} has norm {norm}, at a loss of {float(loss.detach())}. Lower "
            f"the rate (now {schedule.lr}), or train in float32; the run continues from its last checkpoint."
        )
    optimizer.step()
    return float(loss.detach())


def _state(parameters: Mapping[str, torch.Tensor], optimizer: Any) -> dict[str, torch.Tensor]:
    found = dict(parameters)
    for name, parameter in parameters.items():
        for moment in MOMENTS:
            found[f"{moment}/{name}"] = optimizer.state[parameter][moment]
    return found


def _restore(tensors: Mapping[str, torch.Tensor], parameters: Mapping[str, torch.Tensor], optimizer: Any) -> None:
    if not tensors:
        return
    for name, parameter in parameters.items():
        parameter.data.copy_(tensors[name])
        optimizer.state[parameter] = {
            moment: tensors[f"{moment}/{name}"].clone() if moment == "step"  # AdamW counts on the CPU
            else tensors[f"{moment}/{name}"].to(parameter.device, copy=True)
            for moment in MOMENTS
        }  # fmt: skip
