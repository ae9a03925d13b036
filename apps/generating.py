"""What ``eval make-synth`` makes: sets and samples of each length, counted by an encoder where one is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from unabridged.contracts import Encoder
from unabridged.errors import UsageError
from unabridged.eval.synth.folders import write_samples, write_synth
from unabridged.eval.synth.needle import needle
from unabridged.eval.synth.niah import niah
from unabridged.eval.synth.passkey import passkey
from unabridged.eval.synth.published import PUBLISHED_EDGES, Characters, characters, published
from unabridged.eval.synth.records import SynthSet
from unabridged.eval.synth.sentences import Sample, nominal_tokens, sized
from unabridged.eval.synth.twohop import twohop
from unabridged.eval.synth.vartrack import vartrack

SAMPLES = 20
MOST_SAMPLES = 10_000
"""Of one length; the seed of sample ``i`` is this times the set's seed, and ``i``."""


class Task(str, Enum):
    """What is made."""

    PASSKEY = "passkey"
    NEEDLE = "needle"
    NIAH = "niah"
    VARTRACK = "vartrack"
    TWOHOP = "twohop"


ALSO = {"vt": Task.VARTRACK, "multihop": Task.TWOHOP}
"""Other names of tasks."""


def task_named(text: str) -> Task:
    """The task that people call ``text``; :class:`UsageError` with all names for another."""
    known = {task.value: task for task in Task} | ALSO
    if text not in known:
        raise UsageError(f"there is no task {text!r}; choose one of {', '.join(known)}.")
    return known[text]


class Edges(str, Enum):
    """How many needles of passkey stand at the very start or end of their document."""

    PUBLISHED = "published"
    """As many as in the published set of that length, so that the mean of characters is equal too."""
    CHANCE = "chance"
    """Every sentence boundary alike."""


class Sizing(str, Enum):
    """What the length of a sample counts."""

    NOMINAL = "nominal"
    """0.75 word a token."""
    TOKENS = "tokens"
    """Tokens of the encoder."""


_SAMPLES: dict[Task, Callable[..., Sample]] = {Task.NIAH: niah, Task.VARTRACK: vartrack, Task.TWOHOP: twohop}
_TAKES: dict[Task, frozenset[str]] = {
    Task.PASSKEY: frozenset({"documents", "queries", "edges"}),
    Task.NEEDLE: frozenset({"documents", "queries", "depth", "distractors", "texts"}),
    Task.NIAH: frozenset({"samples", "keys", "values", "key_kind", "value_kind"}),
    Task.VARTRACK: frozenset({"samples", "chains", "hops"}),
    Task.TWOHOP: frozenset({"samples", "pairs"}),
}


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for."""

    task: Task
    lengths: Sequence[int]
    seed: int = 0
    sizing: Sizing = Sizing.NOMINAL
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the generator, and ``samples``; none without effect."""

    def __post_init__(self) -> None:
        wrong = [name for name in self.options if name not in _TAKES[self.task]]
        if wrong:
            taken = ", ".join(map(_flag, sorted(_TAKES[self.task])))
            raise UsageError(f"{self.task.value} has no {_flag(wrong[0])}; it takes {taken}.")
        if not 1 <= self.samples <= MOST_SAMPLES:
            raise UsageError(f"--samples must be 1 to {MOST_SAMPLES:,}, got {self.samples}.")
        if self.sizing is Sizing.TOKENS and self.task not in _SAMPLES:
            raise UsageError(f"{self.task.value} is sized in words, as published; leave --sizing out.")

    @property
    def samples(self) -> int:
        """Of each length."""
        return int(self.options.get("samples", SAMPLES))

    def folder(self, length: int, out: Path) -> Path:
        """Of one length."""
        return out / f"{self.task.value}_{length}"


@dataclass(frozen=True, slots=True)
class Made:
    """The folder of one length, its record, and its characters where it is a retrieval set."""

    folder: Path
    record: dict[str, Any]
    characters: Characters | None

    def as_json(self) -> dict[str, Any]:
        """What a script needs; the places of all evidence are in the folder."""
        record = {key: value for key, value in self.record.items() if key != "records"}
        sizes = None if self.characters is None else asdict(self.characters) | {"mean": self.characters.mean}
        return {"folder": str(self.folder), **record, "characters": sizes}


def make(order: Order, length: int, out: Path, encoder: Encoder | None) -> Made:
    """Writes the folder of one length.

    Raises:
        UsageError: The folder is there and not empty, the length has no room, or counts do not fit.
        DiskFull: There is no room on the disk.
    """
    folder = order.folder(length, out)
    tokenizer = "" if encoder is None else encoder.passport.source
    if order.task in _SAMPLES:
        return Made(folder, _samples(order, length, folder, encoder, tokenizer), None)
    made = _retrieval(order, length)
    tokens = None if encoder is None else [int(count) for count in encoder.count_tokens(made.texts)]
    return Made(folder, write_synth(folder, made, tokens, tokenizer), characters(made))


def _retrieval(order: Order, length: int) -> SynthSet:
    options = dict(order.options)
    if order.task is Task.NEEDLE:
        return needle(length, order.seed, **options)
    chosen = Edges(options.pop("edges", Edges.PUBLISHED))
    whole = options.get("documents", 100) == 100  # a part of the pool has other totals anyway
    edges = PUBLISHED_EDGES.get(length) if chosen is Edges.PUBLISHED and whole else None
    return passkey(length, order.seed, edges=edges, **options)


def _samples(order: Order, length: int, folder: Path, encoder: Encoder | None, tokenizer: str) -> dict[str, Any]:
    options = {name: value for name, value in order.options.items() if name != "samples"}
    generator = partial(_SAMPLES[order.task], length=length, **options)

    def count(text: str) -> int:
        if encoder is None or order.sizing is Sizing.NOMINAL:
            return nominal_tokens(text)
        return int(encoder.count_tokens([text])[0])

    seeds = [order.seed * MOST_SAMPLES + at for at in range(order.samples)]
    made = [sized(partial(generator, seed=seed), length, count) for seed in seeds]
    texts = [one.text for one in made]
    tokens = None if encoder is None else [int(one) for one in encoder.count_tokens(texts)]
    record = {"seed": order.seed, "sizing": order.sizing.value, "tokenizer": tokenizer, "tokens": tokens}
    return write_samples(folder, made, length, record)


def statistics(made: Sequence[Made]) -> list[dict[str, Any]]:
    """Characters, documents and questions of each length, beside the published ones of passkey where there are any."""
    rows = []
    for one in made:
        if one.characters is None:
            continue
        other = published(one.record["length"]) if one.record["task"] == Task.PASSKEY.value else None
        sizes = asdict(one.characters) | {"mean": one.characters.mean}
        theirs = None if other is None else asdict(other) | {"mean": other.mean}
        edges = sum(record["edge"] for record in one.record["records"])
        row = {"length": one.record["length"], "made": sizes, "published": theirs, "edge_needles": edges}
        rows.append(row | {"equal": None if other is None else one.characters == other})
    return rows


def _flag(name: str) -> str:
    return "--haystack" if name == "texts" else f"--{name.replace('_', '-')}"
