"""The six LongEmbed data sets as folders that mteb's own task classes load: generated, or from a user's raw rows.

Raw rows are those of the published data set: ``queries.jsonl`` {qid, text}, ``corpus.jsonl`` {doc_id, text},
``qrels.jsonl`` {qid, doc_id}; the synthetic two have a ``context_length`` besides.  A folder that was made holds the
same rows in the layout that the task's class reads, a ``README.md`` that names the files, ``evidence.jsonl`` where the
places of the answers are known, and ``origin.json``: scores on wording of ours are not LongEmbed's, and the report says
so.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from unabridged.apps.integrations.longembed_evidence import evidence_rows
from unabridged.contracts import JSON
from unabridged.errors import CorpusError, MissingFile, UsageError
from unabridged.eval.evidence import EVIDENCE
from unabridged.eval.synth.needle import needle
from unabridged.eval.synth.passkey import LENGTHS, passkey
from unabridged.eval.synth.records import SynthSet
from unabridged.files import check_free, folder_files, sha256_file

PASSKEY, NEEDLE = "passkey", "needle"
SYNTHETIC = (PASSKEY, NEEDLE)
KEYS: Mapping[str, str] = {
    "LEMBPasskeyRetrieval": PASSKEY,
    "LEMBNeedleRetrieval": NEEDLE,
    "LEMBNarrativeQARetrieval": "narrativeqa",
    "LEMBQMSumRetrieval": "qmsum",
    "LEMBSummScreenFDRetrieval": "summ_screen_fd",
    "LEMBWikimQARetrieval": "2wikimqa",
}
"""Task -> name of its folder, which is the configuration of the published data set."""
PARTS: Mapping[str, tuple[str, ...]] = {
    "queries": ("qid", "text"),
    "corpus": ("doc_id", "text"),
    "qrels": ("qid", "doc_id"),
}
"""Part -> fields of its rows."""
COLUMNS = ("qid", "doc_id", "text")
"""Every part has all of them: the loader wants one set of columns for the files of a configuration."""
README, ORIGIN = "README.md", "origin.json"

Row = Mapping[str, JSON]


@dataclass(frozen=True, slots=True)
class RawSet:
    """Rows of one data set; the iterables are read once, in this order."""

    corpus: Iterable[Row]
    queries: Iterable[Row]
    qrels: Iterable[Row]


def generate(
    folder: Path,
    lengths: Sequence[int] = LENGTHS,
    seed: int = 0,
    *,
    documents: int = 100,
    queries: int = 50,
) -> list[Path]:
    """Makes ``folder/passkey`` and ``folder/needle`` with our own wording at the nominal ``lengths``; their paths.

    :class:`UsageError` for lengths that LongEmbed does not have, counts that do not fit, or a folder that is there.
    """
    unknown = sorted(set(lengths) - set(LENGTHS))
    if unknown or not lengths:
        raise UsageError(f"lengths are some of {', '.join(map(str, LENGTHS))}, got {unknown or 'none'}.")
    made = []
    for key, make in ((PASSKEY, passkey), (NEEDLE, needle)):
        sets = [make(length, seed, documents=documents, queries=queries) for length in sorted(set(lengths))]
        origin = {"origin": "generated", "sets": [one.as_json() for one in sets]}
        write(folder / key, key, synthetic_rows(sets), origin, evidence_rows(sets))
        made.append(folder / key)
    return made


def synthetic_rows(sets: Sequence[SynthSet]) -> RawSet:
    """Generated sets of several lengths as raw rows."""
    return RawSet(
        corpus=[{"doc_id": d.id, "text": d.text, "context_length": s.length} for s in sets for d in s.documents],
        queries=[{"qid": q, "text": text, "context_length": s.length} for s in sets for q, text in s.queries],
        qrels=[
            {"qid": q, "doc_id": doc, "context_length": s.length}
            for s in sets
            for q, own in s.qrels.items()
            for doc in own
        ],
    )


def convert(raw: Path, folder: Path, key: str) -> Path:
    """Makes ``folder`` from the three files of raw rows in ``raw``; returns it.

    Raises:
        MissingFile: a file is not there.
        CorpusError: a line that is no such row, an id twice, or a judgement of an id that is not there.
    """
    for part in PARTS:
        if not (raw / f"{part}.jsonl").is_file():
            raise MissingFile(missing(key, raw))
    rows = RawSet(**{part: _lines(raw / f"{part}.jsonl", key, part) for part in PARTS})
    sums = {part: sha256_file(raw / f"{part}.jsonl") for part in PARTS}
    write(folder, key, rows, {"origin": "converted", "sha256": sums})
    return folder


def missing(key: str, place: Path) -> str:
    """What to say where a data set is not there: which files, where they go, where they come from."""
    extra = ", context_length" if key in SYNTHETIC else ""
    generated = " Or make sets with our own wording: unabridged eval longembed-data DIR." if key in SYNTHETIC else ""
    return (
        f"There is no LongEmbed data at {place}. Expected corpus.jsonl {{doc_id, text{extra}}}, queries.jsonl "
        f"{{qid, text{extra}}} and qrels.jsonl {{qid, doc_id{extra}}}, the folder {key!r} of the data set "
        f"dwzhu/LongEmbed: download it on a machine with network (hf download dwzhu/LongEmbed --repo-type dataset "
        f"--include '{key}/*') and put it there, or allow the hub with --network.{generated}"
    )


def is_made(folder: Path) -> bool:
    """Whether ``folder`` is one that :func:`write` made, or laid out like one."""
    return (folder / README).is_file() and "configs:" in (folder / README).read_text(encoding="utf-8")


def origin_of(folder: Path) -> str:
    """``generated``, ``converted``, or ``local`` for a folder that was not made here."""
    path = folder / ORIGIN
    return str(json.loads(path.read_bytes()).get("origin", "local")) if path.is_file() else "local"


def content_hash(folder: Path) -> str:
    """40 hexadecimal digits over names and bytes of all files: the revision of the data."""
    digest = hashlib.sha256()
    for name, path in folder_files(folder).items():
        digest.update(f"{name}\0{sha256_file(path)}\n".encode())
    return digest.hexdigest()[:40]


def lengths_in(folder: Path, key: str) -> list[int]:
    """The nominal lengths that a made folder of a synthetic task holds."""
    if key == PASSKEY:
        found = {path.stem.removeprefix("test_") for path in (folder / "corpus").glob("test_*.jsonl")}
    else:
        with (folder / "queries.jsonl").open(encoding="utf-8") as file:
            found = {str(json.loads(line)["context_length"]) for line in file}
    return sorted(int(length) for length in found)


def write(folder: Path, key: str, rows: RawSet, origin: Mapping[str, JSON], evidence: Iterable[Row] = ()) -> None:
    """Makes ``folder``, whole or not at all, with ``evidence.jsonl`` where there is any.

    :class:`UsageError` where it exists, :class:`CorpusError` as for :func:`convert`.
    """
    check_free(folder)
    work = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        with _Files(work, key) as files:
            _Checked(key).write(rows, files)
            names = files.names
        (work / README).write_text(_readme(key, names), encoding="utf-8")
        (work / ORIGIN).write_text(json.dumps(dict(origin), sort_keys=True) + "\n", encoding="utf-8")
        lines = "".join(json.dumps(dict(row)) + "\n" for row in evidence)
        if lines:
            (work / EVIDENCE).write_text(lines, encoding="utf-8", newline="\n")
        if folder.exists():
            folder.rmdir()
        work.replace(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


class _Files:
    """The files of a folder that is being made: one a part, for passkey one a part and length."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key
        self._open: dict[str, TextIO] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def names(self) -> list[str]:
        """Paths relative to the folder."""
        return sorted(self._open)

    def add(self, part: str, row: Row) -> None:
        """One row in its file."""
        if self._key == PASSKEY:
            self._line(f"{part}/test_{row['context_length']}.jsonl", _as_mteb(part, row))
        else:
            filled = {name: row.get(name, "") for name in COLUMNS}
            length = {"context_length": row["context_length"]} if self._key in SYNTHETIC else {}
            self._line(f"{part}.jsonl", {**filled, **length})

    def _line(self, name: str, row: Row) -> None:
        if name not in self._open:
            path = self._folder / name
            path.parent.mkdir(exist_ok=True)
            self._open[name] = self._stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))
        self._open[name].write(json.dumps(row, ensure_ascii=False) + "\n")


