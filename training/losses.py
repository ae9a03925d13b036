"""What is made small in training: distances between vectors.

Letters::

    B texts of a batch     D width of a vector
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unabridged.errors import ShapeError

if TYPE_CHECKING:
    import torch

TEMPERATURE = 0.05
"""Of InfoNCE over cosines, where nothing else is said."""


def cosine_distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """The mean of ``1 - cos`` over rows of two ``(B, D)``; from 0 to 2, lower is nearer."""
    import torch

    _check(student, teacher)
    return (1.0 - torch.nn.functional.cosine_similarity(student, teacher, dim=-1)).mean()


def info_nce(asked: torch.Tensor, found: torch.Tensor, temperature: float = TEMPERATURE) -> torch.Tensor:
    """The mean of ``-log(e^{s(b,b)/t} / sum_c e^{s(b,c)/t})``, s(b,c) the cosine of ``asked[b]`` and ``found[c]``.

    Row b of the other is the positive, the other rows are the negatives (van den Oord et al. 2018, arXiv 1807.03748,
    equation 4); 0 for a batch of one.
    """
    import torch

    _check(asked, found)
    unit = torch.nn.functional.normalize
    scores = unit(asked, dim=-1) @ unit(found, dim=-1).T / temperature
    return torch.nn.functional.cross_entropy(scores, torch.arange(len(scores), device=scores.device))


def _check(student: torch.Tensor, teacher: torch.Tensor) -> None:
    if student.shape != teacher.shape or student.ndim != 2:
        raise ShapeError(f"Vectors must be two (B, D), got {tuple(student.shape)} and {tuple(teacher.shape)}.")
