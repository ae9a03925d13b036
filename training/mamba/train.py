"""From pairs and texts to the folder of a Mamba retriever, through any number of interruptions.

::

    OUT.unfinished/start/                     configuration and tokenizer
    OUT.unfinished/data/                      texts as tokens (:mod:`unabridged.training.shelf`)
    OUT.unfinished/data/teacher-*.npy         the teacher's vectors of them
    OUT.unfinished/checkpoint.safetensors     everything that a continued run needs
    OUT.unfinished/best.safetensors           the parameters of the best evaluation
    OUT/                                      renamed into place when everything is in it

With a cache, texts and the teacher's vectors lie there instead, by what they are made from, for other runs too.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from unabridged.contracts import JSON, Corpus, Document, Encoder, Failure
from unabridged.encoders._hashes import canonical_sha256
from unabridged.encoders._hf import read_folder
from unabridged.encoders._tokens import Ids
from unabridged.encoders.extension import check_most
from unabridged.encoders.mamba.encoder import MambaEncoder
from unabridged.encoders.mamba.export import MambaExport
from unabridged.encoders.mamba.folder import Saved
from unabridged.encoders.mamba.settings import Choices, Settings
from unabridged.errors import UsageError, ValidationError
from unabridged.files import check_free, write_atomic
from unabridged.progress import Listener
from unabridged.training.card import Card
from unabridged.training.heldout import MEASURE, HeldOut
from unabridged.training.loop import Checkpoint, Extras, Schedule, fit
from unabridged.training.made import UNFINISHED, ends, finish
from unabridged.training.mamba.start import Start
from unabridged.training.mamba.tower import MambaTower, Running
from unabridged.training.pairs import Source
from unabridged.training.retriever import Drawing, Objective, RetrieverTask
from unabridged.training.shelf import Framing, Shelf, make_shelf, open_shelf
from unabridged.training.teacher import teacher_vectors

if TYPE_CHECKING:
    from unabridged.eval._set import RetrievalSet

STORAGES = ("float16", "bfloat16", "float32")
KEEPS = ("best", "last")
BEST = "best.safetensors"


@dataclass(frozen=True, slots=True)
class Evaluating:
    """A held-out set, and when it is asked."""

    held_out: RetrievalSet
    every: int = 200
    """Steps; the untrained start and the end are evaluated too."""
    keep: str = "best"
    """Which parameters are written: of the best evaluation, or the last."""

    def __post_init__(self) -> None:
        if self.every < 1 or self.keep not in KEEPS:
            raise UsageError(
                f"An evaluation needs at least 1 step between two and keeps {' or '.join(KEEPS)}, got "
                f"every={self.every}, keep={self.keep!r}."
            )


@dataclass(frozen=True, slots=True)
class Folder:
    """How the result is written."""

    max_tokens: int = 256
    """Own tokens that are read of a text in training."""
    query_prompt: str = ""
    document_prompt: str = ""
    storage: str = "float16"
    segment_tokens: int | None = None
    """Of a segment when documents are indexed; None: ``max_tokens``."""
    carry: bool = True
    """Whether the state goes on from segment to segment then."""
    licence: str = ""
    title: str = "A Mamba retriever"
    command: str = ""
    """For the card."""

    def __post_init__(self) -> None:
        if self.storage not in STORAGES:
            raise UsageError(f"Weights are stored as {', '.join(STORAGES)}, got {self.storage!r}.")
        check_most(segment_tokens=self.segment_tokens)
        if self.segment_tokens is not None and self.segment_tokens < 1:
            raise UsageError(f"A segment holds at least 1 token, got segment_tokens={self.segment_tokens}.")


@dataclass(frozen=True)
class Data:
    """What is learned from."""

    pairs: Sequence[Source] = ()
    texts: Corpus | None = None
    """Lone texts, for a teacher."""
    described: Sequence[Mapping[str, JSON]] = ()
    """Names and SHA-256 of the lone texts' files; those of the pairs are found."""

    def each(self) -> Iterable[Document | Failure]:
        """The lone texts."""
        return () if self.texts is None else self.texts


