"""An append-only record of finished work: one checksummed JSON line each, durable before it counts.

After a kill the last line may be torn; it is ignored and overwritten.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from pathlib import Path
from typing import Any

from unabridged.files import disk_errors, sync_folder


class Journal:
    """Lines ``CRC32 JSON``; ``entries`` are those that were whole when the file was opened, then what was added."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = []
        fresh = not path.exists()
        self._file = path.open("r+b" if not fresh else "w+b")
        good = 0
        for line in self._file:
            entry = _parse(line)
            if entry is None:
                break
            self.entries.append(entry)
            good += len(line)
        self._file.seek(good)
        self._file.truncate(good)
        if fresh:
            sync_folder(path.parent)

    def add(self, entry: dict[str, Any]) -> None:
        """Appends one entry; when this returns it is on the disk."""
        body = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode("utf-8")
        with disk_errors(self.path):
            self._file.write(b"%08x " % zlib.crc32(body) + body + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        self.entries.append(entry)

    def close(self) -> None:
        """Closes the file; entries are durable already."""
        with contextlib.suppress(OSError):
            self._file.close()


def _parse(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n") or line[8:9] != b" ":
        return None
    body = line[9:-1]
    if b"%08x" % zlib.crc32(body) != line[:8]:
        return None
    entry = json.loads(body)
    return entry if isinstance(entry, dict) else None
