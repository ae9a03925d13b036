"""Pooling against loops over tokens, and the vectors of documents against hand values."""

import itertools

import numpy as np
import pytest

from unabridged.encoders.pooling import POOLING_MODES, finish, mean_windows, pool

torch = pytest.importorskip("torch")

NAIVE = {
    "cls": lambda x: x[0],
    "landmark": lambda x: x.sum(0) / len(x),
    "last": lambda x: x[-1],
    "max": lambda x: x.max(0),
    "mean": lambda x: x.sum(0) / len(x),
    "mean_sqrt_len": lambda x: x.sum(0) / np.sqrt(len(x)),
    "weighted_mean": lambda x: sum((i + 1) * row for i, row in enumerate(x)) / sum(range(1, len(x) + 1)),
}


def packed(lengths, width=5):
    rng = np.random.default_rng(1)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    # All negative: a maximum over padding zeros would show.
    return -1 - rng.random((int(offsets[-1]), width), dtype=np.float32), offsets


def test_every_mode_has_a_naive_twin_here():
    assert set(NAIVE) == set(POOLING_MODES)


@pytest.mark.parametrize("lengths", [[1], [1, 1, 1], [63, 1, 7], [60, 60]], ids=str)
@pytest.mark.parametrize("mode", NAIVE)
def test_pooling_equals_a_loop_over_tokens(mode, lengths):
    hidden, offsets = packed(lengths)
    found = pool(torch.from_numpy(hidden), offsets, (mode,)).numpy()
    wanted = [NAIVE[mode](hidden[a:b]) for a, b in itertools.pairwise(offsets)]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_several_modes_stand_side_by_side():
    hidden, offsets = packed([3, 4])
    both = pool(torch.from_numpy(hidden), offsets, ("cls", "max")).numpy()
    np.testing.assert_array_equal(both[1], np.concatenate([hidden[3], hidden[3:].max(0)]))


def test_skipped_tokens_take_no_part():
    hidden, offsets = packed([5, 4])
    found = pool(torch.from_numpy(hidden), offsets, ("mean",), np.array([2, 3])).numpy()
    np.testing.assert_allclose(found, [hidden[2:5].mean(0), hidden[8]], rtol=1e-6)


def test_pooling_leaves_the_hidden_states_as_they_are():
    hidden, offsets = packed([5, 4])
    tensor = torch.from_numpy(hidden.copy())
    for mode in POOLING_MODES:
        pool(tensor, offsets, (mode,), np.array([1, 1]))
    np.testing.assert_array_equal(tensor.numpy(), hidden)


def test_half_precision_states_are_pooled_in_float32():
    assert pool(torch.ones(4, 2, dtype=torch.bfloat16), np.array([0, 4]), ("mean",)).dtype == torch.float32


def test_a_matryoshka_prefix_is_cut_first_and_normalised_then():
    raw = np.array([[3.0, 4.0, 12.0]], dtype=np.float32)
    np.testing.assert_allclose(finish(raw, truncate_dim=2, normalize=True), [[0.6, 0.8]], rtol=1e-6)
    np.testing.assert_array_equal(finish(raw, truncate_dim=2, normalize=False), [[3.0, 4.0]])


def test_the_zero_vector_stays_zero_and_is_no_nan():
    np.testing.assert_array_equal(
        finish(np.zeros((2, 3), np.float32), truncate_dim=None, normalize=True), np.zeros((2, 3))
    )


def test_documents_are_the_mean_of_their_windows_weighted_by_tokens():
    raw = np.array([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]], dtype=np.float32)
    found = mean_windows(raw, np.array([0, 2, 2, 3]), np.array([3, 1, 7]))
    np.testing.assert_allclose(found, [[0.75, 0.25], [0.0, 0.0], [5.0, 5.0]])
    assert found.dtype == np.float32


def test_the_mean_does_not_depend_on_how_many_equal_windows_there_are():
    row = np.array([[0.3, -0.7]], dtype=np.float32)
    for n in (1, 2, 9):
        found = mean_windows(np.repeat(row, n, axis=0), np.array([0, n]), np.full(n, 11))
        np.testing.assert_allclose(found, row, rtol=1e-6)
