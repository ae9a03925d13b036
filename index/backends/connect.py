"""From an address to a connected engine."""

from __future__ import annotations

from unabridged.index.backends.address import MILVUS, Address, parse_address
from unabridged.index.backends.contract import SearchBackend


def connect(address: str | Address) -> SearchBackend:
    """The engine at ``address``, connected.  Its client is imported here, at first use.

    Raises:
        UsageError: an address that is none.
        MissingExtra: the client is not installed.
        BackendUnreachable: nobody answers, or the account is not accepted.
    """
    where = parse_address(address) if isinstance(address, str) else address
    if where.scheme == MILVUS:
        from unabridged.index.backends.milvus import MilvusBackend

        return MilvusBackend(where)
    from unabridged.index.backends.pgvector import PgvectorBackend

    return PgvectorBackend(where)
