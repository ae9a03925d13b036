"""Laws of batches that are filled by tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unabridged.encoders.batching import plan_batches
from unabridged.errors import UsageError

LENGTHS = st.lists(st.integers(0, 300), max_size=80).map(lambda x: np.array(x, dtype=np.int64))


@given(LENGTHS, st.integers(1, 500))
def test_every_sequence_is_in_exactly_one_batch(lengths, cap):
    batches = plan_batches(lengths, cap)
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 500))
def test_no_batch_of_several_costs_more_than_the_cap(lengths, cap):
    for batch in plan_batches(lengths, cap):
        assert len(batch) == 1 or lengths[batch].max() * len(batch) <= cap


@given(LENGTHS, st.integers(1, 500))
def test_lengths_never_rise_from_one_batch_to_the_next(lengths, cap):
    flat = [int(lengths[row]) for batch in plan_batches(lengths, cap) for row in batch]
    assert flat == sorted(flat, reverse=True)


@given(LENGTHS, st.integers(1, 500))
def test_a_batch_is_closed_only_when_the_next_sequence_would_not_fit(lengths, cap):
    batches = plan_batches(lengths, cap)
    for batch in batches[:-1]:
        assert max(1, int(lengths[batch[0]])) * (len(batch) + 1) > cap


def test_an_item_over_the_cap_is_alone():
    assert [b.tolist() for b in plan_batches(np.array([5, 900, 5]), 10)] == [[1], [0, 2]]


def test_a_cap_without_room_is_refused():
    with pytest.raises(UsageError, match="batch_tokens=0"):
        plan_batches(np.array([1]), 0)
