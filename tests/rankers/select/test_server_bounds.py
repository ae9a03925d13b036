"""Bounds of an entropy against distributions that are known whole."""

import math

import numpy as np
import pytest

from unabridged.errors import UsageError
from unabridged.rankers.select.server_bounds import entropy_bounds


def peaked(vocabulary, power, seed=0):
    weights = np.random.default_rng(seed).random(vocabulary) ** power
    return np.sort(weights / weights.sum())[::-1]


@pytest.mark.parametrize("power", [0, 1, 8, 60])
@pytest.mark.parametrize("known", [1, 5, 20])
@pytest.mark.parametrize("vocabulary", [50, 3000])
def test_the_entropy_lies_between_its_bounds(power, known, vocabulary):
    p = peaked(vocabulary, power)
    whole = float(-(p[p > 0] * np.log(p[p > 0])).sum())
    low, high = entropy_bounds(np.log(np.maximum(p[:known], 1e-300)), vocabulary)
    assert low - 1e-9 <= whole <= high + 1e-9
    larger = entropy_bounds(np.log(np.maximum(p[:known], 1e-300)), 10 * vocabulary)
    assert larger[0] == low
    assert larger[1] >= high


def test_an_even_tail_reaches_the_upper_bound_and_a_full_one_the_lower():
    tail = np.full(980, 0.3 / 980)
    p = np.concatenate([np.full(20, 0.7 / 20), tail])
    assert entropy_bounds(np.log(p[:20]), 1000)[1] == pytest.approx(float(-(p * np.log(p)).sum()))
    p = np.full(8, 1 / 8)
    assert entropy_bounds(np.log(p[:5]), 1000)[0] == pytest.approx(math.log(8))


def test_sums_above_one_by_rounding_and_tokens_without_probability():
    low, high = entropy_bounds([math.log(0.6) + 1e-6, math.log(0.4) + 1e-6], 100)
    assert low == high == pytest.approx(-(0.6 * math.log(0.6) + 0.4 * math.log(0.4)), abs=1e-5)
    assert entropy_bounds([0.0, -9999.0, -math.inf], 100) == (0.0, 0.0)
    assert entropy_bounds([1e-7], 100) == (0.0, 0.0)
    for bad in ([], [math.nan], [math.inf]):
        with pytest.raises(UsageError):
            entropy_bounds(bad)
