"""Cross-encoders of sentence-transformers over whole documents: every passage is scored, none is cut off.

A document is cut into windows by the model's own tokenizer, at the best places for a cut; each is scored with the
query; the scores are put together (:mod:`~unabridged.rankers.aggregate`) and the windows that made the score are named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from unabridged._extras import require
from unabridged.contracts import Floats, Rows
from unabridged.encoders._devices import one_device
from unabridged.encoders.batching import in_batches, plan_batches
from unabridged.encoders.windows import split
from unabridged.errors import MissingFile, UsageError
from unabridged.halving import MemoryUse, TokenCap
from unabridged.rankers.aggregate import TOP, Aggregate, aggregate, check_aggregate
from unabridged.rankers.contracts import KEPT, UNREAD, Exposure, Ranking, Request, Spent, Step
from unabridged.rankers.lm.contracts import Usage
from unabridged.rankers.scored import scored
from unabridged.room import free_bytes

LEAST = 16
"""Tokens of a passage that a query must leave room for."""
DEFAULT_WINDOW = 512
"""For tokenizers that do not say how much the model reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossSettings:
    """How documents are cut and scores put together."""

    aggregate: Aggregate = "max"
    top: int = TOP
    """Passages of ``mean-top``."""
    passage_tokens: int | None = None
    """Most tokens of a passage; None: what the query leaves of the model's window."""
    overlap: int = 0
    """Tokens that neighbours share."""
    batch_tokens: int = 16_384
    """Tokens of one batch, padding included."""

    def __post_init__(self) -> None:
        check_aggregate(self.aggregate, self.top)
        if self.passage_tokens is not None and self.passage_tokens < LEAST:
            raise UsageError(f"passage_tokens={self.passage_tokens}: a passage has at least {LEAST} tokens.")
        if self.overlap < 0 or self.batch_tokens < 1:
            raise UsageError(f"overlap={self.overlap} is at least 0 and batch_tokens={self.batch_tokens} at least 1.")


@dataclass(frozen=True, slots=True)
class _Cut:
    """A candidate's passages."""

    total: int
    spans: tuple[tuple[int, int], ...]
    tokens: tuple[int, ...]


