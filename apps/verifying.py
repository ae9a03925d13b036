"""``unabridged verify RUN.json``: a part of a run, chosen by hash, computed again and compared.

Which documents and queries are checked follows from the run's identity and their ids, so neither who ran nor who
verifies can choose them.  A document is cut, read and encoded again and compared with the vectors in the index; a query
is searched again and compared with the run file.  The files of the run are compared whole, by their SHA-256 in its
record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unabridged.apps.pipeline import Answers, Pipeline
from unabridged.apps.runs import QUERIES, RUN, Record, read_queries, read_record
from unabridged.contracts import Floats, Level
from unabridged.errors import MissingFile, PassportMismatch
from unabridged.eval.trec import read_run
from unabridged.files import sha256_file
from unabridged.index.shard import Shard
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
    edited: tuple[str, ...]
    """Files of the run whose SHA-256 is not the one in the record."""

    @property
    def holds(self) -> bool:
        """Whether nothing differed."""
        return not (self.changed or self.moved or self.other or self.edited)

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
        ManifestMismatch: the index is damaged.
    """
    record = read_record(path)
    path = path.resolve()
    if len(path.parents) < 4:
        raise MissingFile(
            f"{path} is not where an evaluation writes: OUT/runs/SET/SYSTEM/run.json, beside OUT/indexes."
        )
    folder = path.parents[3] / "indexes" / record["index"]["folder"]
    if not folder.is_dir():
        raise MissingFile(f"{path} needs its index {folder}, which is not there; run the same evaluation again.")
    pipeline = pipeline_of(record)
    with Index(folder, scoring=pipeline.scoring, fusion=pipeline.fusion, verify=True) as index:
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
        again = Answers(index, pipeline, int(record["depth"])).answer(texts)
        moved = tuple(name for name in texts if not same_ranking(run.get(name, {}), again[name]))
    edited = _edited(record, path.parent)
    return Verdict(len(picked), vectors, worst, changed, len(texts), moved, _other(record, asked), edited)


def _edited(record: Record, folder: Path) -> tuple[str, ...]:
    """Files that are not those which the record was written for; one without a sum cannot be told to be."""
    sums = record.get("files", {})
    return tuple(name for name in (RUN, QUERIES) if sums.get(name) != sha256_file(folder / name))


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
