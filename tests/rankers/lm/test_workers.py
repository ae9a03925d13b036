"""Jobs side by side: their order, how many at a time, and who waits for whom."""

import threading
import time
from functools import partial

import pytest

from unabridged.rankers.lm.workers import side_by_side


@pytest.mark.parametrize("most", [1, 3, 50])
def test_results_are_in_the_order_of_the_jobs_and_no_more_run_at_once_than_allowed(most):
    lock, running, seen = threading.Lock(), [0], []

    def job(number):
        with lock:
            running[0] += 1
            seen.append(running[0])
        time.sleep(0.002 * (number % 3))
        with lock:
            running[0] -= 1
        return number

    assert side_by_side([partial(job, number) for number in range(20)], most, threading.Event()) == [*range(20)]
    assert max(seen) <= most
    assert side_by_side([], most, threading.Event()) == []


def test_an_error_is_raised_after_the_others_have_ended():
    ended = []

    def fails():
        raise KeyError("this one")

    with pytest.raises(KeyError, match="this one"):
        side_by_side([fails, partial(ended.append, 1), partial(ended.append, 2)], 1, threading.Event())
    assert ended == [1, 2]


def test_once_cancelled_nothing_is_waited_for_and_nothing_more_is_begun():
    cancel, release, begun = threading.Event(), threading.Event(), []

    def waits(number):
        begun.append(number)
        release.wait(20)
        return number

    threading.Timer(0.1, cancel.set).start()
    started = time.monotonic()
    found = side_by_side([lambda: "done", *(partial(waits, number) for number in range(5))], 2, cancel)
    assert time.monotonic() - started < 5
    assert found == ["done", None, None, None, None, None]
    assert len(begun) == 2
    release.set()


def test_the_threads_do_not_keep_a_program_from_ending():
    release = threading.Event()
    cancel = threading.Event()
    cancel.set()
    side_by_side([partial(release.wait, 20)], 1, cancel)
    [left] = [one for one in threading.enumerate() if one.name == "lm-0"]
    assert left.daemon
    release.set()
    left.join(5)
