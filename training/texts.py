"""Training texts: a corpus cut into pieces of real text that are short enough for the trained length.

Letters::

    N pieces     T their tokens, special tokens included, packed
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from unabridged.contracts import Document, Failure, Rows
from unabridged.encoders._tokens import Ids, Tokenizer
from unabridged.encoders.batching import plan_batches
from unabridged.encoders.extension import check_most
from unabridged.errors import CorpusError, UsageError

SHORTEST = 16
"""Own tokens of the shortest piece that is cut on purpose; ends of texts may be shorter."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """N sequences, packed: sequence n is ``ids[offsets[n]:offsets[n + 1]]``."""

    ids: Ids  # (T,) int32
    offsets: Rows  # (N + 1,) int64
    lead: int = 1
    """Special tokens in front of each."""
    tail: int = 1
    """Special tokens behind each."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Rows:
        """Tokens of each piece, ``(N,)``."""
        lengths: Rows = np.diff(self.offsets)
        return lengths

    def take(self, rows: Rows) -> Pieces:
        """The pieces ``rows`` in that order."""
        return self._joined([self.ids[self.offsets[row] : self.offsets[row + 1]] for row in rows.tolist()])

    def own(self, row: int) -> Ids:
        """The tokens of piece ``row`` without the special ones."""
        return self.ids[self.offsets[row] + self.lead : self.offsets[row + 1] - self.tail]

    def framed(self, parts: Sequence[Ids]) -> Pieces:
        """``parts``, own tokens each, between the special tokens of these pieces."""
        before, after = self.ids[: self.lead], self.ids[len(self.ids) - self.tail :]
        return self._joined([np.concatenate((before, part, after)) for part in parts])

    def _joined(self, parts: Sequence[Ids]) -> Pieces:
        ends = np.cumsum([0, *map(len, parts)]).astype(np.int64)
        return Pieces(np.concatenate(parts), ends, self.lead, self.tail)

    def padded(self, pad: int) -> tuple[Rows, np.ndarray]:
        """Ids ``(N, L)`` int64 and what of it is real ``(N, L)`` bool, padded to the longest piece."""
        lengths = self.lengths
        real = np.arange(int(lengths.max())) < lengths[:, None]
        ids = np.full(real.shape, pad, dtype=np.int64)
        ids[real] = self.ids
        return ids, real

    def batches(self, cap: int, chance: np.random.Generator) -> list[Rows]:
        """All pieces in batches of up to ``cap`` tokens, alike in length, in an order drawn from ``chance``."""
        order = chance.permutation(len(self))
        planned = plan_batches(self.lengths[order], cap)
        return [order[planned[number]] for number in chance.permutation(len(planned)).tolist()]


def check_draws(batch_tokens: int, seed: int) -> None:
    """:class:`UsageError` unless a batch can hold a token and the seed is one that numpy takes."""
    check_most(batch_tokens=batch_tokens)
    if batch_tokens < 1 or seed < 0:
        raise UsageError(
            f"Training needs a batch of at least 1 token and a seed of at least 0, got batch_tokens={batch_tokens}, "
            f"seed={seed}."
        )


def cut(
    documents: Iterable[Document | Failure], tokenizer: Tokenizer, longest: int, seed: int, shortest: int = SHORTEST
) -> Pieces:
    """Every document's tokens in pieces side by side, each between the special tokens.

    The own tokens of a piece number from ``shortest`` to ``longest`` less the special ones, drawn evenly in log
    length, so that a batch of many short texts is as frequent as one of few long ones.  ``longest`` counts special
    tokens.  :class:`CorpusError` if there is no text at all.
    """
    before, after = tokenizer.specials
    room = longest - len(before) - len(after)
    chance = np.random.default_rng([seed, 0])
    parts: list[Ids] = []
    lengths: list[int] = []
    for document in documents:
        if isinstance(document, Failure):
            continue
        ids = tokenizer.encode([document.source])[0].ids
        start = 0
        while start < len(ids):
            low = min(shortest, room)
            end = min(len(ids), start + int(np.exp(chance.uniform(np.log(low), np.log(room + 1)))))
            parts += (before, ids[start:end], after)
            lengths.append(len(before) + end - start + len(after))
            start = end
    if not lengths:
        raise CorpusError("There is no text to train on: every document of the corpus is empty or unreadable.")
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    return Pieces(np.concatenate(parts), offsets, len(before), len(after))
