"""An answer of a local model, token by token.

The lock is held for one token at a time and never while the caller has the word: a caller that stops reading blocks
nobody, and another prompt in between costs time but changes nothing, for each step goes back to its own beginning.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Event

from unabridged.errors import ModelError
from unabridged.halving import ran_out
from unabridged.rankers.lm.answers import Answer
from unabridged.rankers.lm.contracts import Completion, LanguageModel, Prompt, Sampling, Streaming, Usage
from unabridged.rankers.lm.pieces import Pieces
from unabridged.rankers.lm.writing import Ids, Writer, cancelled, no_memory


def written(writer: Writer, ids: Ids, sampling: Sampling, cancel: Event | None) -> Iterator[str | Completion]:
    """Pieces of the answer to the prompt ``ids``, then the whole; raises as said in :class:`Streaming`."""
    started = time.perf_counter()
    answer, pieces = writer.answer(sampling, None), Pieces(sampling.stop)
    cached: int | None = None
    while answer.finish is None:
        with writer.held(cancel) as held:
            if not held:
                raise cancelled()
            reused = _step(writer, answer, [*ids, *answer.tokens])
        cached = reused if cached is None else cached
        if piece := pieces.more(answer.text):
            yield piece
    if piece := pieces.rest(answer.text):
        yield piece
    yield Completion(
        text=answer.text,
        usage=Usage(prompt=len(ids), completion=len(answer.tokens), cached=cached or 0),
        finish=answer.finish,
        seconds=time.perf_counter() - started,
        constrained=False,
        first=answer.first,
    )


def streamed(
    model: LanguageModel, prompt: Prompt, sampling: Sampling, *, cancel: Event | None = None
) -> Iterator[str | Completion]:
    """:meth:`Streaming.stream` of any model: one that does not stream gives its answer as a single piece."""
    if isinstance(model, Streaming):
        yield from model.stream(prompt, sampling, cancel=cancel)
        return
    [outcome] = model.complete([prompt], sampling, cancel=cancel)
    if isinstance(outcome, ModelError):
        raise outcome
    if outcome.text:
        yield outcome.text
    yield outcome


def _step(writer: Writer, answer: Answer, ids: Ids) -> int:
    """Reads ``ids``, of which all but the last are known as a rule, and takes the next token."""
    try:
        logits, reused = writer.lane.start(ids)
    except Exception as error:
        if not ran_out(error):
            raise
        writer.lane.forget()
        raise no_memory(len(ids), writer.device) from error
    answer.take(logits[-1])
    return reused
