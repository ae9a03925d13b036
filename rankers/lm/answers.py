"""One answer while it is being written: which token comes next, and when it ends.

An answer is given the logits after its last token and says which tokens follow; no model is in here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from unabridged.contracts import Floats
from unabridged.errors import RuntimeFailure
from unabridged.rankers.lm.contracts import Finish, Sampling
from unabridged.rankers.lm.vocabulary import Vocabulary


class Answer(Protocol):
    """What the loop over a model's steps sees of an answer."""

    finish: Finish | None
    """None while it is not finished."""
    first: Mapping[str, float] | None
    tokens: list[int]
    """Everything the model was made to write, the token that ended it included."""

    @property
    def text(self) -> str:
        """What has been written."""
        ...

    def take(self, logits: Floats) -> list[int]:
        """The next tokens, from logits ``(V,)``; at least one unless the answer is finished."""
        ...


class FreeAnswer:
    """An answer without a constraint: it ends at an end token, a stop string or ``max_tokens``."""

    def __init__(self, sampling: Sampling, vocabulary: Vocabulary, ends: frozenset[int]) -> None:
        self.finish: Finish | None = None
        self.first: Mapping[str, float] | None = None
        self.tokens: list[int] = []
        self._sampling = sampling
        self._vocabulary = vocabulary
        self._ends = ends
        self._text: str | None = None
        self._picker = Picker(sampling)

    @property
    def text(self) -> str:
        """Decoded without control tokens; up to a stop string where there was one."""
        return self._decoded() if self._text is None else self._text

    def take(self, logits: Floats) -> list[int]:
        """One token, or none where it ends."""
        if not self.tokens and self._sampling.top_logprobs:
            self.first = self._likeliest(logits)
        if len(self.tokens) < self._sampling.min_tokens:
            logits = logits.copy()
            logits[[end for end in self._ends if end < len(logits)]] = -np.inf
        token = self._picker.pick(logits)
        self.tokens.append(token)
        if token in self._ends or self._stopped():
            self.finish = "stop"
        elif len(self.tokens) >= self._sampling.max_tokens:
            self.finish = "length"
        return [] if self.finish else [token]

    def _stopped(self) -> bool:
        if not self._sampling.stop or len(self.tokens) < self._sampling.min_tokens:
            return False
        text = self._decoded()
        places = [place for stop in self._sampling.stop if (place := text.find(stop)) >= 0]
        if places:
            self._text = text[: min(places)]
        return bool(places)

    def _decoded(self) -> str:
        return str(self._vocabulary.tokenizer.decode(self.tokens, skip_special_tokens=True))

    def _likeliest(self, logits: Floats) -> dict[str, float]:
        count = min(self._sampling.top_logprobs, len(logits))
        values = log_softmax(logits)
        return {
            self._vocabulary.shown(int(token)): float(values[token])
            for token in np.argsort(-values, kind="stable")[:count]
        }


class Picker:
    """Draws tokens: the likeliest at temperature 0 (ties: the lowest id), else by the softmax of ``logits / T``."""

    def __init__(self, sampling: Sampling) -> None:
        self._temperature = sampling.temperature
        # Of its own for each answer, so that an answer depends on its prompt and the seed and not on its neighbours.
        self._random = np.random.default_rng(sampling.seed) if sampling.temperature else None

    def pick(self, logits: Floats) -> int:
        """A position of ``logits`` ``(V,)``; :class:`RuntimeFailure` where they are not numbers."""
        best = int(np.argmax(logits))
        if not np.isfinite(logits[best]):
            raise RuntimeFailure(
                f"The model gave the logit {logits[best]}: its numbers overflow. Load it with a higher precision, "
                'such as precision="float32".'
            )
        if self._random is None:
            return best
        weights = np.exp((logits.astype(np.float64) - float(logits[best])) / self._temperature)
        steps = np.cumsum(weights)
        return min(int(np.searchsorted(steps, self._random.random() * steps[-1], side="right")), len(logits) - 1)


def log_softmax(logits: Floats) -> Floats:
    """``x - log(sum(exp(x)))`` of ``(V,)``, float32; the sum is taken in float64."""
    highest = logits.max()
    shifted = (logits - highest).astype(np.float64)
    result: Floats = (shifted - np.log(np.exp(shifted).sum())).astype(np.float32)
    return result
