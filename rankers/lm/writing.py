"""Answers written by a local model: which prompts go together, the loop over tokens, and memory that runs out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from threading import Event, RLock

import numpy as np

from unabridged.contracts import Rows
from unabridged.encoders.batching import in_batches, plan_batches
from unabridged.errors import ContextOverflow, ModelCancelled
from unabridged.halving import TokenCap, ran_out
from unabridged.rankers.lm.answers import Answer, FreeAnswer
from unabridged.rankers.lm.constrained import ConstrainedAnswer, TokenGrammar
from unabridged.rankers.lm.contracts import Completion, Outcome, Sampling, Usage
from unabridged.rankers.lm.lanes import BatchLane, SingleLane, Weights
from unabridged.rankers.lm.likelihood import score_continuations
from unabridged.rankers.lm.vocabulary import Vocabulary

POLL = 0.05
"""Seconds between looks at whether a caller that waits for the model has cancelled."""
Ids = list[int]


class Writer:
    """Prompts as tokens to outcomes, one thread at a time.

    ``cap`` is how many tokens go through the model together, with a limit of 1: one prompt after another.
    """

    def __init__(self, weights: Weights, vocabulary: Vocabulary, ends: frozenset[int], cap: TokenCap) -> None:
        self.lock = RLock()
        self.lane = SingleLane(weights)
        self._weights = weights
        self._vocabulary = vocabulary
        self._ends = ends
        self.cap = cap
        self._single = cap.limit == 1

    def write(
        self,
        ids: Sequence[Ids],
        rows: Sequence[int],
        sampling: Sampling,
        grammar: TokenGrammar | None,
        cancel: Event | None,
    ) -> Iterator[tuple[int, Outcome]]:
        """Each of ``rows`` of the prompts ``ids``, in any order, with its outcome."""
        lengths = np.array([len(one) for one in ids], dtype=np.int64)

        def run(batch: Rows) -> list[Outcome]:
            return self._run(batch.tolist(), ids, sampling, grammar, cancel)

        def alone(row: int, lack: Exception) -> list[Outcome]:
            del lack
            return [no_memory(len(ids[row]), self._weights.device)]

        for batch in self._batches(ids, rows, alone=grammar is not None and sampling.top_logprobs > 0):
            for part, outcomes in in_batches([np.array(batch)], lengths, self.cap, run, alone):
                yield from zip(part.tolist(), outcomes, strict=True)

    def _batches(self, ids: Sequence[Ids], rows: Sequence[int], *, alone: bool) -> Iterator[list[int]]:
        if not rows:
            return
        if self._single or alone or not (self._weights.remembers and self._weights.attends):
            # In the order of their tokens, neighbours share the longest beginnings.
            yield from ([row] for row in sorted(rows, key=lambda row: ids[row]))
            return
        left = list(rows)
        while left:
            # Planned anew each time: memory may have told meanwhile that batches are to be smaller.
            lengths = np.array([len(ids[row]) for row in left], dtype=np.int64)
            batch = [left[int(place)] for place in plan_batches(lengths, self.cap.value)[0]]
            yield batch
            left = [row for row in left if row not in batch]

    def _run(
        self,
        batch: list[int],
        ids: Sequence[Ids],
        sampling: Sampling,
        grammar: TokenGrammar | None,
        cancel: Event | None,
    ) -> list[Outcome]:
        """The outcomes of a batch; where memory does not suffice, nothing of it stays held."""
        with self.held(cancel) as held:
            if not held:
                return [cancelled() for _ in batch]
            started = time.perf_counter()
            answers = [self.answer(sampling, grammar) for _ in batch]
            try:
                if len(batch) == 1:
                    cached = [self._write(answers[0], ids[batch[0]], sampling, grammar, cancel)]
                else:
                    cached = self._write_batch(answers, [ids[row] for row in batch], cancel)
            except Exception as error:
                if ran_out(error):
                    self.lane.forget()
                raise
            seconds = time.perf_counter() - started
            return [
                self._outcome(answer, len(ids[row]), seconds, shared, constrained=grammar is not None)
                for answer, row, shared in zip(answers, batch, cached, strict=True)
            ]

    @property
    def device(self) -> str:
        """Where the model computes."""
        return self._weights.device

    @contextlib.contextmanager
    def held(self, cancel: Event | None) -> Iterator[bool]:
        """With the lock held; False, without it, if the caller cancelled before or while waiting for it."""
        while cancel is None or not cancel.is_set():
            if self.lock.acquire(timeout=-1 if cancel is None else POLL):
                try:
                    yield True
                finally:
                    self.lock.release()
                return
        yield False

    def answer(self, sampling: Sampling, grammar: TokenGrammar | None) -> Answer:
        """An answer that is not begun."""
        if grammar is not None:
            return ConstrainedAnswer(grammar, sampling, self._ends)
        return FreeAnswer(sampling, self._vocabulary, self._ends)

    def _write(
        self,
        answer: Answer,
        ids: list[int],
        sampling: Sampling,
        grammar: TokenGrammar | None,
        cancel: Event | None,
    ) -> int:
        """Writes one answer; returns how many tokens of the prompt were known from the prompt before."""
        logits, reused = self.lane.start(ids)
        first = None
        if grammar is not None and sampling.top_logprobs:
            pairs = [(ids, label) for label in grammar.label_ids.values()]
            first = dict(zip(grammar.label_ids, score_continuations(self.lane, pairs), strict=True))
            logits, _ = self.lane.start(ids)
        new = answer.take(logits[-1])
        while new and not (cancel is not None and cancel.is_set()):
            new = answer.take(self.lane.feed(new)[-1])
        if first is not None:
            answer.first = first
        return reused

    def _write_batch(self, answers: list[Answer], rows: list[list[int]], cancel: Event | None) -> list[int]:
        lane = BatchLane(self._weights)
        logits = lane.start(rows)
        going = list(range(len(rows)))
        while going and not (cancel is not None and cancel.is_set()):
            new = [answers[row].take(values) for row, values in zip(going, logits, strict=True)]
            left = [place for place, tokens in enumerate(new) if tokens]
            if left and len(left) < len(going):
                lane.keep(left)
            going = [going[place] for place in left]
            if going:
                logits = lane.feed([new[place] for place in left])
        return [0] + [lane.shared] * (len(rows) - 1)

    def _outcome(self, answer: Answer, prompt: int, seconds: float, cached: int, *, constrained: bool) -> Outcome:
        if answer.finish is None:
            return cancelled()
        return Completion(
            text=answer.text,
            usage=Usage(prompt=prompt, completion=len(answer.tokens), cached=cached),
            finish=answer.finish,
            seconds=seconds,
            constrained=constrained,
            first=answer.first,
        )


def cancelled() -> ModelCancelled:
    """What a caller who took the call back gets."""
    return ModelCancelled("The call was cancelled before the answer was finished.")


def no_memory(tokens: int, device: str) -> ContextOverflow:
    """What a prompt gets that memory does not suffice for."""
    return ContextOverflow(
        f"A prompt of {tokens} tokens does not fit into the memory of {device} even alone. Show less of each "
        "candidate, rank them in smaller windows, or use a lower precision.",
        got=tokens,
    )
