"""Where in a document the answer of a query stands, and the folder of a retrieval set that knows it.

Beside BEIR's three files such a folder has ``evidence.jsonl`` (``{query-id, corpus-id, start, end}``, half-open
characters of the document's text) and ``set.json`` (how the set was made).  Scores by depth need the former.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from unabridged.contracts import JSON
from unabridged.errors import CorpusError, MissingFile
from unabridged.eval._set import RetrievalSet
from unabridged.eval.sets import write_beir
from unabridged.files import check_free, disk_errors, sync_folder, write_atomic

EVIDENCE = "evidence.jsonl"
RECORD = "set.json"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One stretch of a document that answers a query."""

    query_id: str
    doc_id: str
    start: int
    """First character, in the document's text."""
    end: int
    """One past its last character."""

    @property
    def as_line(self) -> bytes:
        """One line of ``evidence.jsonl``."""
        row = {"query-id": self.query_id, "corpus-id": self.doc_id, "start": self.start, "end": self.end}
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def read_evidence(folder: str | os.PathLike[str]) -> tuple[Evidence, ...]:
    """What ``evidence.jsonl`` of a set's folder says, in its order.

    Raises:
        MissingFile: The folder has no such file.
        CorpusError: A line that is no evidence, with its number.
    """
    path = Path(folder) / EVIDENCE
    if not path.is_file():
        raise MissingFile(f"no such file: {path}; without it there are no scores by depth")
    return tuple(_evidence(line, f"{path}:{at}") for at, line in enumerate(path.read_bytes().splitlines(), 1))


def write_set(
    folder: str | os.PathLike[str], whole: RetrievalSet, evidence: Iterable[Evidence], record: Mapping[str, JSON]
) -> Path:
    """Writes BEIR's files, ``set.json`` and, where there is any, ``evidence.jsonl``; whole or not at all.

    Raises:
        UsageError: The folder exists and is not empty, or an id holds a tab or a line end.
        CorpusError: A document of the set cannot be read.
        DiskFull: There is no room.
    """
    with whole_folder(folder) as part:
        write_beir(part, whole)
        lines = b"".join(one.as_line for one in evidence)
        if lines:
            write_atomic(part / EVIDENCE, lines)
        write_record(part, record)
    return Path(folder)


@contextlib.contextmanager
def whole_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """A place to fill that becomes ``folder`` at the end, and vanishes when something fails before.

    :class:`UsageError` when the folder exists and is not empty, :class:`DiskFull` when there is no room.
    """
    target = Path(folder)
    check_free(target)
    part = target.with_name(f".{target.name}.whole")
    shutil.rmtree(part, ignore_errors=True)
    with disk_errors(target):
        try:
            yield part
            if target.is_dir():
                target.rmdir()
            part.replace(target)
            sync_folder(target.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def write_record(folder: Path, record: Mapping[str, JSON]) -> None:
    """Writes ``set.json``."""
    write_atomic(folder / RECORD, orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def read_record(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """``set.json`` of a set's folder.

    Raises:
        MissingFile: The folder has no such file.
        CorpusError: It is no JSON object.
    """
    path = Path(folder) / RECORD
    if not path.is_file():
        raise MissingFile(f"no such file: {path}; it says how the set was made")
    try:
        record = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise CorpusError(f"{path} is no JSON: {error}") from error
    if not isinstance(record, dict):
        raise CorpusError(f"{path}: expected an object, found {type(record).__name__}")
    return record


def _evidence(line: bytes, where: str) -> Evidence:
    try:
        row = orjson.loads(line)
        found = Evidence(row["query-id"], row["corpus-id"], row["start"], row["end"])
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise CorpusError(f"{where}: expected query-id, corpus-id, start and end: {error}") from error
    typed = isinstance(found.query_id, str) and isinstance(found.doc_id, str)
    if not typed or type(found.start) is not int or type(found.end) is not int or not 0 <= found.start < found.end:
        raise CorpusError(f"{where}: expected two ids and 0 <= start < end, found {line[:200]!r}")
    return found
