"""A build whose vectors cost nothing: what is left is reading, keys, shards, BM25 and the commit."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unabridged.contracts import Coverage, Document, Encoded, Encoder, Floats, Level, OverflowPolicy, Passport, Rows
from unabridged.retrievers.calibration import Spent
from unabridged.retrievers.settings import BuildSettings


class Free:
    """An encoder whose vectors cost nothing: what is left is the rest of a build."""

    def __init__(self, dim: int, window: int, characters: int) -> None:
        self.dim, self.window, self._characters = dim, window, max(1, characters)

    @property
    def passport(self) -> Passport:
        """Of nothing that could be loaded."""
        return Passport("free", self.dim, {}, "0" * 64)

    def count_tokens(self, texts: Sequence[str]) -> Rows:
        """One for each window."""
        return np.array([self._windows(text) for text in texts], np.int64)

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """Equal vectors."""
        return self._vectors(len(texts))

    def encode_documents(
        self, texts: Sequence[str], *, level: Level = Level.BOTH, overflow: OverflowPolicy = OverflowPolicy.SPLIT
    ) -> Encoded:
        """Equal vectors over windows of equal size."""
        counts = self.count_tokens(texts)
        edges = [
            np.linspace(0, len(text), count + 1).astype(np.int64) for text, count in zip(texts, counts, strict=True)
        ]
        total = int(counts.sum())
        return Encoded(
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            spans=np.concatenate([np.stack([edge[:-1], edge[1:]], axis=1) for edge in edges]),
            tokens=np.ones(total, np.int64),
            coverage=Coverage(counts, counts),
            segments=self._vectors(total) if level.has_segments and overflow is not OverflowPolicy.AGGREGATE else None,
            documents=self._vectors(len(texts)) if level.has_documents else None,
        )

    def _windows(self, text: str) -> int:
        return max(1, -(-len(text) // self._characters))

    def _vectors(self, count: int) -> Floats:
        return np.full((count, self.dim), self.dim**-0.5, np.float32)


def built(texts: Sequence[str], encoder: Encoder, characters: int, settings: BuildSettings) -> tuple[Spent, int]:
    """An index over ``texts`` with vectors that cost nothing: what it took, and its bytes beside the vectors."""
    from unabridged.corpora import ListCorpus
    from unabridged.retrievers.build import build

    free = Free(encoder.dim, encoder.window, characters)
    options = {name: getattr(settings, name) for name in settings.__dataclass_fields__} | {"recipe": "flat"}
    documents = [Document(f"tried-{row}", text) for row, text in enumerate(texts)]
    with tempfile.TemporaryDirectory(prefix="unabridged-plan-") as folder:
        since = Spent.now()
        report = build(ListCorpus(documents), free, Path(folder) / "index", options=options)
        spent = since.ago
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return spent, size - report.vectors * encoder.dim * np.dtype(settings.vector_dtype).itemsize
