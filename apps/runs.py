"""One system on one retrieval set: an index, a TREC run, and a record of what its scores are worth.

::

    OUT/indexes/HASH/               by content and settings: systems that differ in search alone share one
    OUT/runs/SET/SYSTEM/run.json    the record, with the SHA-256 of itself and the others; written last: without it,
                                    unfinished
                       run.trec     ids percent-encoded where they hold white space
                       queries.jsonl    text, values, tokens of its document, depth of its evidence
                       first.trec, rerank.jsonl    of a reranked system: its first stage, and what was shown
    OUT/runs/SET/SYSTEM-HASH/       the same, where that name holds a run of another content or another system

The same call continues: an index resumes at any moment, and a finished record of the same system and set is kept; only
other measures or other evidence of both are written in its place.  A run that was edited, or has lost a file or its
index, is not finished (:mod:`unabridged.apps.seals`): the same call makes again what is missing.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

import unabridged
from unabridged.apps.bins import best_documents, by_depth, by_length
from unabridged.apps.pipeline import Answers, Pipeline
from unabridged.apps.seals import broken, fault, next_step, sealed
from unabridged.apps.second_stage import Applied, files_of
from unabridged.apps.versions import versions
from unabridged.contracts import Encoder
from unabridged.errors import CorpusError, RuntimeFailure, ValidationError
from unabridged.eval.measures import Evaluation, Measure, evaluate
from unabridged.eval.sets import Facts, RetrievalSet
from unabridged.eval.trec import write_run
from unabridged.files import sha256_file, write_atomic
from unabridged.manifest import fingerprint
from unabridged.progress import Listener
from unabridged.retrievers.build import BuildReport
from unabridged.retrievers.opened import Index
from unabridged.retrievers.settings import work_identity

FORMAT = 1
RECORD, RUN, QUERIES = "run.json", "run.trec", "queries.jsonl"
MEASURES = ("nDCG@10", "R@100", "RR@10")
DEPTH = 100
"""Documents kept for each query, at least; :func:`depth_of` says how many."""
WHOLE = 1000
"""The same for measures of the whole list, such as AP, as in TREC runs."""
NAME_CHARACTERS = 24
SUFFIX_CHARACTERS = 8
PARTS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "system": ("name", "encoder", "pipeline"),
    "set": ("name", "revision", "documents", "queries", "duplicate_share"),
    "coverage": ("documents", "failed", "truncated", "tokens_total", "tokens_seen"),
    "speed": ("tokens_per_second", "query_ms_p50", "query_ms_p95"),
    "index": ("folder", "bytes"),
})  # fmt: skip
"""What every record has."""

Evidence: TypeAlias = Mapping[tuple[str, str], tuple[int, int]]
"""Query id and document id to the characters ``[start, end)`` of the source that answer."""
Record: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class System:
    """What is measured: a name for people, an encoder, and everything else that decides a ranking."""

    name: str
    encoder: Encoder
    pipeline: Pipeline

    def as_json(self) -> dict[str, Any]:
        """Plain values; the encoder is named by its passport."""
        passport = self.encoder.passport
        return {
            "name": self.name,
            "encoder": {"source": passport.source, "fingerprint": passport.fingerprint, "window": self.encoder.window},
            "pipeline": self.pipeline.as_json(),
            "unabridged": unabridged.__version__,
        }

    @property
    def identity(self) -> str:
        """Hash of the configuration, without the name."""
        return fingerprint({**self.as_json(), "name": ""})


def run_system(
    whole: RetrievalSet,
    known: Facts,
    system: System,
    out: Path,
    *,
    measures: Sequence[str] = MEASURES,
    evidence: Evidence | None = None,
    listener: Listener | None = None,
    notice: Callable[[str], None] | None = None,
) -> Record:
    """The record of ``system`` on ``whole``; a finished one in ``out`` is read, an unfinished one continued.

    ``notice`` is told, as a sentence, why a finished one is made again.

    Raises:
        RuntimeFailure: every query failed: that is no result.
        CorpusError: evidence lies outside its document.
        ValidationError: a record in the way cannot be read.
        ManifestMismatch: the index is damaged; says which folder to remove.
        And what :func:`unabridged.retrievers.build.build` raises.
    """
    folder, held = _place_of(out / "runs" / file_name(whole.name) / file_name(system.name), known, system)
    depth = depth_of(measures)
    wanted = {"system": system.identity, "set": known.revision, "measures": list(measures), "depth": depth}
    if evidence:
        wanted["evidence"] = sorted([*pair, *span] for pair, span in evidence.items())
    identity = fingerprint(wanted)
    if held is not None and _finished(held, folder, identity, out / "indexes", notice):
        return held
    index, report, built = _indexed(whole, known, system, out, listener)
    with index:
        answers = Answers(index, system.pipeline, depth)
        started = time.perf_counter()
        run = answers.answer({query.id: query.text for query in whole.queries})
        searching = time.perf_counter() - started
        if len(answers.missing) == len(whole.queries):
            reason = next(iter(answers.missing.values()))
            raise RuntimeFailure(f"All {len(whole.queries):,} queries of {whole.name} failed, the first with: {reason}")
        again = _again(index, system.pipeline, whole, run)
        first = None if again is None else evaluate(run, whole.qrels, [*measures, again.measure])
        run = run if again is None else again.run
        result = evaluate(run, whole.qrels, measures)
        places = _places(index, whole, result, evidence or {})
        size = sum(int(entry["bytes"]) for entry in index.state.files().values())
    means = partial(_mean, result)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).unlink(missing_ok=True)
    write_run(folder / RUN, ((name, list(hits.items())) for name, hits in run.items()), escape=True)
    _write_queries(folder / QUERIES, result, places, {query.id: query.text for query in whole.queries})
    if again is not None:
        again.write(folder)
    later = {} if again is None else again.seconds
    milliseconds = np.array([seconds + later.get(name, 0.0) for name, seconds in answers.seconds.items()]) * 1000
    record: Record = {
        "format": FORMAT,
        "identity": identity,
        "system": system.as_json(),
        "set": {
            "name": whole.name,
            "revision": known.revision,
            "documents": known.documents,
            "queries": known.queries,
            "duplicate_share": known.duplicate_share,
            "unknown_documents": len(known.unknown),
            "queries_without_judgement": whole.unjudged,
        },
        "place": folder.relative_to(out).as_posix(),
        "depth": depth,
        "primary": str(result.measures[0]),
        "measures": _measures(result),
        "missing": answers.missing,
        "tied": len(result.tied),
        "coverage": {
            "documents": report.documents,
            "failed": report.failed,
            "empty": report.empty,
            "truncated": report.truncated,
            "tokens_total": report.tokens_total,
            "tokens_seen": report.tokens_seen,
        },
        "speed": {
            **built,
            "search_seconds": searching,
            "query_ms_p50": float(np.median(milliseconds)),
            "query_ms_p95": float(np.quantile(milliseconds, 0.95)),
        },
        "index": {"folder": index.folder.name, "bytes": size, "recipe": report.index["recipe"]},
        "by_length": by_length([place.tokens for place in places], means),
        **({} if again is None or first is None else {"rerank": again.record(_measures(first))}),
        "by_depth": by_depth([place.depth for place in places], means),
        "versions": versions(),
    }
    record["files"] = {name: sha256_file(folder / name) for name in files_of(record, (RUN, QUERIES))}
    record = sealed(record)
    write_atomic(folder / RECORD, json.dumps(record, indent=1, sort_keys=True).encode())
    return record


def _place_of(folder: Path, known: Facts, system: System) -> tuple[Path, Record | None]:
    """``folder``, or one beside it if a run of another content or another system is in it; and the record there."""
    held = _held(folder)
    ours = [configuration(system.as_json()), known.revision]
    if held is None or [configuration(held["system"]), held["set"]["revision"]] == ours:
        return folder, held
    beside = folder.with_name(f"{folder.name}-{fingerprint(ours)[:SUFFIX_CHARACTERS]}")
    return beside, _held(beside)


def _held(folder: Path) -> Record | None:
    return load_record(folder / RECORD) if (folder / RECORD).is_file() else None


def _finished(held: Record, folder: Path, identity: str, indexes: Path, notice: Callable[[str], None] | None) -> bool:
    """Whether the record in ``folder`` is of this identity and all that it was written for is there."""
    reason = fault(held, folder, indexes, files_of(held, (RUN, QUERIES)))
    if reason and notice is not None:
        notice(f"{folder / RECORD} {reason}: the evaluation is made again.")
    # Queries that could not be ranked again are asked anew; what was answered is in the response cache.
    return not reason and held["identity"] == identity and not held.get("rerank", {}).get("failed")


def _again(index: Index, pipeline: Pipeline, whole: RetrievalSet, run: dict[str, dict[str, float]]) -> Applied | None:
    """What the second stage makes of ``run``; None without one."""
    if pipeline.rerank is None:
        return None
    return pipeline.rerank.applied(index, pipeline.mode, {query.id: query.text for query in whole.queries}, run)


def configuration(system: Mapping[str, Any]) -> str:
    """Hash of what a recorded system is besides its name; the release and the path of the encoder may differ."""
    encoder = system["encoder"]
    return fingerprint([encoder["fingerprint"], encoder["window"], system["pipeline"]])


def depth_of(measures: Sequence[str]) -> int:
    """How many documents of a query the measures look at: the deepest cut, and :data:`WHOLE` for one without."""
    cuts = [WHOLE if cut is None else cut for cut in (Measure.parse(one).cut for one in measures)]
    return max(DEPTH, *cuts)


def read_record(path: Path) -> Record:
    """A record that :func:`run_system` wrote; :class:`ValidationError` for anything else, and for an edited one.

    One of an older release, without the sum of itself, is taken as it is.
    """
    record = load_record(path)
    if broken(record):
        raise ValidationError(
            f"{path} was edited after the run: it has not the SHA-256 that it says; run the same evaluation again, "
            "which makes it anew."
        )
    return record


def load_record(path: Path) -> Record:
    """The same, edited or not."""
    try:
        record = json.loads(path.read_bytes())
        if record["format"] != FORMAT:
            raise ValidationError(f"{path} has format {record['format']!r}, and this version reads {FORMAT}.")
        for part, names in PARTS.items():
            _ = [record[part][name] for name in names]
        _ = configuration(record["system"])
        _ = record["identity"], record["measures"][record["primary"]]["value"], record["by_length"], record["by_depth"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValidationError(f"{path} is no record of a run ({error!r}); remove it to run again.") from error
    return dict(record)


def read_queries(path: Path, measures: Sequence[str]) -> list[dict[str, Any]]:
    """The lines of ``queries.jsonl``, each with its text and these measures; :class:`ValidationError` else."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for row in rows:
            _ = row["query"], row["text"], [float(row["values"][name]) for name in measures]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValidationError(
            f"{path} does not have the values of a run ({error!r}); remove {RECORD} beside it and run again."
        ) from error
    return rows


