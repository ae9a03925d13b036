"""Measured cells in a file, line by line, so that a long measurement can be interrupted and go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from unabridged.contracts import JSON


class Kept:
    """Values by what they were measured on; without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._values: dict[str, JSON] = {}
        if path is not None and path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except json.JSONDecodeError:
                    continue  # the last line of a run that was ended while it wrote
                self._values[entry["key"]] = entry["value"]

    def has(self, key: str) -> bool:
        """Whether a value of ``key`` is there."""
        return key in self._values

    def get(self, key: str, make: Callable[[], JSON]) -> JSON:
        """The value kept for ``key``, else what ``make`` gives, written at once."""
        if key not in self._values:
            value = make()
            self._values[key] = value
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8") as file:
                    # A line end first: it closes a line that an interrupted run left open.
                    file.write("\n" + json.dumps({"key": key, "value": value}) + "\n")
        return self._values[key]


def key_of(*parts: object) -> str:
    """A name for everything that a value depends on."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode("utf-8", "surrogatepass")).hexdigest()[:24]
