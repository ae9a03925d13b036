"""``eval synth``: synthetic sets made and evaluated at once.

passkey and needle are retrieval: which document has the line.  niah, vartrack and twohop are choices of context: the
text of a sample is cut into stretches of a few sentences, these are searched with its question, and what fits an
allowance of words is judged by the evidence and the answers in it; no language model is needed.

Retrieval is kept as runs, see :mod:`unabridged.apps.runs`; choices of context are kept as::

    OUT/selections/TASK/SYSTEM-HASH.json    what was printed and under which settings; HASH is of all of these
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
import typer

import unabridged
from unabridged.apps import options as o
from unabridged.apps.advising import aligned, numbers
from unabridged.apps.evaluating import evaluation
from unabridged.apps.generating import SAMPLES, Order, Task, make, task_named
from unabridged.apps.output import Output, emit, exit_codes, say
from unabridged.apps.pipeline import Pipeline
from unabridged.apps.run_commands import Name, Options, Quiet, evidence_in, run_sets
from unabridged.apps.runs import file_name
from unabridged.apps.versions import versions
from unabridged.contracts import Encoder, Level
from unabridged.corpora import ListCorpus
from unabridged.errors import UsageError
from unabridged.eval._resample import bootstrap_interval
from unabridged.eval.evidence import RECORD
from unabridged.eval.sets import read_set
from unabridged.eval.synth import needle, passkey, sentences
from unabridged.eval.synth.folders import read_samples
from unabridged.eval.synth.selection import Outcome, Selection, judged, segments, summed
from unabridged.eval.synth.sentences import Sample
from unabridged.files import write_atomic
from unabridged.manifest import fingerprint
from unabridged.retrievers.result import Mode

GENERATORS: Mapping[Task, Any] = MappingProxyType({Task.PASSKEY: passkey, Task.NEEDLE: needle})
"""Modules with a version of their own; those of context share that of their sentences."""
RETRIEVAL = tuple(GENERATORS)
FORMAT = 1
"""Of the records of choices of context."""
ALLOWANCE = 300
STRETCH = 4


@evaluation.command()
def synth(  # noqa: PLR0913 - one parameter per option
    kind: Annotated[
        str,
        typer.Argument(
            help="Retrieval: passkey, needle.  Context: niah, vartrack (vt), twohop (multihop).", metavar="TASK"
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="Folder for sets, indexes and results (runs, or selections of context); the same line continues, and "
            "shows what is finished as it was measured.",
        ),
    ],
    lengths: Annotated[str, typer.Option("--lengths", help="Nominal tokens, comma-separated.")] = "256,512,1024",
    seed: Annotated[int, typer.Option("--seed", help="Of all that is drawn.")] = 0,
    samples: Annotated[int, typer.Option("--samples", help="niah, vartrack, twohop: of each length.")] = SAMPLES,
    allowance: Annotated[int, typer.Option("--allowance", help="Words of context that may be chosen.")] = ALLOWANCE,
    stretch: Annotated[int, typer.Option("--stretch", help="Sentences that are chosen together.")] = STRETCH,
    name: Name = None,
    encoder: o.EncoderOption = None,
    mode: o.ModeOption = Mode.HYBRID,
    overflow: o.OverflowOption = None,
    level: o.LevelOption = None,
    max_tokens: o.MaxTokens = None,
    overlap: o.Overlap = 0,
    late_tokens: o.LateTokens = None,
    extend: o.Extend = None,
    target_tokens: o.TargetTokens = None,
    temperature: o.Temperature = None,
    logn: o.LogNOption = None,
    device: o.Device = None,
    network: o.Network = False,
    quiet: Quiet = False,
    output: o.OutputOption = Output.TEXT,
) -> None:
    """Make synthetic sets of several lengths and evaluate search on them."""
    with exit_codes(output):
        task = task_named(kind)
        extension = o.extension(extend, target_tokens, None, temperature, logn, None)
        loading = o.given(
            max_tokens=max_tokens, overlap=overlap or None, late_tokens=late_tokens, device=device,
            network=network or None, extension=extension,
        )  # fmt: skip
        options = Options(name, encoder, mode, Level.DOC, o.given(overflow=overflow, level=level), loading)
        many = {} if task in RETRIEVAL else {"samples": samples}
        order = Order(task, list(dict.fromkeys(numbers(lengths, "--lengths"))), seed, options=many)
        folders = [made_folder(order, length, out / "sets") for length in order.lengths]
        if task in RETRIEVAL:
            sets = [(whole, evidence_in(one, whole)) for one in folders for whole in [read_set(one)]]
            run_sets(options, sets, None, out, quiet, output)
            return
        if allowance < 1 or stretch < 1:
            raise UsageError(f"--allowance and --stretch must be at least 1, got {allowance} and {stretch}.")
        model = options.load()
        pipeline = Pipeline(mode, Level.DOC, options.building)
        settings = {
            "task": task.value,
            "generator": sentences.VERSION,
            "lengths": order.lengths,
            "seed": seed,
            "samples": samples,
            "allowance": allowance,
            "stretch": stretch,
            "encoder": {"source": model.passport.source, "fingerprint": model.passport.fingerprint},
            "pipeline": pipeline.as_json(),
            "unabridged": unabridged.__version__,
        }
        path = record_place(out, options.name, settings)
        record = kept_record(path, options.name, settings)
        if record is None:
            found = [select(read_samples(one), model, pipeline, out / "indexes", stretch, allowance) for one in folders]
            record = _recorded(path, options.name, settings, found)
        _show(record, path, output)


@dataclass(frozen=True, slots=True)
class Chosen(Selection):
    """A selection, with what its evidence recall is worth, and what was read for it."""

    recall_low: float
    """Ends of the 95 % bootstrap interval of the mean recall over samples."""
    recall_high: float
    read: float
    """Share of the samples' tokens that the encoder read."""
    tokens_per_second: float | None
    """Tokens encoded in this call against the time of making the indexes; None where all of them were there."""


