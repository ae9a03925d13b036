"""The list of items that did not get in, written as it grows and put into place at the end."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from unabridged.contracts import Failure
from unabridged.files import TEMPORARY_SUFFIX, sync_folder

FAILED_NAME = "failed.jsonl"


class FailureLog:
    """Collects failures of one run; ``finish`` replaces ``failed.jsonl`` (or removes it when all went well)."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FAILED_NAME
        self._temporary = folder / (FAILED_NAME + TEMPORARY_SUFFIX)
        self._file = self._temporary.open("wb")
        self.reasons: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(self.reasons.values())

    def add(self, failure: Failure) -> None:
        """Writes one line."""
        import orjson

        self._file.write(orjson.dumps(asdict(failure), option=orjson.OPT_APPEND_NEWLINE))
        self.reasons[failure.reason] += 1

    def finish(self) -> None:
        """Makes the list visible."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if len(self):
            self._temporary.replace(self._path)
        else:
            self._temporary.unlink()
            self._path.unlink(missing_ok=True)
        sync_folder(self._path.parent)

    def abandon(self) -> None:
        """Drops what was collected; the earlier list stays."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)
