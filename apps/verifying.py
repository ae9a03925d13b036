"""``unabridged verify RUN.json``: a part of a run, chosen by hash, computed again and compared.

Which documents and queries are checked follows from the run's identity and their ids, so neither who ran nor who
verifies can choose them.  A document is cut, read and encoded again and compared with the vectors in the index; a query
is searched again and compared with the run file, or with the first stage's where a second one reranked it.  The record
and the files of the run are compared whole, by the SHA-256 in the record, and what the record says was read with the
ledger of the index.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unabridged.apps.pipeline import Answers, Pipeline
from unabridged.apps.runs import QUERIES, RECORD, RUN, Record, load_record, read_queries
from unabridged.apps.seals import SEAL, broken, changed_files, next_step
from unabridged.apps.second_stage import FIRST, files_of
from unabridged.contracts import Floats, Level
from unabridged.errors import MissingFile, PassportMismatch
from unabridged.eval.trec import read_run
from unabridged.index.shard import Shard
from unabridged.manifest import NAME
from unabridged.retrievers.opened import Index
from unabridged.retrievers.result import Mode
from unabridged.retrievers.scoring import DocumentScoring, Fusion

VECTORS = 1e-5
"""Cosine distance that rounding on another machine may make between the stored vector and the one computed now."""
SCORES = 1e-3
"""Difference of scores, relative to the range of a list, up to which two documents may have changed places."""
MEANS = 1e-9
"""Rounding of a mean over queries."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was compared, and what differed."""

    documents: int
    vectors: int
    worst_distance: float
    """Largest cosine distance of a stored vector from the one computed now."""
    changed: tuple[str, ...]
    """Documents with a vector farther than the tolerance, or with another number of segments."""
    queries: int
    moved: tuple[str, ...]
    """Queries whose documents differ from the run's by more than near-ties."""
    other: tuple[str, ...]
    """Measures whose value in the record is not the mean of the queries' values, and "queries" if some are lost."""
    coverage: tuple[str, ...]
    """Counts of documents and tokens that the record says otherwise than the ledger of the index."""
    edited: tuple[str, ...]
    """Files of the run whose SHA-256 is not the one in the record; the record itself among them."""
    sealed: bool
    """Whether the record has a SHA-256 of itself; without, nobody can tell whether its speeds were edited."""

    @property
    def holds(self) -> bool:
        """Whether nothing differed."""
        return not (self.changed or self.moved or self.other or self.coverage or self.edited)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "holds": self.holds, "tolerance": {"vectors": VECTORS, "scores": SCORES}}


def verify_run(path: Path, *, documents: int = 16, queries: int = 32) -> Verdict:
    """Compares a part of the run at ``path`` with what the same encoder and index give now.

    Args:
        path: The ``run.json``; its index must still lie beside it.
        documents: How many documents are encoded again.
        queries: How many queries are searched again.

    Raises:
        MissingFile: the index is gone.
        ValidationError: the record, or the file of its queries, is damaged.
        PassportMismatch: the encoder of the index is not the one that the record names.
        ManifestMismatch: the index is damaged; says which folder to remove.
    """
    record = load_record(path)
    path = path.resolve()
    if len(path.parents) < 4:
        raise MissingFile(
            f"{path} is not where an evaluation writes: OUT/runs/SET/SYSTEM/run.json, beside OUT/indexes."
        )
    folder = path.parents[3] / "indexes" / record["index"]["folder"]
    if not (folder / NAME).is_file():
        raise MissingFile(
            f"{path} needs its index {folder}, which is not there; run the same evaluation again, which builds it anew."
        )
    pipeline = pipeline_of(record)
    with next_step(folder), Index(folder, scoring=pipeline.scoring, fusion=pipeline.fusion, verify=True) as index:
        found = index.state.passport.fingerprint
        if found != record["system"]["encoder"]["fingerprint"]:
            raise PassportMismatch(
                f"{path} was made by the encoder {record['system']['encoder']['fingerprint'][:12]}, and the index "
                f"{folder} holds vectors of {found[:12]}."
            )
        rows = [(shard, row) for shard in index.shards for row in range(len(shard.array("keys")))]
        picked = _picked({shard.id(row): (shard, row) for shard, row in rows}, record["identity"], documents)
        vectors, worst, changed = _vectors(index, picked)
        asked = read_queries(path.with_name(QUERIES), list(record["measures"]))
        texts = _picked({one["query"]: one["text"] for one in asked}, record["identity"], queries)
        run = read_run(path.parent / RUN, escaped=True)
        # A second stage is not computed again: it may only have put the same documents in another order.
        first = read_run(path.parent / FIRST, escaped=True) if "rerank" in record else run
        again = Answers(index, pipeline, int(record["depth"])).answer(texts)
        moved = tuple(
            name
            for name in texts
            if not same_ranking(first.get(name, {}), again[name])
            or run.get(name, {}).keys() != first.get(name, {}).keys()
        )
        coverage = _coverage(record, index)
    return Verdict(
        documents=len(picked),
        vectors=vectors,
        worst_distance=worst,
        changed=changed,
        queries=len(texts),
        moved=moved,
        other=_other(record, asked),
        coverage=coverage,
        edited=_edited(record, path.parent),
        sealed=SEAL in record,
    )


