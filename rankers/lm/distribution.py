"""How sure a model is of what comes next: entropies of next-token distributions, in nats.

A causal model sees nothing behind a token, so the rows of a batch are filled up on the right and need no mask: what is
behind a row's end changes its numbers by rounding only.  Logits are computed where rows end and nowhere else.

Letters::

    B rows of a batch     P different places where they end     V vocabulary
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from threading import Event

import numpy as np

from unabridged.contracts import Floats, Rows
from unabridged.encoders.batching import in_batches, plan_batches
from unabridged.errors import ContextOverflow, ModelCancelled, ModelError, RuntimeFailure
from unabridged.halving import TokenCap
from unabridged.rankers.lm.lanes import BatchLane, Weights

Ids = Sequence[int]
Entropies = tuple[float, ...]
Held = Callable[[Event | None], AbstractContextManager[bool]]
"""Holds the model's lock; False where the caller cancelled instead."""
MOST_LOGITS = 1 << 26
"""Numbers of ``B * P * V`` in one batch, 256 MB in float32."""


class EntropyReader:
    """Token sequences to entropies, in batches of as many tokens as ``cap`` says, one thread at a time."""

    def __init__(self, weights: Weights, held: Held, ends: frozenset[int], cap: TokenCap) -> None:
        self._weights = weights
        self._held = held
        self._ends = ends
        self.cap = cap
        self._takes = set(inspect.signature(weights.model.forward).parameters)
        self._vocabulary = int(weights.model.config.get_text_config().vocab_size)

    def read(
        self, ids: Sequence[Ids], rows: Sequence[int], steps: int, cancel: Event | None
    ) -> Iterator[tuple[int, Entropies | ModelError]]:
        """Each of ``rows`` of ``ids``, in any order, with its entropies."""
        left = list(rows)
        lengths = np.array([len(one) for one in ids], dtype=np.int64)

        def run(batch: Rows) -> list[Entropies | ModelError]:
            return self._run([ids[row] for row in batch.tolist()], steps, cancel)

        def alone(row: int, lack: Exception) -> list[Entropies | ModelError]:
            del lack
            return [_no_memory(len(ids[row]), self._weights.device)]

        while left:
            # Planned anew each time: memory may have told meanwhile that batches are to be smaller.
            batch = self._batch(ids, left)
            for part, found in in_batches([np.array(batch)], lengths, self.cap, run, alone):
                yield from zip(part.tolist(), found, strict=True)
            taken = set(batch)
            left = [row for row in left if row not in taken]

    def _batch(self, ids: Sequence[Ids], rows: list[int]) -> list[int]:
        """The longest rows that go together."""
        lengths = np.array([len(ids[row]) for row in rows], dtype=np.int64)
        places = [int(place) for place in plan_batches(lengths, self.cap.value)[0]]
        while len(places) > 1 and len(places) * len(set(lengths[places])) * self._vocabulary > MOST_LOGITS:
            places = places[: len(places) // 2]
        return [rows[place] for place in places]

    def _run(self, rows: list[Ids], steps: int, cancel: Event | None) -> list[Entropies | ModelError]:
        """The entropies of a batch."""
        with self._held(cancel) as held:
            if not held:
                return [ModelCancelled("The call was cancelled before the text was read.") for _ in rows]
            return [*self._entropies([*rows], steps)]

    def _entropies(self, rows: list[Ids], steps: int) -> list[Entropies]:
        """After each row, and after each of the likeliest tokens that follow it, up to its end."""
        if steps == 1:
            return [(entropy(logits),) for logits in self._last(rows)]
        found: list[list[float]] = [[] for _ in rows]
        lane = BatchLane(self._weights) if self._weights.remembers and self._weights.attends else None
        going = list(range(len(rows)))
        logits = self._last(rows) if lane is None else lane.start(rows)
        while True:
            tokens = [int(one.argmax()) for one in logits]
            for row, one in zip(going, logits, strict=True):
                found[row].append(entropy(one))
            kept = [
                place for place, row in enumerate(going) if len(found[row]) < steps and tokens[place] not in self._ends
            ]
            if not kept:
                return [tuple(one) for one in found]
            if lane is not None:
                if len(kept) < len(going):
                    lane.keep(kept)
                logits = lane.feed([[tokens[place]] for place in kept])
            else:
                for place in kept:
                    rows[going[place]] = [*rows[going[place]], tokens[place]]
                logits = self._last([rows[going[place]] for place in kept])
            going = [going[place] for place in kept]

    def _last(self, rows: Sequence[Ids]) -> Floats:
        """Logits ``(B, V)`` after each row."""
        import torch

        longest = max(map(len, rows))
        # Any token will do behind the end.
        tokens = torch.tensor([[*row, *[row[-1]] * (longest - len(row))] for row in rows], device=self._weights.device)
        ends = sorted({len(row) - 1 for row in rows})
        places = torch.tensor(ends, device=self._weights.device)
        given = {"use_cache": False, "logits_to_keep": places}
        known = {name: value for name, value in given.items() if name in self._takes}
        with torch.inference_mode():
            logits = self._weights.model(input_ids=tokens, **known).logits  # (B, P, V)
            if "logits_to_keep" not in known:
                logits = logits[:, places]
            at = torch.tensor([ends.index(len(row) - 1) for row in rows], device=self._weights.device)
            picked = logits[torch.arange(len(rows), device=self._weights.device), at]
            return np.asarray(picked.float().cpu().numpy())


def entropy(logits: Floats) -> float:
    """``-sum(p log p)`` of the softmax of ``(V,)``, in nats; sums are taken in float64.

    :class:`RuntimeFailure` where the logits are not numbers.
    """
    highest = float(logits.max())
    if not np.isfinite(highest):
        raise RuntimeFailure(
            f"The model gave the logit {highest}: its numbers overflow. Load it with a higher precision, such as "
            'precision="float32".'
        )
    shifted = logits.astype(np.float64) - highest
    weights = np.exp(shifted)
    total = float(weights.sum())
    # A logit of minus infinity has no weight; 0 times it would be no number.
    return max(0.0, float(np.log(total)) - float((weights * np.where(weights > 0, shifted, 0.0)).sum()) / total)


def _no_memory(tokens: int, device: str) -> ContextOverflow:
    return ContextOverflow(
        f"A text of {tokens} tokens does not fit into the memory of {device} even alone. Take shorter passages, or a "
        "lower precision.",
        got=tokens,
    )
