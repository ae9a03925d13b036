"""The list of items that did not get in, written as it grows and put into place at the end.

A run answers for the items it saw.  Lines of earlier runs about other items stay: adding one file does not
forget what failed in another.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from unabridged.contracts import Failure
from unabridged.files import TEMPORARY_SUFFIX, sync_folder

FAILED_NAME = "failed.jsonl"


class FailureLog:
    """Collects failures of one run; ``finish`` replaces ``failed.jsonl`` (or removes it when all went well)."""

    def __init__(self, folder: Path, *, forget_others: bool = False) -> None:
        self._path = folder / FAILED_NAME
        self._temporary = folder / (FAILED_NAME + TEMPORARY_SUFFIX)
        self._earlier = [] if forget_others else read_failures(folder)
        self._ids = {failure.id for failure in self._earlier if failure.id}
        self._sources = {_source(failure.where) for failure in self._earlier}
        self._covered_ids: set[str] = set()
        self._covered_sources: set[str] = set()
        self._file = self._temporary.open("wb")
        self.reasons: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(self.reasons.values())

    def cover(self, identifier: str, where: str) -> None:
        """Notes that this run saw an item, so that earlier lines about it, or about its source, are out of date."""
        if self._earlier:
            if identifier in self._ids:
                self._covered_ids.add(identifier)
            if (source := _source(where)) in self._sources:
                self._covered_sources.add(source)

    def add(self, failure: Failure) -> None:
        """Writes one line."""
        self._file.write(_line(failure))
        self.reasons[failure.reason] += 1

    def finish(self) -> None:
        """Makes the list visible."""
        kept = [
            failure
            for failure in self._earlier
            if failure.id not in self._covered_ids and _source(failure.where) not in self._covered_sources
        ]
        self._file.write(b"".join(map(_line, kept)))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if len(self) or kept:
            self._temporary.replace(self._path)
        else:
            self._temporary.unlink()
            self._path.unlink(missing_ok=True)
        sync_folder(self._path.parent)

    def abandon(self) -> None:
        """Drops what was collected; the earlier list stays."""
        with contextlib.suppress(OSError):  # a full disk is reported where it was met
            self._file.close()
        self._temporary.unlink(missing_ok=True)


def read_failures(folder: Path) -> list[Failure]:
    """The failures that ``folder`` lists; lines of another form are left out."""
    import orjson

    path = folder / FAILED_NAME
    if not path.is_file():
        return []
    found = []
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(orjson.JSONDecodeError, TypeError):
            found.append(Failure(**orjson.loads(line)))
    return found


def _line(failure: Failure) -> bytes:
    import orjson

    return orjson.dumps(asdict(failure), option=orjson.OPT_APPEND_NEWLINE)


def _source(where: str) -> str:
    """The file of ``file:line``; other places as they are."""
    file, _, line = where.rpartition(":")
    return file if line.isdecimal() else where
