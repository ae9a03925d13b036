"""The engine of an index folder, noted beside its manifest without any account.

A note is used only where that is asked for (``--backend remembered``): a folder that came from somebody else must not
decide where queries, and the password of this machine's user, are sent.
"""

from __future__ import annotations

import json
from pathlib import Path

from unabridged.errors import UsageError
from unabridged.files import write_atomic
from unabridged.index.backends import Address, parse_address

NAME = "backend.json"
REMEMBERED = "remembered"
"""In place of an address: the one that was noted."""


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


def address_of(folder: Path, asked: str) -> Address:
    """The engine that is asked for by its URL, or by :data:`REMEMBERED`.

    Raises:
        UsageError: no address, or nothing was noted.
    """
    if asked != REMEMBERED:
        return parse_address(asked)
    url = remembered(folder)
    if url is None:
        raise UsageError(f"{folder} remembers no engine: give its address, as --backend postgresql://…")
    return parse_address(url)
