"""The prompts of an encoder: which of a folder's is for queries and which for documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from unabridged.errors import UsageError

QUERY_NAMES = ("query",)
DOCUMENT_NAMES = ("document", "passage", "corpus")
"""What folders call the prompt of a document; the first that is there counts."""


class Prompts(NamedTuple):
    """What stands in front of a text, by its role."""

    query: str
    document: str

    @classmethod
    def of(cls, saved: Mapping[str, str], query: str | None = None, document: str | None = None) -> Prompts:
        """What was asked for, else the folder's own, else none."""
        return cls(_chosen(query, saved, QUERY_NAMES), _chosen(document, saved, DOCUMENT_NAMES))

    def named(self, name: str, saved: Mapping[str, str]) -> str:
        """The prompt called ``name``, the folder's others among them; :class:`UsageError` if there is none."""
        known: dict[str, str] = {**saved, **self._asdict()}
        if name not in known:
            raise UsageError(f"There is no prompt called {name!r}; the folder has {sorted(known)}.")
        return known[name]


def _chosen(asked: str | None, saved: Mapping[str, str], names: Sequence[str]) -> str:
    return asked if asked is not None else next((saved[name] for name in names if name in saved), "")
