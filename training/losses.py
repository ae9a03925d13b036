"""What is made small in training: distances between vectors, and between rankings.

Letters::

    B texts of a batch, or queries     C candidates     D width of a student's vector     E of a teacher's
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
    return contrast(cosines(asked, found), torch.arange(len(asked), device=asked.device), temperature)


def cosines(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """``(B, C)``: the cosine of every row of ``(B, D)`` with every row of ``(C, D)``."""
    import torch

    unit = torch.nn.functional.normalize
    return unit(one, dim=-1) @ unit(other, dim=-1).T


def contrast(
    scores: torch.Tensor, positives: torch.Tensor, temperature: float, left_out: torch.Tensor | None = None
) -> torch.Tensor:
    """InfoNCE over any candidates: the mean of ``-log(e^{s(b,p)/t} / sum_c e^{s(b,c)/t})``.

    ``scores`` ``(B, C)``; ``positives`` ``(B,)`` int64 is the column p of each row; columns that are true in
    ``left_out`` ``(B, C)`` (other right answers, the query's own text) are no candidates.
    """
    import torch

    return torch.nn.functional.cross_entropy(_open(scores, left_out) / temperature, positives)


def mean_square(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """The mean over rows of the squared distance of unit vectors, ``|s/|s| - t/|t||^2``: twice the cosine distance."""
    import torch

    _check(student, teacher)
    unit = torch.nn.functional.normalize
    return (unit(student, dim=-1) - unit(teacher, dim=-1)).square().sum(-1).mean()


def score_divergence(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float, left_out: torch.Tensor | None = None
) -> torch.Tensor:
    """The mean over rows of ``KL(softmax(teacher/t) || softmax(student/t))``: how unlike the teacher it ranks.

    Both are scores ``(B, C)`` of the same candidates; columns that are true in ``left_out`` are none.  0 for equal
    rankings (margins included); after Hinton et al. 2015 (arXiv 1503.02531), as bi-encoders are taught from rankers.
    """
    import torch

    if student.shape != teacher.shape or student.ndim != 2:
        raise ShapeError(f"Scores must be two (B, C), got {tuple(student.shape)} and {tuple(teacher.shape)}.")
    mine, other = (torch.log_softmax(_open(scores, left_out) / temperature, dim=-1) for scores in (student, teacher))
    terms = other.exp() * (other - mine)
    if left_out is not None:
        terms = terms.masked_fill(left_out, 0.0)  # 0 * (inf - inf) there
    return terms.sum(-1).mean()


def orthogonal_projection(scores: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The mean of ``(1 - cos)^2`` over right answers and of ``cos^2`` over wrong ones.

    ``scores`` are cosines of any shape, ``right`` says of each whether it is of a right answer.  No pair needs another
    one, so a batch of one learns too: long documents fit (Saad-Falcon et al. 2024, arXiv 2402.07440, section 3.2:
    orthogonal projection loss, M2-BERT).
    """
    return (scores - right.to(scores.dtype)).square().mean()


def _open(scores: torch.Tensor, left_out: torch.Tensor | None) -> torch.Tensor:
    return scores if left_out is None else scores.masked_fill(left_out, float("-inf"))


def _check(student: torch.Tensor, teacher: torch.Tensor) -> None:
    if student.shape != teacher.shape or student.ndim != 2:
        raise ShapeError(f"Vectors must be two (B, D), got {tuple(student.shape)} and {tuple(teacher.shape)}.")
