"""Standard input and pipes: copied to a temporary file once, so that they can be read again."""

from __future__ import annotations

import errno
import shutil
import sys
import tempfile
from pathlib import Path
from typing import IO

from unabridged.errors import DiskFull, MissingFile

_MAGIC = {b"\x1f\x8b": ".gz", b"\x28\xb5\x2f\xfd": ".zst"}
_PARQUET = b"PAR1"


def spool(pipe: Path | None) -> tuple[Path, str]:
    """``(copy, format)`` of a pipe, or of standard input for None: Parquet by its first bytes, else JSON lines.

    The copy's suffix tells its compression.  The caller removes the copy.
    """
    copy = Path(tempfile.mkdtemp(prefix="unabridged-")) / "input"
    try:
        with copy.open("wb") as target:
            if pipe is None:
                _copy(sys.stdin.buffer, target)
            else:
                with pipe.open("rb") as source:
                    _copy(source, target)
    except OSError as error:
        remove(copy)
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"no room in {tempfile.gettempdir()} for a copy of the input; set TMPDIR") from error
        raise MissingFile(f"cannot read {pipe or 'standard input'}: {error.strerror}") from error
    except BaseException:
        remove(copy)
        raise
    with copy.open("rb") as again:
        start = again.read(4)
    for magic, suffix in _MAGIC.items():
        if start.startswith(magic):
            copy = copy.rename(copy.with_suffix(suffix))
    return copy, "parquet" if start == _PARQUET else "jsonl"


def remove(copy: Path) -> None:
    """Removes a copy and its folder; nothing happens when they are gone."""
    shutil.rmtree(copy.parent, ignore_errors=True)


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    shutil.copyfileobj(source, target, 1 << 20)
