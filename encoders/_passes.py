"""Texts through the model: tokens, windows, forward passes, and one vector for each window or segment.

Letters::

    U distinct texts     S windows of them, or under late chunking segments     D embedding width
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from unabridged.contracts import Floats, OverflowPolicy, Rows
from unabridged.encoders._frame import Frame
from unabridged.encoders._head import Head
from unabridged.encoders._hf import ModelFolder
from unabridged.encoders._run import Runner
from unabridged.encoders._sequences import Sequences, merge_chunks
from unabridged.encoders._tokens import Ids, Tokenizer, Tokens
from unabridged.encoders.code.leaving import Selection
from unabridged.encoders.code.split import CodeSplitter
from unabridged.encoders.extension import Method, Plan
from unabridged.encoders.late import LateChunking, LateSequences
from unabridged.encoders.pooling import mean_windows
from unabridged.encoders.reading import Distinct, Reading, Tokenised, read
from unabridged.encoders.windows import check_overlap


@dataclass(frozen=True, slots=True)
class Pooled:
    """What was read of U texts, and its vectors before normalisation."""

    reading: Reading
    raw: Floats  # (S, D before truncate_dim) float32
    weights: Rows  # (S,) int64, what each counts for in the vector of its document

    @property
    def documents(self) -> Floats:
        """``(U, D before truncate_dim)`` float32: the weighted means of each text's vectors."""
        return mean_windows(self.raw, self.reading.offsets, self.weights)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is known of U texts before the first forward pass."""

    distinct: Distinct
    tokens: list[Tokens]
    reading: Reading


@dataclass(frozen=True)
class Passes:
    """One way of reading: queries and documents may differ in ``late``."""

    folder: ModelFolder
    tokenizer: Tokenizer
    runner: Runner
    plan: Plan
    window: int
    """Tokens per sequence, specials and prompt included."""
    overlap: int
    piece: int | None = None
    """g of landmark pooling."""
    late: LateChunking | None = None
    code: CodeSplitter | None = None
    """What cuts texts into windows; None: as prose."""

    def run(self, distinct: Distinct, prompt: str, policy: OverflowPolicy) -> Pooled:
        """The vectors of the distinct texts; a text without tokens has one of special tokens and prompt."""
        return self.compute(self.prepare(distinct, prompt, policy))

    def prepare(self, distinct: Distinct, prompt: str, policy: OverflowPolicy) -> Prepared:
        """Tokens and windows of the distinct texts: all that needs no device."""
        tokens, reading = self._tokens(distinct, prompt, policy)
        return Prepared(distinct, [own.bare() for own in tokens], reading)

    def compute(self, prepared: Prepared) -> Pooled:
        """Forward passes and pooling."""
        tokens, reading, distinct = prepared.tokens, prepared.reading, prepared.distinct
        if not len(reading.ranges):
            return Pooled(reading, np.zeros((0, self.folder.dim), dtype=np.float32), reading.tokens)
        if self.late is not None:
            return self._late(reading, tokens, distinct, self.late)
        work = Sequences.of(reading, tokens, distinct, self._frame)
        if self.plan.method is not Method.PCW:
            return Pooled(reading, self._vectors(work), reading.tokens)
        chunks = work.chunked(self.plan.original)
        return Pooled(reading, merge_chunks(self._vectors(chunks), chunks, self.plan), reading.tokens)

    def sequences(self, distinct: Distinct, prompt: str, policy: OverflowPolicy) -> Sequences:
        """What goes through the model for the distinct texts, one sequence for each window."""
        tokens, reading = self._tokens(distinct, prompt, policy)
        return Sequences.of(reading, tokens, distinct, self._frame)

    def _tokens(self, distinct: Distinct, prompt: str, policy: OverflowPolicy) -> tuple[list[Tokens], Reading]:
        """The tokens of each text that are read, and how."""
        tokens = self.tokenizer.encode(distinct.texts, prompt)
        if self.code is None or not self.code.leaves_out:
            return tokens, self._read(distinct, tokens, policy)
        select = self.code.select
        selected = [select(text, own.characters()) for text, own in zip(distinct.texts, tokens, strict=True)]
        tokens = [own.only(selection.kept) for own, selection in zip(tokens, selected, strict=True)]
        return tokens, self._read(distinct, tokens, policy, selected)

    def _read(
        self,
        distinct: Distinct,
        tokens: Sequence[Tokens],
        policy: OverflowPolicy,
        selected: Sequence[Selection] | None = None,
    ) -> Reading:
        check_overlap(self._frame.capacity(self.window, 0), self.overlap)
        size = None if self.late is None else self.late.tokens
        items = [
            Tokenised(row, text, len(t.ids), self._frame.capacity(self.window, len(t.prompt)), t.characters, size)
            for row, text, t in zip(distinct.first.tolist(), distinct.texts, tokens, strict=True)
        ]
        if selected is not None:
            items = [own.mark(item) for own, item in zip(selected, items, strict=True)]
        if self.late is not None:
            self.late.check(min((item.capacity for item in items), default=self.window))
        if self.code is None:
            return read(items, overlap=self.overlap, policy=policy)
        divide = partial(self.code.divide, tokenise=self._header)
        return read(items, overlap=self.overlap, policy=policy, divide=divide, noted=True)

    def _header(self, text: str) -> Ids:
        """The tokens of a window's header."""
        return self.tokenizer.encode([text])[0].ids

    def _late(self, reading: Reading, tokens: Sequence[Tokens], distinct: Distinct, late: LateChunking) -> Pooled:
        work = LateSequences.of(reading, tokens, distinct, self._frame, window=self.window, overlap=late.overlap)
        weights = work.weights(include_prompt=self.folder.include_prompt)
        return Pooled(reading, self._vectors(work), weights)

    def _vectors(self, work: Sequences | LateSequences) -> Floats:
        return self.runner.run(work, self._heads, self.folder.dim)

    @cached_property
    def _frame(self) -> Frame:
        return Frame.of(self.tokenizer.specials, self.piece)

    @cached_property
    def _heads(self) -> list[Head]:
        return [Head(self.folder, backend.device) for backend in self.runner.backends]