@dataclass(frozen=True, slots=True)
class Report:
    """What was done."""

    out: Path
    pairs: int
    texts: int
    steps: int
    tokens: int
    tokens_per_second: float
    """Of the steps that this call computed."""
    first_loss: float
    last_loss: float
    read: Mapping[str, JSON]
    evaluations: Sequence[tuple[int, float]]
    """Steps done and nDCG@10."""
    kept_step: int | None
    """Whose parameters were written; None: the last."""
    stored_score: float | None
    """nDCG@10 of what was written, in the precision in which it is stored."""
    losses: Sequence[float] = field(repr=False, default=())

    def as_json(self) -> dict[str, JSON]:
        """The fields as JSON."""
        return {**asdict(self), "out": str(self.out)}


@dataclass(frozen=True)
class Plan:
    """A training, complete but for its data."""

    start: Start
    out: Path
    objective: Objective = field(default_factory=Objective)
    drawing: Drawing = field(default_factory=Drawing)
    schedule: Schedule = field(default_factory=Schedule)
    running: Running = field(default_factory=Running)
    folder: Folder = field(default_factory=Folder)
    evaluating: Evaluating | None = None
    cache: Path | None = None
    """Where texts and the teacher's vectors stay for other runs; None: they go with the run."""


def train_mamba(plan: Plan, data: Data, teacher: Encoder | None = None, listener: Listener | None = None) -> Report:
    """Trains and writes the model folder ``plan.out``; the same call continues what was interrupted.

    Raises:
        UsageError: ``out`` is there already, or parts of the plan do not fit together.
        CorpusError: a fault of the data, by file and line.
        ValidationError: ``out`` was begun with other settings or other texts, or the loss is not finite.
    """
    check_free(plan.out)
    _check_taught(plan.objective, data, teacher)
    work = plan.out.with_name(plan.out.name + UNFINISHED)
    work.mkdir(parents=True, exist_ok=True)
    framing = _framing(plan, work)
    described = [*(source.described() for source in data.pairs), *data.described]
    shelf = _shelf(plan, work, framing, data, described)
    _check_vocabulary(plan.start, shelf.ids)
    vectors = None
    if plan.objective.taught and teacher is not None:
        vectors = teacher_vectors(shelf, teacher, shelf.folder, listener)
    tower = MambaTower(plan.start, plan.running)
    task = RetrieverTask(tower, shelf, plan.objective, plan.drawing, vectors)
    taught = {"teacher": None if vectors is None or teacher is None else teacher.passport.fingerprint}
    settings = {**plan.start.described, **task.facts, **plan.schedule.facts, **asdict(plan.running), **taught}
    checkpoint = Checkpoint(work / "checkpoint.safetensors", settings)
    watch = _Watch(plan, tower, framing, checkpoint, work)
    watch.begin()
    rate = _Rate(listener)
    losses = fit(task, plan.schedule, checkpoint, rate, Extras(tower.undecayed, watch.after))
    kept = watch.kept()
    stored = watch.stored()
    first, last = ends(losses)
    report = Report(
        out=plan.out,
        pairs=len(shelf.queries),
        texts=len(shelf),
        steps=len(losses),
        tokens=sum(task.tokens(rows) for _, _, rows in plan.schedule.plan(task)),
        tokens_per_second=round(rate.tokens_per_second, 1),
        first_loss=first,
        last_loss=last,
        read={name: shelf.facts[name] for name in ("pairs", "negatives", "unreadable", "read")},
        evaluations=watch.curve,
        kept_step=kept,
        stored_score=stored,
        losses=losses,
    )
    card = _card(plan, described, report, watch, teacher if vectors is not None else None)
    finish(work, plan.out, partial(_write, plan, tower, card))
    return report


def _check_taught(objective: Objective, data: Data, teacher: Encoder | None) -> None:
    """:class:`UsageError` for a teacher, or texts for one, that the objective leaves out."""
    if objective.taught or (teacher is None and (data.texts is None or not data.pairs)):
        return
    named = "A teacher is" if teacher is not None else "Texts without queries are"
    raise UsageError(
        f"{named} given, and nothing is learned from a teacher: the weights of vectors and scores are 0. Give one of "
        "them a weight (--vectors 1), or leave teacher and texts out."
    )