def file_name(name: str) -> str:
    """``name`` as one part of a path."""
    return re.sub(r"[^\w.+=-]+", "_", name).strip("._") or "_"


def _indexed(
    whole: RetrievalSet, known: Facts, system: System, out: Path, listener: Listener | None
) -> tuple[Index, BuildReport, dict[str, float | None]]:
    """The index of the set, its report, and tokens and seconds of encoding, of the calls that came to an end."""
    settings = system.pipeline.settings
    work = work_identity(system.encoder.passport, settings)
    name = fingerprint([known.revision, work, settings.recipe, settings.recall_target])[:NAME_CHARACTERS]
    folder = out / "indexes" / name
    spent = out / "indexes" / f"{name}.encoding.json"
    started = time.perf_counter()
    with next_step(folder):
        index, report, tokens = system.pipeline.indexed(whole.corpus, system.encoder, folder, listener)
    built = json.loads(spent.read_bytes()) if spent.is_file() else {"tokens": 0, "seconds": 0.0}
    if tokens:
        built = {"tokens": built["tokens"] + tokens, "seconds": built["seconds"] + time.perf_counter() - started}
        write_atomic(spent, json.dumps(built).encode())
    rate = built["tokens"] / built["seconds"] if built["tokens"] else None
    return index, report, {"tokens": built["tokens"], "seconds": built["seconds"], "tokens_per_second": rate}


