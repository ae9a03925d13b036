"""Connecting to PostgreSQL, its errors as ours, and values that its types can hold."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from unabridged._extras import require
from unabridged.contracts import Floats
from unabridged.errors import BackendUnreachable, DiskFull, RuntimeFailure, ShapeError, UnabridgedError
from unabridged.index.backends.address import Address
from unabridged.index.backends.conditions import Condition, Scalar

EXTRA = "pgvector"
OLDEST = (0, 8)
"""pgvector that can go on with an index scan until enough rows pass a filter."""
SHOWN_NUL = "\u2400"
"""What stands for a NUL, which no text of PostgreSQL can hold: the sign for it.  Ids in the folder keep theirs."""
LARGEST_HALF = 65_504.0


def psycopg() -> Any:
    """The client."""
    return require("psycopg", extra=EXTRA, purpose="search in PostgreSQL")


def connected(address: Address) -> Any:
    """An open connection that commits each statement by itself outside of a transaction.

    Raises:
        MissingExtra: no client.
        BackendUnreachable: nobody answers, or the account or database is refused.
    """
    client = psycopg()
    require("pgvector", extra=EXTRA, purpose="vectors in PostgreSQL")
    asked: dict[str, Any] = {"connect_timeout": "10", **address.options, "dbname": address.database}
    given = {"host": address.host, "port": address.port, "user": address.user, "password": address.password}
    asked |= {name: value for name, value in given.items() if value}
    try:
        # no prepared statements: a kept plan would not follow the planner's switches of a later transaction
        return client.connect(autocommit=True, prepare_threshold=None, **asked)
    except client.Error as error:
        raise BackendUnreachable(
            f"PostgreSQL at {address.place} does not let us in: {_first_line(address, error)} Check host, port, "
            "database and account; without them in the address PGUSER and PGPASSWORD are used."
        ) from None  # its frames hold the password


@contextlib.contextmanager
def database_errors(address: Address) -> Iterator[None]:
    """Turns the client's errors into ours, without a password in them."""
    client = psycopg()
    try:
        yield
    except UnabridgedError:
        raise
    except client.errors.DiskFull as error:
        raise DiskFull(
            f"PostgreSQL at {address.place} has no room left: {_first_line(address, error)} What was finished is kept: "
            "free some space there and run the same command again."
        ) from error
    except (client.OperationalError, client.InterfaceError) as error:
        raise BackendUnreachable(
            f"PostgreSQL at {address.place} broke off: {_first_line(address, error)} What was finished is kept: run "
            "the same command again."
        ) from error
    except client.Error as error:
        raise RuntimeFailure(
            f"PostgreSQL at {address.place} refuses: {_first_line(address, error)} Look at its log, or name another "
            "collection."
        ) from error


def _first_line(address: Address, error: Exception) -> str:
    text = address.scrubbed(error).strip().partition("\n")[0].rstrip(".")
    return (text or type(error).__name__) + "."


def check_extension(connection: Any, address: Address) -> None:
    """Makes pgvector available in the database.

    Raises:
        RuntimeFailure: it is not installed there, or older than :data:`OLDEST`.
    """
    client = psycopg()
    try:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except client.errors.UniqueViolation:
        pass  # somebody else made it at this moment
    except client.Error as error:
        raise RuntimeFailure(
            f"PostgreSQL at {address.place} has no pgvector: {_first_line(address, error)} Install its package there, "
            "and let an administrator run: CREATE EXTENSION vector"
        ) from error
    row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    version = row[0] if row else "none"
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST:
        wanted = ".".join(str(part) for part in OLDEST)
        raise RuntimeFailure(
            f"PostgreSQL at {address.place} has pgvector {version}, expected {wanted} or later: run ALTER EXTENSION "
            "vector UPDATE"
        )


def text_of(value: str) -> str:
    """``value`` as PostgreSQL can hold it."""
    return value.replace("\0", SHOWN_NUL)


def json_of(raw: bytes) -> bytes:
    """A JSON object as ``jsonb`` can hold it."""
    if b"\\u0000" not in raw:
        return raw
    import orjson

    return orjson.dumps(_without_nul(orjson.loads(raw)))


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return text_of(value)
    if isinstance(value, list):
        return [_without_nul(one) for one in value]
    if isinstance(value, dict):
        return {text_of(name): _without_nul(one) for name, one in value.items()}
    return value


def halves(vectors: Floats) -> np.ndarray[Any, np.dtype[np.float16]]:
    """Vectors in half precision.

    Raises:
        ShapeError: a value that is not finite, or beyond what half precision can hold.
    """
    largest = float(np.abs(vectors).max()) if vectors.size else 0.0
    if not largest <= LARGEST_HALF:
        raise ShapeError(
            f"a vector holds {largest:g}; half precision, in which pgvector keeps them, ends at {LARGEST_HALF:,.0f}"
        )
    return vectors.astype(np.float16)


def where(conditions: Sequence[Condition]) -> tuple[Any, list[Any]]:
    """A WHERE clause and its parameters.  Fields and values are parameters alone: nothing of them is SQL."""
    import orjson

    sql = psycopg().sql
    clauses = [sql.SQL("TRUE")]
    parameters: list[Any] = []
    for condition in conditions:
        if condition.field == "id":
            clauses.append(sql.SQL("doc_id = ANY(%s)"))
            parameters.append([text_of(one) for one in condition.values if isinstance(one, str)])
            continue
        parts = [sql.SQL("FALSE")]
        for value in condition.values:
            clause, given = _equals(sql, text_of(condition.field), value, orjson)
            parts.append(clause)
            parameters += given
        clauses.append(sql.SQL("({})").format(sql.SQL(" OR ").join(parts)))
    return sql.SQL(" AND ").join(clauses), parameters


def _equals(sql: Any, field: str, value: Scalar, orjson: Any) -> tuple[Any, list[str]]:
    """The field is ``value``, or a list that has it; for None also where the field is absent."""
    asked = [orjson.dumps({field: one}).decode("utf-8") for one in (value, [value])]
    clause = "(metadata @> %s::jsonb OR metadata @> %s::jsonb)"
    if value is None:
        return sql.SQL(f"({clause} OR NOT metadata ? %s)"), [*asked, field]
    return sql.SQL(clause), asked
