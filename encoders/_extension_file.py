"""The file that makes a model folder an extended one: how far it reads, and by what method.

::

    unabridged_extension.json
        format       1
        extension    what was asked for: the fields of :class:`~unabridged.encoders.extension.Extension` that differ
                     from their defaults
        modules      optional: the chain of modules, where modules.json names the one class that computes all of it
        max_tokens   optional: the window, where it is smaller than the target

A folder whose positions were tuned has ``rows_per_position`` rows of its matrix for each trained position.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unabridged.encoders.extension import Extension
from unabridged.errors import MissingFile, UsageError, ValidationError

EXTENSION_NAME = "unabridged_extension.json"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class SavedExtension:
    """What the file says."""

    extension: Extension
    modules: tuple[dict[str, Any], ...] = ()
    max_tokens: int | None = None


def read_extension(folder: Path) -> SavedExtension | None:
    """What ``folder`` was saved with; None without the file.  :class:`ValidationError` names what is not understood."""
    path = folder / EXTENSION_NAME
    if not path.is_file():
        return None
    content = read_json(path)
    if content.get("format") != FORMAT:
        raise ValidationError(
            f"{path} has format {content.get('format')!r}, this version reads {FORMAT}. Update unabridged."
        )
    unknown = sorted(set(content) - {"format", "extension", "modules", "max_tokens"})
    if unknown:
        raise ValidationError(f"{path} holds {unknown}, which this version does not understand. Update unabridged.")
    asked, modules, window = content.get("extension", {}), content.get("modules", []), content.get("max_tokens")
    for name, value, fits, kind in (
        ("extension", asked, isinstance(asked, dict), "an object"),
        ("modules", modules, isinstance(modules, list) and all(isinstance(m, dict) for m in modules), "objects"),
        ("max_tokens", window, window is None or (type(window) is int and window > 0), "a whole number above 0"),
    ):
        if not fits:
            raise ValidationError(f"{path}: {name} should hold {kind} and holds {value!r}. Restore the file.")
    try:
        extension = Extension.from_json(asked)
    except UsageError as error:
        raise ValidationError(f"{path}: {error}") from error
    return SavedExtension(extension, tuple(modules), window)


def write_extension(folder: Path, saved: SavedExtension) -> None:
    """Writes the file into ``folder``."""
    content: dict[str, Any] = {"format": FORMAT, "extension": saved.extension.as_json()}
    if saved.modules:
        content["modules"] = list(saved.modules)
    if saved.max_tokens is not None:
        content["max_tokens"] = saved.max_tokens
    text = json.dumps(content, indent=2, sort_keys=True)
    (folder / EXTENSION_NAME).write_text(f"{text}\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; :class:`ValidationError` if it holds anything else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingFile(f"{path} is missing.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValidationError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValidationError(f"{path} should hold a JSON object and holds {type(value).__name__}.")
    return value
