"""Complete lists as labels: what a teacher makes of each list of candidates, and the file they are kept in.

A line is ``{"qid": ..., "initial_list": [ids], "final_list": [ids]}``: the order of the first stage and that of the
teacher, as the data of the paper are published (arXiv 2412.14574).  Other keys of a line are let pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from unabridged.contracts import Failure
from unabridged.errors import CorpusError, MissingFile
from unabridged.files import write_atomic
from unabridged.rankers.contracts import Ranker, Ranking, Request, Status

COMPLETE = (Status.OK, Status.REPAIRED)
"""Statuses of rankings whose whole order is the teacher's."""


@dataclass(frozen=True, slots=True)
class Label:
    """One query's candidates in two orders."""

    qid: str
    initial: tuple[str, ...]
    """Best first by the first stage."""
    final: tuple[str, ...]
    """Best first by the teacher; the same ids."""

    def __post_init__(self) -> None:
        if len(set(self.initial)) != len(self.initial):
            twice = next(one for one in self.initial if self.initial.count(one) > 1)
            raise CorpusError(f"Query {self.qid!r}: {twice!r} stands twice in initial_list.")
        if sorted(self.initial) != sorted(self.final):
            odd = sorted(set(self.initial) ^ set(self.final)) or ["an id twice"]
            raise CorpusError(
                f"Query {self.qid!r}: final_list ({len(self.final)}) should hold the {len(self.initial)} ids of "
                f"initial_list, each once; {odd[0]!r} does not fit."
            )

    @property
    def order(self) -> tuple[int, ...]:
        """``final`` as places of ``initial``, from 0: a permutation."""
        places = {one: place for place, one in enumerate(self.initial)}
        return tuple(places[one] for one in self.final)


@dataclass(frozen=True, slots=True)
class Taught:
    """What a teacher gave."""

    labels: tuple[Label, ...]
    failures: tuple[Failure, ...]
    """Queries without a complete list: a list that is partly the first stage's would teach the first stage."""
    rankings: tuple[Ranking, ...]
    """Of all queries, with what they cost."""


def teach(teacher: Ranker, requests: Sequence[Request]) -> Taught:
    """A label for each request that ``teacher`` ranks completely.

    A listwise teacher should settle the whole list: one pass of windows settles its head only.  With
    :class:`~unabridged.rankers.listwise.sliding.MultiPass` 100 candidates take 45 calls.
    """
    rankings = teacher.rank(requests)
    labels: list[Label] = []
    failures: list[Failure] = []
    for request, ranking in zip(requests, rankings, strict=True):
        if ranking.status in COMPLETE and len(request.candidates) > 1:
            ids = tuple(one.id for one in request.candidates)
            labels.append(Label(request.id, ids, tuple(ids[place] for place in ranking.order)))
            continue
        reason = ranking.status.value if len(request.candidates) > 1 else "too few candidates"
        said = "; ".join(f"{step.action}: {step.reason}" for step in ranking.steps[:3])
        failures.append(Failure(request.id, request.id, "label", reason, said or "there is no order to learn"))
    return Taught(tuple(labels), tuple(failures), tuple(rankings))


def write_labels(path: Path, labels: Iterable[Label]) -> None:
    """Replaces ``path`` by the labels, one JSON line each."""
    lines = [
        orjson.dumps({"qid": one.qid, "initial_list": list(one.initial), "final_list": list(one.final)}) + b"\n"
        for one in labels
    ]
    write_atomic(path, b"".join(lines))


def read_labels(path: Path) -> list[Label]:
    """The labels in ``path``; :class:`CorpusError` names file and line of what is none."""
    if not path.is_file():
        raise MissingFile(
            f"{path} does not exist. Name a file of labels: JSON lines with qid, initial_list, final_list."
        )
    labels: list[Label] = []
    seen: set[str] = set()
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            label = _read(line, where)
            if label.qid in seen:
                raise CorpusError(f"{where}: query {label.qid!r} has a label already.")
            seen.add(label.qid)
            labels.append(label)
    return labels


def _read(line: bytes, where: str) -> Label:
    try:
        found: Any = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise CorpusError(f"{where} is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise CorpusError(f"{where} should be an object with qid, initial_list and final_list.")
    qid, lists = found.get("qid"), [found.get(key) for key in ("initial_list", "final_list")]
    if not isinstance(qid, str | int) or not all(isinstance(one, list) for one in lists):
        raise CorpusError(f"{where} should have qid, and initial_list and final_list with ids; it has {sorted(found)}.")
    initial, final = (tuple(str(one) for one in ids or ()) for ids in lists)
    try:
        return Label(str(qid), initial, final)
    except CorpusError as error:
        raise CorpusError(f"{where}: {error}") from error
