"""Losses of whole rankings against loops over the published definitions, in values and gradients."""

import math

import pytest

from unabridged.errors import ShapeError, UsageError
from unabridged.training.fullrank.losses import IGNORED, importance, importance_loss, rank_net


def by_loop(logits, targets, ranks, alpha, *, weighted):
    """The definition, a token at a time."""
    import torch

    total, count = torch.zeros((), dtype=logits.dtype), 0
    for b in range(targets.shape[0]):
        for t in range(1, targets.shape[1]):
            target = int(targets[b, t])
            if target == IGNORED:
                continue
            count += 1
            rank = int(ranks[b, t])
            weight = (1 + 1 / math.log2(rank + 1)) if rank > 0 else alpha
            row = logits[b, t - 1]
            nll = torch.log(torch.exp(row - row.max()).sum()) + row.max() - row[target]
            total = total + (weight if weighted else 1.0) * nll
    return total / count


def problem(seed: int, *, vocabulary: int = 13, length: int = 17, rows: int = 3):
    import torch

    made = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, length, vocabulary, generator=made, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, vocabulary, (rows, length), generator=made)
    ranks = torch.randint(0, 8, (rows, length), generator=made)
    for row in range(rows):
        targets[row, : 3 + row] = IGNORED
        targets[row, length - row :] = IGNORED
    return logits, targets, ranks


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("alpha", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_importance_loss_is_the_loop_over_its_definition(seed, alpha, weighted):
    import torch

    logits, targets, ranks = problem(seed)
    mine = importance_loss(logits, targets, ranks, alpha=alpha, weighted=weighted)
    loop = by_loop(logits, targets, ranks, alpha, weighted=weighted)
    assert float(mine.detach()) == pytest.approx(float(loop.detach()), abs=1e-6)
    [one], [other] = (torch.autograd.grad(loss, [logits]) for loss in (mine, loop))
    assert float((one - other).abs().max()) < 1e-6
    assert float(one.abs().max()) > 1e-3


def test_without_weights_it_is_the_mean_cross_entropy_of_the_library():
    import torch

    logits, targets, ranks = problem(7)
    library = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), targets[:, 1:].flatten())
    mine = importance_loss(logits, targets, ranks, weighted=False)
    assert float(mine.detach()) == pytest.approx(float(library.detach()), abs=1e-12)


def test_weights_are_the_published_ones():
    import torch

    found = importance(torch.tensor([1, 2, 3, 10, 100, 0]), 0.25)
    assert found.tolist() == pytest.approx([2.0, 1.631, 1.5, 1.289, 1.150, 0.25], abs=5e-4)


def test_earlier_ranks_weigh_more_and_half_precision_is_widened():
    import torch

    logits, targets, _ = problem(1)
    logits = logits.detach()
    first, late = (importance_loss(logits, targets, torch.full_like(targets, rank)) for rank in (1, 50))
    assert float(first) > float(late) > float(importance_loss(logits, targets, torch.zeros_like(targets), alpha=0.5))
    half = importance_loss(logits.to(torch.bfloat16), targets, torch.ones_like(targets))
    assert half.dtype == torch.float32


def test_losses_of_wrong_shapes_are_refused():
    import torch

    logits, targets, ranks = problem(1)
    with pytest.raises(ShapeError):
        importance_loss(logits, targets[:, 1:], ranks)
    with pytest.raises(ShapeError, match="No token"):
        importance_loss(logits, torch.full_like(targets, IGNORED), ranks)
    with pytest.raises(UsageError, match="alpha"):
        importance_loss(logits, targets, ranks, alpha=1.5)
    with pytest.raises(ShapeError):
        rank_net(torch.zeros(2, 3), torch.zeros(2, 4))


@pytest.mark.parametrize("seed", range(3))
def test_rank_net_is_the_loop_over_its_pairs(seed):
    import torch

    made = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, 6, generator=made, dtype=torch.float64, requires_grad=True)
    ranks = torch.stack([torch.randperm(6, generator=made) + 1 for _ in range(2)])
    terms = []
    for b in range(2):
        for i in range(6):
            for j in range(6):
                if ranks[b, i] < ranks[b, j]:
                    weight = 1 / float(ranks[b, i] + ranks[b, j])
                    terms.append(weight * torch.log1p(torch.exp(scores[b, j] - scores[b, i])))
    loop = torch.stack(terms).mean()
    mine = rank_net(scores, ranks)
    assert float(mine.detach()) == pytest.approx(float(loop.detach()), abs=1e-9)
    [one], [other] = (torch.autograd.grad(loss, [scores]) for loss in (mine, loop))
    assert float((one - other).abs().max()) < 1e-9


def test_a_right_order_costs_less_than_a_wrong_one_and_one_candidate_costs_nothing():
    import torch

    ranks = torch.tensor([[1, 2, 3]])
    assert float(rank_net(torch.tensor([[3.0, 2.0, 1.0]]), ranks)) < float(
        rank_net(torch.tensor([[1.0, 2.0, 3.0]]), ranks)
    )
    alone = torch.zeros(1, 1, requires_grad=True)
    loss = rank_net(alone, torch.ones(1, 1, dtype=torch.int64))
    loss.backward()
    assert float(loss.detach()) == 0
