"""Any Hugging Face or sentence-transformers text encoder, reading whole documents.

A text is tokenised once, in one piece, with the prompt in front of it.  Each window is then ``specials + prompt +
slice of the text's own tokens + specials``; the prompt's tokens are repeated for every window.  For a text that fits
the window this is what sentence-transformers computes.  torch and the weights load with the first vector; counting
tokens and the passport need neither.

With a context extension the window is the target length.  The methods that change the model are the backends'
affair; PCW is here: a window is computed in chunks of the trained length, and its vector is their mean.

Letters::

    B texts     S windows of them     D embedding width
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unabridged.contracts import JSON, Encoded, Floats, Level, OverflowPolicy, Passport, Rows
from unabridged.encoders._hashes import canonical_sha256
from unabridged.encoders._head import Head
from unabridged.encoders._hf import ModelFolder
from unabridged.encoders._run import Runner
from unabridged.encoders._sequences import Sequences, merge_chunks
from unabridged.encoders._tokens import Tokenizer, Tokens
from unabridged.encoders.backend import Backend
from unabridged.encoders.extension import NO_EXTENSION, Extension, Method, Plan
from unabridged.encoders.pooling import finish, mean_windows
from unabridged.encoders.reading import Distinct, Reading, Tokenised, encoded, read
from unabridged.encoders.windows import WINDOWS_VERSION, check_overlap
from unabridged.errors import UsageError

if TYPE_CHECKING:
    from unabridged.encoders.export import Export


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user may choose about a model folder; None takes the folder's own value."""

    max_tokens: int | None = None
    """Window in tokens, specials and prompt included; up to the model's limit."""
    overlap: int = 0
    """Tokens that neighbouring windows share, at most."""
    query_prompt: str | None = None
    document_prompt: str | None = None
    truncate_dim: int | None = None
    """Matryoshka: keep this many leading components."""
    batch_tokens: int | None = None
    """Tokens per batch; changes speed and memory only."""
    extension: Extension = NO_EXTENSION
    """How to read beyond the trained length; backends must have been built with the plan of the same one."""


