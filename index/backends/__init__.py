"""Search engines that hold the vectors of an index folder: Milvus, and PostgreSQL with pgvector.

The folder stays the source of truth: texts, spans, ledger, words and stored vectors.  An engine holds a copy of the
vectors with ids, spans and metadata, loaded from the shards, and gives candidates.  Importing this package loads
no engine's client; :func:`~unabridged.index.backends.connect.connect` does.
"""

from __future__ import annotations

from unabridged.index.backends.address import Address, parse_address
from unabridged.index.backends.connect import connect
from unabridged.index.backends.contract import Applied, Batch, Found, Layout, Loaded, Recorded, SearchBackend, Stored

__all__ = [
    "Address",
    "Applied",
    "Batch",
    "Found",
    "Layout",
    "Loaded",
    "Recorded",
    "SearchBackend",
    "Stored",
    "connect",
    "parse_address",
]
