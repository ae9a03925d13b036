"""What rankers take and give."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unabridged.errors import ShapeError
from unabridged.rankers.contracts import Ranking, Spent, Status, by_score, run_scores
from unabridged.rankers.lm.contracts import Usage


@pytest.mark.parametrize(
    "wrong",
    [
        {"order": (0, 0)},
        {"order": (1, 2)},
        {"order": (0,), "scores": (1.0, 2.0)},
        {"order": (0,), "scores": (float("nan"),)},
    ],
)
def test_a_ranking_is_a_permutation_with_a_score_for_each(wrong):
    with pytest.raises(ShapeError):
        Ranking(status=Status.OK, **wrong)


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=False)), max_size=30))
def test_scores_fall_equals_keep_their_order_and_those_without_come_last(scores):
    order = by_score(scores)
    assert sorted(order) == list(range(len(scores)))
    known = [scores[place] for place in order if scores[place] is not None]
    assert known == sorted(known, reverse=True)
    assert all(scores[place] is None for place in order[len(known) :])
    for one, other in itertools.pairwise(order):
        if scores[one] == scores[other]:
            assert one < other


def test_scores_for_runs_fall_strictly():
    assert run_scores(3) == (3.0, 2.0, 1.0)
    assert run_scores(0) == ()


def test_costs_add_up():
    one = Spent(calls=2, cached=1, failed=1, unknown=1, usage=Usage(prompt=3, completion=4), seconds=0.5)
    assert one + one == Spent(calls=4, cached=2, failed=2, unknown=2, usage=Usage(prompt=6, completion=8), seconds=1.0)
    assert sum([one, one], Spent()) == one + one
