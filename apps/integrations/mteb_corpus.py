"""Rows of mteb's data sets as documents and queries, in the wording that mteb's own wrappers give to models."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from unabridged.contracts import Document

NAME_CHARACTERS = 32


def source_of(row: Mapping[str, Any]) -> str:
    """Title and text of a document row, joined by a space and stripped."""
    title = row.get("title") or ""
    return f"{title} {row['text']}".strip() if title else str(row["text"]).strip()


def query_of(row: Mapping[str, Any]) -> str:
    """Text of a query row, with its instruction behind it; the turns of a conversation joined by ``; ``."""
    text, instruction = row["text"], row.get("instruction")
    if not isinstance(text, str):
        text = "; ".join(turn if isinstance(turn, str) else f"{turn['role']}: {turn['content']}" for turn in text)
    return f"{text} {instruction}" if instruction is not None else text


@dataclass(frozen=True, slots=True)
class TaskCorpus:
    """The corpus of one split; ``rows`` can be iterated again and again and give mappings with id and text."""

    rows: Iterable[Mapping[str, Any]]
    where: str

    def __iter__(self) -> Iterator[Document]:
        for number, row in enumerate(self.rows, 1):
            yield Document(str(row["id"]), source_of(row), where=f"{self.where}:{number}")

    def name(self, identity: str) -> str:
        """A folder name by content: equal ids, texts and ``identity`` give the same one, on any machine."""
        digest = hashlib.sha256(identity.encode())
        for document in self:
            for part in (document.id, document.text):
                data = part.encode("utf-8", "surrogatepass")
                digest.update(len(data).to_bytes(8, "little"))
                digest.update(data)
        return digest.hexdigest()[:NAME_CHARACTERS]
