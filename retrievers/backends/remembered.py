"""The engine of an index folder, remembered beside its manifest without any account."""

from __future__ import annotations

import json
from pathlib import Path

from unabridged.errors import UsageError
from unabridged.files import write_atomic
from unabridged.index.backends import Address, parse_address

NAME = "backend.json"


def remember(folder: Path, address: Address) -> None:
    """Notes the engine; user, password and token are no part of the form that is written."""
    write_atomic(folder / NAME, json.dumps({"url": address.shown}, indent=1).encode("utf-8") + b"\n")


def remembered(folder: Path) -> str | None:
    """The address that was noted, None where there is none.

    Raises:
        UsageError: the file is damaged.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        url = str(json.loads(path.read_bytes())["url"])
        parse_address(url)
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} names no engine: remove it, or give --backend") from error
    return url


def forget(folder: Path) -> None:
    """Removes the note."""
    (folder / NAME).unlink(missing_ok=True)