class _Checked:
    """Writes rows and refuses ids that occur twice or are judged and not there."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._ids: dict[str, set[tuple[str, JSON]]] = {"corpus": set(), "queries": set()}

    def write(self, rows: RawSet, files: _Files) -> None:
        """All parts, judgements last."""
        for part, found in (("corpus", rows.corpus), ("queries", rows.queries)):
            for row in found:
                self._new(part, row)
                files.add(part, row)
            if not self._ids[part]:
                raise CorpusError(f"The {part} of {self._key} has no row; expected at least one.")
        for row in rows.qrels:
            for part in ("corpus", "queries"):
                if self._id(part, row) not in self._ids[part]:
                    raise CorpusError(f"The qrels of {self._key} name {row!r}, and its {part} has no such id.")
            files.add("qrels", row)

    def _new(self, part: str, row: Row) -> None:
        name = self._id(part, row)
        if name in self._ids[part]:
            raise CorpusError(f"The {part} of {self._key} has the id {name[0]!r} twice; ids must be unique.")
        self._ids[part].add(name)

    @staticmethod
    def _id(part: str, row: Row) -> tuple[str, JSON]:
        return str(row["doc_id" if part == "corpus" else "qid"]), row.get("context_length")


def _as_mteb(part: str, row: Row) -> Row:
    """A row in the columns of mteb's own retrieval layout."""
    if part == "qrels":
        return {"query-id": row["qid"], "corpus-id": row["doc_id"], "score": 1}
    if part == "queries":
        return {"_id": row["qid"], "text": row["text"]}
    return {"_id": row["doc_id"], "title": "", "text": row["text"]}


