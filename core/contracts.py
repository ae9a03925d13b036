"""The types that every folder meets at.  Only numpy is imported here.

Letters of all shapes in this project::

    Q queries        K hits per query     N rows of an index (segments, or documents)
    B documents      S segments (windows) of those documents, packed
    D embedding width

Two things are first-class here that other toolkits leave out.  A *span* is a half-open range of
**characters** of a document's source text; every vector has one.  *Coverage* counts, in the
encoder's own content tokens (special tokens and prompts excluded), how many tokens a document has
and how many were read; every document has one.  A document with a single vector is the special case
of one segment whose span is the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from unabridged.errors import ShapeError

Floats: TypeAlias = NDArray[np.float32]
Rows: TypeAlias = NDArray[np.int64]
Mask: TypeAlias = NDArray[np.bool_]
EMPTY_INPUT = "empty input"
LEFT_OUT = "left out as asked"
"""The reason in the coverage of a text without any content token."""
JSON: TypeAlias = Any

NO_HIT = -1
"""Row number past the last hit; its score is -inf."""

TITLE_SEPARATOR = " "
"""Between title and text, as BEIR and mteb join them, so that vectors agree with theirs."""


class OverflowPolicy(str, Enum):
    """What happens to a text that is longer than the encoder's window."""

    SPLIT = "split"
    """One vector per window: everything is read.  The default everywhere."""
    AGGREGATE = "aggregate"
    """One vector per document, the mean of its windows: everything is read."""
    WARN = "warn"
    """Only the first window is read; a warning is logged and the ledger records it."""
    TRUNCATE = "truncate"
    """Only the first window is read; the ledger records it."""
    ERROR = "error"
    """The text is refused before any forward pass."""


