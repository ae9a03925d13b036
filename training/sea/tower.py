"""An aggregator over blocks that do not change: what the quick training teaches, in minutes on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from unabridged.contracts import Floats, Rows
from unabridged.encoders.sea.aggregators import Aggregator
from unabridged.training.sea.formulas import aggregate

if TYPE_CHECKING:
    import torch


class AggregatorTower:
    """Satisfies :class:`unabridged.training.retriever.Tower`; its tokens are numbers of blocks."""

    def __init__(self, start: Aggregator, vectors: Floats) -> None:
        """``vectors`` are those of all blocks, ``(S, H)``; a question is a text of one block."""
        import torch

        self.kind = start.kind
        self._vectors = vectors
        self.parameters: Mapping[str, torch.Tensor] = {
            name: torch.from_numpy(value.copy()).requires_grad_() for name, value in start.parameters.items()
        }

    @property
    def width(self) -> int:
        """H."""
        return int(self._vectors.shape[1])

    @property
    def device(self) -> str:
        """Always ``cpu``: a few thousand numbers are moved there and back in more time than they take."""
        return "cpu"

    @property
    def undecayed(self) -> frozenset[str]:
        """The bias, which softmax does not see."""
        return frozenset({"bias"} & set(self.parameters))

    def embed(self, ids: torch.Tensor, offsets: Rows) -> torch.Tensor:
        """``(B, H)`` of the blocks ``ids`` ``(S,)`` with offsets ``(B + 1,)``."""
        import torch

        blocks = torch.from_numpy(np.ascontiguousarray(self._vectors[ids.numpy()]))
        return aggregate(self.kind, self.parameters, blocks, offsets)

    def aggregator(self) -> Aggregator:
        """What was learned so far."""
        return Aggregator(self.kind, {name: value.detach().numpy().copy() for name, value in self.parameters.items()})