def _readme(key: str, names: Sequence[str]) -> str:
    """The card that tells the loader which file is which split of which configuration."""
    lines = ["---", "configs:"]
    parts: dict[str, list[tuple[str, str]]] = {}
    for name in names:
        part, _, split = name.removesuffix(".jsonl").partition("/")
        parts.setdefault(part if key == PASSKEY else key, []).append((split or part, name))
    for config, files in sorted(parts.items()):
        lines += [f"- config_name: '{config}'", "  data_files:"]
        for split, name in files:
            lines += [f"  - split: '{split}'", f"    path: '{name}'"]
    return "\n".join([*lines, "---", "", f"LongEmbed {key}; where it comes from stands in {ORIGIN}.", ""])


def _lines(path: Path, key: str, part: str) -> Iterator[dict[str, Any]]:
    """The rows of a file, each checked for its fields."""
    fields = (*PARTS[part], "context_length") if key in SYNTHETIC else PARTS[part]
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                found = {name: row[name] for name in fields}
                if not isinstance(found.get("text", ""), str):
                    raise TypeError("text is no string")
            except (ValueError, TypeError, KeyError) as error:
                raise CorpusError(
                    f"{path}:{number} is no row with {', '.join(fields)}: {type(error).__name__} {error}. "
                    f"It begins with {line[:60]!r}."
                ) from error
            ids = {name: str(found[name]) for name in PARTS[part]}
            length = re.sub(r"^test_", "", str(found.get("context_length", "")))
            yield {**ids, "context_length": _length(length, path, number)} if key in SYNTHETIC else ids


def _length(text: str, path: Path, number: int) -> int:
    if not text.isdecimal() or int(text) not in LENGTHS:
        raise CorpusError(f"{path}:{number} has context_length {text!r}, expected one of {LENGTHS}.")
    return int(text)
