"""SHA-256 of model files, remembered for the life of the process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from unabridged.contracts import JSON
from unabridged.files import HASH_BLOCK


def canonical_sha256(value: JSON) -> str:
    """SHA-256 in hexadecimal of JSON with sorted keys and no spaces: equal values, equal hash."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def files_sha256(paths: Sequence[Path]) -> str:
    """SHA-256 of the bytes of ``paths`` joined in order; of a single file, its own."""
    return _remembered(tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths))


@lru_cache(maxsize=64)
def _remembered(files: tuple[tuple[str, int, int], ...]) -> str:
    # Size and time of change are in the key, so that a file that is written again is read again.
    digest = hashlib.sha256()
    for name, _, _ in files:
        with Path(name).open("rb") as file:
            while block := file.read(HASH_BLOCK):
                digest.update(block)
    return digest.hexdigest()
