"""What is carried from one block of a text to the next, for B sequences and every layer.

Letters::

    B sequences   C convolved channels   K width of the convolution
    I inner channels   N state per channel   J heads   P channels of a head
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class State:
    """Immutable by convention: the model returns new tensors and writes into none of these."""

    conv: tuple[torch.Tensor, ...]
    """Per layer ``(B, C, K - 1)``, in the precision of the activations: the last inputs of the convolution."""
    scan: tuple[torch.Tensor, ...]
    """Per layer float32, ``(B, I, N)`` in variant 1 and ``(B, J, P, N)`` in variant 2."""

    def __len__(self) -> int:
        """Sequences."""
        return int(self.scan[0].shape[0])

    @property
    def nbytes(self) -> int:
        """Of all layers and sequences."""
        return sum(tensor.numel() * tensor.element_size() for tensor in (*self.conv, *self.scan))

    def take(self, rows: Sequence[int]) -> State:
        """The states of the sequences ``rows``, copied; a row may stand twice."""
        chosen = list(rows)
        return State(tuple(tensor[chosen] for tensor in self.conv), tuple(tensor[chosen] for tensor in self.scan))

    @staticmethod
    def join(parts: Sequence[State]) -> State:
        """The sequences of all ``parts`` one after another, copied; at least one part."""
        import torch

        return State(
            tuple(torch.cat(tensors) for tensors in zip(*(part.conv for part in parts), strict=True)),
            tuple(torch.cat(tensors) for tensors in zip(*(part.scan for part in parts), strict=True)),
        )
