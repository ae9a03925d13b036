"""Any encoder as an mteb encoder: one vector a text, so that every kind of task can run.

mteb hands texts over in corpus order, 32 at a time.  All of them are collected first and go to the encoder at once,
which sorts and fills its batches by tokens.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from unabridged.apps.integrations.mteb_meta import model_meta, name_of
from unabridged.apps.integrations.mteb_records import Records, Split
from unabridged.contracts import Encoder, Floats, Level, OverflowPolicy
from unabridged.errors import UsageError


class MtebEncoder:
    """``EncoderProtocol`` of mteb 2.

    Args:
        encoder: Whose vectors are scored, by their dot product as in an index.
        overflow: How a document longer than the window becomes one vector: ``split`` and ``aggregate`` are the mean of
            all its windows, ``truncate`` the first one.  Queries are always read whole.
        records: Where coverage and speed of each split are noted.
        name: ``organisation/name`` of the results.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        overflow: OverflowPolicy = OverflowPolicy.SPLIT,
        records: Records | None = None,
        name: str | None = None,
    ) -> None:
        self.encoder, self.overflow = encoder, overflow
        self.records = records or Records()
        self._name = name or name_of(encoder, f"vector-{overflow.value}")

    @cached_property
    def mteb_model_meta(self) -> Any:
        """Name, and a revision of encoder and policy."""
        system = {"kind": "vector", "overflow": self.overflow.value}
        return model_meta(self.encoder, system, ["dense"], self._name)

    def encode(
        self,
        inputs: Iterable[Mapping[str, Sequence[str]]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **_: Any,
    ) -> Floats:
        """``(B, D)`` float32; without a prompt type texts are read as documents."""
        batches = list(inputs)
        texts = [str(text) for batch in batches for text in batch["text"]]
        names = [str(name) for batch in batches for name in batch.get("id", ())]
        split = Split(task_metadata.name, hf_split, hf_subset)
        query = prompt_type is not None and prompt_type.value == "query"
        return self._queries(texts, split) if query else self._documents(texts, names, split)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Floats:
        """``(N, M)`` dot products, higher is better."""
        return np.atleast_2d(_array(embeddings1)) @ np.atleast_2d(_array(embeddings2)).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Floats:
        """``(N,)`` dot products of the pairs."""
        pairs: Floats = np.sum(_array(embeddings1) * _array(embeddings2), axis=-1, dtype=np.float32)
        return pairs

    def _queries(self, texts: Sequence[str], split: Split) -> Floats:
        vectors = self.encoder.encode_queries(texts)
        tokens = self.encoder.count_tokens(texts)
        self.records.count(split, queries=len(texts), query_tokens=int(tokens.sum()))
        return vectors

    def _documents(self, texts: Sequence[str], names: Sequence[str], split: Split) -> Floats:
        started = time.monotonic()
        encoded = self.encoder.encode_documents(texts, level=Level.DOC, overflow=self.overflow)
        if encoded.documents is None:
            raise UsageError(f"{self.encoder.passport.source} gives no document vectors, which mteb scores.")
        seen = int(encoded.coverage.seen.sum())
        self.records.note(split, policy=self.overflow.value)
        if len(names) == len(texts):  # a corpus; other texts have no names
            self.records.hold(split, dict(zip(names, map(int, encoded.coverage.total), strict=True)))
        self.records.count(
            split,
            documents=len(texts),
            truncated=encoded.coverage.truncated,
            tokens_total=int(encoded.coverage.total.sum()),
            tokens_seen=seen,
            tokens_encoded=seen,
            seconds=time.monotonic() - started,
        )
        return encoded.documents


def _array(values: Any) -> Floats:
    """An array or a tensor, wherever it lies, as float32."""
    return np.asarray(values.cpu() if hasattr(values, "cpu") else values, dtype=np.float32)
