"""Every loss against a loop over numbers, in values and in gradients."""

import math

import numpy as np
import pytest
import torch

from unabridged.errors import ShapeError
from unabridged.training import losses


def cos(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def same_in_value_and_gradient(fast, naive, *arrays):
    """``fast`` takes tensors, ``naive`` lists of numbers; the gradient of the naive one by central differences."""
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    value = fast(*tensors)
    value.backward()
    assert value.item() == pytest.approx(naive(*[array.tolist() for array in arrays]), rel=1e-10)
    for number, array in enumerate(arrays):
        slope = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = [other.copy() for other in arrays]
                moved[number][place] += step
                ends.append(naive(*[other.tolist() for other in moved]))
            slope[place] = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(tensors[number].grad.numpy(), slope, atol=1e-7)


def test_contrast_is_the_log_share_of_the_right_answer_among_those_that_are_candidates():
    right = [1, 0, 3]
    left_out = np.array([[0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 0, 0]], dtype=bool)

    def naive(queries, documents):
        total = 0.0
        for row, query in enumerate(queries):
            powers = {
                column: math.exp(cos(query, document) / 0.1)
                for column, document in enumerate(documents)
                if not left_out[row][column]
            }
            total -= math.log(powers[right[row]] / sum(powers.values()))
        return total / len(queries)

    def fast(queries, documents):
        scores = losses.cosines(queries, documents)
        return losses.contrast(scores, torch.tensor(right), 0.1, torch.from_numpy(left_out))

    same_in_value_and_gradient(fast, naive, drawn(3, 5), drawn(4, 5, seed=1))


def test_info_nce_is_contrast_with_its_own_row_as_the_right_answer_and_zero_for_one():
    one, other = torch.from_numpy(drawn(4, 3)), torch.from_numpy(drawn(4, 3, seed=1))
    expected = losses.contrast(losses.cosines(one, other), torch.arange(4), 0.05)
    torch.testing.assert_close(losses.info_nce(one, other), expected, rtol=0, atol=0)
    assert losses.info_nce(one[:1], other[:1]).item() == 0.0


def test_orthogonal_projection_wants_cosines_of_one_and_of_zero():
    right = [[True, False, False], [False, True, True]]

    def naive(queries, documents):
        terms = []
        for row, query in enumerate(queries):
            for column, document in enumerate(documents):
                found = cos(query, document)
                terms.append((1 - found) ** 2 if right[row][column] else found**2)
        return sum(terms) / len(terms)

    def fast(queries, documents):
        return losses.orthogonal_projection(losses.cosines(queries, documents), torch.tensor(right))

    same_in_value_and_gradient(fast, naive, drawn(2, 4), drawn(3, 4, seed=1))


def test_score_divergence_is_kl_of_the_two_softmaxes_over_what_is_not_left_out():
    teacher = drawn(3, 4, seed=2)
    left_out = np.array([[0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]], dtype=bool)

    def shares(scores, row):
        powers = [0.0 if left_out[row][c] else math.exp(s / 0.5) for c, s in enumerate(scores)]
        return [power / sum(powers) for power in powers]

    def naive(student):
        total = 0.0
        for row, scores in enumerate(student):
            mine, other = shares(scores, row), shares(teacher[row].tolist(), row)
            total += sum(q * math.log(q / p) for p, q in zip(mine, other, strict=True) if q)
        return total / len(student)

    def fast(student):
        return losses.score_divergence(student, torch.from_numpy(teacher), 0.5, torch.from_numpy(left_out))

    same_in_value_and_gradient(fast, naive, drawn(3, 4))
    scores = torch.from_numpy(teacher)
    assert losses.score_divergence(scores, scores + 3.0, 0.5).item() == pytest.approx(0.0, abs=1e-12)


def test_distances_from_a_teacher_are_those_of_unit_vectors():
    def naive_cosine(student, teacher):
        return sum(1 - cos(s, t) for s, t in zip(student, teacher, strict=True)) / len(student)

    def naive_square(student, teacher):
        return 2 * naive_cosine(student, teacher)

    student, teacher = drawn(3, 4), drawn(3, 4, seed=1)
    same_in_value_and_gradient(losses.cosine_distance, naive_cosine, student, teacher)
    same_in_value_and_gradient(losses.mean_square, naive_square, student, teacher)


def test_vectors_and_scores_of_unequal_shapes_are_refused():
    for call in (
        lambda: losses.info_nce(torch.ones(2, 3), torch.ones(3, 3)),
        lambda: losses.mean_square(torch.ones(2, 3), torch.ones(2, 4)),
        lambda: losses.score_divergence(torch.ones(2, 3), torch.ones(2, 4), 1.0),
    ):
        with pytest.raises(ShapeError, match=r"\(2, 3\)"):
            call()
