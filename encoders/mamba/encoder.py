"""Mamba and Mamba-2 as text encoders: a document is read once, from its first token to its last.

A text is ``prompt + own tokens + closing token``, under both poolings.  With ``carry`` a document is one sequence, and
one pass over it gives the vectors of its segments and its own (:mod:`unabridged.encoders.mamba.streaming`): every
segment's vector has seen all that comes before it.  Without, each segment is a text by itself, with prompt and closing
token, and the document's vector is their mean by tokens, as for a transformer's windows.

:attr:`MambaEncoder.window` is the size of a segment, in content tokens: prompt and closing token come on top, since
there are no positions that could run out.  Nothing is ever cut for want of room.  The policies ``truncate``, ``warn``
and ``error`` are about a text longer than one segment, and ``aggregate`` gives each document's own vector.

After Zhang et al. 2024, "Mamba Retriever" (arXiv 2408.08066): the state of the closing token, compared by cosine.

Letters::

    B texts     U distinct texts     S segments of them     D embedding width
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unabridged.contracts import Encoded, Floats, Level, OverflowPolicy, Passport, Rows
from unabridged.encoders._hashes import canonical_sha256
from unabridged.encoders._hf import ModelFolder
from unabridged.encoders._tokens import Ids, Tokenizer
from unabridged.encoders.code.split import CodeSplitter
from unabridged.encoders.mamba.folder import eos_token
from unabridged.encoders.mamba.placed import Placed
from unabridged.encoders.mamba.settings import Choices, Settings
from unabridged.encoders.mamba.texts import Texts
from unabridged.encoders.mamba.tokens import count, tokenise
from unabridged.encoders.pooling import finish, mean_windows
from unabridged.encoders.reading import Distinct, Reading, Tokenised, encoded, read
from unabridged.errors import UsageError, ValidationError
from unabridged.halving import MemoryUse

if TYPE_CHECKING:
    from unabridged.encoders.mamba.export import MambaExport

__all__ = ["MambaEncoder", "Settings"]


class MambaEncoder:
    """Satisfies :class:`unabridged.contracts.Encoder`, and answers to sentence-transformers' verbs too."""

    def __init__(
        self,
        folder: ModelFolder,
        settings: Settings | None = None,
        *,
        words: ModelFolder | None = None,
        devices: Sequence[str | None] = (None,),
    ) -> None:
        """``words`` is where the tokenizer lies, if not in ``folder``; blocks go to ``devices`` in turn."""
        asked = settings or Settings()
        self.folder = folder
        self.settings = asked
        self.words = words or folder
        self.tokenizer = Tokenizer(self.words)
        # What can be known to be wrong is known at once, and not with the first vector.
        self._models = [Placed(folder, device, asked.precision, asked.batch_tokens) for device in devices]
        self._vocabulary = self._models[0].config.vocab
        self._chosen = Choices.of(folder, asked)
        self._prompts = self._chosen.prompts
        self._eos = eos_token(self.words)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self._chosen.dim

    @property
    def window(self) -> int:
        """Content tokens of a segment; the model itself has no limit."""
        return self._chosen.saved.max_tokens

    @property
    def carry(self) -> bool:
        """Whether the state goes on from one segment of a document to the next."""
        return self._chosen.saved.carry

    @cached_property
    def passport(self) -> Passport:
        """Hashes of weights and tokenizer, and every setting that changes a vector; needs no torch."""
        facts = self._chosen.facts(self.words, self.frame[1].tolist())
        return Passport(self.folder.source, self.dim, facts, canonical_sha256(facts))

    @cached_property
    def frame(self) -> tuple[Ids, Ids]:
        """The ids before the prompt and those that close a text: the tokenizer's own, and at the end its EOS token.

        :class:`ValidationError` for a tokenizer that has none, or that is of another model.
        """
        token, rows = self._eos, self._vocabulary
        eos = self.tokenizer.id_of(token)
        if eos is None or eos >= rows:
            raise ValidationError(
                f"The tokenizer of {self.words.path} names {token!r} as end of sequence, "
                + ("which its vocabulary lacks." if eos is None else f"token {eos} of a model with {rows} tokens.")
                + " Restore the tokenizer that the model was trained with."
            )
        before, after = self.tokenizer.specials
        closed = len(after) > 0 and int(after[-1]) == eos
        return before, after if closed else np.concatenate((after, np.array([eos], dtype=np.int32)))

    def memory_report(self) -> tuple[MemoryUse, ...]:
        """What memory did to the blocks so far, for each device that was used."""
        return tuple(use for model in self._models if (use := model.memory) is not None)

    def count_tokens(self, texts: Sequence[str]) -> Rows:
        """Content tokens of each text as a document ``(B,)`` int64: closing token and prompt excluded."""
        return count(self.tokenizer, texts, self._prompts.document)

    def encode_queries(self, texts: Sequence[str]) -> Floats:
        """``(B, D)`` float32 with the query prompt; each is read whole."""
        return self._whole(texts, self._prompts.query)

    def encode_documents(
        self, texts: Sequence[str], *, level: Level = Level.BOTH, overflow: OverflowPolicy = OverflowPolicy.SPLIT
    ) -> Encoded:
        """Vectors, spans and coverage of B texts in one pass.

        A text without tokens (an empty one, white space) has the vector of prompt and closing token, 0 tokens and the
        reason ``empty input`` in the coverage.  Under ``aggregate`` there are document vectors only.

        Raises:
            Overflow: under ``error``, before any forward pass, a text longer than a segment.
            ShapeError: a text whose states are not finite, by its number.
            OutOfMemory: not even a small block fits.
        """
        return self.prepare_documents(texts, level=level, overflow=overflow)()

    def prepare_documents(
        self, texts: Sequence[str], *, level: Level = Level.BOTH, overflow: OverflowPolicy = OverflowPolicy.SPLIT
    ) -> Callable[[], Encoded]:
        """The first half of :meth:`encode_documents`, which needs no device; calling what it returns is the second.

        The halves of two calls may run at the same time.
        """
        level, overflow = Level(level), OverflowPolicy(overflow)  # words are taken too, and never for another policy
        if overflow is OverflowPolicy.AGGREGATE and level is Level.SEGMENT:
            raise UsageError("overflow='aggregate' gives document vectors only; use level='doc', or overflow='split'.")
        distinct = Distinct.of(texts)
        segments = level.has_segments and overflow is not OverflowPolicy.AGGREGATE
        work = self._read(distinct, self._prompts.document, overflow, code=self._chosen.code)

        def compute() -> Encoded:
            raw = self._run(work, segments=segments)
            return encoded(
                work.reading,
                distinct,
                segments=self._finish(raw) if segments else None,
                documents=self._finish(self._documents(raw, work)) if level.has_documents else None,
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

        With ``prompt``, or the folder's prompt called ``prompt_name``, or the folder's default prompt.  A text is read
        whole, unless ``overflow`` says otherwise.
        """
        if prompt is None:
            prompt = (
                self.folder.default_prompt
                if prompt_name is None
                else self._prompts.named(prompt_name, self.folder.prompts)
            )
        return self._verb(sentences, prompt, OverflowPolicy(overflow))

    def encode_query(self, sentences: str | Sequence[str]) -> Floats:
        """``(B, D)``, or ``(D,)`` for a single string, with the query prompt."""
        return self._verb(sentences, self._prompts.query)

    def encode_document(self, sentences: str | Sequence[str]) -> Floats:
        """``(B, D)``, or ``(D,)`` for a single string, with the document prompt; whole texts."""
        return self._verb(sentences, self._prompts.document, code=self._chosen.code)

    def save(self, folder: str | Path) -> Path:
        """Writes a model folder that loads again here, by the same fingerprint.

        Precision and overlap belong to a use and are not saved.

        :class:`UsageError` if there is something at ``folder`` already.
        """
        return self.export.save(Path(folder))

    @property
    def export(self) -> MambaExport:
        """What :meth:`save` writes."""
        from unabridged.encoders.mamba.export import MambaExport

        return MambaExport(self._chosen, self.words)

    def _verb(
        self,
        sentences: str | Sequence[str],
        prompt: str,
        policy: OverflowPolicy = OverflowPolicy.AGGREGATE,
        *,
        code: CodeSplitter | None = None,
    ) -> Floats:
        if isinstance(sentences, str):
            single: Floats = self._whole([sentences], prompt, policy, code=code)[0]
            return single
        return self._whole(sentences, prompt, policy, code=code)

    def _whole(
        self,
        texts: Sequence[str],
        prompt: str,
        policy: OverflowPolicy = OverflowPolicy.AGGREGATE,
        *,
        code: CodeSplitter | None = None,
    ) -> Floats:
        """One vector per text."""
        distinct = Distinct.of(texts)
        work = self._read(distinct, prompt, policy, code=code)
        vectors: Floats = self._finish(self._documents(self._run(work, segments=False), work))[distinct.index]
        return vectors

    def _read(
        self, distinct: Distinct, prompt: str, policy: OverflowPolicy, *, code: CodeSplitter | None = None
    ) -> Texts:
        words = tokenise(self.tokenizer, distinct.texts, prompt)
        self._check_vocabulary(distinct, [own.ids for own in words])
        selected = None
        if code is not None and code.leaves_out:
            selected = [code.select(text, own.characters()) for text, own in zip(distinct.texts, words, strict=True)]
            words = [own.only(one.kept) for own, one in zip(words, selected, strict=True)]
        items = [
            Tokenised(row, text, len(own.ids), self.window, own.characters)
            for row, text, own in zip(distinct.first.tolist(), distinct.texts, words, strict=True)
        ]
        if selected is not None:
            items = [one.mark(item) for one, item in zip(selected, items, strict=True)]
        overlap = self._chosen.overlap
        if code is None:
            reading = read(items, overlap=overlap, policy=policy)
        else:
            reading = read(items, overlap=overlap, policy=policy, divide=code.divide, noted=True)
        return Texts(
            reading,
            [own.ids for own in words],
            [own.prompt for own in words],
            distinct.first,
            self.frame,
            include_prompt=self.folder.include_prompt or self._chosen.pooling == "last",
        )

    def _check_vocabulary(self, distinct: Distinct, ids: Sequence[Ids]) -> None:
        rows = self._vocabulary
        for row, own in zip(distinct.first.tolist(), ids, strict=True):
            if len(own) and int(own.max()) >= rows:
                raise ValidationError(
                    f"Text {row} has token {int(own.max())}, and the model of {self.folder.source} knows {rows}: the "
                    f"tokenizer in {self.words.path} is of another model."
                )

    def _run(self, work: Texts, *, segments: bool) -> Floats:
        """``(S, H)`` float32; without ``segments`` only the rows that the documents' vectors come from are filled."""
        streams = work.carried() if self.carry else work.windows()
        out = np.zeros((len(work.reading.ranges), self.folder.hidden))
        lanes = [model.streaming(self.frame[1], self._chosen.pooling) for model in self._models[: len(streams)]]
        if len(lanes) == 1:
            lanes[0].run(streams, out, segments=segments)
        elif lanes:
            with ThreadPoolExecutor(len(lanes), thread_name_prefix="encode") as pool:
                jobs = [
                    pool.submit(lane.run, streams[place :: len(lanes)], out, segments=segments)
                    for place, lane in enumerate(lanes)
                ]
                for job in jobs:
                    job.result()
        return out.astype(np.float32)

    def _documents(self, raw: Floats, work: Texts) -> Floats:
        """``(U, H)`` float32."""
        reading: Reading = work.reading
        if self.carry and self._chosen.pooling == "last":
            last: Floats = raw[reading.offsets[1:] - 1]
            return last
        return mean_windows(raw, reading.offsets, work.states if self.carry else reading.tokens)

    def _finish(self, raw: Floats) -> Floats:
        return finish(raw, truncate_dim=self._chosen.saved.truncate_dim, normalize=self._chosen.normalize)
