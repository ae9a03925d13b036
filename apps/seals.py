"""What tells a finished run from one that was edited, or has lost a part, since its record was written.

A record holds the SHA-256 of itself and of the files beside it.  That finds damage and edits; it is no signature: who
computes the sum again passes it, and is left to ``unabridged verify``, which computes the run again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unabridged.errors import ManifestMismatch
from unabridged.files import sha256_file
from unabridged.manifest import NAME

SEAL = "sha256"
"""The field of a record with the sum of all others; records of older releases lack it."""


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """``record`` with the sum of itself."""
    return {**record, SEAL: _sum(record)}


def broken(record: Mapping[str, Any]) -> bool:
    """Whether the record is not what its sum was made of; False where it has none."""
    return SEAL in record and record[SEAL] != _sum(record)


def changed_files(sums: Mapping[str, str], folder: Path, names: Sequence[str]) -> tuple[str, ...]:
    """The files of ``names`` that are gone or have another SHA-256; one without a sum cannot be told to have it."""
    return tuple(
        name for name in names if not (folder / name).is_file() or sums.get(name) != sha256_file(folder / name)
    )


def fault(record: Mapping[str, Any], folder: Path, indexes: Path, names: Sequence[str]) -> str:
    """Why the run in ``folder`` is not to be taken as done, as the end of a sentence; empty if nothing is wrong."""
    if broken(record):
        return "was edited after the run"
    if SEAL not in record or "files" not in record:
        return "is of an older release and cannot be told from an edited one"
    lost = changed_files(record["files"], folder, names)
    if lost:
        return f"was written for other files than those beside it ({', '.join(lost)} gone or edited)"
    index = indexes / record["index"]["folder"]
    return "" if (index / NAME).is_file() else f"needs its index {index}, which is gone"


@contextlib.contextmanager
def next_step(index: Path) -> Iterator[None]:
    """Adds to :class:`ManifestMismatch` what mends the index of an evaluation."""
    try:
        yield
    except ManifestMismatch as error:
        raise ManifestMismatch(
            f"{str(error).rstrip('.')}. The index is damaged: remove the folder {index} and run the same evaluation "
            "again, which builds it anew."
        ) from error


def _sum(record: Mapping[str, Any]) -> str:
    """SHA-256 of the record as JSON in ASCII with sorted keys, without :data:`SEAL`."""
    rest = {name: value for name, value in record.items() if name != SEAL}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
