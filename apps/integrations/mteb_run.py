"""Tasks through mteb's own evaluation, resumable, with what stands beside each score."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unabridged.apps.bins import Bin, by_depth, by_length
from unabridged.apps.integrations.mteb_hub import library
from unabridged.apps.integrations.mteb_records import Records, Split
from unabridged.errors import UnabridgedError, UsageError
from unabridged.eval._resample import bootstrap_interval
from unabridged.files import write_atomic
from unabridged.versions import installed

BATCH = 32
"""mteb's own default; the encoder gets all texts at once whatever it says."""
VERSIONS = ("unabridged", "mteb", "datasets", "numpy", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class Row:
    """One split of one task.  None: not known, as for a result that was evaluated elsewhere."""

    task: str
    split: str
    subset: str
    data: str
    """Where the data comes from: hub, local, converted, or generated (wording of ours, no published set)."""
    measure: str
    score: float
    low: float | None
    """Ends of the 95 % bootstrap interval of the mean over queries."""
    high: float | None
    queries: int | None
    missing: int | None
    """Queries without an answer; they count 0."""
    documents: int | None
    failed_documents: int | None
    """Documents that could not be read or encoded; no query finds them."""
    documents_cut: float | None
    """Share of documents that were not read to their end."""
    tokens_cut: float | None
    """Share of all tokens that were not read."""
    tokens_per_second: float | None
    policy: str | None
    by_length: Sequence[Bin] = ()
    """The score by true tokens of the relevant document; nothing where they are not known."""
    by_depth: Sequence[Bin] = ()
    """The score by the tenth in which the evidence begins; nothing where it is not known."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All rows, and the tasks that could not be run, with the reason."""

    rows: tuple[Row, ...]
    errors: Mapping[str, str]


def run_tasks(model: Any, tasks: Sequence[Any], out: Path, records: Records) -> Outcome:
    """Evaluates ``model`` on ``tasks``; result files are mteb's own, below ``out/results``.

    Splits that are there are not evaluated again; one that was interrupted continues in its index.  A task that fails
    does not stop the others.

    Raises:
        UsageError: a task that ranks nothing, for a model that only searches.
        UnabridgedError: the only task failed, or every one; the first error.
    """
    mteb = library()
    _check_kinds(model, tasks)
    meta = model.mteb_model_meta
    cache = mteb.ResultCache(out)
    predictions = out / "predictions" / meta.model_name_as_path() / meta.revision
    predictions.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    errors: dict[str, UnabridgedError] = {}
    for task in tasks:
        name = task.metadata.name
        _drop_stale(cache.get_task_result_path(name, meta), predictions / f"{name}_predictions.json", task)
        try:
            result = mteb.evaluate(
                model,
                task,
                cache=cache,
                encode_kwargs={"batch_size": BATCH, "show_progress_bar": False},
                prediction_folder=predictions,
                show_progress_bar=False,
                co2_tracker=False,
            )
        except UnabridgedError as error:
            errors[name] = error
            continue
        rows += [row_of(task, split, own, records) for split, own in _wanted(task, result.task_results[0].scores)]
    if errors and not rows:
        raise next(iter(errors.values()))
    return Outcome(tuple(rows), {name: f"{type(error).__name__}: {error}" for name, error in errors.items()})


def row_of(task: Any, split: str, scores: Mapping[str, Any], records: Records) -> Row:
    """A split's score from mteb, with what the records know of it."""
    subset = str(scores["hf_subset"])
    facts = records.of(Split(task.metadata.name, split, subset))
    values = dict(sorted(facts.get("per_query", {}).items()))
    low, high = interval(list(values.values()))
    tokens, depths, measure = facts.get("tokens", {}), facts.get("depths", {}), task.metadata.main_score

    def mean(queries: Sequence[int]) -> dict[str, float]:
        return {measure: float(np.mean(np.array(list(values.values()))[list(queries)]))}

    return Row(
        task=task.metadata.name,
        split=split,
        subset=subset,
        data=getattr(task, "origin", "hub"),
        measure=measure,
        score=float(scores["main_score"]),
        low=low,
        high=high,
        queries=facts.get("queries"),
        missing=len(facts.get("missing", {})) + facts.get("unanswered", 0) if facts else None,
        documents=facts.get("documents"),
        failed_documents=facts.get("failed_documents", 0) if facts else None,
        documents_cut=_share(facts, "truncated", "documents"),
        tokens_cut=None if (read := _share(facts, "tokens_seen", "tokens_total")) is None else 1.0 - read,
        tokens_per_second=_share(facts, "tokens_encoded", "seconds") or None,
        policy=facts.get("policy"),
        by_length=by_length([tokens.get(query) for query in values], mean),
        by_depth=by_depth([depths.get(query) for query in values], mean),
    )


def interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The 95 % bootstrap interval of the mean; None, None without values."""
    return bootstrap_interval(np.asarray(values, dtype=np.float64)) if values else (None, None)


def means(rows: Sequence[Row]) -> dict[str, float]:
    """Task -> mean over its splits, which is mteb's score of a task."""
    names = dict.fromkeys(row.task for row in rows)
    return {name: float(np.mean([row.score for row in rows if row.task == name])) for name in names}


def save_report(out: Path, model: Any, system: Mapping[str, Any], outcome: Outcome) -> Path:
    """Writes ``out/reports/REVISION.json``: the rows with the system, its versions and its name; returns the path."""
    meta = model.mteb_model_meta
    body = {
        "name": meta.name,
        "revision": meta.revision,
        "system": dict(system),
        "encoder": dict(model.encoder.passport.facts),
        "versions": installed(VERSIONS),
        "tasks": means(outcome.rows),
        "rows": [asdict(row) for row in outcome.rows],
        "errors": dict(outcome.errors),
    }
    path = out / "reports" / f"{meta.revision}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(body, indent=1, sort_keys=True, default=str).encode() + b"\n")
    return path


def _check_kinds(model: Any, tasks: Sequence[Any]) -> None:
    """Refuses tasks without a corpus before anything is evaluated, when the model is no encoder."""
    other = [task.metadata.name for task in tasks if not hasattr(task, "task_specific_scores")]
    if other and not hasattr(model, "encode"):
        raise UsageError(
            f"{', '.join(other)} ranks nothing, and a pipeline can only search. Evaluate the encoder with --as vector."
        )


def _wanted(task: Any, scores: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[tuple[str, Mapping[str, Any]]]:
    """The splits that this run is about, in the task's order; the file may hold more."""
    return [(split, own) for split in task.eval_splits for own in scores.get(split, ())]


def _share(facts: Mapping[str, Any], part: str, whole: str) -> float | None:
    return facts[part] / facts[whole] if facts.get(whole) and part in facts else None


def _drop_stale(result: Path, predictions: Path, task: Any) -> None:
    """Removes what a kill left half written, and the result of other data of the same name: it is evaluated again.

    mteb finds a result by task and model alone; its file says which revision of the data it is of.
    """
    _drop_torn(predictions)
    if _drop_torn(result) and json.loads(result.read_bytes()).get("dataset_revision") != task.metadata.revision:
        result.unlink()
        predictions.unlink(missing_ok=True)


def _drop_torn(path: Path) -> bool:
    """Whether there is a whole file; a torn one is removed."""
    if not path.is_file():
        return False
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except ValueError:
        path.unlink()
        return False