class TransformerEncoder:
    """Satisfies :class:`unabridged.contracts.Encoder`, and answers to sentence-transformers' verbs too."""

    def __init__(self, folder: ModelFolder, backends: Sequence[Backend], settings: Settings | None = None) -> None:
        settings = settings or Settings()
        self.folder = folder
        self.settings = settings
        self.tokenizer = Tokenizer(folder)
        self.plan = folder.plan(settings.extension)
        self._window = _window(folder, self.plan, settings.max_tokens)
        self._dim = _dim(folder, settings.truncate_dim)
        self._query_prompt = _prompt(settings.query_prompt, folder.prompts, "query")
        self._document_prompt = _prompt(settings.document_prompt, folder.prompts, "document", "passage", "corpus")
        self._runner = Runner(backends, settings.batch_tokens)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self._dim

    @property
    def window(self) -> int:
        """Tokens per window, specials and prompt included."""
        return self._window

    @cached_property
    def passport(self) -> Passport:
        """Hashes of weights and tokenizer, and every setting that changes a vector; needs no torch."""
        facts = self._facts()
        return Passport(self.folder.source, self.dim, facts, canonical_sha256(facts))

    def count_tokens(self, texts: Sequence[str]) -> Rows:
        """Content tokens of each text as a document ``(B,)`` int64: specials and prompt excluded."""
        return self.tokenizer.count(texts, self._document_prompt)

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """``(B, D)`` float32 with the query prompt.  A query over the window is read whole: the mean of its windows."""
        return self._whole(texts, self._query_prompt)

    def encode_documents(
        self, texts: Sequence[str], *, level: Level = Level.BOTH, overflow: OverflowPolicy = OverflowPolicy.SPLIT
    ) -> Encoded:
        """Vectors, spans and coverage of B texts in one pass.

        Under ``aggregate`` there are document vectors only.  :class:`unabridged.errors.Overflow` under ``error``,
        before any forward pass; :class:`unabridged.errors.OutOfMemory` if one window does not fit into memory.
        """
        if overflow is OverflowPolicy.AGGREGATE and level is Level.SEGMENT:
            raise UsageError("overflow='aggregate' gives document vectors only; use level='doc', or overflow='split'.")
        distinct = Distinct.of(texts)
        tokens, reading = self._read(distinct, self._document_prompt, overflow)
        raw = self._vectors(reading, tokens, distinct)
        segments = level.has_segments and overflow is not OverflowPolicy.AGGREGATE
        return encoded(
            reading,
            distinct,
            segments=self._finish(raw) if segments else None,
            documents=self._finish(mean_windows(raw, reading.offsets, reading.tokens)) if level.has_documents else None,
        )

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
            prompt = self.folder.default_prompt if prompt_name is None else self._named(prompt_name)
        return self._verb(sentences, prompt, overflow)

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

        target = self.plan.target if self.plan.method is not None else None
        return Export(
            self.folder, self.settings.extension, self.window, target, self._query_prompt, self._document_prompt
        )

    def encode_query(self, sentences: str | Sequence[str]) -> Floats:
        """``(B, D)``, or ``(D,)`` for a single string, with the query prompt."""
        return self._verb(sentences, self._query_prompt)

    def encode_document(self, sentences: str | Sequence[str]) -> Floats:
        """``(B, D)``, or ``(D,)`` for a single string, with the document prompt; whole texts."""
        return self._verb(sentences, self._document_prompt)

    def _verb(
        self, sentences: str | Sequence[str], prompt: str, policy: OverflowPolicy = OverflowPolicy.AGGREGATE
    ) -> Floats:
        if isinstance(sentences, str):
            single: Floats = self._whole([sentences], prompt, policy)[0]
            return single
        return self._whole(sentences, prompt, policy)

    def _named(self, name: str) -> str:
        own = {"query": self._query_prompt, "document": self._document_prompt}
        known = {**self.folder.prompts, **own}
        if name not in known:
            raise UsageError(f"There is no prompt called {name!r}; the folder has {sorted(known)}.")
        return known[name]

    def _whole(self, texts: Sequence[str], prompt: str, policy: OverflowPolicy = OverflowPolicy.AGGREGATE) -> Floats:
        """One vector per text; a text without tokens gets the vector of specials and prompt."""
        distinct = Distinct.of(texts)
        tokens, reading = self._read(distinct, prompt, policy)
        reading = reading.filled()
        raw = self._vectors(reading, tokens, distinct)
        vectors: Floats = self._finish(mean_windows(raw, reading.offsets, reading.tokens))[distinct.index]
        return vectors

    def _read(self, distinct: Distinct, prompt: str, policy: OverflowPolicy) -> tuple[list[Tokens], Reading]:
        tokens = self.tokenizer.encode(distinct.texts, prompt)
        room = self._window - sum(map(len, self.tokenizer.specials))
        items = [
            Tokenised(row, text, len(t.ids), room - len(t.prompt), t.characters)
            for row, text, t in zip(distinct.first.tolist(), distinct.texts, tokens, strict=True)
        ]
        check_overlap(room, self.settings.overlap)
        return tokens, read(items, overlap=self.settings.overlap, policy=policy)

    def _vectors(self, reading: Reading, tokens: Sequence[Tokens], distinct: Distinct) -> Floats:
        """One vector per window ``(S, D before truncate_dim)``, not normalised."""
        if not len(reading.ranges):
            return np.zeros((0, self.folder.dim), dtype=np.float32)
        work = Sequences.of(reading, tokens, distinct, self.tokenizer.specials)
        if self.plan.method is not Method.PCW:
            return self._runner.run(work, self._heads, self.folder.dim)
        chunks = work.chunked(self.plan.original)
        return merge_chunks(self._runner.run(chunks, self._heads, self.folder.dim), chunks, self.plan)

    @cached_property
    def _heads(self) -> list[Head]:
        return [Head(self.folder, backend.device) for backend in self._runner.backends]

    def _finish(self, raw: Floats) -> Floats:
        return finish(raw, truncate_dim=self.settings.truncate_dim, normalize=self.folder.normalize)

    def _facts(self) -> dict[str, JSON]:
        backend = dict(self._runner.backends[0].facts)
        prompts = {"query": self._query_prompt, "document": self._document_prompt}
        pooling = "+".join(self.folder.pooling)
        # Only where there is one: encoders without keep the fingerprint that their indexes know.
        extension = {} if self.plan.is_none else {"extension": dict(self.plan.facts)}
        asked = self.settings.extension
        kept = {} if asked.is_none and self.folder.saved is None else {"extension": asked.as_json()}
        return {
            "kind": "transformer",
            "weights": self.folder.weights_sha256,
            "tokenizer": self.folder.tokenizer_sha256,
            "config": self.folder.config_sha256,
            "pooling": pooling,
            "pooling_includes_prompt": self.folder.include_prompt,
            "dense": self.folder.dense_facts,
            "normalize": self.folder.normalize,
            "truncate_dim": self.settings.truncate_dim,
            "prompts": prompts,
            "window": self.window,
            "overlap": self.settings.overlap,
            "windows_version": WINDOWS_VERSION,
            "backend": backend,
            **extension,
            "settings": {
                "backend": backend["backend"],
                "precision": backend["precision"],
                "max_tokens": self.window,
                "overlap": self.settings.overlap,
                "pooling": self.folder.pooling[0] if len(self.folder.pooling) == 1 else None,
                "query_prompt": prompts["query"],
                "document_prompt": prompts["document"],
                "truncate_dim": self.settings.truncate_dim,
                **kept,
            },
        }


def _window(folder: ModelFolder, plan: Plan, asked: int | None) -> int:
    if asked is not None and asked < 1:
        raise UsageError(f"max_tokens must be at least 1, got {asked}.")
    if plan.method is not None:
        return _extended_window(plan, asked)
    if asked is None:
        # A matrix of tuned positions has more rows than the model has trained positions.
        return min(folder.window, plan.original) if plan.rows_per_position > 1 else folder.window
    if folder.limit is not None and asked > folder.limit:
        raise UsageError(
            f"max_tokens={asked} is more than the {folder.limit} positions of {folder.source}. Longer texts are "
            "split into windows and read whole: leave max_tokens out."
        )
    return asked


def _extended_window(plan: Plan, asked: int | None) -> int:
    if asked is not None and asked > plan.target:
        raise UsageError(f"max_tokens={asked} is more than the target of {plan.target} tokens; raise target_tokens.")
    return plan.target if asked is None else asked


def _dim(folder: ModelFolder, truncate: int | None) -> int:
    if truncate is None:
        return folder.dim
    if not 1 <= truncate <= folder.dim:
        raise UsageError(f"truncate_dim must be from 1 to {folder.dim}, the width of {folder.source}; got {truncate}.")
    return truncate


def _prompt(asked: str | None, saved: Mapping[str, str], *names: str) -> str:
    """The prompt that was asked for, or the folder's first of ``names``, or none."""
    return asked if asked is not None else next((saved[name] for name in names if name in saved), "")