def _framing(plan: Plan, work: Path) -> Framing:
    """How texts become sequences: as the encoder that is made will read them."""
    begin = work / "start"
    plan.start.write(begin)
    folder = plan.folder
    prompts = (folder.query_prompt, folder.document_prompt)
    found = replace(read_folder(begin, pooling=plan.start.pooling), include_prompt=True)
    encoder = MambaEncoder(found, Settings(query_prompt=prompts[0], document_prompt=prompts[1]))
    return Framing(encoder.tokenizer, encoder.frame, prompts, folder.max_tokens)


def _shelf(plan: Plan, work: Path, framing: Framing, data: Data, described: Sequence[Mapping[str, JSON]]) -> Shelf:
    seed = plan.drawing.seed
    key = {"framing": framing.facts, "data": list(described), "seed": seed}
    folder = work / "data" if plan.cache is None else plan.cache / canonical_sha256(key)[:16]
    found = open_shelf(folder, key)
    if found is not None:
        return found
    pairs = (pair for source in data.pairs for pair in source)
    return make_shelf(folder, framing, key, pairs, data.each(), seed)


def _check_vocabulary(start: Start, ids: Ids) -> None:
    """:class:`ValidationError` for a token that has no word vector."""
    if len(ids) and int(ids.max()) >= start.config.vocab:
        raise ValidationError(
            f"There is a token {int(ids.max())}, and the model has word vectors for {start.config.vocab}: the tokenizer"
            f" in {start.words.path} is of another model. Restore the one that belongs to it."
        )


class _Rate:
    """Passes events on and remembers the last rate."""

    def __init__(self, listener: Listener | None) -> None:
        self._listener = listener
        self.tokens_per_second = 0.0

    def __call__(self, event: object) -> None:
        from unabridged.progress import Progress

        if isinstance(event, Progress):
            self.tokens_per_second = event.tokens_per_second
            if self._listener is not None:
                self._listener(event)


class _Watch:
    """Evaluations: when, what they found, and which parameters were the best."""

    def __init__(self, plan: Plan, tower: MambaTower, framing: Framing, checkpoint: Checkpoint, work: Path) -> None:
        self._plan = plan
        self._tower = tower
        self._checkpoint = checkpoint
        self._best = work / BEST
        self._set = None if plan.evaluating is None else HeldOut.of(plan.evaluating.held_out, framing)
        for _, ids in () if self._set is None else (*self._set.queries, *self._set.documents):
            _check_vocabulary(plan.start, ids)

    @property
    def curve(self) -> list[tuple[int, float]]:
        """Steps done and nDCG@10; of the set at hand, if a run continues with another one."""
        notes = self._checkpoint.notes
        if self._set is None or notes.get("held_out", self._set.digest) != self._set.digest:
            return []
        return [(int(step), float(value)) for step, value in notes.get("evaluations", [])]

    @property
    def facts(self) -> Mapping[str, JSON] | None:
        """Of the set."""
        return None if self._set is None else self._set.facts

    def begin(self) -> None:
        """Evaluates the start, unless a checkpoint has it."""
        if not self._checkpoint.path.is_file():
            self._evaluate(0)

    def after(self, step: int) -> None:
        """What the loop calls behind every step."""
        evaluating = self._plan.evaluating
        if evaluating is not None and (step + 1) % evaluating.every == 0:
            self._evaluate(step + 1)

    def kept(self) -> int | None:
        """Puts the parameters that are to be written into the tower; their step, None for the last."""
        steps = len(self._checkpoint.losses)
        if self._set is None:
            return None
        if not self.curve or self.curve[-1][0] != steps:
            self._evaluate(steps)
        best = self._saved()
        if self._plan.evaluating is None or self._plan.evaluating.keep == "last" or best is None or best[0] == steps:
            return None
        self._restore()
        return best[0]

    def stored(self) -> float | None:
        """Rounds the tower to the precision of its storage, and evaluates that.

        :class:`ValidationError` for a parameter that this precision does not hold.
        """
        import torch

        storage = self._plan.folder.storage
        kind = getattr(torch, storage)
        with torch.no_grad():
            for name, value in self._tower.model.parameters.items():
                rounded = value.to(kind).to(value.dtype)
                if not bool(torch.isfinite(rounded).all()):
                    raise ValidationError(
                        f"{name} reaches {float(value.abs().max()):g}, which {storage} does not hold. Run the same "
                        "command with --storage float32: the training is kept."
                    )
                value.copy_(rounded)
        return self._score()

    def _evaluate(self, step: int) -> None:
        score = self._score()
        if score is None or self._set is None:
            return
        self._checkpoint.notes.update(evaluations=[*self.curve, (step, score)], held_out=self._set.digest)
        best = self._saved()
        keep = self._plan.evaluating is not None and self._plan.evaluating.keep == "best"
        # What lies there from this step on was saved before a kill, and is computed again.
        if keep and (best is None or best[0] >= step or score > best[1]):
            self._save(step, score)

    def _score(self) -> float | None:
        if self._set is None:
            return None
        return self._set.score(self._tower.vectors, self._plan.drawing.chunk_tokens)

    def _save(self, step: int, score: float) -> None:
        from safetensors.torch import save

        plain = {name: value.detach().cpu().contiguous() for name, value in self._tower.parameters.items()}
        said = json.dumps({"step": step, "score": score, "held_out": None if self._set is None else self._set.digest})
        write_atomic(self._best, save(plain, {"evaluation": said}))

    def _saved(self) -> tuple[int, float] | None:
        """Step and nDCG@10 of the parameters that were saved as the best; None if none were, for this set."""
        from safetensors import safe_open

        if self._set is None or not self._best.is_file():
            return None
        with safe_open(str(self._best), "pt") as file:
            said = json.loads((file.metadata() or {}).get("evaluation", "{}"))
        if not said:  # of an earlier version, which saved the first of the best evaluations and did not say so
            return max(self.curve, key=lambda one: (one[1], -one[0]), default=None)
        if said["held_out"] != self._set.digest:
            return None
        return int(said["step"]), float(said["score"])

    def _restore(self) -> None:
        import torch
        from safetensors.torch import load

        best = load(self._best.read_bytes())
        with torch.no_grad():
            for name, value in self._tower.parameters.items():
                value.copy_(best[name])


