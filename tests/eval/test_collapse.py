"""Collapse measures against pairs counted one by one and values worked out by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from unabridged.errors import ShapeError, UsageError
from unabridged.eval.collapse import by_length, high_frequency, mean_pairwise_cosine, total_variance


def test_mean_pairwise_cosine_equals_the_mean_over_pairs():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(17, 5)).astype(np.float32) * rng.uniform(0.1, 9, size=(17, 1)).astype(np.float32)
    pairs = [a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in itertools.combinations(vectors, 2)]
    assert mean_pairwise_cosine(vectors) == pytest.approx(float(np.mean(pairs)), abs=1e-6)


def test_mean_pairwise_cosine_of_known_vectors():
    assert mean_pairwise_cosine(np.array([[1, 0], [0, 2], [3, 0]], dtype=np.float32)) == pytest.approx(1 / 3)
    assert mean_pairwise_cosine(np.array([[1, 0], [0, 0]], dtype=np.float32)) == 0.0
    assert mean_pairwise_cosine(np.ones((4, 3), dtype=np.float32)) == pytest.approx(1.0)


def test_total_variance_is_the_mean_squared_distance_from_the_mean():
    assert total_variance(np.array([[0, 0], [2, 0], [0, 2], [2, 2]], dtype=np.float32)) == pytest.approx(2.0)
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(50, 7)).astype(np.float32)
    assert total_variance(vectors) == pytest.approx(float(np.trace(np.cov(vectors.T, bias=True))), rel=1e-6)


def test_high_frequency_is_what_is_left_without_the_mean_over_tokens():
    assert high_frequency(np.ones((5, 3), dtype=np.float32)) == 0.0
    assert high_frequency(np.array([[1.0, 0.0], [-1.0, 0.0]])) == 1.0
    states = np.random.default_rng(2).normal(size=(6, 4)) + 0.5
    centre = np.eye(6) - np.ones((6, 6)) / 6
    assert high_frequency(states) == pytest.approx(np.linalg.norm(centre @ states) / np.linalg.norm(states))
    assert high_frequency(np.zeros((3, 2))) == 0.0


def test_attention_lowers_the_high_frequency_and_a_lower_temperature_keeps_more_of_it():
    states = np.random.default_rng(3).normal(size=(40, 8)) + 0.3
    scores = np.random.default_rng(4).normal(size=(40, 40))

    def attended(temperature: float) -> float:
        weights = np.exp(scores / temperature)
        return high_frequency(weights / weights.sum(axis=1, keepdims=True) @ states)

    assert attended(100.0) < 0.2
    assert attended(100.0) < attended(1.0) < attended(0.5) < high_frequency(states)


def test_bins_are_half_open_and_the_last_has_no_end():
    vectors = np.array([[1, 0], [1, 0], [0, 1], [1, 0], [0, 1]], dtype=np.float32)
    bins = by_length(vectors, np.array([0, 9, 10, 10, 10_000]), [0, 10, 100])
    assert [(b.first, b.end, b.documents) for b in bins] == [(0, 10, 2), (10, 100, 2), (100, None, 1)]
    assert [b.cosine for b in bins] == [pytest.approx(1.0), pytest.approx(0.0), None]
    assert [b.variance for b in bins] == [pytest.approx(0.0), pytest.approx(0.5), None]


@pytest.mark.parametrize("edges", [[], [10, 10], [-1, 5], [5, 1]])
def test_bins_that_do_not_rise_are_refused(edges):
    with pytest.raises(UsageError, match="rising"):
        by_length(np.ones((2, 2), dtype=np.float32), np.array([1, 2]), edges)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="N >= 2"):
        mean_pairwise_cosine(np.ones((1, 3), dtype=np.float32))
    with pytest.raises(ShapeError, match="2 vectors have 3 lengths"):
        by_length(np.ones((2, 2), dtype=np.float32), np.array([1, 2, 3]), [0])
    with pytest.raises(ShapeError, match="L, D"):
        high_frequency(np.ones(3))
