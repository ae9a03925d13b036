"""What is asked of a plan on paper, and how much there is: documents, tokens, vectors, bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from unabridged.contracts import Level
from unabridged.errors import UsageError
from unabridged.index.npy import HEADER
from unabridged.retrievers.plan import LEXICAL_BYTES, ROW_BYTES, WINDOW_FILL
from unabridged.retrievers.rates import ENCODE_FLOPS

BACKENDS = ("local", "shards", "gpu", "milvus", "pgvector")
"""One index folder on one machine; one on each of several; on GPUs; in a cluster of Milvus; in PostgreSQL."""
MOST_DOCUMENTS = 10**12
TOKENS = 1_000.0
"""Tokens of a document where nobody says: two pages."""
TOKEN_BYTES = 5.13
"""Bytes of text per token (the demo's speeches, WordPiece of 30,000 words)."""
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be planned.  Sizes are bytes of one machine; rates are tokens per second of one machine or one GPU."""

    documents: int
    backend: str = "local"
    tokens_per_document: float | None = None
    dim: int = 384
    window: int = 256
    level: Level = Level.BOTH
    recipe: str = "auto"
    vector_dtype: str = "float32"
    recall_target: float = 0.95
    k: int = 10
    machines: int | None = None
    """That hold the index.  None: as many as it takes."""
    encoding_machines: int | None = None
    """None: the same ones."""
    ram: int = 64 * GIB
    disk: int = 2_000 * GIB
    gpus: int = 0
    """In each machine."""
    vram: int = 80 * GIB
    """Of each GPU."""
    operations_per_token: float | None = ENCODE_FLOPS
    """Of the encoder, to scale the recorded rate by; None: not known."""
    cpu_tokens_per_second: float | None = None
    gpu_tokens_per_second: float | None = None
    load_rows_per_second: float | None = None
    """Into an engine, search index included."""
    price_per_hour: float | None = None
    """Of one machine; None: no costs."""
    segments_per_document: float | None = None
    text_bytes_per_document: float | None = None
    """Texts, postings and ledger in the folder, where a sample of the corpus was measured."""

    def __post_init__(self) -> None:
        """Refuses what cannot be meant.

        Raises:
            UsageError: naming the option, what was found and what was expected.
        """
        if self.backend not in BACKENDS:
            raise UsageError(f"unknown backend {self.backend!r}; known: {', '.join(BACKENDS)}")
        if self.vector_dtype not in ("float32", "float16"):
            raise UsageError(f"vector_dtype is 'float32' or 'float16', got {self.vector_dtype!r}")
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is None:
                continue
            if not math.isfinite(value) or not least <= value <= most:
                raise UsageError(f"{name} is a number from {least:g} to {most:g}, got {value!r}")
            if isinstance(least, int) and value != int(value):
                raise UsageError(f"{name} is a whole number, got {value!r}")
        if self.machines is not None and self.machines > 1 and self.backend in ("local", "gpu", "pgvector"):
            raise UsageError(
                f"backend {self.backend!r} searches on one machine, got machines={self.machines}; "
                "use shards or milvus for several"
            )


_RANGES: dict[str, tuple[float, float]] = {
    "documents": (1, MOST_DOCUMENTS),
    "tokens_per_document": (0.1, 1e9),
    "dim": (1, 65_536),
    "window": (3, 10**7),
    "recall_target": (0.01, 1.0),
    "k": (1, 10**6),
    "machines": (1, 100_000),
    "encoding_machines": (1, 100_000),
    "ram": (1 << 20, 1 << 50),
    "disk": (1 << 20, 1 << 60),
    "gpus": (0, 64),
    "vram": (1 << 20, 1 << 45),
    "operations_per_token": (1.5, 1e15),
    "cpu_tokens_per_second": (0.01, 1e12),
    "gpu_tokens_per_second": (0.01, 1e12),
    "load_rows_per_second": (0.01, 1e12),
    "price_per_hour": (0.0, 1e9),
    "segments_per_document": (0.1, 1e9),
    "text_bytes_per_document": (0.1, 1e12),
}
"""Option -> least and most; whole numbers are those whose least is one."""


@dataclass(frozen=True, slots=True)
class Sum:
    """One figure.  ``value`` is None where a rate is missing; ``how`` shows what it was computed from."""

    name: str
    value: float | None
    unit: str
    how: str


@dataclass(frozen=True, slots=True)
class Load:
    """How much there is."""

    tokens: float
    segments: int
    sets: dict[str, int]
    """Vector set -> rows."""
    vector_bytes: int
    """Of the stored vectors, all sets."""
    text_bytes: int
    """Texts, postings and ledger."""
    row_bytes: int
    """Of one stored vector."""

    @property
    def rows(self) -> int:
        """Vectors of all sets."""
        return sum(self.sets.values())

    @property
    def folder_bytes(self) -> int:
        """The index folders, without approximate indexes."""
        return self.vector_bytes + self.text_bytes


def load_of(question: Question) -> Load:
    """Tokens, vectors and bytes; every one of them grows with the documents."""
    tokens = question.documents * (question.tokens_per_document or TOKENS)
    segments = max(question.documents, math.ceil(question.documents * segments_of(question)))
    sets = {"segments": segments} if question.level.has_segments else {}
    if question.level.has_documents:
        sets["documents"] = question.documents
    row = question.dim * np.dtype(question.vector_dtype).itemsize
    if question.text_bytes_per_document is None:
        text = tokens * TOKEN_BYTES * (1 + LEXICAL_BYTES) + segments * ROW_BYTES
    else:
        text = question.documents * question.text_bytes_per_document
    return Load(tokens, segments, sets, sum(sets.values()) * row + len(sets) * HEADER, math.ceil(text), row)


def segments_of(question: Question) -> float:
    """Segments of a document of average length."""
    if question.segments_per_document is not None:
        return question.segments_per_document
    tokens, capacity = question.tokens_per_document or TOKENS, max(1, question.window - 2)
    return 1.0 if tokens <= capacity else max(1.0, tokens / (capacity * WINDOW_FILL))
