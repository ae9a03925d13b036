"""Chains of evidence: links between passages, paths along them, and questions that grow."""

import random
import threading

import numpy as np
import pytest

from unabridged.errors import UsageError
from unabridged.eval.synth.niah import niah
from unabridged.eval.synth.selection import judged, segments
from unabridged.eval.synth.twohop import twohop
from unabridged.eval.synth.vartrack import vartrack
from unabridged.rankers.contracts import Spent, by_score
from unabridged.rankers.select.contracts import Cost, Passage, Scored, Selector
from unabridged.rankers.select.iterative import Extend, IterativeSelector, IterativeSettings
from unabridged.rankers.select.linked import LinkedSelector, follow, scaled
from unabridged.rankers.select.links import Links, LinkSettings, looks_named
from unabridged.rankers.select.terms import PassageTerms
from unabridged.rankers.select.words import WordSelector


def passages(*texts: str) -> list[Passage]:
    return [Passage("d", 0, len(text), text) for text in texts]


CHAIN = ("Let KAX be 4711.", "It was a quiet day.", "Then MOB takes KAX.", "Rain fell again.", "Now ZIR copies MOB.")


def links_of(texts, **settings) -> Links:
    return Links(texts, PassageTerms(texts), LinkSettings(**settings))


def naive(direct, links, asked, decay, rounds) -> list[float]:
    """The best product over all paths of at most ``rounds`` links, by going over all edges that often."""
    best = list(map(float, direct))
    for _ in range(rounds):
        after = list(best)
        for row, score in enumerate(best):
            for term in links.terms.counts[row]:
                if term in asked:
                    continue
                for other in links.terms.holders(term):
                    after[other] = max(after[other], score * decay * links.weight(term))
        best = after
    return best


@pytest.mark.parametrize("seed", range(6))
def test_scores_are_the_best_products_over_all_paths(seed):
    chance = random.Random(seed)
    texts = [" ".join(f"t{chance.randrange(30)}" for _ in range(4)) for _ in range(25)]
    links = links_of(texts, most=6, share=0.2, plain=0.7)
    direct = np.array([chance.random() if chance.random() < 0.2 else 0.0 for _ in texts])
    asked = frozenset({"t1", "t2"})
    found = follow(direct, links, asked, decay=0.8, rounds=30)
    scores = np.zeros(len(texts))
    for one in found:
        scores[one.row] = one.score
    np.testing.assert_allclose(scores, naive(direct, links, asked, 0.8, 30), rtol=1e-12)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_every_link_leads_from_what_came_before_by_a_term_that_both_have():
    found = LinkedSelector().followed("What holds 4711?", passages(*CHAIN))
    by_row = {one.row: one for one in found}
    assert [by_row[row].round for row in (0, 2, 4)] == [0, 1, 2]
    assert [(by_row[row].source, by_row[row].term) for row in (2, 4)] == [(0, "kax"), (2, "mob")]
    assert found.index(by_row[0]) < found.index(by_row[2]) < found.index(by_row[4])
    assert by_row[4].score < by_row[2].score < by_row[0].score == 1.0
    assert not {1, 3} & by_row.keys()


def test_rounds_end_where_they_are_told_to():
    for rounds, rows in ((0, {0}), (1, {0, 2}), (2, {0, 2, 4})):
        found = LinkedSelector(rounds=rounds).score("What holds 4711?", passages(*CHAIN))
        assert {row for row, score in enumerate(found.scores) if score} == rows


def test_a_term_of_one_passage_or_of_too_many_links_nothing_and_names_link_more_than_plain_words():
    texts = ["see Orla here", "with Orla walks", "nobody walks", "nobody sits", *["nobody stays"] * 3]
    links = links_of(texts, most=4, share=1.0, plain=0.5, power=0.5)
    assert links.weight("orla") == 1.0
    assert links.weight("walks") == 0.5
    assert links.weight("nobody") == 0.0  # five passages have it
    assert links.weight("sits") == links.weight("unknown") == 0.0
    assert links.weight("stays") == pytest.approx(0.5 / 2**0.5)
    assert dict(links.of(0)) == {"orla": 1.0}
    assert [LinkSettings(most=50, share=0.05).limit(size) for size in (1, 60, 100, 5000)] == [3, 3, 5, 50]


@pytest.mark.parametrize(
    ("text", "word", "named"),
    [
        ("we met Ana", "Ana", True), ("Ana met us", "Ana", None), ("It ended. Ana left", "Ana", None),
        ("he said “Ana left”", "Ana", True), ("run x2 now", "x2", True), ("the my_name value", "my_name", True),
        ("VAR = 3", "VAR", True), ("a plain word", "plain", False), ("iPhone", "iPhone", True),
        ("(Ana) came", "Ana", None), ("at 1815 they", "1815", True),
    ],
)  # fmt: skip
def test_names_are_told_by_how_they_are_written(text, word, named):
    assert looks_named(text, text.index(word)) is named


def test_scaled_scores_run_from_nothing_to_one():
    assert scaled([2.0, 4.0, None, 3.0]).tolist() == [0.0, 1.0, 0.0, 0.5]
    assert scaled([0.0, 0.0]).tolist() == [0.0, 0.0]
    assert scaled([3.0]).tolist() == [1.0]
    assert scaled([-2.0, -2.0]).tolist() == [1.0, 1.0]
    assert scaled([-4.0, -2.0]).tolist() == [0.0, 1.0]
    assert scaled([None, None]).tolist() == [0.0, 0.0]


