"""The published comparison of cut with whole functions knows the answers by their length; the honest one does not."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from unabridged.encoders.sea.aggregators import Aggregator
from unabridged.errors import ShapeError
from unabridged.eval.code_protocols import (
    Blocks,
    displaced,
    expected_reciprocal_rank,
    hits_at,
    honest,
    null,
    published,
    reciprocal_ranks,
    relevant_to_any,
)

WIDTH = 16


def as_published(blocks, offsets):
    """Half the attended sum and half the sum of the mean that was broadcast over the rows, attention by w = 0."""
    out = np.empty((len(offsets) - 1, blocks.shape[1]), np.float32)
    for b, (start, end) in enumerate(itertools.pairwise(offsets)):
        own = blocks[start:end]
        attended = own.mean(axis=0)  # equal scores: equal weights
        out[b] = 0.5 * attended + 0.5 * len(own) * own.mean(axis=0)
    return out


def mean(blocks, offsets):
    return np.stack([blocks[start:end].mean(axis=0) for start, end in itertools.pairwise(offsets)])


def unit(rng, *shape):
    """Vectors of norm 1 that all look a little in one direction, as those of encoders do."""
    found = rng.normal(size=shape) + 0.5
    return (found / np.linalg.norm(found, axis=-1, keepdims=True)).astype(np.float32)


def pool(candidates=400, queries=120, signal=0.0, seed=0):
    """Candidates of 1 to 6 blocks, each of the first ones relevant to one query, which resembles it by ``signal``."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 7, candidates)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    blocks = unit(rng, offsets[-1], WIDTH)
    whole = blocks[offsets[:-1]]
    asked = signal * mean(blocks, offsets)[:queries] + unit(rng, queries, WIDTH)
    labels = [np.array([n]) for n in range(queries)]
    return Blocks(blocks, offsets, whole), asked.astype(np.float32), labels


def test_equal_blocks_have_the_norms_of_the_hand_computation():
    lengths = [1, 2, 3, 7]
    block = np.full((sum(lengths), 4), 0.5, np.float32)
    offsets = np.cumsum([0, *lengths])
    assert np.linalg.norm(as_published(block, offsets), axis=1) == pytest.approx([1.0, 1.5, 2.0, 4.0])
    zeros = {"weight": np.zeros(4, np.float32), "bias": np.zeros(1, np.float32)}
    assert np.linalg.norm(Aggregator("sea_legacy", zeros)(block, offsets), axis=1) == pytest.approx([1, 1.5, 2, 4])
    true = Aggregator("attention_plus_mean", zeros)(block, offsets)
    assert np.linalg.norm(true, axis=1) == pytest.approx([1.0] * 4)


def test_the_published_protocol_puts_the_whole_twice_before_the_blocks_of_relevant_candidates_only():
    blocks = np.arange(12, dtype=np.float32).reshape(6, 2)
    candidates = Blocks(blocks, np.array([0, 3, 4, 6]), blocks[[0, 3, 4]] + 100)
    seen = []

    def spy(rows, offsets):
        seen.append((rows.copy(), offsets.copy()))
        return mean(rows, offsets)

    published(candidates, np.ones((2, 2), np.float32), [np.array([0]), np.array([1])], spy)
    (rows, offsets) = seen[0]
    assert offsets.tolist() == [0, 5, 7, 8], "cut: two wholes and three blocks; one block: two wholes; other: one whole"
    assert rows[:2].tolist() == [[100, 101]] * 2
    assert rows[2:5].tolist() == blocks[:3].tolist()
    assert rows[5:7].tolist() == [[106, 107]] * 2
    assert rows[7].tolist() == [108, 109]


def test_relevant_vectors_are_longer_as_published_and_equally_long_when_honest():
    candidates, asked, labels = pool()
    long, short = published(candidates, asked, labels, as_published).mean_norms(labels)
    assert short == pytest.approx(1.0, abs=1e-6), "a distractor is its whole function: one vector of norm 1"
    assert long > 1.4
    assert honest(candidates, asked, labels, as_published).mean_norms(labels) == pytest.approx((1.0, 1.0))


def test_honest_scores_are_cosines_and_do_not_depend_on_the_labels():
    candidates, asked, labels = pool()
    found = honest(candidates, asked, labels, mean)
    vectors = mean(candidates.blocks, candidates.offsets)
    for q, b in ((0, 0), (5, 17), (119, 399)):
        expected = asked[q] @ vectors[b] / np.linalg.norm(asked[q]) / np.linalg.norm(vectors[b])
        assert found.scores[q, b] == pytest.approx(expected, abs=1e-6)
    others = [np.array([399 - n]) for n in range(120)]
    assert np.array_equal(found.scores, honest(candidates, asked, others, mean).scores)
    assert not np.array_equal(
        published(candidates, asked, labels, mean).scores, published(candidates, asked, others, mean).scores
    )


