"""From a causal model and complete lists to the folder of a listwise ranker, through any number of interruptions.

::

    OUT.unfinished/checkpoint.safetensors     everything that a continued run needs
    OUT/                                      model and tokenizer, what was learned in its weights
    OUT/adapter/                              the low-rank additions alone
    OUT/template.json                         the prompt that it was trained with, where it writes lists
    OUT/training.json                         what it was made from, and what came of it
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast, get_args

from unabridged._extras import require
from unabridged.contracts import JSON, Failure
from unabridged.encoders._hashes import canonical_sha256
from unabridged.errors import Overflow, UsageError
from unabridged.files import check_free, write_atomic
from unabridged.progress import Listener
from unabridged.rankers.listwise.prompts import LISTWISE
from unabridged.rankers.listwise.template_files import template_keys
from unabridged.rankers.lm.adapters import CONFIG
from unabridged.rankers.lm.local import LocalModel
from unabridged.rankers.pointwise import ASKED
from unabridged.training.fullrank.examples import Example, Making, make_example
from unabridged.training.fullrank.lessons import Lesson
from unabridged.training.fullrank.likelihood import Group, LikelihoodTask, make_group
from unabridged.training.fullrank.task import FullRankTask
from unabridged.training.fullrank.tuned import TunedTask, Tuning, merged
from unabridged.training.loop import Checkpoint, Schedule, fit
from unabridged.training.made import UNFINISHED, ends, finish
from unabridged.versions import installed

STORAGES = ("float16", "bfloat16", "float32")
PACKAGES = ("unabridged", "torch", "transformers", "peft", "tokenizers")
Objective = Literal["list", "likelihood"]
UNTRAINED, TRAINED = "held_out_loss_before", "held_out_loss_after"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A training, complete but for its lists."""

    base: Path
    """The folder of the model to begin with."""
    base_name: str | None = None
    """What an adapter calls it, as :func:`~unabridged.rankers.lm.load.load_model` knows it; None: the folder's name."""
    out: Path
    making: Making = field(default_factory=lambda: Making(template=LISTWISE))
    tuning: Tuning = field(default_factory=Tuning)
    schedule: Schedule = field(default_factory=lambda: Schedule(epochs=4, lr=1e-4, shape="cosine"))
    device: str | None = None
    storage: str = "float16"
    """Of the weights that are written."""
    objective: Objective = "list"
    """``list``: to write the order of a whole list; ``likelihood``: to find the query likely after a good document."""

    def __post_init__(self) -> None:
        if self.objective not in get_args(Objective):
            raise UsageError(f"What is learned is {' or '.join(get_args(Objective))}, got {self.objective!r}.")
        odd = [name for name in ("alpha", "weighted", "first") if getattr(self.tuning, name) != getattr(Tuning(), name)]
        odd += [
            name for name in ("most", "end") if getattr(self.making, name) != getattr(Making(template=LISTWISE), name)
        ]
        odd += ["template"] * (self.making.template is not LISTWISE)
        if self.objective == "likelihood" and odd:
            raise UsageError(f"No list is written where likelihood is learned, so that {odd[0]} has no meaning.")
        if self.storage not in STORAGES:
            raise UsageError(f"Weights are stored as {', '.join(STORAGES)}, got {self.storage!r}.")


@dataclass(frozen=True, slots=True)
class Report:
    """What was done."""

    out: Path
    lists: int
    failures: tuple[Failure, ...]
    """Lists that do not fit the model."""
    cut: int
    """Candidates, of all lists, that were not shown whole."""
    candidates: int
    parameters: int
    """Numbers that were learned."""
    steps: int
    tokens: int
    first_loss: float
    """Mean of the first tenth of the steps."""
    last_loss: float
    held_out: int
    held_out_before: float | None
    """Mean loss of the lists that were not learned from, before the first step; None without such lists."""
    held_out_after: float | None

    def as_json(self) -> dict[str, JSON]:
        """The fields as JSON."""
        return {**asdict(self), "out": str(self.out)}


