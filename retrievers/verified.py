"""Checks an index folder at every open, and reads all of it only when something may have touched it.

Sizes are compared each time.  SHA-256 of every file is computed when the stamp ``.verified`` is absent or no
longer fits: it holds the checksum of the manifest and a hash over size, modification time and inode of
every file, and is written after a build and after a full check.  A copied or edited folder is thus read whole
once; bits that rot without any write are found by ``verify`` only.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from unabridged.files import write_atomic
from unabridged.manifest import check_hashes, check_sizes, fingerprint
from unabridged.retrievers.state import IndexState

STAMP = ".verified"


def check_files(folder: Path, state: IndexState, *, verify: bool | None = None) -> None:
    """Raises unless the files are those of the manifest; ``verify`` True reads all bytes, False compares sizes.

    Raises:
        ManifestMismatch: naming the first file that is not what it was.
    """
    files = state.files()
    check_sizes(folder, files)
    if verify is False or (verify is None and _stamp(folder) == _expected(folder, state)):
        return
    check_hashes(folder, files)
    mark_verified(folder, state)


def mark_verified(folder: Path, state: IndexState) -> None:
    """Notes that the files are known to be good; a folder that cannot be written stays without the note."""
    with contextlib.suppress(OSError):
        write_atomic(folder / STAMP, _expected(folder, state).encode("ascii"))


def _stamp(folder: Path) -> str:
    try:
        return (folder / STAMP).read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""


def _expected(folder: Path, state: IndexState) -> str:
    digest = hashlib.sha256(fingerprint(state.as_manifest()).encode("ascii"))
    for name in sorted(state.files()):
        facts = (folder / name).stat()
        digest.update(f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}\0{facts.st_ino}\n".encode())
    return digest.hexdigest()