def test_with_permuted_labels_honest_ranks_are_chance_and_published_ones_are_not():
    candidates, asked, labels = pool(signal=2.0)
    found = {
        protocol: [null(protocol, candidates, asked, labels, as_published, seed=seed) for seed in range(12)]
        for protocol in (honest, published)
    }
    level = found[honest][0].chance
    assert level == pytest.approx(sum(1 / rank for rank in range(1, 400)) / 399)
    assert np.mean([one.found for one in found[honest]]) == pytest.approx(level, rel=0.15)
    assert np.mean([one.found for one in found[published]]) > 2 * level
    straight = reciprocal_ranks(honest(candidates, asked, labels, mean).scores, labels).mean()
    assert straight > 10 * level, "the pool has something to find"


def test_a_null_test_leaves_out_what_has_nothing_to_change_places_with():
    blocks = unit(np.random.default_rng(1), 7, WIDTH)
    candidates = Blocks(blocks, np.array([0, 1, 2, 4, 7]), blocks[[0, 1, 2, 4]])
    labels = [np.array([0]), np.array([2]), np.array([0, 1])]
    asked = unit(np.random.default_rng(2), 3, WIDTH)
    seen = []

    def spy(candidates, queries, labels, aggregate):
        seen.append((queries, labels))
        return honest(candidates, queries, labels, aggregate)

    null(spy, candidates, asked, labels, mean, seed=0)
    [(queries, swapped)] = seen
    assert np.array_equal(queries, asked[:1]), "one answer is alone in its size, two would answer for each other"
    assert [one.tolist() for one in swapped] == [[1]]
    with pytest.raises(ShapeError, match="null test"):
        null(honest, candidates, asked[1:2], labels[1:2], mean, seed=0)


def test_displacing_keeps_the_number_of_blocks_and_moves_every_candidate():
    candidates, _, _ = pool()
    places = displaced(candidates.sizes, 3)
    assert np.array_equal(candidates.sizes[places], candidates.sizes)
    assert np.array_equal(np.sort(places), np.arange(400)), "no two candidates become one"
    assert not np.any(places == np.arange(400))
    assert np.array_equal(places, displaced(candidates.sizes, 3))
    assert not np.array_equal(places, displaced(candidates.sizes, 4))
    assert displaced(np.array([5, 2, 7]), 0).tolist() == [0, 1, 2]


@pytest.mark.parametrize(("relevant", "candidates"), [(1, 1), (1, 6), (2, 6), (3, 6), (6, 6)])
def test_chance_is_the_mean_over_all_orders(relevant, candidates):
    orders = list(itertools.permutations(range(candidates)))
    total = sum(Fraction(1, 1 + min(order.index(one) for one in range(relevant))) for order in orders)
    expected = float(total / len(orders))
    assert expected_reciprocal_rank(relevant, candidates) == pytest.approx(expected, abs=1e-12)


def test_ties_count_against_the_relevant_candidate():
    scores = np.array([[1.0, 1.0, 0.5], [0.2, 0.9, 0.1], [0.3, 0.3, 0.3]], np.float32)
    labels = [np.array([0]), np.array([0, 1]), np.array([2])]
    assert reciprocal_ranks(scores, labels).tolist() == [1 / 2, 1.0, 1 / 3]
    assert hits_at(scores, labels, 1).tolist() == [0, 1, 0]
    assert hits_at(scores, labels, 2).tolist() == [1, 1, 0]
    assert relevant_to_any(labels, 4).tolist() == [True, True, True, False]


def test_zero_vectors_have_no_score_instead_of_not_being_numbers():
    blocks = np.zeros((2, 3), np.float32)
    candidates = Blocks(blocks, np.array([0, 1, 2]), blocks)
    found = honest(candidates, np.ones((1, 3), np.float32), [np.array([0])], mean)
    assert np.array_equal(found.scores, np.zeros((1, 2)))


@pytest.mark.parametrize(
    ("offsets", "whole"),
    [([0, 2, 2, 4], (3, 3)), ([0, 2, 4], (3, 3)), ([0, 1, 2, 3], (3, 3)), ([0, 1, 2, 4], (3, 2))],
)
def test_blocks_that_do_not_belong_to_the_candidates_are_refused(offsets, whole):
    with pytest.raises(ShapeError, match="at least one block"):
        Blocks(np.zeros((4, 3), np.float32), np.array(offsets), np.zeros(whole, np.float32))
