"""Index, search and rank long documents: nothing is truncated without a record.

Importing this package loads numpy at most; everything heavier is resolved at first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unabridged.contracts import Document, Encoded, Encoder, Failure, Hit, Hits, Level, OverflowPolicy, Span
    from unabridged.corpora import read_corpus, read_queries
    from unabridged.encoders.load import load_encoder
    from unabridged.errors import UnabridgedError
    from unabridged.retrievers.api import build_index, open_index

_HOMES = {
    "Document": "contracts",
    "Encoded": "contracts",
    "Encoder": "contracts",
    "Failure": "contracts",
    "Hit": "contracts",
    "Hits": "contracts",
    "Level": "contracts",
    "OverflowPolicy": "contracts",
    "Span": "contracts",
    "UnabridgedError": "errors",
    "build_index": "retrievers.api",
    "load_encoder": "encoders.load",
    "open_index": "retrievers.api",
    "read_corpus": "corpora",
    "read_queries": "corpora",
}
"""Public name -> the module that defines it."""

__all__ = [
    "Document",
    "Encoded",
    "Encoder",
    "Failure",
    "Hit",
    "Hits",
    "Level",
    "OverflowPolicy",
    "Span",
    "UnabridgedError",
    "build_index",
    "load_encoder",
    "open_index",
    "read_corpus",
    "read_queries",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'unabridged' has no attribute {name!r}")
    return getattr(importlib.import_module(f"unabridged.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
