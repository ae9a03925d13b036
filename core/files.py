"""Files that are whole or absent: temporary name, flush, fsync, rename.

Nothing here knows what the bytes mean.  Sizes are bytes; digests are lower-case hexadecimal SHA-256.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from unabridged.errors import DiskFull, UsageError

TEMPORARY_SUFFIX = ".tmp"
HASH_BLOCK = 1 << 20
"""Bytes read at a time: large enough to be sequential, small enough to stay out of the memory figures."""


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns a full disk or quota into :class:`DiskFull` that names the path; other errors pass."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT) or _short_write(error)
        if full and not isinstance(error, DiskFull):
            raise DiskFull(
                f"No room left on the disk while writing {path}. What was finished is kept: free some space and "
                "run the same command again, it continues."
            ) from error
        raise


def check_free(path: Path) -> None:
    """:class:`UsageError` unless ``path``, a folder that is to be made, is absent or an empty folder."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UsageError(f"{path} exists already. Name a folder that does not.")


def _short_write(error: OSError) -> bool:
    """Whether numpy wrote less than it was asked to, which it reports without an error number."""
    return error.errno is None and "requested and" in str(error)


def sync_folder(folder: Path) -> None:
    """Makes renames inside ``folder`` durable (a no-op where folders cannot be opened, as on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Makes the bytes of ``path`` durable."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_atomic(path: Path, data: bytes) -> None:
    """Replaces ``path`` by ``data``: after a kill at any moment it holds the old bytes or the new, never a part."""
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    with disk_errors(path):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def sha256_files(place: Path, wanted: Callable[[str], bool] = bool) -> dict[str, str]:
    """Name to SHA-256 of the file ``place``, or of every file below a folder whose relative name is ``wanted``."""
    files = folder_files(place) if place.is_dir() else {place.name: place}
    return {name: sha256_file(path) for name, path in files.items() if not place.is_dir() or wanted(name)}


def folder_files(folder: Path) -> dict[str, Path]:
    """Every file below ``folder``, by POSIX path relative to it, in sorted order."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return dict(sorted(found.items()))
