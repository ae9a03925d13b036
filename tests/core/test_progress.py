"""Progress never falls, and the time left is never later than was shown without saying so."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from unabridged.progress import REVISION, Meter


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


STEPS = st.lists(st.tuples(st.floats(0.01, 100), st.integers(1, 5000)), min_size=2, max_size=40)


@given(STEPS, st.integers(0, 3000))
def test_the_fraction_never_falls_and_the_estimate_only_with_notice(steps, skipped):
    total = sum(work for _, work in steps) + skipped
    clock, events = Clock(), []
    meter = Meter(len(steps), total, events.append, clock)
    meter.advance(documents=1, characters=skipped, worked=False)
    times = []
    for seconds, work in steps:
        clock.now += seconds
        meter.advance(characters=work, tokens=work // 4)
        meter.report("encode")
        times.append(clock.now)
    assert all(a.fraction <= b.fraction for a, b in itertools.pairwise(events))
    assert events[-1].fraction == 1.0
    assert events[-1].eta == 0.0
    shown = [(now, e) for now, e in zip(times, events, strict=True) if e.eta is not None]
    for (t0, a), (t1, b) in itertools.pairwise(shown):
        promised = max(0.0, a.eta - (t1 - t0))
        assert b.revised or b.eta <= promised + 1e-6
        if b.revised:
            assert b.eta > REVISION * promised


def test_under_a_steady_rate_the_estimate_is_exact():
    clock, events = Clock(), []
    meter = Meter(100, 1000, events.append, clock)
    for _ in range(100):
        clock.now += 1.0
        meter.advance(documents=1, characters=10)
        event = meter.report("encode")
        if 2 <= clock.now < 100:
            assert abs(event.eta - (100 - clock.now)) < 1e-6
    assert not any(event.revised for event in events)


def test_work_found_done_does_not_flatter_the_rate():
    clock, events = Clock(), []
    meter = Meter(2, 1000, events.append, clock)
    meter.advance(characters=900, worked=False)
    clock.now = 10.0
    meter.advance(characters=50)
    assert meter.report("encode").eta == 10.0
