"""Aggregators against hand-made values, a naive twin, and the laws of a vector that blocks are put together to."""

import math

import numpy as np
import pytest

from unabridged.encoders.sea.aggregators import KINDS, Aggregator, softmax
from unabridged.errors import ShapeError, UsageError, ValidationError

LINEAR = [kind for kind in KINDS if "max" not in kind]
HONEST = [kind for kind in KINDS if kind != "sea_legacy"]
WIDTH = 6


def one_layer(seed=0, width=WIDTH, scale=3.0):
    chance = np.random.default_rng(seed)
    weight = scale * chance.standard_normal(width)
    return {"weight": weight.astype(np.float32), "bias": np.array([0.7], np.float32)}


def two_layers(seed=0, width=WIDTH, hidden=4):
    chance = np.random.default_rng(seed)
    hidden_, output = chance.standard_normal((hidden, width)), chance.standard_normal(hidden)
    return {"hidden": hidden_.astype(np.float32), "output": output.astype(np.float32)}


def every():
    for kind, learned in KINDS.items():
        if not learned:
            yield Aggregator(kind)
        else:
            yield Aggregator(kind, one_layer())
            yield Aggregator(kind, two_layers())


EVERY = list(every())
HONEST_ONES = [one for one in EVERY if one.kind in HONEST]


def name(aggregator):
    return f"{aggregator.kind}-{aggregator.layers}"


def packed(*counts, seed=1, width=WIDTH):
    blocks = np.random.default_rng(seed).standard_normal((sum(counts), width)).astype(np.float32)
    return blocks, np.concatenate(([0], np.cumsum(counts))).astype(np.int64)


