"""Accuracy, usable length and dead zones against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from unabridged.errors import ShapeError
from unabridged.eval.reach import accuracy_by_depth, change, credits_at_1, dead_share, usable_length
from unabridged.eval.synth.passkey import passkey


def test_credit_is_one_alone_a_share_in_a_tie_and_none_below():
    scores = np.array([[0.9, 0.1, 0.2], [0.5, 0.5, 0.5], [0.1, 0.7, 0.7], [0.3, 0.2, 0.1]], dtype=np.float32)
    assert credits_at_1(scores, np.array([0, 1, 2, 2])).tolist() == [1.0, pytest.approx(1 / 3), 0.5, 0.0]


def test_rounding_does_not_decide_between_documents_that_were_not_read_to_their_fact():
    same = np.full((1, 100), 0.7, dtype=np.float32)
    same[0, 3] = np.nextafter(np.float32(0.7), np.float32(1))
    assert credits_at_1(same, np.array([3])).tolist() == [0.01]
    assert credits_at_1(same, np.array([4])).tolist() == [0.01]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_refused(bad):
    with pytest.raises(ShapeError, match="finite"):
        credits_at_1(np.array([[bad, 1.0]], dtype=np.float32), np.array([0]))


def test_accuracy_by_depth_puts_the_end_into_the_last_bin_and_leaves_empty_bins_open():
    values, counts = accuracy_by_depth(np.array([1.0, 0.0, 1.0, 0.5]), np.array([0.0, 0.09, 1.0, 0.95]), 10)
    assert (values[0], values[9]) == (0.5, 0.75)
    assert np.isnan(values[1:9]).all()
    assert counts.tolist() == [2, 0, 0, 0, 0, 0, 0, 0, 0, 2]


@pytest.mark.parametrize(
    ("accuracy", "usable"),
    [
        ({}, None),
        ({256: 1.0}, 256),
        ({256: 1.0, 512: 0.9, 1024: 0.89}, 512),
        ({1024: 0.95, 256: 0.8, 512: 0.5}, 1024),
        ({256: 0.8, 512: 0.72, 1024: 0.71}, 512),
        ({256: 0.02, 512: 0.02}, None),
    ],
    ids=["nothing", "one", "nine-tenths", "a-dip-between", "of-a-lower-start", "chance"],
)
def test_usable_length_is_the_largest_that_keeps_nine_tenths_of_the_shortest(accuracy, usable):
    assert usable_length(accuracy) == usable


def test_an_encoder_that_is_blind_behind_a_place_scores_the_share_before_it_and_chance():
    made = passkey(1024)
    place = 1500
    words = [set(text[:place].split()) for text in made.texts]
    scores = np.array(
        [[len(set(q.rstrip("?").split()) & seen) for seen in words] for q in made.questions], dtype=np.float32
    )
    gained = credits_at_1(scores, made.relevant_rows)
    seen = np.array([made.records[row].start + 60 < place for row in made.relevant])
    before, behind = gained[made.depths < 0.38], gained[made.depths > 0.42]
    assert before.mean() == 1.0
    assert behind.mean() < 0.05
    assert gained.mean() == pytest.approx(seen.mean(), abs=0.05)


def test_change_is_the_largest_component_and_the_cosine_distance():
    before = np.array([[1.0, 0.0]], dtype=np.float32)
    after = np.array([[0.6, 0.8]], dtype=np.float32)
    largest, distance = change(before, after)
    assert largest == pytest.approx(0.8, abs=1e-7)
    assert distance == pytest.approx(1 - 0.6, abs=1e-7)
    assert change(before, before) == (0.0, 0.0)


def test_change_of_several_vectors_is_that_of_the_one_that_moved():
    before = np.eye(3, dtype=np.float32)
    after = before[[2, 0, 1]].copy()
    assert change(before, after) == (0.0, 0.0), "order is no change"
    after[0] = [0.0, math.sin(0.1), math.cos(0.1)]
    assert change(before, after)[1] == pytest.approx(1 - math.cos(0.1), rel=1e-5)


def test_a_tiny_move_keeps_its_digits():
    before = np.array([[1.0, 0.0]], dtype=np.float32)
    after = np.array([[1.0, 1e-5]], dtype=np.float32)
    assert change(before, after)[1] == pytest.approx(0.5e-10, rel=1e-3)


def test_a_document_that_loses_its_vectors_has_moved_wholly():
    none, one = np.zeros((0, 2), dtype=np.float32), np.ones((1, 2), dtype=np.float32)
    assert change(none, none) == (0.0, 0.0)
    assert change(one, none) == (1.0, 1.0)


def test_the_dead_share_counts_positions_that_moved_nothing():
    assert dead_share(np.array([0.1, 0.0, 1e-7, 0.2])) == 0.5
    assert dead_share(np.array([])) == 0.0