class Level(str, Enum):
    """Which vectors of a document are kept."""

    DOC = "doc"
    SEGMENT = "segment"
    BOTH = "both"

    @property
    def has_segments(self) -> bool:
        """Whether segment vectors are kept."""
        return self is not Level.DOC

    @property
    def has_documents(self) -> bool:
        """Whether document vectors are kept."""
        return self is not Level.SEGMENT


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a corpus.  ``where`` tells its origin for messages, such as ``data.jsonl:12``."""

    id: str
    text: str
    title: str = ""
    metadata: Mapping[str, JSON] = field(default_factory=dict)
    where: str = ""

    @property
    def source(self) -> str:
        """The string that is read, hashed and stored, and that all spans count characters of."""
        return f"{self.title}{TITLE_SEPARATOR}{self.text}" if self.title else self.text


@dataclass(frozen=True, slots=True)
class Failure:
    """An item that could not be read or encoded; it is recorded and never stops a run.

    ``stage`` is one of read, split, encode; ``reason`` is a short stable word such as
    ``malformed-json``, ``undecodable``, ``empty``, ``missing-id``, ``out-of-memory``; ``message`` is for people.
    """

    id: str
    where: str
    stage: str
    reason: str
    message: str


class Corpus(Protocol):
    """A re-iterable stream of documents.  Every iteration yields the same items in the same order."""

    def __iter__(self) -> Iterator[Document | Failure]: ...


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of B documents was read, in the encoder's own content tokens."""

    total: Rows  # (B,) int64
    seen: Rows  # (B,) int64, never above total
    notes: tuple[str, ...] | None = None
    """B notes on how each document was cut into segments, from encoders that choose it document by document."""
    left_out: Rows | None = None  # (B,) int64
    """Tokens of each document that were left out because that was asked for (comments of source code): these are not
    seen and not truncated.  None: nothing may be left out."""

    def __post_init__(self) -> None:
        if self.notes is not None and len(self.notes) != len(self.total):
            raise ShapeError(f"coverage of {len(self.total)} documents needs as many notes, got {len(self.notes)}")
        if self.total.shape != self.seen.shape or bool(np.any(self.seen > self.total)):
            raise ShapeError(f"coverage needs seen <= total of one shape, got {self.seen!r} of {self.total!r}")
        left = self.left_out
        if left is not None and (left.shape != self.total.shape or bool(np.any(self.seen + left > self.total))):
            raise ShapeError(f"coverage needs seen + left out <= total, got {self.seen!r} + {left!r} of {self.total!r}")

    @property
    def cut(self) -> Mask:
        """Which of the B documents were not read to the end; what was left out by choice counts as read here."""
        reached = self.seen if self.left_out is None else self.seen + self.left_out
        cut: Mask = reached < self.total
        return cut

    @property
    def truncated(self) -> int:
        """How many of the B documents were not read to the end."""
        return int(np.count_nonzero(self.cut))

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is to be said of each of the B documents.

        :data:`EMPTY_INPUT`, ``truncated``, :data:`LEFT_OUT`, or nothing (``""``).
        """
        none = np.zeros(len(self.total), dtype=np.int64)
        left = none if self.left_out is None else self.left_out
        return tuple(
            EMPTY_INPUT if e else "truncated" if c else LEFT_OUT if n else ""
            for e, c, n in zip(self.total == 0, self.cut, left, strict=True)
        )


@dataclass(frozen=True, slots=True)
class Encoded:
    """What one pass over B documents gives.

    Segment ``s`` of document ``b`` is row ``offsets[b] + s`` of the segment arrays.  ``segments`` or
    ``documents`` is None where the level did not ask for it; spans and token counts are always there.
    A document without any content token has one segment of no tokens, whose span is all of its source, and the
    vector that the encoder has for nothing: of special tokens and prompt, or zeros where it has none.
    """

    offsets: Rows  # (B + 1,) int64, from 0 to S
    spans: Rows  # (S, 2) int64, characters [start, end) of the source
    tokens: Rows  # (S,) int64, content tokens inside each window
    coverage: Coverage  # (B,)
    segments: Floats | None = None  # (S, D) float32
    documents: Floats | None = None  # (B, D) float32

    def __post_init__(self) -> None:
        s = len(self.spans)
        if len(self.offsets) < 1 or int(self.offsets[0]) != 0 or int(self.offsets[-1]) != s:
            raise ShapeError(f"offsets must run from 0 to {s}, got {self.offsets!r}")
        if bool(np.any(np.diff(self.offsets) < 0)):
            raise ShapeError("offsets must never fall")
        for name, array, rows in (("segments", self.segments, s), ("documents", self.documents, len(self.offsets) - 1)):
            if array is not None and (array.ndim != 2 or len(array) != rows or array.dtype != np.float32):
                raise ShapeError(f"{name} must be ({rows}, D) float32, got {array.shape} {array.dtype}")


@dataclass(frozen=True, slots=True)
class Hits:
    """Ranked rows for a batch of queries, best first; a higher score is always better."""

    rows: Rows  # (Q, K) int64, NO_HIT past the last hit
    scores: Floats  # (Q, K) float32, -inf exactly where rows == NO_HIT, never NaN

    def __post_init__(self) -> None:
        if self.rows.shape != self.scores.shape or self.rows.ndim != 2:
            raise ShapeError(f"rows {self.rows.shape} and scores {self.scores.shape} must share one (Q, K) shape")

    def top(self, k: int) -> Hits:
        """The first ``k`` columns."""
        return Hits(self.rows[:, :k], self.scores[:, :k])


@dataclass(frozen=True, slots=True)
class Span:
    """Characters ``[start, end)`` of a document's source, with their text."""

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """One document, or one segment of it, found for a query; results iterate best first."""

    rank: int
    doc_id: str
    score: float
    span: Span
    stages: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Passport:
    """What an encoder is: two encoders with equal fingerprints give the same vectors.

    ``facts`` holds hashes of weights and tokenizer, prompts, pooling, normalisation, window, precision,
    context extension: all that changes a vector and nothing that does not.  ``source`` is how to load it
    again (a folder, a hub id, ``embedded``); it is for people and is not part of the fingerprint, so that
    a renamed folder is still the same encoder.
    """

    source: str
    dim: int
    facts: Mapping[str, JSON]
    fingerprint: str


@runtime_checkable
class Encoder(Protocol):
    """Texts to vectors, with spans and coverage.  ``window`` counts tokens, specials and prompt included."""

    @property
    def dim(self) -> int:
        """Width of the vectors."""

    @property
    def window(self) -> int:
        """Tokens of one forward pass, specials and prompt included."""

    @property
    def passport(self) -> Passport:
        """What identifies this encoder."""

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """One vector per query, (Q, D) float32."""

    def encode_documents(
        self, texts: Sequence[str], *, level: Level = Level.BOTH, overflow: OverflowPolicy = OverflowPolicy.SPLIT
    ) -> Encoded:
        """Vectors, spans and coverage of B texts, in one pass."""

    def count_tokens(self, texts: Sequence[str]) -> Rows:
        """Content tokens of each text, (B,) int64."""
