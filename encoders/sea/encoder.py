"""Any encoder of the project whose document vectors are aggregated from their blocks: SEA behind the contract.

Blocks are the segments of the base encoder (statements of code with ``split="syntax"``), and their vectors, spans,
tokens and coverage are the base's own.  Only the vector of a document is another: what an
:class:`~unabridged.encoders.sea.aggregators.Aggregator` makes of its blocks, with norm 1.  Queries are the base's.

What a block weighs is a pure function of the vectors that an index keeps anyway: :meth:`SeaEncoder.block_weights` says
it again at any time, and nothing more is stored.

The best block alone, without any training, is a search at level ``segment`` over the same index.

Letters::

    B texts     S blocks of them, packed     D embedding width
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from unabridged.contracts import Encoded, Encoder, Floats, Level, OverflowPolicy, Passport, Rows
from unabridged.encoders._hashes import canonical_sha256
from unabridged.encoders.pooling import finish
from unabridged.encoders.prompts import DOCUMENT_NAMES, QUERY_NAMES
from unabridged.encoders.sea.aggregators import Aggregator
from unabridged.errors import UsageError, ValidationError
from unabridged.halving import MemoryUse, memory_report

SEA = "sea"


class SeaEncoder:
    """Satisfies :class:`unabridged.contracts.Encoder`, and answers to sentence-transformers' verbs too."""

    def __init__(self, base: Encoder, aggregator: Aggregator, *, source: str = "") -> None:
        """``source`` is the folder that it was loaded from.

        :class:`ValidationError` if the aggregator is of another width, :class:`UsageError` if the base is one itself.
        """
        if isinstance(base, SeaEncoder):
            raise UsageError(f"{base.passport.source!r} aggregates blocks already; name its base encoder instead.")
        if aggregator.width not in (None, base.dim):
            raise ValidationError(
                f"The aggregator is for blocks of width {aggregator.width}, and {base.passport.source!r} gives vectors "
                f"of width {base.dim}. Name the encoder that it was trained with."
            )
        self.base = base
        self.aggregator = aggregator
        self._source = source or base.passport.source

    @property
    def dim(self) -> int:
        """Width of the vectors, the base's."""
        return self.base.dim

    @property
    def window(self) -> int:
        """Tokens of a block at most, as the base counts them."""
        return self.base.window

    @cached_property
    def passport(self) -> Passport:
        """The base's facts, and the aggregator's formula and parameters; needs no torch."""
        base = self.base.passport.facts
        facts = {
            "kind": SEA,
            "aggregator": aggregator_facts(self.aggregator),
            "base": dict(base),
            "normalize": True,
            "settings": {},
        }
        if "backend" in base:
            # The precision is asked for on top of what the folder says, so an index has to remember it.
            facts["backend"] = base["backend"]
            facts["settings"] = {"precision": base["backend"]["precision"]}
        return Passport(self._source, self.dim, facts, canonical_sha256(facts))

    def memory_report(self) -> tuple[MemoryUse, ...]:
        """What memory did to the base's batches so far."""
        return memory_report(self.base)

    def count_tokens(self, texts: Sequence[str]) -> Rows:
        """Content tokens of each text, ``(B,)`` int64."""
        return self.base.count_tokens(texts)

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """``(B, D)`` float32 of norm 1: the base's."""
        return self._unit(self.base.encode_queries(texts))

    def encode_documents(
        self, texts: Sequence[str], *, level: Level = Level.BOTH, overflow: OverflowPolicy = OverflowPolicy.SPLIT
    ) -> Encoded:
        """The base's blocks of B texts, and one aggregated vector of each text, in one pass.

        A text of one block has that block's vector to the bit, so one without tokens has what the base has for nothing.
        Under ``aggregate`` there are document vectors only.  Raises what the base raises.
        """
        return self.prepare_documents(texts, level=level, overflow=overflow)()

    def prepare_documents(
        self, texts: Sequence[str], *, level: Level = Level.BOTH, overflow: OverflowPolicy = OverflowPolicy.SPLIT
    ) -> Callable[[], Encoded]:
        """The base's first half of :meth:`encode_documents`; calling what it returns is the second."""
        whole = overflow is OverflowPolicy.AGGREGATE
        if whole and level is Level.SEGMENT:
            raise UsageError("overflow='aggregate' gives document vectors only; use level='doc', or overflow='split'.")
        policy = OverflowPolicy.SPLIT if whole else overflow
        prepare = getattr(self.base, "prepare_documents", None)
        read = (
            prepare(texts, level=Level.SEGMENT, overflow=policy)
            if callable(prepare)
            else partial(self.base.encode_documents, texts, level=Level.SEGMENT, overflow=policy)
        )
        return lambda: self._aggregated(read(), level, whole=whole)

    def _aggregated(self, read: Encoded, level: Level, *, whole: bool) -> Encoded:
        """What the base read, with document vectors of its blocks."""
        if read.segments is None:
            raise ValidationError(f"The encoder {self.base.passport.source!r} gave no segments when asked for them.")
        blocks = self._unit(read.segments)
        documents = self._documents(blocks, read.offsets) if level.has_documents else None
        return replace(read, segments=blocks if level.has_segments and not whole else None, documents=documents)

    def block_weights(self, vectors: Floats, offsets: Rows) -> Floats:
        """What each block gave to the vector of its document, ``(S,)`` float32.

        ``vectors`` ``(S, D)`` are segments as an index stores them, document b being rows ``offsets[b]:offsets[b + 1]``
        of ``offsets`` ``(B + 1,)``.  See :class:`~unabridged.encoders.sea.aggregators.Aggregated`.
        """
        return self.aggregator.aggregate(np.asarray(vectors, dtype=np.float32), offsets).weights

    def encode(
        self,
        sentences: str | Sequence[str],
        *,
        prompt_name: str | None = None,
        overflow: OverflowPolicy = OverflowPolicy.AGGREGATE,
    ) -> Floats:
        """``(B, D)``, or ``(D,)`` for a single string, as sentence-transformers' verb of this name gives it.

        Texts are documents unless ``prompt_name`` says ``query``; only documents have blocks to aggregate.
        """
        if prompt_name in QUERY_NAMES:
            return self.encode_query(sentences)
        if prompt_name not in (None, *DOCUMENT_NAMES):
            raise UsageError(f"prompt_name is {', '.join((*QUERY_NAMES, *DOCUMENT_NAMES))} here, got {prompt_name!r}.")
        return self._verb(sentences, overflow)

    def encode_query(self, sentences: str | Sequence[str]) -> Floats:
        """``(B, D)``, or ``(D,)`` for a single string, as queries."""
        if isinstance(sentences, str):
            single: Floats = self.encode_queries([sentences])[0]
            return single
        return self.encode_queries(sentences)

    def encode_document(self, sentences: str | Sequence[str]) -> Floats:
        """``(B, D)``, or ``(D,)`` for a single string, as whole documents."""
        return self._verb(sentences, OverflowPolicy.AGGREGATE)

    def save(self, folder: str | Path) -> Path:
        """Writes a folder that loads again here, by the same fingerprint (:mod:`unabridged.encoders.sea.folder`).

        :class:`UsageError` if there is something at ``folder`` already, or if its base cannot be saved or named.
        """
        from unabridged.encoders.sea.folder import save

        return save(self, Path(folder))

    def _verb(self, sentences: str | Sequence[str], policy: OverflowPolicy) -> Floats:
        texts = [sentences] if isinstance(sentences, str) else sentences
        found = self.encode_documents(texts, level=Level.DOC, overflow=policy).documents
        vectors: Floats = np.zeros((0, self.dim), dtype=np.float32) if found is None else found
        return vectors[0] if isinstance(sentences, str) else vectors

    def _documents(self, blocks: Floats, offsets: Rows) -> Floats:
        made = finish(self.aggregator(blocks, offsets), truncate_dim=None, normalize=True)
        single = np.diff(offsets) == 1
        made[single] = blocks[offsets[:-1][single]]
        return made

    def _unit(self, vectors: Floats) -> Floats:
        """Vectors of norm 1; those of a base that gives such are left to the bit."""
        unit = bool(self.base.passport.facts.get("normalize", True))
        return vectors if unit else finish(vectors, truncate_dim=None, normalize=True)


def aggregator_facts(aggregator: Aggregator) -> dict[str, object]:
    """Formula, layers and a hash of each parameter's shape and bytes: what changes a document's vector."""
    hashes = {
        name: canonical_sha256([list(value.shape), np.ascontiguousarray(value, dtype="<f4").tobytes().hex()])
        for name, value in sorted(aggregator.parameters.items())
    }
    return {"kind": aggregator.kind, "layers": aggregator.layers, "parameters": hashes}
