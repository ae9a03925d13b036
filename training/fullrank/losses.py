"""What is made small when a model learns to write a whole ranking.

Letters::

    B examples     T tokens of prompt and label     V vocabulary     N candidates
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unabridged.errors import ShapeError, UsageError

if TYPE_CHECKING:
    import torch

IGNORED = -100
"""A target that is not learned: prompt and padding."""


def importance(ranks: torch.Tensor, alpha: float = 1.0) -> torch.Tensor:
    """The weight of each token: ``1 + 1 / log2(p + 1)`` in the id at rank p = 1, 2, ...; ``alpha`` for p = 0.

    Any shape, int64 to float32: 2 for the first id, 1.63 for the second, 1.15 for the hundredth (arXiv 2412.14574,
    equation 4).
    """
    import torch

    if not 0 <= alpha <= 1:
        raise UsageError(f"alpha={alpha} weighs separators against ids; it lies between 0 and 1.")
    weights = 1.0 + 1.0 / torch.log2(ranks.clamp(min=1).to(torch.float32) + 1.0)
    return torch.where(ranks > 0, weights, torch.full_like(weights, alpha))


def importance_loss(
    logits: torch.Tensor, targets: torch.Tensor, ranks: torch.Tensor, *, alpha: float = 1.0, weighted: bool = True
) -> torch.Tensor:
    """``sum of w_i * -log P(y_i | before) / number of tokens learned``: a scalar, lower is better.

    ``logits`` (B, T, V); ``targets`` (B, T) int64 with :data:`IGNORED` where nothing is learned, not shifted: position
    t is predicted by the logits at t - 1; ``ranks`` (B, T) int64, the rank of the id that a target token belongs to, 0
    for separators and the end.  The sum is divided by the number of tokens and not by that of their weights, as in the
    code of the paper.  ``weighted=False``: the plain language model loss.  Computed in float32 or wider.
    """
    import torch

    if logits.ndim != 3 or targets.shape != logits.shape[:2] or ranks.shape != targets.shape:
        raise ShapeError(
            f"Logits (B, T, V), targets and ranks (B, T) are needed, got {tuple(logits.shape)}, {tuple(targets.shape)} "
            f"and {tuple(ranks.shape)}."
        )
    after, learned = targets[:, 1:], targets[:, 1:] != IGNORED
    if not bool(learned.any()):
        raise ShapeError("No token is learned: every target is ignored.")
    # Only the rows that are learned become wide: a prompt is long and a vocabulary large.
    rows = logits[:, :-1][learned]
    rows = rows.to(torch.float32) if rows.dtype in (torch.float16, torch.bfloat16) else rows
    losses = torch.nn.functional.cross_entropy(rows, after[learned], reduction="none")
    if weighted:
        losses = losses * importance(ranks[:, 1:][learned], alpha).to(losses.dtype)
    return losses.sum() / learned.sum()


def rank_net(scores: torch.Tensor, ranks: torch.Tensor) -> torch.Tensor:
    """The mean over pairs with ``r_i < r_j`` of ``log(1 + e^(s_j - s_i)) / (r_i + r_j)``; lower is better.

    ``scores`` (B, N), higher is better; ``ranks`` (B, N) int64 from 1, the best.  RankNet (Burges et al. 2005) with the
    weights of FIRST (arXiv 2406.15657, section 3.2).  0 for lists of one.
    """
    import torch

    if scores.ndim != 2 or ranks.shape != scores.shape:
        raise ShapeError(f"Scores and ranks must be two (B, N), got {tuple(scores.shape)} and {tuple(ranks.shape)}.")
    better = ranks.unsqueeze(2) < ranks.unsqueeze(1)
    if not bool(better.any()):
        return scores.sum() * 0.0
    margins = scores.unsqueeze(2) - scores.unsqueeze(1)
    weights = 1.0 / (ranks.unsqueeze(2) + ranks.unsqueeze(1)).to(scores.dtype)
    return (torch.nn.functional.softplus(-margins) * weights)[better].mean()