def _card(
    plan: Plan,
    described: Sequence[Mapping[str, JSON]],
    report: Report,
    watch: _Watch,
    teacher: Encoder | None,
) -> str:
    parameters = sum(math.prod(shape) for shape in plan.start.config.shapes().values())
    folder = plan.folder
    model = {
        "parameters": parameters,
        "stored as": folder.storage,
        **plan.start.described,
        "tokens of a text in training": folder.max_tokens,
        "query prompt": folder.query_prompt,
        "document prompt": folder.document_prompt,
    }
    shown = {name: getattr(report, name) for name in ("steps", "tokens", "first_loss", "last_loss")}
    if report.stored_score is not None:
        shown[f"{MEASURE} of the stored weights"] = report.stored_score
    named = None
    if teacher is not None:
        named = {"source": Path(teacher.passport.source).name, "fingerprint": teacher.passport.fingerprint}
    return Card(
        title=folder.title,
        licence=folder.licence,
        command=folder.command,
        model=model,
        objective={**asdict(plan.objective), **asdict(plan.drawing)},
        schedule={**asdict(plan.schedule), **asdict(plan.running)},
        data=described,
        read=report.read,
        report=shown,
        evaluations=report.evaluations,
        held_out=watch.facts,
        teacher=named,
    ).markdown()


def _write(plan: Plan, tower: MambaTower, card: str, work: Path) -> None:
    import torch

    kind = getattr(torch, plan.folder.storage)
    bare, made = work / "bare", work / "folder"
    for path in (bare, made):
        shutil.rmtree(path, ignore_errors=True)
    plan.start.write(bare, {name: value.to(kind) for name, value in tower.model.parameters.items()})
    folder = plan.folder
    Saved(folder.carry, folder.segment_tokens or folder.max_tokens).write(bare)
    found = replace(read_folder(bare, pooling=plan.start.pooling), normalize=True, include_prompt=True)
    settings = Settings(query_prompt=folder.query_prompt, document_prompt=folder.document_prompt)
    made.mkdir()
    MambaExport(Choices.of(found, settings), found).write(made)
    (made / "README.md").write_text(card, encoding="utf-8")
