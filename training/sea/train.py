"""From pairs of questions and code to the folder of a SEA encoder, through any number of interruptions.

::

    OUT.unfinished/data/                      block vectors (:mod:`unabridged.training.sea.blocks`)
    OUT.unfinished/checkpoint.safetensors     everything that a continued run needs
    OUT.unfinished/best.safetensors           the parameters of the best evaluation
    OUT/                                      renamed into place when everything is in it

With a cache, block vectors lie there instead, by what they are made from, for other runs too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import JSON, Encoder, Floats, Rows
from unabridged.encoders.sea.aggregators import Aggregator
from unabridged.encoders.sea.encoder import SeaEncoder
from unabridged.errors import UsageError
from unabridged.files import check_free
from unabridged.progress import Listener
from unabridged.training.gradcache import plan_chunks
from unabridged.training.loop import Checkpoint, Extras, Schedule, fit
from unabridged.training.made import UNFINISHED, ends, finish
from unabridged.training.pairs import Pair, Source
from unabridged.training.retriever import Drawing, Objective
from unabridged.training.sea.blocks import BlockVectors, block_vectors
from unabridged.training.sea.data import PairTexts, collect
from unabridged.training.sea.formulas import HIDDEN, start
from unabridged.training.sea.judge import Judge
from unabridged.training.sea.shelf import BlockShelf
from unabridged.training.sea.task import SeaTask
from unabridged.training.sea.tower import AggregatorTower
from unabridged.training.sea.watch import Watch
from unabridged.training.sea.written import card, write

if TYPE_CHECKING:
    from unabridged.training.sea.full import FullTower, TokenBlocks


@dataclass(frozen=True, slots=True)
class Shape:
    """Which aggregator."""

    kind: str = "attention_plus_mean"
    layers: int = 1
    hidden: int = HIDDEN
    """K, with two layers."""

    def start(self, width: int, seed: int, *, full: bool) -> Aggregator:
        """It before training; one without parameters will do where the encoder learns too."""
        if full and self.kind in ("mean", "max"):
            return Aggregator(self.kind)
        return start(self.kind, self.layers, width, self.hidden, seed)


@dataclass(frozen=True, slots=True)
class Judging:
    """How it is judged while it learns: by pairs that are held out, or by a set of its own."""

    hold_out: int = 0
    pairs: Sequence[Pair] = ()
    among: Sequence[str] = ()
    """The documents of the set."""
    every: int = 50
    """Steps; the untrained start and the end are judged too."""
    keep: str = "best"
    """Which parameters are written: of the best evaluation, or the last."""

    def __post_init__(self) -> None:
        if self.every < 1 or self.keep not in ("best", "last"):
            raise UsageError(
                f"An evaluation needs at least 1 step between two and keeps best or last, got every={self.every}, "
                f"keep={self.keep!r}."
            )


@dataclass(frozen=True)
class Plan:
    """A training, complete but for its data."""

    base: Encoder
    out: Path
    shape: Shape = field(default_factory=Shape)
    full: bool = False
    """Whether the encoder learns too; else its block vectors are made once."""
    dot: bool = False
    """Dot products of vectors of any norm instead of cosines, as the paper has them."""
    objective: Objective = field(default_factory=Objective)
    drawing: Drawing = field(default_factory=Drawing)
    schedule: Schedule = field(default_factory=Schedule)
    judging: Judging = field(default_factory=Judging)
    device: str = "cpu"
    """Of the encoder that learns."""
    cache: Path | None = None
    licence: str = ""
    title: str = "An aggregator of code blocks"
    command: str = ""

    @property
    def facts(self) -> dict[str, JSON]:
        """What a run must share with the one that it continues, besides texts, task and schedule."""
        base = self.base.passport.fingerprint
        return {**asdict(self.shape), "full": self.full, "base": base, "device": self.device}


@dataclass(frozen=True, slots=True)
class Report:
    """What was done."""

    out: Path
    counts: Mapping[str, JSON]
    """Pairs, documents, blocks; with an evaluation what it was made of."""
    steps: int
    first_loss: float
    last_loss: float
    evaluations: Sequence[tuple[int, float]]
    """Steps done and MRR of the long questions."""
    kept_step: int | None
    """Whose parameters were written; None: the last."""
    score: Mapping[str, float] | None
    """MRR of what was written: of all questions, and of those whose code has several blocks."""
    baselines: Mapping[str, Mapping[str, float]]
    """The same without training."""
    losses: Sequence[float] = field(repr=False, default=())

    def as_json(self) -> dict[str, JSON]:
        """The fields as JSON."""
        return {**asdict(self), "out": str(self.out)}


def train_sea(
    plan: Plan, sources: Sequence[Source], teacher: Encoder | None = None, listener: Listener | None = None
) -> Report:
    """Trains and writes the folder ``plan.out``; the same call continues what was interrupted.

    ``teacher`` is an encoder whose best blocks rank a step's candidates, for ``plan.objective.scores``.

    Raises:
        UsageError: ``out`` is there already, or parts of the plan do not fit together.
        CorpusError: a fault of the data, by file and line.
        ValidationError: ``out`` was begun with other settings or other texts, or the loss is not finite.
    """
    check_free(plan.out)
    judging = plan.judging
    data = collect((pair for source in sources for pair in source), judging.hold_out, judging.pairs, judging.among)
    work = plan.out.with_name(plan.out.name + UNFINISHED)
    work.mkdir(parents=True, exist_ok=True)
    made = partial(_blocks, data, plan.cache or work / "data", listener)
    taught = made(teacher) if plan.objective.taught and teacher is not None else None
    judged = len(data.held_queries) > 0
    blocks = made(plan.base) if judged or not plan.full else None
    learner = _full(plan, data) if plan.full else _quick(plan, data, blocks)
    task = SeaTask(learner.tower, learner.shelf, plan.objective, plan.drawing, taught, dot=plan.dot)
    named = {"teacher": None if taught is None or teacher is None else teacher.passport.fingerprint}
    settings = {**plan.facts, **task.facts, **plan.schedule.facts, **named}
    checkpoint = Checkpoint(work / "checkpoint.safetensors", settings)
    judge = Judge(data, blocks) if judged and blocks is not None else None
    watch = Watch(judge, learner, checkpoint, work, judging.every, judging.keep)
    watch.begin()
    losses = fit(task, plan.schedule, checkpoint, listener, Extras(learner.tower.undecayed, watch.after))
    kept = watch.kept()
    score = None if judge is None else judge.said(learner.ranks(judge))
    first, last = ends(losses)
    report = Report(
        out=plan.out,
        counts={**data.facts, **learner.facts, **({} if judge is None else judge.facts)},
        steps=len(losses),
        first_loss=first,
        last_loss=last,
        evaluations=watch.curve,
        kept_step=kept,
        score=score,
        baselines={} if judge is None else {name: judge.said(one) for name, one in judge.baselines().items()},
        losses=losses,
    )
    described = [source.described() for source in sources]
    text = card(plan, described, report, None if taught is None else teacher)
    finish(work, plan.out, partial(write, learner.encoder, text))
    return report


@dataclass(frozen=True)
class Learner:
    """What learns, and how its vectors are had."""

    tower: AggregatorTower | FullTower
    shelf: BlockShelf
    ranks: Callable[[Judge], NDArray[np.float64]]
    encoder: Callable[[Path], SeaEncoder]
    """The trained encoder; may use the folder for its weights."""
    facts: Mapping[str, JSON]


def _blocks(data: PairTexts, folder: Path, listener: Listener | None, encoder: Encoder) -> BlockVectors:
    return block_vectors(data, SeaEncoder(encoder, Aggregator("mean")), folder, listener)


def _quick(plan: Plan, data: PairTexts, blocks: BlockVectors | None) -> Learner:
    if blocks is None:
        raise UsageError("The quick training needs block vectors.")
    begin = plan.shape.start(plan.base.dim, plan.drawing.seed, full=False)
    tower = AggregatorTower(begin, blocks.vectors)
    return Learner(
        tower,
        BlockShelf.of(data, blocks.offsets),
        lambda judge: judge.aggregated(tower.aggregator()),
        lambda _: SeaEncoder(plan.base, tower.aggregator()),
        {"blocks": len(blocks.vectors), "document_tokens": int(blocks.tokens.sum())},
    )


def _full(plan: Plan, data: PairTexts) -> Learner:
    from unabridged.training.sea.full import FullTower, check_trainable, token_blocks

    base = check_trainable(plan.base)
    tokens: TokenBlocks = token_blocks(data, base)
    begin = plan.shape.start(plan.base.dim, plan.drawing.seed, full=True)
    tower = FullTower(base, begin, tokens, plan.device)
    shelf = BlockShelf.of(data, tokens.offsets, tokens.sizes)

    def embed(texts: Rows) -> Floats:
        found = np.zeros((len(texts), tower.width), dtype=np.float32)
        for chunk in plan_chunks(shelf.lengths[texts], plan.drawing.chunk_tokens):
            found[chunk] = tower.vectors(*shelf.packed(texts[chunk]))
        return found

    return Learner(
        tower,
        shelf,
        lambda judge: judge.ranks(embed),
        lambda work: SeaEncoder(tower.write_base(work / "trained"), tower.aggregator()),
        {"blocks": len(tokens.lead), "document_tokens": tokens.content, "questions_cut": tokens.cut},
    )