def train_fullrank(
    plan: Plan, learned: Sequence[Lesson], held_out: Sequence[Lesson] = (), listener: Listener | None = None
) -> Report:
    """Trains and writes the model folder ``plan.out``; the same call continues what was interrupted.

    Raises:
        UsageError: ``out`` is there already, or no list fits the model.
        MissingFile: ``base`` holds no model.
        ValidationError: ``out`` was begun with other settings or lists, or the loss is not finite.
    """
    check_free(plan.out)
    # Additions to weights of 16 bits are learned in 32; where the weights themselves are learned they have 32.
    precision = "float32" if plan.tuning.method == "full" else None
    local = LocalModel.load(plan.base, device=plan.device, precision=precision)
    examples, failures = _examples(local, plan, learned)
    kept, _ = _examples(local, plan, held_out)
    if not examples:
        raise UsageError(f"None of {len(learned)} lists fits the model. {failures[0].message if failures else ''}")
    work = plan.out.with_name(plan.out.name + UNFINISHED)
    work.mkdir(parents=True, exist_ok=True)
    facts = _facts(plan, local, examples)
    checkpoint = Checkpoint(work / "checkpoint.safetensors", facts)
    task = _task(plan, local.model, examples)
    resumed = checkpoint.path.is_file()
    if kept and not resumed:
        checkpoint.notes[UNTRAINED] = task.mean_loss(kept)
    losses = fit(task, plan.schedule, checkpoint, listener)
    if kept:
        checkpoint.notes[TRAINED] = task.mean_loss(kept)
    first, last = ends(losses)
    report = Report(
        out=plan.out,
        lists=len(examples),
        failures=failures,
        cut=sum(shown < total for one in examples for shown, total in one.shown),
        candidates=sum(len(one.shown) for one in examples),
        parameters=sum(value.numel() for value in task.parameters.values()),
        steps=len(losses),
        tokens=sum(task.tokens(rows) for _, _, rows in plan.schedule.plan(task)),
        first_loss=first,
        last_loss=last,
        held_out=len(kept),
        held_out_before=checkpoint.notes.get(UNTRAINED),
        held_out_after=checkpoint.notes.get(TRAINED),
    )
    finish(work, plan.out, partial(_write, plan, task, local.tokenizer, facts, report))
    return report


def _examples(
    local: LocalModel, plan: Plan, learned: Sequence[Lesson]
) -> tuple[list[Example | Group], tuple[Failure, ...]]:
    examples: list[Example | Group] = []
    failures: list[Failure] = []
    making = plan.making
    for lesson in learned:
        try:
            if plan.objective == "list":
                examples.append(make_example(local, making, lesson.request, lesson.order))
            else:
                sizes = {"passage_tokens": making.passage_tokens, "context": making.context}
                examples.append(make_group(local, lesson.request, lesson.order, **sizes))
        except Overflow as error:
            failures.append(Failure(lesson.request.id, lesson.request.id, "example", "too-long", str(error)))
    return examples, tuple(failures)


def _task(plan: Plan, model: Any, examples: Sequence[Example | Group]) -> TunedTask[Any]:
    if plan.objective == "list":
        return FullRankTask(model, cast("Sequence[Example]", examples), plan.tuning)
    return LikelihoodTask(model, cast("Sequence[Group]", examples), plan.tuning)


def _facts(plan: Plan, local: LocalModel, examples: Sequence[Example | Group]) -> dict[str, JSON]:
    """What a run must share with the one that it continues."""
    making = {"passage_tokens": plan.making.passage_tokens, "most": plan.making.most, "end": plan.making.end}
    return {
        "base": local.fingerprint,
        "objective": plan.objective,
        "template": template_keys(plan.making.template) if plan.objective == "list" else ASKED.name,
        **making,
        **plan.tuning.facts,
        **plan.schedule.facts,
        "lists": canonical_sha256([_said(one) for one in examples]),
    }


def _said(example: Example | Group) -> JSON:
    """What of an example decides what is learned."""
    if isinstance(example, Group):
        return [[list(one) for one in example.prompts], list(example.query), list(example.ranks)]
    ranks = [] if example.first is None else list(example.first.ranks)
    return [list(example.prompt), list(example.answer), ranks]


def _write(
    plan: Plan, task: TunedTask[Any], tokenizer: Any, facts: Mapping[str, JSON], report: Report, work: Path
) -> None:
    """Makes ``work / "folder"``."""
    torch = require("torch", extra="llm-local", purpose="training")
    folder = work / "folder"
    if plan.tuning.method == "lora":
        # No embeddings: they do not change, and looking whether they did would ask a hub.
        task.model.save_pretrained(str(folder / "adapter"), save_embedding_layers=False)
        # Both name the folder that the run began with, which is a place on one machine.
        (folder / "adapter" / "README.md").unlink(missing_ok=True)
        config = folder / "adapter" / CONFIG
        named = {**json.loads(config.read_bytes()), "base_model_name_or_path": plan.base_name or plan.base.name}
        write_atomic(config, (json.dumps(named, indent=2) + "\n").encode())
    model = merged(task).to(getattr(torch, plan.storage))
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    if plan.objective == "list":
        keys = {**template_keys(plan.making.template)}
        write_atomic(folder / "template.json", (json.dumps(keys, indent=2, ensure_ascii=False) + "\n").encode())
    said = {**facts, "report": {**report.as_json(), "out": plan.out.name}, "versions": installed(PACKAGES)}
    write_atomic(folder / "training.json", (json.dumps(said, indent=2, ensure_ascii=False) + "\n").encode())
