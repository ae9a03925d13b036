"""Measured cells in a file, line by line, so that a long measurement can be interrupted and go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from unabridged.apps.places import check_file
from unabridged.contracts import JSON
from unabridged.errors import ValidationError

BEGINNING = '{"key": "'
"""How every line of such a file begins."""


class Kept:
    """Values by what they were measured on; without a path nothing is kept.

    :class:`ValidationError` for a file that holds anything else, :class:`UsageError` for one that cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._values: dict[str, JSON] = {}
        if path is None:
            return
        check_file(path, "--keep")
        if path.is_file():
            self._values = dict(_entries(path))

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


def _entries(path: Path) -> Iterator[tuple[str, JSON]]:
    """The cells in ``path``; :class:`ValidationError` for a line that no run can have written, whole or in part."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise _foreign(path, 1, "it is no UTF-8 text") from error
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line or "null")
        except json.JSONDecodeError as error:
            if line[: len(BEGINNING)] != BEGINNING[: len(line)]:
                raise _foreign(path, number, f"the line begins with {line[:40]!r}") from error
            continue  # the last line of a run that was ended while it wrote
        if entry is None and not line:
            continue
        if not isinstance(entry, dict) or set(entry) != {"key", "value"} or not isinstance(entry["value"], dict):
            raise _foreign(path, number, f"the line begins with {line[:40]!r}")
        yield str(entry["key"]), entry["value"]


def _foreign(path: Path, number: int, found: str) -> ValidationError:
    return ValidationError(
        f"{path}:{number} is no measured cell of an earlier run: {found}. Name another file with --keep, or a new one."
    )


def key_of(*parts: object) -> str:
    """A name for everything that a value depends on."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode("utf-8", "surrogatepass")).hexdigest()[:24]
