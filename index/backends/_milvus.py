"""Connecting to Milvus, its errors as ours, and its filter expressions."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unabridged._extras import require
from unabridged.errors import BackendUnreachable, DiskFull, IndexLocked, RuntimeFailure, UnabridgedError
from unabridged.index.backends.address import PORTS, Address
from unabridged.index.backends.conditions import Condition, Scalar

EXTRA = "milvus"
TIMEOUT = 30.0
"""Seconds for one call that is not a load; ``timeout=`` in the address changes it."""
PLAIN_FIELD = re.compile(r"[\w .:/@-]{1,200}")
"""Names of fields that stand in an expression without any escape: servers read escapes in them differently."""
NOTHING = "key < 0"
"""Matches no row: keys are never negative."""


def connected(address: Address) -> Any:
    """A client of the server, or of the file of Milvus Lite.

    Raises:
        MissingExtra: no client, or no ``milvus-lite`` for a file.
        IndexLocked: another process has the file open.
        BackendUnreachable: nobody answers, or the account is refused.
    """
    if address.path:
        require("milvus_lite", extra=EXTRA, purpose="Milvus in a file of this machine")
        Path(address.path).parent.mkdir(parents=True, exist_ok=True)
    client = require("pymilvus", extra=EXTRA, purpose="search in Milvus")
    token = f"{address.user}:{address.password}" if address.user and address.password else address.user
    secure = address.options.get("secure", "").lower() in ("yes", "true", "1")
    scheme = "https" if secure else "http"
    uri = address.path or f"{scheme}://{address.host}:{address.port or PORTS[address.scheme]}"
    if not address.path and not token:
        import os

        token = os.environ.get("MILVUS_TOKEN", "")
    timeout = timeout_of(address)
    try:
        with quiet():
            return client.MilvusClient(uri, token=token, db_name=address.options.get("db", ""), timeout=timeout)
    except client.exceptions.MilvusException as error:
        text = said(address, error, token)
        if address.path:
            raise IndexLocked(
                f"{address.path} cannot be opened as a file of Milvus Lite: {text} One process at a time may have it "
                "open; a file of Milvus Lite 2 cannot be read by version 3."
            ) from None
        raise BackendUnreachable(
            f"Milvus at {address.place} does not let us in: {text} Check host, port and account; without one in the "
            "address MILVUS_TOKEN is used."
        ) from None  # its frames hold the token


def timeout_of(address: Address) -> float:
    """Seconds that a call may take."""
    try:
        return float(address.options.get("timeout", "") or TIMEOUT)
    except ValueError:
        return TIMEOUT


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps the client from writing each error with its frames to the log before it raises it."""
    logger = logging.getLogger("pymilvus")
    before = logger.disabled
    names = [name for name in list(logging.root.manager.loggerDict) if name.startswith("pymilvus.")]
    children = [logging.getLogger(name) for name in names]
    states = [child.disabled for child in children]
    logger.disabled = True
    for child in children:
        child.disabled = True
    try:
        yield
    finally:
        logger.disabled = before
        for child, state in zip(children, states, strict=True):
            child.disabled = state


@contextlib.contextmanager
def milvus_errors(address: Address) -> Iterator[None]:
    """Turns the client's errors into ours, without an account in them."""
    client = require("pymilvus", extra=EXTRA)
    try:
        with quiet():
            yield
    except UnabridgedError:
        raise
    except client.exceptions.MilvusException as error:
        text = said(address, error)
        if any(word in text.lower() for word in ("unavailable", "fail connecting", "deadline", "timeout", "closed")):
            raise BackendUnreachable(
                f"Milvus at {address.place} broke off: {text} What was finished is kept: run the same command again."
            ) from error
        if "no space" in text.lower():
            raise DiskFull(
                f"Milvus at {address.place} has no room left: {text} Free some and run the same command again."
            ) from error
        raise RuntimeFailure(
            f"Milvus at {address.place} refuses: {text} Look at its log, or name another collection."
        ) from error


def said(address: Address, error: Exception, token: str = "") -> str:
    """What an error says, on one line, without an account."""
    text = address.scrubbed(getattr(error, "message", "") or error)
    text = " ".join((text.replace(token, "***") if token else text).split())
    return (text[:300].rstrip(".") or type(error).__name__) + "."


def accepts(condition: Condition, *, lite: bool) -> bool:
    """Whether a condition can be said so that no matching document is left out.

    Not by "nothing", which a list may also contain; nor by text with control characters, or by names of fields that
    would need an escape, which servers and Lite read differently.  Lite looks for no negative number in a list.
    """
    if condition.field != "id" and not PLAIN_FIELD.fullmatch(condition.field):
        return False
    return all(_can_be_said(value, lite) for value in condition.values)


def _can_be_said(value: Scalar, lite: bool) -> bool:
    if isinstance(value, str):
        return value.isprintable()
    if value is None or isinstance(value, bool):
        return value is not None
    return not lite or repr(value).replace(".", "").isdigit()


def expression(conditions: Sequence[Condition]) -> str:
    """The filter expression of conditions that are accepted; nothing for none.

    Every value is a literal that this function wrote: text with its quotes and backslashes escaped, numbers as Python
    prints them.
    """
    return " and ".join(f"({_any_of(condition)})" for condition in conditions)


def _any_of(condition: Condition) -> str:
    if condition.field == "id":
        ids = [literal(one) for one in condition.values if isinstance(one, str)]
        return f"doc_id in [{', '.join(ids)}]" if ids else NOTHING
    place = f'metadata["{condition.field}"]'
    parts = []
    for value in condition.values:
        parts += [f"{place} == {literal(value)}", f"json_contains({place}, {literal(value)})"]
    return " or ".join(parts) or NOTHING


def literal(value: Scalar) -> str:
    """A value as the expression language writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return repr(value)
