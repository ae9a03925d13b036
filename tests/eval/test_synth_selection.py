"""Scores of a choice of context: an oracle has all, chance its share, BM25 what the published forms leave it."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest

from unabridged.errors import UsageError
from unabridged.eval.synth.niah import niah
from unabridged.eval.synth.selection import judged, segments, summed, words
from unabridged.eval.synth.sentences import Sample
from unabridged.eval.synth.twohop import twohop
from unabridged.eval.synth.vartrack import vartrack

HOPS = 4
HAND = Sample("hand", ("Ten 10.", "Five 5.", "Six 6 and 55.", "Last."), "?", ("5", "6"), (1, 2), 0, {})


def oracle(sample):
    return [sample.spans[at] for at in sample.evidence]


def shuffled(sample):
    spans = list(sample.spans)
    random.Random(sample.seed).shuffle(spans)
    return spans


def by_bm25(sample):
    rank_bm25 = pytest.importorskip("rank_bm25")

    def terms(text):
        return re.findall(r"\w+", text.lower())

    parts = segments(sample, 4)
    index = rank_bm25.BM25Okapi([terms(sample.text[start:end]) for start, end in parts], k1=1.2, b=0.75)
    return [parts[at] for at in np.argsort(-index.get_scores(terms(sample.question)), kind="stable")]


def scored(make, size, select, allowance=300, samples=20):
    made = [make(size, seed) for seed in range(samples)]
    return summed(made, [judged(sample, select(sample), allowance) for sample in made], allowance)


def test_a_hand_made_context_is_judged_by_hand():
    assert HAND.text == "Ten 10. Five 5. Six 6 and 55. Last."
    assert HAND.spans == [(0, 7), (8, 15), (16, 29), (30, 35)]
    first = judged(HAND, [(8, 15), (16, 29)], 5)
    assert (first.found, first.recall, first.answered, first.used) == ((True, False), 0.5, 0.5, 2)
    assert judged(HAND, [(8, 15), (16, 29)], 6).found == (True, True)
    assert judged(HAND, [(16, 29), (0, 35)], 6).answered == 0.5, "55 is not the answer 5"
    assert judged(HAND, [(8, 14)], 9).found == (False,) * 2, "a sentence without its end is not found"
    assert judged(HAND, [(8, 12), (12, 15), (8, 15)], 9).found == (True, False), "two halves are a whole"
    assert judged(HAND, [(8, 15), (8, 15), (0, 15)], 4).used == 4, "what overlaps counts once"
    assert judged(HAND, [], 4).used == 0
    assert judged(HAND, [(0, 35), (8, 15)], 5).used == 0, "nothing is taken after what did not fit"
    assert judged(HAND, [(0, 35)], 35, len).recall == 1.0, "the allowance is in units of count"
    both = summed([HAND, HAND], [first, judged(HAND, [(0, 35)], 99)], 99)
    assert (both.samples, both.allowance, both.recall, both.all_evidence) == (2, 99, 0.75, 0.5)
    assert both.answered == 0.75
    sizes = [size for size, _ in both.by_depth]
    assert sizes == [0, 0, 0, 2, 0, 0, 2, 0, 0, 0], "depths 1/3 and 2/3"
    assert (both.by_depth[3][1], both.by_depth[6][1]) == (1.0, 0.5)
    assert np.isnan(both.by_depth[0][1])


@pytest.mark.parametrize("make", [niah, vartrack, twohop])
def test_an_oracle_of_the_evidence_scores_one_within_a_small_allowance(make):
    found = scored(make, 300, oracle, allowance=40)
    assert (found.recall, found.all_evidence, found.answered) == (1.0, 1.0, 1.0)
    assert {share for size, share in found.by_depth if size} == {1.0}


def test_a_random_choice_finds_the_share_that_is_allowed_at_every_depth():
    samples = [niah(60, seed, keys=2) for seed in range(1_500)]
    allowance = words(samples[0].text) // 4
    found = summed(samples, [judged(one, shuffled(one), allowance) for one in samples], allowance)
    share = 0.25
    error = (share * (1 - share) / len(samples)) ** 0.5
    assert found.recall == pytest.approx(share, abs=4 * error + 0.02), "the last sentence seldom fits whole"
    for size, part in found.by_depth:
        assert size > 90
        assert part == pytest.approx(share, abs=4 * (share * (1 - share) / size) ** 0.5 + 0.02)


@pytest.mark.parametrize("size", [200, 1000])
def test_bm25_finds_needles_by_their_key(size):
    found = scored(niah, size, by_bm25)
    assert found.recall >= 0.99
    assert found.answered >= 0.99


@pytest.mark.parametrize("size", [200, 1000])
def test_bm25_finds_of_a_chain_little_more_than_its_first_assignment(size):
    found = scored(vartrack, size, by_bm25)
    assert 1 / (HOPS + 1) <= found.recall <= 1 / (HOPS + 1) + 0.1
    assert found.all_evidence == 0.0


@pytest.mark.parametrize(("size", "most"), [(200, 0.75), (1000, 0.6)])
def test_bm25_finds_of_two_hops_the_first(size, most):
    found = scored(twohop, size, by_bm25)
    assert 0.5 <= found.recall <= most
    assert found.all_evidence <= 0.4
    assert found.all_evidence == pytest.approx(2 * found.recall - 1), "the first hop is always there"


def test_one_that_follows_names_through_the_text_solves_what_bm25_does_not():
    def follow(sample):
        known, found = set(re.findall(r"\d{5}", sample.question)), []
        for sentence, span in zip(sample.sentences, sample.spans, strict=True):
            parts = re.fullmatch(r"VAR (\w+) = (\w+)\.", sentence)
            if parts and parts[2] in known:
                known.add(parts[1])
                found.append(span)
        return found

    assert scored(vartrack, 400, follow, allowance=30).all_evidence == 1.0


def test_segments_hold_the_whole_text_and_what_is_outside_of_it_is_refused():
    sample = niah(9, 1)
    parts = segments(sample, 4)
    assert len(parts) == 4
    assert " ".join(sample.text[start:end] for start, end in parts) == sample.text
    for bad in ((-1, 3), (5, 4), (0, len(sample.text) + 1)):
        with pytest.raises(UsageError, match="must lie in the text"):
            judged(sample, [bad], 10)
    with pytest.raises(UsageError, match="one outcome per sample"):
        summed([sample], [], 10)
