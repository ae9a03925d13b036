"""What every generator gives: documents, questions, and where the evidence of each question stands.

Letters::

    N documents     Q questions, Q <= N     L nominal length in tokens; a token counts as 0.75 word
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from unabridged.contracts import JSON, Document, Rows
from unabridged.errors import UsageError

WORDS_PER_TOKEN = 0.75
"""LongEmbed's nominal size of a token (arXiv 2404.12096, section 3.2)."""


@dataclass(frozen=True, slots=True)
class Record:
    """Where the evidence of one document is, and how the document was made."""

    doc_id: str
    start: int
    """First character of the evidence in the document's text."""
    end: int
    """One past its last character."""
    depth: float
    """Share of the filler's characters that stand before the evidence, 0 to 1."""
    answer: str
    edge: bool
    """Whether nothing stands before it or nothing behind it."""


@dataclass(frozen=True, slots=True)
class SynthSet:
    """One data set: N documents in one pool, Q questions, one relevant document each."""

    task: str
    length: int
    """L."""
    seed: int
    version: int
    """Of the generator: equal versions, parameters and seeds give equal bytes."""
    parameters: Mapping[str, JSON]
    documents: tuple[Document, ...]  # N
    queries: tuple[tuple[str, str], ...]  # Q pairs (query id, text)
    relevant: tuple[int, ...]  # Q rows into documents
    records: tuple[Record, ...]  # N

    @property
    def texts(self) -> list[str]:
        """The text of each document."""
        return [document.text for document in self.documents]

    @property
    def questions(self) -> list[str]:
        """The text of each question."""
        return [text for _, text in self.queries]

    @property
    def relevant_rows(self) -> Rows:
        """``(Q,)`` int64: the row of the document that answers each question."""
        return np.array(self.relevant, dtype=np.int64)

    @property
    def depths(self) -> np.ndarray:
        """``(Q,)`` float64: the depth of the evidence of each question."""
        return np.array([self.records[row].depth for row in self.relevant], dtype=np.float64)

    @property
    def qrels(self) -> dict[str, dict[str, int]]:
        """Query id -> document id -> 1."""
        pairs = zip(self.queries, self.relevant, strict=True)
        return {query: {self.documents[row].id: 1} for (query, _), row in pairs}

    def as_json(self, tokens: Sequence[int] | None = None, tokenizer: str = "") -> dict[str, JSON]:
        """The record of the data set without its texts; ``tokens`` are true counts by the tokenizer of that name."""
        return {
            "task": self.task,
            "length": self.length,
            "seed": self.seed,
            "version": self.version,
            "parameters": dict(self.parameters),
            "documents": len(self.documents),
            "queries": len(self.queries),
            "tokenizer": tokenizer,
            "tokens": None if tokens is None else list(tokens),
            "records": [asdict(record) for record in self.records],
        }


def generator(task: str, length: int, seed: int) -> random.Random:
    """The only source of chance of a data set."""
    return random.Random(f"{task}-{length}-{seed}")


def nominal_words(length: int, reserved: int) -> int:
    """Words of filler in a document of ``length`` nominal tokens: ``0.75 * length - reserved``.

    :class:`UsageError` where no word would be left.
    """
    words = int(WORDS_PER_TOKEN * length) - reserved
    if words < 1:
        least = int((reserved + 1) / WORDS_PER_TOKEN) + 1
        raise UsageError(f"length={length} leaves no room for filler; it must be at least {least}.")
    return words


def check_counts(documents: int, queries: int, most: int) -> None:
    """:class:`UsageError` unless ``1 <= queries <= documents <= most``."""
    if not 1 <= queries <= documents <= most:
        raise UsageError(
            f"queries and documents must satisfy 1 <= queries <= documents <= {most}, got {queries} and {documents}."
        )


def boundaries(text: str) -> list[int]:
    """Characters where a sentence of ``text`` begins, 0 first; its end too where a sentence ends there."""
    places = [0, *(match.end() for match in re.finditer(r"[.!?] ", text))]
    if text[-1:] in tuple(".!?"):
        places.append(len(text))
    return places


def insert(text: str, at: int, line: str) -> tuple[str, int]:
    """``line`` on its own line at the boundary ``at`` of ``text``, and the character it begins at.

    The space in front of the boundary becomes the first line end; at an edge the empty part keeps its line end.
    """
    before, after = text[:at].removesuffix(" "), text[at:]
    return f"{before}\n{line}\n{after}", len(before) + 1