class CrossRanker:
    """A cross-encoder behind the contract of rankers.  ``model`` is sentence-transformers' ``CrossEncoder``."""

    def __init__(self, model: Any, *, name: str = "", settings: CrossSettings | None = None) -> None:
        """:class:`UsageError` for a model with several outputs, or a tokenizer without character offsets."""
        self.model = model
        self.settings = settings or CrossSettings()
        self._name = name or "cross-encoder"
        self._tokenizer = model.tokenizer
        device = str(getattr(model, "device", "cpu"))
        self._cap = TokenCap(self.settings.batch_tokens, device, free_bytes(device))
        if int(getattr(model, "num_labels", 1)) != 1:
            raise UsageError(f"{self._name} gives {model.num_labels} numbers for a pair; a ranker needs one with 1.")
        if not self._tokenizer.is_fast:
            raise UsageError(f"{self._name} has a tokenizer without character offsets, which passages are cut by.")

    @classmethod
    def load(cls, source: str, *, device: str | None = None, settings: CrossSettings | None = None) -> CrossRanker:
        """The model in a folder, or by its hub name where it is on this machine already.

        :class:`~unabridged.errors.MissingExtra` without sentence-transformers; :class:`MissingFile` without such a
        folder; :class:`UsageError` if it cannot be loaded, or for a device that cannot be used here.
        """
        library = require("sentence_transformers", extra="st", purpose="cross-encoders")
        if Path(source).is_absolute() and not Path(source).is_dir():
            raise MissingFile(f"There is no cross-encoder at {source}. Name its folder, or a hub id like org/name.")
        device = one_device(device)
        try:
            model = library.CrossEncoder(source, device=device, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise UsageError(f"{source} cannot be loaded as a cross-encoder: {error}. Name its folder.") from error
        return cls(model, name=source, settings=settings)

    @property
    def label(self) -> str:
        """The model, and how its scores are put together."""
        how = self.settings.aggregate
        return f"{self._name}:{how}{self.settings.top if how == 'mean-top' else ''}"

    @property
    def window(self) -> int:
        """Tokens of query, passage and special tokens together."""
        # Version 6 renamed it, and warns of the older name.
        own = self.model.max_seq_length if hasattr(self.model, "max_seq_length") else self.model.max_length
        said = min(int(own or 10**9), int(self._tokenizer.model_max_length or 10**9))
        return said if said < 10**6 else DEFAULT_WINDOW

    def memory_report(self) -> tuple[MemoryUse, ...]:
        """What memory did to the batches of pairs so far."""
        return (self._cap.use,)

    def rank(self, requests: Sequence[Request], *, cancel: Event | None = None) -> list[Ranking]:
        """One ranking per request, with the score of each candidate and the spans that made it."""
        return [self._one(request, cancelled=cancel is not None and cancel.is_set()) for request in requests]

    def _one(self, request: Request, *, cancelled: bool) -> Ranking:
        places = tuple(range(len(request.candidates)))
        asked = len(self._tokenizer(request.query, add_special_tokens=False, verbose=False)["input_ids"])
        room = self.window - asked - int(self._tokenizer.num_special_tokens_to_add(pair=True))
        if self.settings.passage_tokens is not None:
            room = min(room, self.settings.passage_tokens)
        cuts = [self._cut(one.text, max(LEAST, room)) for one in request.candidates]
        if cancelled or room < LEAST:
            reason = "cancelled" if cancelled else f"the query's {asked} tokens leave no room in {self.window}"
            unread = tuple(Exposure(cut.total, 0, (), 0, (KEPT, UNREAD)) for cut in cuts)
            return scored([None] * len(cuts), exposures=unread, steps=(Step(1, places, "first-stage", reason),))
        pairs = [
            (request.query, one.text[start:end])
            for one, cut in zip(request.candidates, cuts, strict=True)
            for start, end in cut.spans
        ]
        lengths = [asked + tokens for cut in cuts for tokens in cut.tokens]
        values, lost = self._scores(pairs, lengths)
        owners = np.repeat(np.arange(len(cuts)), [len(cut.spans) for cut in cuts])
        without = tuple(sorted({int(owners[pair]) for pair in lost}))
        reason = f"OutOfMemory: {len(lost)} passages do not fit into the memory of {self._cap.device} even alone"
        steps = (Step(1, without, "first-stage", reason),) if without else ()
        return self._ranking(cuts, values, sum(lengths), steps)

    def _ranking(self, cuts: Sequence[_Cut], values: Floats, tokens: int, steps: tuple[Step, ...]) -> Ranking:
        scores: list[float | None] = []
        exposures: list[Exposure] = []
        at = 0
        for cut in cuts:
            mine = values[at : at + len(cut.spans)]
            at += len(mine)
            if bool(np.isnan(mine).any()):
                scores.append(None)
                exposures.append(Exposure(cut.total, cut.total, cut.spans, len(cut.spans), (KEPT,)))
                continue
            score, best = aggregate(mine, self.settings.aggregate, self.settings.top)
            scores.append(score)
            winners = tuple(cut.spans[place] for place in best)
            exposures.append(Exposure(cut.total, cut.total, cut.spans, len(cut.spans), best=winners))
        spent = Spent(calls=len(values), usage=Usage(prompt=tokens, completion=0))
        return scored(scores, exposures=tuple(exposures), steps=steps, spent=spent)

    def _cut(self, text: str, capacity: int) -> _Cut:
        """The passages of ``text``; a text without tokens has one, which is empty."""
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        offsets = np.array(found["offset_mapping"], dtype=np.int64).reshape(-1, 2)
        cut = split(text, offsets, capacity, self.settings.overlap)
        if not len(cut.spans):
            return _Cut(0, ((0, len(text)),), (0,))
        spans = tuple((int(start), int(end)) for start, end in cut.spans)
        return _Cut(len(offsets), spans, tuple(int(last - first) for first, last in cut.ranges))

    def _scores(self, pairs: Sequence[tuple[str, str]], lengths: Sequence[int]) -> tuple[Floats, list[int]]:
        """The score of each pair, (P,) float32, and the pairs that memory has no room for, whose score is NaN."""
        costs = np.array(lengths, dtype=np.int64)
        scores = np.full(len(pairs), np.nan, dtype=np.float32)
        lost: list[int] = []

        def run(rows: Rows) -> Floats:
            own = [pairs[row] for row in rows.tolist()]
            found = self.model.predict(own, batch_size=len(own), show_progress_bar=False, convert_to_numpy=True)
            return np.asarray(found, dtype=np.float32).reshape(-1)

        def alone(row: int, lack: Exception) -> Floats:
            del lack
            lost.append(row)
            return np.full(1, np.nan, dtype=np.float32)

        for rows, found in in_batches(plan_batches(costs, self._cap.limit), costs, self._cap, run, alone):
            scores[rows] = found
        return scores, lost