class Failing:
    """Has no score for the first passage."""

    label = "failing"

    def cost(self, question, passages):
        return Cost(calls=1, tokens=7)

    def score(self, question, passages, *, cancel=None):
        scores = WordSelector().score(question, passages).scores
        return Scored((None, *scores[1:]), ("no answer", *[""] * (len(scores) - 1)), spent=Spent(calls=1))


@pytest.mark.parametrize("kind", [LinkedSelector, IterativeSelector])
def test_what_the_first_score_lacks_stays_without_one_unless_a_link_reaches_it(kind):
    selector = kind(Failing())
    found = selector.score("quiet day", passages("unread", "a quiet day", "rain"))
    assert (found.scores[0], found.reasons[0]) == (None, "no answer")
    found = selector.score("day of Orla", passages("then Orla slept", "see Orla and Zed", "by Zed again", "fog"))
    assert found.scores[0] is None
    found = selector.score("quiet day", passages("for Zed alone", "a quiet day of Zed", "rain"))
    if kind is IterativeSelector:  # it asks the base again, which fails again
        assert (found.scores[0], found.reasons[0]) == (None, "no answer")
        return
    assert found.scores[0] > 0.0
    assert found.reasons[0] == ""
    assert found.spent.calls >= 1


def chosen(selector, sample, size: int):
    spans = sample.spans if size == 1 else segments(sample, size)
    own = [Passage("d", start, end, sample.text[start:end]) for start, end in spans]
    ranked = by_score(selector.score(sample.question, own).scores)
    return judged(sample, [spans[row] for row in ranked], 300)


@pytest.mark.parametrize("make", [vartrack, twohop])
@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("follower", [LinkedSelector(), IterativeSelector(WordSelector())])
def test_chains_are_found_that_one_question_does_not_find(make, size, follower):
    samples = [make(600, seed) for seed in range(4)]
    once = [chosen(WordSelector(), sample, size) for sample in samples]
    again = [chosen(follower, sample, size) for sample in samples]
    assert np.mean([one.recall for one in once]) <= 0.7
    assert np.mean([one.recall for one in again]) >= 0.9


def test_a_needle_that_one_question_finds_is_still_found_by_following():
    samples = [niah(400, seed) for seed in range(4)]
    for selector in (LinkedSelector(), IterativeSelector(WordSelector())):
        assert all(chosen(selector, sample, 1).recall == 1.0 for sample in samples)


def test_iterative_rounds_are_recorded_and_stand_above_each_other():
    found = IterativeSelector(WordSelector()).iterated("What holds 4711?", passages(*CHAIN))
    assert [one.rows for one in found.rounds] == [(0,), (2,), (4,)]
    assert [one.question for one in found.rounds] == ["What holds 4711?", "kax", "mob"]
    assert found.stopped == "nothing new"
    assert by_score(found.scored.scores)[:3] == (0, 2, 4)
    assert all(score < 1.0 for row, score in enumerate(found.scored.scores) if row in (1, 3))


def test_iterative_rounds_end_by_number_by_budget_and_by_cancel():
    def iterated(**settings):
        return IterativeSelector(WordSelector(), IterativeSettings(**settings))

    by_number = iterated(rounds=2).iterated("What holds 4711?", passages(*CHAIN))
    assert ([one.rows for one in by_number.rounds], by_number.stopped) == ([(0,), (2,)], "rounds")
    by_budget = iterated(budget=5).iterated("What holds 4711?", passages(*CHAIN))
    assert ([one.rows for one in by_budget.rounds], by_budget.stopped) == ([(0,), (2,)], "budget")
    stop = threading.Event()
    stop.set()
    stopped = iterated().iterated("What holds 4711?", passages(*CHAIN), cancel=stop)
    assert (stopped.scored.scores, stopped.stopped) == ((None,) * 5, "cancelled")
    assert LinkedSelector().score("What holds 4711?", passages(*CHAIN), cancel=stop).scores == (None,) * 5


def test_a_question_may_grow_by_the_whole_text():
    settings = IterativeSettings(extend=Extend.TEXT, rounds=3)
    found = IterativeSelector(WordSelector(), settings).iterated("What holds 4711?", passages(*CHAIN))
    assert found.rounds[1].question == f"What holds 4711? {CHAIN[0]}"
    assert {row for one in found.rounds for row in one.rows} >= {0, 2, 4}


def test_costs_are_those_of_the_base_and_of_all_rounds():
    own = passages("a b", "c d")
    assert LinkedSelector(Failing()).cost("q", own) == Cost(calls=1, tokens=7)
    assert IterativeSelector(Failing(), IterativeSettings(rounds=3)).cost("q", own) == Cost(calls=3, tokens=21)


@pytest.mark.parametrize(("question", "texts"), [(" ", ["a"]), ("fox", [])])
@pytest.mark.parametrize("selector", [LinkedSelector(), IterativeSelector(WordSelector())])
def test_no_question_and_no_passages_are_errors_that_say_so(selector, question, texts):
    assert isinstance(selector, Selector)
    for call in (selector.score, selector.cost):
        with pytest.raises(UsageError, match=r"question is empty|no passages"):
            call(question, passages(*texts))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: LinkedSelector(decay=0.0), lambda: LinkedSelector(decay=1.1), lambda: LinkedSelector(rounds=-1),
        lambda: LinkSettings(most=1), lambda: LinkSettings(plain=2.0), lambda: LinkSettings(share=-0.1),
        lambda: IterativeSettings(rounds=0),
        lambda: IterativeSettings(width=0), lambda: IterativeSettings(budget=0), lambda: IterativeSettings(terms=0),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(UsageError):
        wrong()
