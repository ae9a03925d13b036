"""The file of a model folder that says how its encoder cuts source code.

::

    unabridged_split.json
        format       1
        split        syntax, lines, spaces or tokens
        language, header, comments, docstrings       where they are not the default
"""

from __future__ import annotations

import json
from pathlib import Path

from unabridged.contracts import JSON
from unabridged.encoders._extension_file import read_json
from unabridged.encoders.code.split import CodeSplitter, Split
from unabridged.errors import UsageError, ValidationError

SPLIT_NAME = "unabridged_split.json"
FORMAT = 1

_KINDS: dict[str, type] = {"split": str, "language": str, "header": bool, "comments": bool, "docstrings": bool}


def read_split(folder: Path) -> dict[str, JSON]:
    """The settings that ``folder`` was saved with, by the names of ``load_encoder``; nothing without the file.

    :class:`ValidationError` names what is not understood.
    """
    path = folder / SPLIT_NAME
    if not path.is_file():
        return {}
    content = read_json(path)
    if content.pop("format", None) != FORMAT:
        raise ValidationError(f"{path} should be of format {FORMAT} and is of another. Update unabridged.")
    for name, value in content.items():
        if name not in _KINDS or type(value) is not _KINDS[name]:
            raise ValidationError(f"{path}: {name}={value!r} is not understood. Update unabridged or restore the file.")
    try:
        CodeSplitter(Split(content.get("split")), **{name: value for name, value in content.items() if name != "split"})
    except (ValueError, UsageError) as error:
        raise ValidationError(f"{path}: {error} Restore the file.") from error
    return content


def write_split(folder: Path, splitter: CodeSplitter) -> None:
    """Writes the file into ``folder``."""
    text = json.dumps({"format": FORMAT, **splitter.settings}, indent=2, sort_keys=True)
    (folder / SPLIT_NAME).write_text(f"{text}\n", encoding="utf-8")
