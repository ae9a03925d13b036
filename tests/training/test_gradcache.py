"""Gradients in chunks are those of one pass, and hold one chunk's graph at a time."""

import numpy as np
import pytest
import torch

from unabridged.errors import UsageError
from unabridged.training import losses
from unabridged.training.gradcache import embed_chunks, plan_chunks


def test_chunks_hold_every_text_once_within_the_cap_and_a_longer_one_alone():
    lengths = np.array([5, 1, 9, 3, 3, 2, 30, 1])
    for cap in (1, 4, 9, 10, 100):
        chunks = plan_chunks(lengths, cap)
        assert sorted(np.concatenate(chunks).tolist()) == list(range(8))
        assert all(lengths[chunk].sum() <= cap or len(chunk) == 1 for chunk in chunks)
        assert len(chunks) <= 8
    assert len(plan_chunks(lengths, 100)) == 1
    with pytest.raises(UsageError, match="at least 1 token"):
        plan_chunks(lengths, 0)


@pytest.mark.parametrize("cap", [1, 7, 20])
def test_cached_gradients_equal_those_of_a_single_pass(cap):
    draw = torch.Generator().manual_seed(0)
    weights = [torch.randn(6, 8, generator=draw), torch.randn(8, 4, generator=draw)]
    inputs = torch.randn(10, 6, generator=draw)
    lengths = np.arange(10) % 4 + 1

    def gradients(chunks, cached):
        own = [weight.clone().requires_grad_() for weight in weights]

        def embed(rows):
            return torch.tanh(inputs[torch.from_numpy(rows)] @ own[0]) @ own[1]

        vectors = embed_chunks(embed, chunks, cached=cached)
        loss = losses.info_nce(vectors[:5], vectors[5:])
        loss.backward()
        return vectors.detach(), loss.item(), [weight.grad for weight in own]

    whole = gradients([np.arange(10)], cached=False)
    for cached in (False, True):
        found = gradients(plan_chunks(lengths, cap), cached)
        torch.testing.assert_close(found[0], whole[0], rtol=0, atol=1e-6)
        assert found[1] == pytest.approx(whole[1], abs=1e-6)
        for mine, other in zip(found[2], whole[2], strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-5)


def test_only_one_chunk_is_remembered_at_a_time():
    alive = [0, 0]

    class Counted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, gradient):
            alive[0] -= 1
            return gradient * 2

    weight = torch.ones(3, requires_grad=True)

    def embed(rows):
        if torch.is_grad_enabled():
            alive[0] += 1
            alive[1] = max(alive)
        return Counted.apply(weight)[None].repeat(len(rows), 1)

    for cached, most in ((True, 1), (False, 4)):
        alive[:] = [0, 0]
        embed_chunks(embed, [np.array([n]) for n in range(4)], cached=cached).sum().backward()
        assert alive == [0, most]
