"""Memory for what a layer makes between its matmuls: once per pass, and not once per layer.

Without it a pass allocates and frees seven tensors per layer, among states that stay; the heap tears, and the peak of a
long text in blocks grows with the number of blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(slots=True)
class Scratch:
    """Tensors by name; one name has one shape in every layer."""

    reused: bool
    """Not in training, which remembers what every layer made."""
    _made: dict[str, torch.Tensor] = field(default_factory=dict)

    def take(self, name: str, like: torch.Tensor, columns: int) -> torch.Tensor | None:
        """``(rows of like, columns)`` in its type and on its device, holding anything; None if nothing is reused."""
        if not self.reused:
            return None
        if name not in self._made:
            self._made[name] = like.new_empty(len(like), columns)
        return self._made[name]
