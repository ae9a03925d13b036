"""The position at which an answer names its first id, and the tokens that compete there (FIRST, arXiv 2406.15657).

Of ``[B] > [A]`` that is behind the opening bracket, where the letters are one token each: their logits order a whole
list at once, and are learned as such, beside the words of the answer.

Letters::

    N candidates     V vocabulary
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from unabridged.rankers.listwise.labels import Labels
from unabridged.training.fullrank.losses import rank_net

if TYPE_CHECKING:
    import torch


class Encodes(Protocol):
    """The part of a vocabulary that is needed."""

    def encode(self, text: str) -> list[int]:
        """Tokens of ``text`` as it stands inside an answer."""
        ...


@dataclass(frozen=True, slots=True)
class First:
    """Where the first id is chosen, and what of."""

    at: int
    """Place of the first id's token in the answer."""
    ids: tuple[int, ...]  # (N,)
    """The token of each candidate's id, in the order in which the candidates are shown."""
    ranks: tuple[int, ...]  # (N,)
    """The rank of each candidate from 1, the best."""


def first_of(vocabulary: Encodes, labels: Labels, answer: Sequence[int], order: Sequence[int]) -> First | None:
    """What competes for the first place of ``answer``; ``order`` is complete, places from 0.

    None where ids are not one token each, or are not written alone: such lists can be learned as words only.
    """
    written = [vocabulary.encode(labels.core(place)) for place in range(len(order))]
    before = vocabulary.encode("[") if labels.brackets else []
    if not order or any(len(one) != 1 for one in written):
        return None
    ids = tuple(one[0] for one in written)
    at = len(before)
    if len(set(ids)) != len(ids) or list(answer[: at + 1]) != [*before, ids[order[0]]]:
        return None
    ranks = [0] * len(order)
    for rank, place in enumerate(order, start=1):
        ranks[place] = rank
    return First(at, ids, tuple(ranks))


def first_loss(logits: torch.Tensor, first: First) -> torch.Tensor:
    """:func:`~unabridged.training.fullrank.losses.rank_net` over the ids' logits, a scalar.

    ``logits`` (L + 1, V) of one list: row i predicts token i of the answer.
    """
    import torch

    scores = logits[first.at, torch.tensor(first.ids, device=logits.device)].to(torch.float32)
    return rank_net(scores[None], torch.tensor([first.ranks], device=logits.device))
