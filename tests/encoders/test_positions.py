"""The position of every token, against the published formulas written out one token at a time."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unabridged.encoders import positions
from unabridged.encoders._rows import counted, counted_without_pads, planned
from unabridged.encoders.extension import Extension, LogN, Method, Positions

LO, LT = 64, 512
LENGTHS = [1, LO - 1, LO, LO + 1, 2 * LO, 3 * LO + 5, LT]


def plan(method, **options):
    asked = Extension(method=Method(method) if method else None, target_tokens=LT if method else None, **options)
    return asked.plan(Positions.ABSOLUTE, LO)


def published(method, length, scale=LT // LO):
    """Row and weight of the next row, token by token, as LongEmbed's section 4 has them."""
    found = []
    for p in range(length):
        if length <= LO:
            found.append((p, 0.0))
        elif method == "gp":
            found.append((p // math.ceil(length / LO), 0.0))
        elif method == "rp":
            found.append((p % LO, 0.0))
        else:
            i, r = divmod(p, scale)
            found.append((i, r / scale) if i < LO - 1 else (LO - 1, 0.0))
    return found


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("method", ["gp", "rp", "pi"])
def test_rows_are_those_of_the_formula_at_every_length(method, length):
    rows = plan(method).rows(length)
    expected = published(method, length)
    assert np.floor(rows).astype(int).tolist() == [row for row, _ in expected]
    np.testing.assert_allclose(rows - np.floor(rows), [part for _, part in expected], atol=1e-12)


@pytest.mark.parametrize("length", LENGTHS)
def test_dynamic_interpolation_stretches_by_the_sequences_own_length(length):
    rows = plan("pi", dynamic=True).rows(length)
    scale = max(1, math.ceil(length / LO))
    np.testing.assert_allclose(rows, [min(p / scale, LO - 1) for p in range(length)], atol=1e-12)


@given(st.integers(2, 40), st.integers(2, 12), st.data())
def test_interpolated_rows_equal_the_published_matrix(original, scale, data):
    """``E_t[i s + r] = (1 - r/s) E_o[i] + (r/s) E_o[i + 1]``, its unpublished end clamped."""
    random = np.random.default_rng(original * 100 + scale)
    trained = random.standard_normal((original, 3))
    stretched = np.zeros((original * scale, 3))
    for i in range(original - 1):
        for r in range(scale):
            stretched[i * scale + r] = (1 - r / scale) * trained[i] + (r / scale) * trained[i + 1]
    stretched[(original - 1) * scale :] = trained[-1]
    length = data.draw(st.integers(1, original * scale))
    asked = Extension(method=Method.PI, target_tokens=original * scale)
    rows = planned(asked.plan(Positions.ABSOLUTE, original), np.arange(length), np.array([0, length]), 0)
    part = 0.0 if rows.between is None else rows.between[:, None].astype(np.float64)
    found = trained[rows.low] * (1 - part) + trained[np.minimum(rows.low + 1, original - 1)] * part
    expected = stretched[np.arange(length) * (scale if length <= original else 1)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@given(st.integers(2, 50), st.integers(2, 9), st.data())
def test_tuned_rows_are_anchors_for_short_texts_and_every_row_for_long_ones(original, scale, data):
    asked = Extension(method=Method.PI, target_tokens=original * scale, rows_per_position=scale)
    tuned = asked.plan(Positions.ABSOLUTE, original * scale)
    assert tuned.original == original
    length = data.draw(st.integers(1, original * scale))
    expected = np.arange(length) * (scale if length <= original else 1)
    assert tuned.rows(length).tolist() == expected.tolist()


@given(st.lists(st.integers(1, 3 * LO), min_size=1, max_size=6), st.sampled_from(["gp", "rp", "pi"]))
def test_a_batch_gives_each_sequence_the_rows_that_it_has_alone(lengths, method):
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    together = planned(plan(method), counted(offsets), offsets, 2)
    between = np.zeros(offsets[-1]) if together.between is None else together.between
    for start, length in zip(offsets[:-1].tolist(), lengths, strict=True):
        alone = planned(plan(method), np.arange(length), np.array([0, length]), 2)
        assert together.low[start : start + length].tolist() == alone.low.tolist()
        part = np.zeros(length) if alone.between is None else alone.between
        assert between[start : start + length].tolist() == part.tolist()


def test_pads_inside_a_text_take_no_place_and_keep_the_row_of_padding():
    ids, offsets = np.array([5, 1, 7, 1, 1, 9], dtype=np.int32), np.array([0, 4, 6])
    assert counted_without_pads(ids, offsets, 1).tolist() == [0, -1, 1, -1, -1, 0]
    ids = np.array([5, 1, *[7] * 98], dtype=np.int32)
    rows = planned(plan("pi"), counted_without_pads(ids, np.array([0, 100]), 1), np.array([0, 100]), 2)
    assert (rows.low[0], rows.low[1], rows.low[2]) == (2, 1, 2)
    assert rows.between[1] == 0
    assert rows.between[2] == pytest.approx(1 / 8)


@given(st.integers(0, 400), st.integers(1, 50))
def test_chunks_cover_every_token_and_only_the_last_one_reads_twice(tokens, capacity):
    found = positions.chunks(tokens, capacity)
    assert len(found) == max(1, math.ceil(tokens / capacity))
    for k, (first, last) in enumerate(found.tolist()):
        if k < len(found) - 1:
            assert (first, last) == (k * capacity, (k + 1) * capacity)
        else:
            assert (first, last) == (max(0, tokens - capacity), tokens)


def test_the_worked_examples_of_chunks():
    assert positions.chunks(9, 10).tolist() == [[0, 9]]
    assert positions.chunks(11, 10).tolist() == [[0, 10], [1, 11]]
    assert positions.chunks(20, 10).tolist() == [[0, 10], [10, 20]]
    assert positions.chunks(0, 10).tolist() == [[0, 0]]


@pytest.mark.parametrize("length", LENGTHS)
def test_queries_grow_with_the_logarithm_of_their_own_length_over_the_temperature(length):
    factor = plan("pi", logn=LogN.PER_SEQUENCE, temperature=0.8).query_factor(length)
    assert factor == pytest.approx(max(1.0, math.log(max(length, 2)) / math.log(LO)) / 0.8)
    causal = Extension(logn=LogN.PER_POSITION).plan(Positions.ROTARY, LO, causal=True).query_factor(length)
    assert causal == pytest.approx([max(1.0, math.log(p + 1) / math.log(LO)) for p in range(length)])
