"""NaN and infinity are found where they begin, and named: the layer and the sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from unabridged.contracts import Rows
from unabridged.errors import ShapeError

if TYPE_CHECKING:
    import torch


class NonFinite(ShapeError):
    """Hidden states or carried states with NaN or infinite values."""

    def __init__(self, layer: int, sequence: int) -> None:
        super().__init__(
            f"Layer {layer} gives NaN or infinite values for sequence {sequence} of this batch, expected finite ones. "
            "The model's weights may be damaged, or the precision too low: try float32."
        )
        self.layer = layer
        """From 0; the number of layers for the last normalisation."""
        self.sequence = sequence
        """From 0, the first one that is not finite."""


@dataclass(slots=True)
class Watch:
    """Sums of every layer, which NaN and infinity go through: on a GPU nothing waits for them before the end."""

    offsets: Rows
    sums: list[torch.Tensor] = field(default_factory=list)

    def saw(self, x: torch.Tensor, state: torch.Tensor) -> None:
        """A layer's output ``(T, H)`` and its states ``(B, ...)``."""
        self.sums.append(x.detach().sum() + state.detach().sum())

    def check(self, hidden: torch.Tensor, states: Sequence[torch.Tensor]) -> None:
        """Raises :class:`NonFinite`; sums that overflow over finite values are no reason."""
        import torch

        sums = torch.stack([*self.sums, hidden.detach().sum()])
        suspects = torch.nonzero(~torch.isfinite(sums)).flatten().tolist()
        if not suspects:
            return
        rows = ~torch.isfinite(hidden.detach()).all(1).cpu().numpy()
        per_state = [~torch.isfinite(state.detach()).flatten(1).all(1).cpu().numpy() for state in states]
        bad = np.logical_or.reduce(per_state)
        bad[np.searchsorted(self.offsets, np.flatnonzero(rows), side="right") - 1] = True
        if bad.any():
            raise NonFinite(int(suspects[0]), int(np.flatnonzero(bad)[0]))
