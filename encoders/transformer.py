"""Any Hugging Face or sentence-transformers text encoder, reading whole documents.

A text is tokenised once, in one piece, with the prompt in front of it.  Each window is then ``specials + prompt +
slice of the text's own tokens + specials``; the prompt's tokens are repeated for every window.  For a text that fits
the window this is what sentence-transformers computes.  torch and the weights load with the first vector; counting
tokens and the passport need neither.

With a context extension the window is the target length.  The methods that change the model are the backends'
affair; under PCW a window is computed in chunks of the trained length, and its vector is their mean.  With late
chunking a window of a document has several vectors, one for each segment (:mod:`unabridged.encoders.late`).

Letters::

    B texts     S windows or segments of them     D embedding width
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from unabridged.contracts import Encoded, Floats, Level, OverflowPolicy, Passport, Rows
from unabridged.encoders._hashes import canonical_sha256
from unabridged.encoders._hf import ModelFolder
from unabridged.encoders._passes import Passes
from unabridged.encoders._run import Runner
from unabridged.encoders._sequences import Sequences
from unabridged.encoders._tokens import Tokenizer
from unabridged.encoders.backend import Backend
from unabridged.encoders.batching import token_bytes
from unabridged.encoders.pooling import finish
from unabridged.encoders.reading import Distinct, encoded
from unabridged.encoders.settings import Choices, Settings
from unabridged.errors import UsageError
from unabridged.halving import MemoryUse

if TYPE_CHECKING:
    from unabridged.encoders.export import Export

__all__ = ["Settings", "TransformerEncoder"]


class TransformerEncoder:
    """Satisfies :class:`unabridged.contracts.Encoder`, and answers to sentence-transformers' verbs too."""

    def __init__(self, folder: ModelFolder, backends: Sequence[Backend], settings: Settings | None = None) -> None:
        chosen = Choices.of(folder, settings or Settings())
        self.folder = folder
        self.settings = chosen.asked
        self.tokenizer = Tokenizer(folder)
        self.plan = chosen.plan
        self._chosen = chosen
        self._prompts = chosen.prompts
        half = any(one.precision in ("bfloat16", "float16") for one in backends)
        self._runner = Runner(backends, chosen.asked.batch_tokens, token_bytes(folder.config, half=half))
        self._queries = Passes(
            folder, self.tokenizer, self._runner, chosen.plan, chosen.window, chosen.asked.overlap, chosen.piece
        )
        self._documents = replace(self._queries, late=chosen.late, code=chosen.code)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self._chosen.dim

    @property
    def window(self) -> int:
        """Tokens per window, specials and prompt included."""
        return self._chosen.window

    @property
    def late_tokens(self) -> int | None:
        """Late chunking: tokens of a segment, at most; None where a vector stands for its whole window."""
        return None if self._chosen.late is None else self._chosen.late.tokens

    @cached_property
    def passport(self) -> Passport:
        """Hashes of weights and tokenizer, and every setting that changes a vector; needs no torch."""
        facts = self._chosen.facts(self._runner.backends[0].facts)
        return Passport(self.folder.source, self.dim, facts, canonical_sha256(facts))

    def memory_report(self) -> tuple[MemoryUse, ...]:
        """What memory did to the batches so far, for each device that was used."""
        return self._runner.memory_report()

    def count_tokens(self, texts: Sequence[str]) -> Rows:
        """Content tokens of each text as a document ``(B,)`` int64: specials and prompt excluded."""
        return self.tokenizer.count(texts, self._prompts.document)

    def sequences(self, distinct: Distinct, policy: OverflowPolicy, *, queries: bool = False) -> Sequences:
        """The token sequences of the windows of documents, or of queries, as the model gets them: for its training."""
        passes, prompt = (self._queries, self._prompts.query) if queries else (self._documents, self._prompts.document)
        return passes.sequences(distinct, prompt, policy)

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """``(B, D)`` float32 with the query prompt.  A query over the window is read whole: the mean of its windows."""
        return self._whole(self._queries, texts, self._prompts.query)

    def encode_documents(
        self, texts: Sequence[str], *, level: Level = Level.BOTH, overflow: OverflowPolicy = OverflowPolicy.SPLIT
    ) -> Encoded:
        """Vectors, spans and coverage of B texts in one pass.

        A text without tokens (an empty one, white space) has the vector of special tokens and prompt, 0 tokens and the
        reason ``empty input`` in the coverage.  Under ``aggregate`` there are document vectors only.
        :class:`unabridged.errors.Overflow` under ``error``, before any forward pass;
        :class:`unabridged.errors.OutOfMemory` if one window does not fit into memory.
        """
        return self.prepare_documents(texts, level=level, overflow=overflow)()

    def prepare_documents(
        self, texts: Sequence[str], *, level: Level = Level.BOTH, overflow: OverflowPolicy = OverflowPolicy.SPLIT
    ) -> Callable[[], Encoded]:
        """The first half of :meth:`encode_documents`, which needs no device; calling what it returns is the second.

        The halves of two calls may run at the same time.
        """
        if overflow is OverflowPolicy.AGGREGATE and level is Level.SEGMENT:
            raise UsageError("overflow='aggregate' gives document vectors only; use level='doc', or overflow='split'.")
        distinct = Distinct.of(texts)
        prepared = self._documents.prepare(distinct, self._prompts.document, overflow)
        segments = level.has_segments and overflow is not OverflowPolicy.AGGREGATE

        def compute() -> Encoded:
            found = self._documents.compute(prepared)
            return encoded(
                found.reading,
                distinct,
                segments=self._finish(found.raw) if segments else None,
                documents=self._finish(found.documents) if level.has_documents else None,
            )

        return compute

    def encode(
        self,
        sentences: str | Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        overflow: OverflowPolicy = OverflowPolicy.AGGREGATE,
    ) -> Floats:
        """``(B, D)``, or ``(D,)`` for a single string, as sentence-transformers' verb of this name gives it.

        With ``prompt``, or the folder's prompt called ``prompt_name``, or the folder's default prompt.  A text over
        the window is read whole, unless ``overflow`` says otherwise.
        """
        if prompt is None:
            prompt = (
                self.folder.default_prompt
                if prompt_name is None
                else self._prompts.named(prompt_name, self.folder.prompts)
            )
        return self._verb(self._queries, sentences, prompt, overflow)

    def save(self, folder: str | Path) -> Path:
        """Writes a model folder that loads again here, by the same fingerprint, and in sentence-transformers.

        An extended encoder needs this package there, and ``SentenceTransformer(folder, trust_remote_code=True)``;
        it reads as far as the target and says what it leaves out.  See :mod:`unabridged.encoders.export`.
        """
        return self.export.save(Path(folder))

    @property
    def export(self) -> Export:
        """What :meth:`save` writes."""
        from unabridged.encoders.export import Export

        chosen = self._chosen
        folder = self.folder if chosen.piece is None else replace(self.folder, landmark_tokens=chosen.piece)
        target = self.plan.target if self.plan.method is not None else None
        return Export(folder, self.settings.extension, self.window, target, *chosen.prompts, chosen.code)

    def encode_query(self, sentences: str | Sequence[str]) -> Floats:
        """``(B, D)``, or ``(D,)`` for a single string, with the query prompt."""
        return self._verb(self._queries, sentences, self._prompts.query)

    def encode_document(self, sentences: str | Sequence[str]) -> Floats:
        """``(B, D)``, or ``(D,)`` for a single string, with the document prompt; whole texts."""
        return self._verb(self._documents, sentences, self._prompts.document)

    def _verb(
        self,
        passes: Passes,
        sentences: str | Sequence[str],
        prompt: str,
        policy: OverflowPolicy = OverflowPolicy.AGGREGATE,
    ) -> Floats:
        if isinstance(sentences, str):
            single: Floats = self._whole(passes, [sentences], prompt, policy)[0]
            return single
        return self._whole(passes, sentences, prompt, policy)

    def _whole(
        self, passes: Passes, texts: Sequence[str], prompt: str, policy: OverflowPolicy = OverflowPolicy.AGGREGATE
    ) -> Floats:
        """One vector per text."""
        distinct = Distinct.of(texts)
        found = passes.run(distinct, prompt, policy)
        vectors: Floats = self._finish(found.documents)[distinct.index]
        return vectors

    def _finish(self, raw: Floats) -> Floats:
        return finish(raw, truncate_dim=self.settings.truncate_dim, normalize=self.folder.normalize)