def dot(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


def naive(aggregator, own):
    """The module's table with lists and loops."""
    rows = [[float(x) for x in row] for row in own]
    columns = range(len(rows[0]))
    average = [sum(row[j] for row in rows) / len(rows) for j in columns]
    top = [max(row[j] for row in rows) for j in columns]
    if aggregator.kind in ("mean", "max"):
        return average if aggregator.kind == "mean" else top
    p = {key: value.astype(float).tolist() for key, value in aggregator.parameters.items()}
    if "weight" in p:
        scores = [dot(p["weight"], row) + p["bias"][0] for row in rows]
    else:
        scores = [
            sum(v * math.tanh(dot(w, row)) for v, w in zip(p["output"], p["hidden"], strict=True)) for row in rows
        ]
    powers = [math.exp(score) for score in scores]
    attended = [sum(e / sum(powers) * row[j] for e, row in zip(powers, rows, strict=True)) for j in columns]
    other = {
        "attention": attended,
        "attention_plus_mean": average,
        "attention_plus_max": top,
        "sea_legacy": [len(rows) * x for x in average],
    }[aggregator.kind]
    return [0.5 * a + 0.5 * b for a, b in zip(attended, other, strict=True)]


def test_the_formulas_equal_a_hand_computation():
    blocks = np.array([[1, 0], [0, 2]], np.float32)
    offsets = np.array([0, 2])
    # s = (ln 3, 0) gives a = (3/4, 1/4).
    own = {"weight": np.array([math.log(3), 0], np.float32), "bias": np.array([5], np.float32)}
    found = {
        kind: Aggregator(kind, own if learned else {}).aggregate(blocks, offsets) for kind, learned in KINDS.items()
    }
    wanted = {
        "max": ([1, 2], [0.5, 0.5]),
        "mean": ([0.5, 1], [0.5, 0.5]),
        "attention": ([0.75, 0.5], [0.75, 0.25]),
        "attention_plus_mean": ([0.625, 0.75], [0.625, 0.375]),
        "attention_plus_max": ([0.875, 1.25], [0.625, 0.375]),
        "sea_legacy": ([0.875, 1.25], [0.875, 0.625]),
    }
    for kind, (vector, weights) in wanted.items():
        np.testing.assert_allclose(found[kind].documents[0], vector, atol=1e-6, err_msg=kind)
        np.testing.assert_allclose(found[kind].weights, weights, atol=1e-6, err_msg=kind)


def test_two_layers_equal_a_hand_computation():
    blocks = np.array([[1, 1], [1, -1]], np.float32)
    parameters = {"hidden": np.array([[0.5, 0.5]], np.float32), "output": np.array([2], np.float32)}
    first = math.exp(2 * math.tanh(1)) / (math.exp(2 * math.tanh(1)) + 1)
    found = Aggregator("attention", parameters).aggregate(blocks, np.array([0, 2]))
    np.testing.assert_allclose(found.weights, [first, 1 - first], rtol=1e-6)
    np.testing.assert_allclose(found.documents[0], [1, 2 * first - 1], rtol=1e-6)


@pytest.mark.parametrize("aggregator", EVERY, ids=name)
def test_packed_documents_equal_loops_over_each(aggregator):
    blocks, offsets = packed(1, 5, 2, 9)
    found = aggregator(blocks, offsets)
    assert found.dtype == np.float32
    for b in range(4):
        np.testing.assert_allclose(
            found[b], naive(aggregator, blocks[offsets[b] : offsets[b + 1]]), rtol=2e-5, atol=1e-6
        )


@pytest.mark.parametrize("aggregator", [one for one in EVERY if one.kind in LINEAR], ids=name)
def test_a_linear_vector_is_the_sum_of_blocks_times_weights(aggregator):
    blocks, offsets = packed(3, 7)
    found = aggregator.aggregate(blocks, offsets)
    for b in range(2):
        rows = slice(offsets[b], offsets[b + 1])
        np.testing.assert_allclose(found.weights[rows] @ blocks[rows], found.documents[b], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("aggregator", HONEST_ONES, ids=name)
def test_weights_of_a_document_are_not_negative_and_sum_to_one(aggregator):
    blocks, offsets = packed(3, 1, 40)
    found = aggregator.aggregate(blocks, offsets)
    assert (found.weights >= 0).all()
    np.testing.assert_allclose(np.add.reduceat(found.weights, offsets[:-1]), 1, rtol=1e-5)


@pytest.mark.parametrize("aggregator", EVERY, ids=name)
def test_the_order_of_blocks_is_of_no_account(aggregator):
    blocks, offsets = packed(8)
    order = np.random.default_rng(4).permutation(8)
    one, other = (aggregator.aggregate(own, offsets) for own in (blocks, blocks[order]))
    np.testing.assert_allclose(one.documents, other.documents, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one.weights[order], other.weights, rtol=1e-5)


@pytest.mark.parametrize("aggregator", HONEST_ONES, ids=name)
@pytest.mark.parametrize("times", [1, 2, 7])
def test_blocks_that_come_several_times_change_neither_vector_nor_norm(aggregator, times):
    blocks, _ = packed(3)
    one = aggregator(blocks, np.array([0, 3]))
    many = aggregator(np.tile(blocks, (times, 1)), np.array([0, 3 * times]))
    np.testing.assert_allclose(one, many, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("parameters", [one_layer(), two_layers()], ids=["one", "two"])
def test_the_published_sum_makes_norms_of_equal_blocks_grow_with_their_number(parameters):
    unit = np.full((1, WIDTH), WIDTH**-0.5, np.float32)
    norms = [
        float(
            np.linalg.norm(Aggregator("sea_legacy", parameters)(np.repeat(unit, count, axis=0), np.array([0, count])))
        )
        for count in (1, 2, 3, 7)
    ]
    np.testing.assert_allclose(norms, [1.0, 1.5, 2.0, 4.0], rtol=1e-6)


@pytest.mark.parametrize("aggregator", EVERY, ids=name)
def test_documents_without_blocks_are_zeros_and_one_block_is_itself(aggregator):
    blocks, offsets = packed(0, 1, 0, 0, 2, 0)
    found = aggregator.aggregate(blocks, offsets)
    assert not found.documents[[0, 2, 3, 5]].any()
    np.testing.assert_array_equal(found.documents[1], blocks[0])
    nothing = aggregator.aggregate(blocks[:0], np.zeros(1, np.int64))
    assert nothing.documents.shape == (0, WIDTH)
    assert nothing.weights.shape == (0,)


@pytest.mark.parametrize("aggregator", EVERY, ids=name)
def test_neighbours_change_no_bit_of_a_document(aggregator):
    blocks, offsets = packed(3, 11, 3)
    blocks[-3:] = blocks[:3]
    found = aggregator(blocks, offsets)
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[1], aggregator(blocks[3:14], np.array([0, 11]))[0])


def test_large_scores_do_not_overflow():
    weights = softmax(np.array([1e4, 1e4 - 1, -1e9]))
    np.testing.assert_allclose(weights, [math.e / (1 + math.e), 1 / (1 + math.e), 0], atol=1e-12)
    far = Aggregator("attention", one_layer(scale=1e6))
    blocks, offsets = packed(4)
    assert np.isfinite(far(blocks, offsets)).all()


@pytest.mark.parametrize(
    ("kind", "parameters", "error", "said"),
    [
        ("middle", {}, UsageError, "choose one of max, mean"),
        ("mean", one_layer(), UsageError, "has no parameters"),
        ("attention", {}, ValidationError, "has a weight"),
        ("attention", {**one_layer(), "bias": np.zeros(2, np.float32)}, ValidationError, "do not fit"),
        ("attention", {**two_layers(), "output": np.zeros(3, np.float32)}, ValidationError, "do not fit"),
        ("attention", {**one_layer(), "weight": np.full(3, np.nan, np.float32)}, ValidationError, "not finite"),
        ("attention", {**one_layer(), **two_layers()}, ValidationError, "has a weight"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_by_name(kind, parameters, error, said):
    with pytest.raises(error, match=said):
        Aggregator(kind, parameters)


def test_blocks_that_do_not_fit_are_refused_by_shape():
    blocks, offsets = packed(3)
    aggregator = Aggregator("attention", one_layer())
    with pytest.raises(ShapeError, match=r"\(S, 6\), got \(3, 5\)"):
        aggregator(blocks[:, :5], offsets)
    for wrong in ([0, 2], [1, 3], [0, 3, 2, 3], []):
        with pytest.raises(ShapeError, match="rise from 0 to 3"):
            aggregator(blocks, np.array(wrong, np.int64))
    with pytest.raises(UsageError, match="no attention"):
        Aggregator("mean").scores(blocks)
