"""What is made small: the objective of a retriever, with scores as SEA's authors have them and rankings by best blocks.

Letters::

    B questions of a step     C candidates     H width of a vector
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from unabridged.contracts import JSON, Rows
from unabridged.errors import UsageError
from unabridged.training.retriever import Drawing, Objective, RetrieverTask, Tower
from unabridged.training.sea.blocks import BlockVectors
from unabridged.training.sea.shelf import BlockShelf

if TYPE_CHECKING:
    import torch


class SeaTask(RetrieverTask):
    """A :class:`RetrieverTask` over blocks.

    With ``dot`` scores are dot products of vectors of any norm (Hu et al. 2024, arXiv 2208.11271, section 3.5; their
    temperature is 1), else cosines.  The teacher's score of a question and a text is its best block's.
    """

    def __init__(
        self,
        tower: Tower,
        shelf: BlockShelf,
        objective: Objective,
        drawing: Drawing,
        teacher: BlockVectors | None = None,
        *,
        dot: bool = False,
    ) -> None:
        """``teacher`` has the blocks of the same texts, by an encoder of any width.

        :class:`UsageError` for a teacher's vectors: only its scores are learned from.
        """
        if objective.vectors:
            raise UsageError("An aggregator learns a teacher's scores and not its vectors: leave vectors at 0.")
        super().__init__(tower, shelf, objective, drawing, None if teacher is None else teacher.vectors)
        self._blocks = teacher
        self._dot = dot

    @property
    def facts(self) -> dict[str, JSON]:
        """What a run must share with the one that it continues."""
        return {**super().facts, "similarity": "dot" if self._dot else "cosine"}

    def similar(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Scores ``(B, C)`` of vectors ``(B, H)`` and ``(C, H)``."""
        return one @ other.T if self._dot else super().similar(one, other)

    def ranked(self, one: Rows, other: Rows) -> torch.Tensor:
        """The largest dot product of a question with a candidate's blocks, ``(B, C)``."""
        import torch

        if self._blocks is None:
            raise UsageError("There is no teacher.")
        rows, offsets = self._blocks.rows(other)
        asked = np.asarray(self._blocks.vectors[self._blocks.offsets[one]])
        each = asked @ np.asarray(self._blocks.vectors[rows]).T
        return torch.from_numpy(np.maximum.reduceat(each, offsets[:-1], axis=1)).to(self.tower.device)