def _edited(record: Record, folder: Path) -> tuple[str, ...]:
    """The record if it is not what its own sum says, and the files that are not those which it was written for."""
    own = (RECORD,) if broken(record) else ()
    return (*own, *changed_files(record.get("files", {}), folder, files_of(record, (RUN, QUERIES))))


def _coverage(record: Record, index: Index) -> tuple[str, ...]:
    """What the record says was read, where the ledger has another number."""
    lines = list(index.ledger())
    found = {
        "documents": len(lines),
        "empty": sum(line.status == "empty" for line in lines),
        "truncated": sum(line.truncated for line in lines),
        "tokens_total": sum(line.tokens_total for line in lines),
        "tokens_seen": sum(line.tokens_seen for line in lines),
    }
    said = record["coverage"]
    return tuple(name for name, count in found.items() if said.get(name, count) != count)


def _other(record: Record, asked: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What the record says otherwise than the values of its queries."""
    lost = ["queries"] if len({one["query"] for one in asked}) != record["set"]["queries"] else []
    means = {name: sum(float(one["values"][name]) for one in asked) / max(1, len(asked)) for name in record["measures"]}
    return (*lost, *(name for name, mean in means.items() if abs(mean - record["measures"][name]["value"]) > MEANS))


def pipeline_of(record: Record) -> Pipeline:
    """The pipeline that a record describes; its index is there already, so nothing of building is needed."""
    said = record["system"]["pipeline"]
    fusion = dict(said["fusion"])
    if fusion["weights"] is not None:
        fusion["weights"] = tuple(fusion["weights"])
    return Pipeline(Mode(said["mode"]), Level(said["level"]), {}, DocumentScoring(**said["scoring"]), Fusion(**fusion))


def same_ranking(before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    """Whether two ranked lists are one, but for documents whose scores are nearly the same.

    At every rank the document of one list has, in the other, a score within :data:`SCORES` of the range of that rank's;
    one that the other list lacks must be as near to its end.
    """
    if len(before) != len(after):
        return False
    if not before:
        return True
    values = list(before.values())
    slack = SCORES * max(1e-9, max(values) - min(values), abs(max(values)))
    last = values[-1]
    return all(abs(before.get(name, last) - value) <= slack for name, value in zip(after, values, strict=True))


def _picked(items: Mapping[str, Any], identity: str, count: int) -> dict[str, Any]:
    """``count`` of the items, by the hash of identity and id."""
    order = sorted(items, key=lambda name: hashlib.sha256(f"{identity}\0{name}".encode()).digest())
    return {name: items[name] for name in order[:count]}


def _vectors(index: Index, picked: Mapping[str, tuple[Shard, int]]) -> tuple[int, float, tuple[str, ...]]:
    """How many vectors were compared, the largest distance, and the documents that changed."""
    settings = index.state.settings
    compared, worst, changed = 0, 0.0, []
    for name, (shard, row) in picked.items():
        now = index.encoder.encode_documents([shard.source(row)], level=settings.level, overflow=settings.overflow)
        first, last = shard.segment_range(row)
        pairs = []
        if settings.level.has_segments:
            pairs.append((np.asarray(shard.array("segments")[first:last]), now.segments))
        if settings.level.has_documents:
            pairs.append((np.asarray(shard.array("documents")[row : row + 1]), now.documents))
        for stored, fresh in pairs:
            if fresh is None or stored.shape != fresh.shape:
                changed.append(name)
                break
            distance = _distance(stored, fresh)
            compared += len(stored)
            worst = max(worst, distance)
            if distance > VECTORS:
                changed.append(name)
                break
    return compared, worst, tuple(changed)


def _distance(a: Floats, b: Floats) -> float:
    """The largest cosine distance of two rows ``(N, D)``; rows of zeros are equal to each other."""
    if not len(a):
        return 0.0
    units = []
    for rows in (a, b):
        wide = rows.astype(np.float64)
        norms = np.linalg.norm(wide, axis=1, keepdims=True)
        units.append(wide / np.where(norms > 0, norms, 1.0))
    return float((((units[0] - units[1]) ** 2).sum(axis=1) / 2).max())
