"""Kept passages as one text: each character of them once, in the order of the sources, in time that grows with them."""

from __future__ import annotations

import random
import time

import pytest

from unabridged.rankers.select.contracts import Passage
from unabridged.rankers.select.splice import JOINT, most_that_fit, spliced

TEXTS = {"b": "naïve 語彙 🙂 " * 60, "a": "e\u0301t\u00e9\r\n" * 90}


def naive(passages, order):
    """The characters of all passages, run by run."""
    found = []
    for name in order:
        covered = {at for one in passages if one.doc_id == name for at in range(one.start, one.end)}
        edges = {one.end for one in passages if one.doc_id == name}
        run: list[int] = []
        for at in sorted(covered):
            if run and at != run[-1] + 1 and run[-1] + 1 in edges:
                found.append((name, run[0], run[-1] + 1))
                run = []
            run.append(at)
        found += [(name, run[0], run[-1] + 1)] if run else []
    return found


@pytest.mark.parametrize("seed", range(20))
def test_spans_are_the_union_of_the_passages_read_from_the_sources(seed):
    chance = random.Random(seed)
    passages = []
    for _ in range(chance.randrange(1, 25)):
        name = chance.choice("ab")
        start = chance.randrange(len(TEXTS[name]))
        end = min(len(TEXTS[name]), start + chance.randrange(1, 60))
        passages.append(Passage(name, start, end, TEXTS[name][start:end]))
    found = spliced(passages, ["b", "a"])
    assert [(one.doc_id, one.start, one.end) for one in found.spans] == naive(passages, "ba")
    assert all(one.text == TEXTS[one.doc_id][one.start : one.end] for one in found.spans)
    assert found.text == JOINT.join(one.text.strip() for one in found.spans)


def test_thirty_thousand_passages_that_do_not_touch_are_joined_at_once():
    passages = [Passage("d", 10 * at, 10 * at + 9, "a passage") for at in range(30_000)]
    began = time.process_time()
    found = spliced(passages, ["d"])
    assert time.process_time() - began < 5
    assert len(found.spans) == 30_000


@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
def test_the_most_that_fit_are_found_without_a_try_at_more_than_twice_as_many(count):
    for most in range(count + 2):
        tried: list[int] = []

        def fits(number: int, most=most, tried=tried) -> bool:
            tried.append(number)
            return number <= most

        assert most_that_fit(count, fits) == min(most, count)
        assert max(tried, default=0) <= max(1, 2 * most)
