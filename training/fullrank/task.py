"""Learning to write whole orders: the words of an answer, and beside them the ids that compete for its first place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from unabridged.errors import UsageError
from unabridged.training.fullrank.examples import Example, collate
from unabridged.training.fullrank.first import first_loss
from unabridged.training.fullrank.losses import importance_loss
from unabridged.training.fullrank.tuned import TunedTask, Tuning

if TYPE_CHECKING:
    import torch


class FullRankTask(TunedTask[Example]):
    """A causal model that learns to write orders; satisfies :class:`~unabridged.training.loop.Task`."""

    def __init__(self, model: Any, examples: Sequence[Example], tuning: Tuning) -> None:
        """As :class:`TunedTask`; :class:`UsageError` where first ids are to be compared and are not one token each."""
        if tuning.first and any(one.first is None for one in examples):
            raise UsageError(
                f"first={tuning.first} compares the ids of a list at one position, and its ids are not one token each. "
                "Use a template with letters (lettered)."
            )
        super().__init__(model, examples, tuning)

    def example_loss(self, example: Example) -> torch.Tensor:
        """The loss of one list, a scalar."""
        device = self.model.device
        tokens, _, targets, ranks = collate([example], 0, device)
        keep = len(example.answer) + 1
        with self.products():
            logits = self.model(input_ids=tokens, use_cache=False, logits_to_keep=keep).logits
        tuning = self._tuning
        loss = importance_loss(
            logits, targets[:, -keep:], ranks[:, -keep:], alpha=tuning.alpha, weighted=tuning.weighted
        )
        if not tuning.first or example.first is None:
            return loss
        return loss + tuning.first * first_loss(logits[0], example.first)
