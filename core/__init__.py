"""Index, search and rank long documents: nothing is truncated without a record.

Importing this package loads numpy at most; everything heavier is resolved at first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unabridged.apps.answering import answer
    from unabridged.apps.rankers import RankerOptions, load_ranker
    from unabridged.apps.rerank_hits import rerank
    from unabridged.apps.selector_names import SelectorOptions, load_selector
    from unabridged.contracts import Document, Encoded, Encoder, Failure, Hit, Hits, Level, OverflowPolicy, Span
    from unabridged.corpora import read_corpus, read_queries
    from unabridged.encoders.load import load_encoder
    from unabridged.errors import UnabridgedError
    from unabridged.rankers.context.assemble import assemble
    from unabridged.rankers.context.contracts import ContextPack
    from unabridged.rankers.generate.contracts import Answer
    from unabridged.retrievers.api import build_index, open_index
    from unabridged.retrievers.backends.remote import open_backend

_HOMES = {
    "Answer": "rankers.generate.contracts",
    "ContextPack": "rankers.context.contracts",
    "Document": "contracts",
    "Encoded": "contracts",
    "Encoder": "contracts",
    "Failure": "contracts",
    "Hit": "contracts",
    "Hits": "contracts",
    "Level": "contracts",
    "OverflowPolicy": "contracts",
    "RankerOptions": "apps.rankers",
    "SelectorOptions": "apps.selector_names",
    "Span": "contracts",
    "UnabridgedError": "errors",
    "answer": "apps.answering",
    "assemble": "rankers.context.assemble",
    "build_index": "retrievers.api",
    "load_encoder": "encoders.load",
    "load_ranker": "apps.rankers",
    "load_selector": "apps.selector_names",
    "open_backend": "retrievers.backends.remote",
    "open_index": "retrievers.api",
    "read_corpus": "corpora",
    "read_queries": "corpora",
    "rerank": "apps.rerank_hits",
}
"""Public name -> the module that defines it."""

__all__ = [
    "Answer",
    "ContextPack",
    "Document",
    "Encoded",
    "Encoder",
    "Failure",
    "Hit",
    "Hits",
    "Level",
    "OverflowPolicy",
    "RankerOptions",
    "SelectorOptions",
    "Span",
    "UnabridgedError",
    "answer",
    "assemble",
    "build_index",
    "load_encoder",
    "load_ranker",
    "load_selector",
    "open_backend",
    "open_index",
    "read_corpus",
    "read_queries",
    "rerank",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'unabridged' has no attribute {name!r}")
    return getattr(importlib.import_module(f"unabridged.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
