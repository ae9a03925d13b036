"""NaN and infinity are found where they begin, and named: the layer and the sequence."""

from __future__ import annotations

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


def is_finite(hidden: torch.Tensor) -> bool:
    """Whether all of ``(T, H)`` is; by its sum first, which costs nothing next to a matmul.

    It says the same of the states of all sequences with a token: what is in a state goes into an output, and NaN and
    infinity stay in the residual to the end.
    """
    import torch

    return bool(torch.isfinite(hidden.sum())) or bool(torch.isfinite(hidden).all())


def first_row(hidden: torch.Tensor) -> int | None:
    """The first row of ``(T, H)`` that is not finite; None if all are."""
    import torch

    rows = torch.nonzero(~torch.isfinite(hidden).all(1))
    return int(rows[0]) if len(rows) else None


def sequence_of(row: int, offsets: Rows) -> int:
    """The sequence that the token ``row`` belongs to."""
    return int(np.searchsorted(offsets, row, side="right") - 1)