@dataclass(frozen=True, slots=True)
class _Place:
    """Of one query: tokens of its relevant document, and where in it the evidence stands, 0 to 1."""

    tokens: int | None
    depth: float | None


def _places(index: Index, whole: RetrievalSet, result: Evaluation, evidence: Evidence) -> list[_Place]:
    best = best_documents(whole.qrels, evidence)
    wanted = set(best.values())
    tokens = {line.doc_id: line.tokens_total for line in index.ledger() if line.doc_id in wanted}
    sizes = {document: len(index.source(document)) for _, document in evidence if document in tokens}
    places = []
    for query in result.queries:
        document = best.get(query, "")
        span = evidence.get((query, document))
        size = sizes.get(document)
        if span is not None and size is not None and span[1] > size:
            raise CorpusError(
                f"{whole.name}: the evidence of query {query!r} ends at character {span[1]:,} of document "
                f"{document!r}, which has {size:,}; it belongs to another text."
            )
        depth = None if span is None or not size else min(1.0, span[0] / size)
        places.append(_Place(tokens.get(document), depth))
    return places


def _measures(result: Evaluation) -> dict[str, Any]:
    intervals = result.intervals()
    return {
        str(measure): {
            "value": float(result.means[at]),
            "low": float(intervals[at][0]),
            "high": float(intervals[at][1]),
            "worst": float(result.worst[at]),
            "best": float(result.best[at]),
        }
        for at, measure in enumerate(result.measures)
    }


def _write_queries(path: Path, result: Evaluation, places: Sequence[_Place], texts: Mapping[str, str]) -> None:
    lines = []
    for at, query in enumerate(result.queries):
        values = {str(measure): float(result.values[row, at]) for row, measure in enumerate(result.measures)}
        place = {"tokens": places[at].tokens, "depth": places[at].depth}
        lines.append(json.dumps({"query": query, "text": texts[query], "values": values, **place}))
    write_atomic(path, ("\n".join(lines) + "\n").encode())


def _mean(result: Evaluation, queries: Sequence[int]) -> dict[str, float]:
    means = result.values[:, list(queries)].mean(axis=1)
    return {str(measure): float(mean) for measure, mean in zip(result.measures, means, strict=True)}