def select(
    samples: Sequence[Sample], encoder: Encoder, pipeline: Pipeline, indexes: Path, stretch: int, allowance: int
) -> Chosen:
    """What search chooses from each sample: stretches in the order of the ranking, as many as the allowance holds."""
    outcomes: list[Outcome] = []
    seen = total = encoded = 0
    seconds = 0.0
    for sample in samples:
        spans = segments(sample, stretch)
        items = [{"id": str(at), "text": sample.text[first:last]} for at, (first, last) in enumerate(spans)]
        identity = [encoder.passport.fingerprint, pipeline.as_json()["settings"], items]
        start = time.perf_counter()
        index, report, new = pipeline.indexed(ListCorpus(items), encoder, indexes / fingerprint(identity)[:24])
        with index:
            seen, total, encoded = seen + report.tokens_seen, total + report.tokens_total, encoded + new
            seconds += time.perf_counter() - start if new else 0.0
            ranked = index.rank([sample.question], len(items), mode=pipeline.mode)[0]
        outcomes.append(judged(sample, [spans[int(name)] for name in ranked.doc_ids], allowance))
    whole = summed(samples, outcomes, allowance)
    low, high = bootstrap_interval(np.array([one.recall for one in outcomes]))
    return Chosen(
        **{one.name: getattr(whole, one.name) for one in fields(whole)},
        recall_low=low,
        recall_high=high,
        read=seen / max(total, 1),
        tokens_per_second=encoded / seconds if encoded else None,
    )


def made_folder(order: Order, length: int, out: Path) -> Path:
    """The folder of one length; one of the same task, length, seed and number, by the same generator, is kept."""
    version = GENERATORS.get(order.task, sentences).VERSION
    place = out / fingerprint([order.task.value, version, order.seed, dict(order.options)])[:12]
    folder = order.folder(length, place)
    return folder if (folder / RECORD).is_file() else make(order, length, place, None).folder


def record_place(out: Path, name: str, settings: Mapping[str, Any]) -> Path:
    """Where the record of a choice of context lies, by the system's name and all settings."""
    return out / "selections" / str(settings["task"]) / f"{file_name(name)}-{fingerprint(settings)[:12]}.json"


def kept_record(path: Path, name: str, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of the same system under the same settings; None where there is none or it is damaged."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    plain = json.loads(json.dumps(settings))
    wanted = {"format": FORMAT, "system": name, "settings": plain}
    whole = isinstance(record, dict) and isinstance(record.get("selections"), list)
    return record if whole and {key: record.get(key) for key in wanted} == wanted else None


def _recorded(path: Path, name: str, settings: Mapping[str, Any], found: Sequence[Chosen]) -> dict[str, Any]:
    """Writes what was found, by length, and gives the record."""
    rows = [
        {
            "task": settings["task"],
            "length": length,
            "system": name,
            **asdict(one),
            "by_depth": [[size, share if size else None] for size, share in one.by_depth],  # JSON has no NaN
        }
        for length, one in zip(settings["lengths"], found, strict=True)
    ]
    record = {
        "format": FORMAT,
        "system": name,
        "settings": dict(settings),
        "versions": versions(),
        "selections": rows,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(record, indent=2, allow_nan=False) + "\n").encode())
    return record


def _show(record: Mapping[str, Any], path: Path, output: Output) -> None:
    rows: list[Mapping[str, Any]] = record["selections"]
    if output is Output.JSON:
        emit({"selections": rows, "record": str(path)})
        return
    shares = ["evidence recall", "95 % interval", "all evidence", "answers in context", "tokens read", "tokens/s"]
    body = [
        [f"{row['length']:,}", str(row["samples"]), f"{row['allowance']:,} words"]
        + [f"{row['recall']:.3f}", f"{row['recall_low']:.3f}-{row['recall_high']:.3f}"]
        + [f"{row[key]:.3f}" for key in ("all_evidence", "answered")]
        + [f"{row['read']:.1%}", "-" if row["tokens_per_second"] is None else f"{row['tokens_per_second']:,.0f}"]
        for row in rows
    ]
    say(f"{record['settings']['task']} by {record['system']}")
    say(aligned([["length", "samples", "allowance", *shares], *body]))
    say(f"record: {path}")
