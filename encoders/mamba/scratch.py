"""Memory for what a layer makes between its matmuls: once for a text in blocks, and not once per layer and block.

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
    """Tensors by name; one name has one width in every layer.  For one thread."""

    reused: bool
    """Not in training, which remembers what every layer made."""
    _made: dict[str, torch.Tensor] = field(default_factory=dict)

    def take(self, name: str, like: torch.Tensor, columns: int, kind: torch.dtype | None = None) -> torch.Tensor | None:
        """``(rows of like, columns)`` of its type or of ``kind``, holding anything; None if nothing is reused."""
        if not self.reused:
            return None
        made = self._made.get(name)
        if made is None or len(made) < len(like) or made.shape[1] != columns:
            made = self._made[name] = like.new_empty(len(like), columns, dtype=kind or like.dtype)
        return made[: len(like)]
