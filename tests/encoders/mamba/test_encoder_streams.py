"""Rounds over streams: everything once, in order, within bounds."""

import numpy as np
import pytest

from unabridged.encoders.mamba.streams import Schedule, Stream


def stream(first, sizes, closing=1, start=0):
    ends = np.cumsum(sizes, dtype=np.int64)
    ends[-1] += closing
    length = int(ends[-1])
    return Stream(lambda: np.arange(length, dtype=np.int32) + 1000 * first, length, ends, start, first, str)


def rounds(schedule):
    found = []
    while pieces := schedule.next():
        again = schedule.next()
        assert [(p.start, p.end) for p in again] == [(p.start, p.end) for p in pieces]
        found.append(pieces)
        schedule.advance(pieces)
    assert not schedule.readers
    return found


@pytest.mark.parametrize("at_groups", [True, False], ids=["at groups", "through groups"])
@pytest.mark.parametrize(("block", "most"), [(1, 1), (7, 3), (64, 2), (1000, 50)], ids=str)
def test_every_token_is_read_once_and_in_order(block, most, at_groups):
    rng = np.random.default_rng(0)
    streams, first = [], 0
    for _ in range(30):
        sizes = rng.integers(1, 40, size=rng.integers(1, 6))
        streams.append(stream(first, sizes))
        first += len(sizes)
    read = {s.first: [] for s in streams}
    for pieces in rounds(Schedule.of(streams, block, most, at_groups=at_groups)):
        assert sum(p.end - p.start for p in pieces) <= block
        assert len({id(p.reader) for p in pieces}) == len(pieces) <= most
        for piece in pieces:
            read[piece.reader.stream.first].extend(piece.ids.tolist())
            ends = piece.reader.stream.ends[:-1]
            assert not at_groups or not ((ends > piece.start) & (ends < piece.end)).any()
    assert read == {s.first: s.ids().tolist() for s in streams}


def test_blocks_are_full_until_the_last_one_where_states_are_summed():
    streams = [stream(n, [size]) for n, size in enumerate([5000, 300, 41, 40, 39, 38, 1, 1])]
    sizes = [sum(p.end - p.start for p in pieces) for pieces in rounds(Schedule.of(streams, 512, 64, at_groups=False))]
    assert all(size > 512 - 16 for size in sizes[:-1])
    assert len(sizes) == -(-sum(stream.length for stream in streams) // 512)


def test_the_longest_begin_and_what_was_begun_goes_on_first():
    streams = [stream(n, [size]) for n, size in enumerate([10, 200, 30])]
    found = rounds(Schedule.of(streams, 64, 8, at_groups=False))
    assert [p.reader.stream.first for p in found[0]] == [1]
    assert [[p.reader.stream.first for p in pieces] for pieces in found[1:]] == [[1], [1], [1, 2, 0]]


def test_streams_share_a_block_and_the_longest_takes_what_is_left():
    streams = [stream(n, [size]) for n, size in enumerate([5000, 4000, 3000])]
    first, second = rounds(Schedule.of(streams, 2048, 2, at_groups=False))[:2]
    assert [(p.reader.stream.first, p.start, p.end) for p in first] == [(0, 0, 2048 - 256), (1, 0, 256)]
    assert [p.reader.stream.first for p in second] == [0, 1]
    alone = rounds(Schedule.of(streams[:1], 2048, 2, at_groups=False))
    assert [p.end - p.start for pieces in alone for p in pieces] == [2048, 2048, 5001 - 4096]


def test_sizes_leave_out_what_is_not_pooled():
    assert stream(0, [10, 5], closing=2, start=4).sizes.tolist() == [6, 7]
