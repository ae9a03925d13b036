"""What is kept of long texts: nothing lost without a reason, no budget passed, no character twice."""

import random

import pytest

from tests_support import one_thread  # noqa: F401
from unabridged.contracts import Document
from unabridged.errors import ContextOverflow, DuplicateId, UsageError, ValidationError
from unabridged.rankers.context.counting import default_tokenizer
from unabridged.rankers.select.contracts import Cost, Passage, Scored
from unabridged.rankers.select.records import BEHIND, BUDGET, HEAD, SCORE
from unabridged.rankers.select.selecting import SelectSettings, select
from unabridged.rankers.select.splice import most_that_fit, spliced
from unabridged.rankers.select.tokens import text_tokens

KEY = "The pass key is 71432."


class Scoring:
    """Scores by a function of the passage; None: no score."""

    label = "scoring"

    def __init__(self, score, bounds=None):
        self.of, self.bounds, self.seen = score, bounds, []

    def cost(self, question, passages):
        return Cost(calls=len(passages))

    def score(self, question, passages, *, cancel=None):
        self.seen.append((question, list(passages)))
        scores = tuple(self.of(one) for one in passages)
        reasons = tuple("unreadable" if one is None else "" for one in scores)
        return Scored(scores, reasons, tuple(self.bounds(one) for one in passages) if self.bounds else ())


def has_key(passage):
    return float(KEY in passage.text)


def by_chance(passage):
    return random.Random(passage.start).random()


def hay(words, key_at=None, seed=0):
    chance = random.Random(seed)
    parts = [chance.choice(["tea", "cup", "plate.", "We", "look", "at\r\n", "it.", "\U0001f600"]) for _ in range(words)]
    return " ".join(parts if key_at is None else [*parts[:key_at], KEY, *parts[key_at:]])


def run(selector, texts, question="what is the key?", **settings):
    documents = [Document(f"d{at}", text) for at, text in enumerate(texts)]
    defaults = {"tokens": 40, "overlap": 12}
    return select(selector, documents, question, default_tokenizer(), SelectSettings(**(defaults | settings)))


def count(text):
    return text_tokens(default_tokenizer()).count(text)


@pytest.mark.parametrize("budget", [60, 100, 257, 5000])
@pytest.mark.parametrize("texts", [1, 3])
def test_the_budget_holds_and_every_passage_is_accounted_for(budget, texts):
    sources = [hay(300, seed=seed) for seed in range(texts)]
    selector = Scoring(by_chance)
    found = run(selector, sources, budget_tokens=budget)
    assert found.tokens == count(found.text) <= budget == found.budget
    [(_, offered)] = selector.seen
    judged = [one.passage for one in (*found.kept, *found.dropped)]
    assert sorted(judged, key=offered.index) == offered
    assert len(judged) == len(set(judged)) == found.rounds[0].offered
    assert {one.reason for one in found.kept} <= {HEAD, SCORE}
    assert {one.reason for one in found.dropped} <= {BUDGET}
    worst = min((one.score for one in found.kept if one.reason == SCORE), default=2.0)
    assert all(one.score <= worst for one in found.dropped)
    # One more would be too many.
    if found.dropped:
        order = [f"d{at}" for at in range(texts)]
        best = max(found.dropped, key=lambda one: one.score).passage
        more = spliced([*(one.passage for one in found.kept), best], order)
        assert count(f"{more.text}\n\n{found.question}") > budget


def test_spans_are_of_the_source_in_order_and_hold_nothing_twice():
    sources = [hay(200, seed=seed) for seed in (1, 2)]
    found = run(Scoring(by_chance), sources, k=9)
    for one in found.spans:
        assert one.text == sources[int(one.doc_id[1])][one.start : one.end]
    places = [(one.doc_id, one.start) for one in found.spans]
    assert places == sorted(places)
    for one, other in zip(found.spans, found.spans[1:], strict=False):
        assert one.doc_id != other.doc_id or one.end < other.start
    covered = {(one.passage.doc_id, at) for one in found.kept for at in range(one.passage.start, one.passage.end)}
    assert covered == {(one.doc_id, at) for one in found.spans for at in range(one.start, one.end)}
    assert found.text == "\n\n".join([*(one.text.strip() for one in found.spans), "what is the key?"])


def test_with_room_for_all_the_text_comes_back_whole():
    source = hay(200)
    for settings in ({"k": 1000}, {"budget_tokens": 10_000}):
        found = run(Scoring(by_chance), [source], **settings)
        assert [one.text for one in found.spans] == [source]
        assert found.dropped == ()


@pytest.mark.parametrize("at", range(0, 201, 40))
def test_a_key_anywhere_stays(at):
    found = run(Scoring(has_key), [hay(200, key_at=at)], budget_tokens=150)
    assert KEY in found.text
    assert found.kept[0].passage.start == 0


def test_the_best_k_are_kept_and_the_head_besides():
    found = run(Scoring(by_chance), [hay(300)], k=2)
    assert [one.reason for one in found.kept].count(SCORE) == 2
    assert found.kept[0].reason == HEAD
    assert {one.reason for one in found.dropped} == {BEHIND}
    without = run(Scoring(by_chance), [hay(300)], k=2, keep_head=False)
    assert [one.reason for one in without.kept] == [SCORE, SCORE]
    two = run(Scoring(lambda one: -one.start), [hay(99), hay(99)], k=1, keep_head=True)
    assert (two.kept[0].passage.doc_id, two.kept[0].reason) == ("d0", HEAD)
    assert ("d1", HEAD) in [(one.passage.doc_id, one.reason) for one in two.kept]


def test_a_passage_without_a_score_is_dropped_with_the_selectors_reason():
    found = run(Scoring(lambda one: None if "cup" in one.text else 1.0), [hay(300)], k=1000, keep_head=False)
    assert all(("cup" in one.passage.text) == (one.reason == "unreadable") for one in found.dropped)
    assert found.dropped
    nothing = run(Scoring(lambda one: None), [hay(100)], k=3, keep_head=False)
    assert nothing.spans == ()
    assert nothing.text == "what is the key?"


def test_without_a_question_the_end_of_the_last_text_is_it():
    source = f"{hay(150)} And what, of all things, is the key?"
    selector = Scoring(by_chance)
    found = run(selector, [source], question=None, question_tokens=10, k=2)
    assert count(found.question) <= 10
    assert found.asked.text == source[found.asked.start :]
    assert source.endswith(found.question) or source.rstrip().endswith(found.question)
    assert count(source[found.asked.start - 12 :]) > 10
    assert all(one.end <= found.asked.start for one in selector.seen[0][1])
    assert max(one.end for one in selector.seen[0][1]) == found.asked.start
    with pytest.raises(UsageError, match="whole text"):
        run(selector, ["short one"], question=None, k=2)


def test_what_is_too_long_for_the_context_is_gone_over_again_in_finer_passages():
    source = hay(900, key_at=444)
    selector = Scoring(has_key)
    found = run(selector, [source], k=6, context=200, tokens=64, keep_head=False)
    assert len(found.rounds) > 1
    sizes = [one.tokens for one in found.rounds]
    assert sizes == sorted(set(sizes), reverse=True)
    assert found.tokens == sizes[-1] <= 200
    assert KEY in found.text
    for before, after in zip(found.rounds, found.rounds[1:], strict=False):
        held = {at for one in before.kept for at in range(one.passage.start, one.passage.end)}
        assert held == {at for one in (*after.kept, *after.dropped) for at in range(one.passage.start, one.passage.end)}
    assert all(one.text == source[one.start : one.end] for one in found.spans)
    with pytest.raises((ContextOverflow, UsageError)):
        run(selector, [source], k=60, context=60, keep_head=False)


def test_passages_whose_bounds_reach_over_the_cut_are_told():
    scores = {0: 9.0, 1: 5.0, 2: 4.0, 3: 1.0}

    def rank(passage):
        return scores.get(passage.start // 60, 0.0)

    sure = run(Scoring(rank, lambda one: (rank(one), rank(one))), [hay(60)], k=2, keep_head=False, overlap=0)
    assert not any(one.unsure for one in (*sure.kept, *sure.dropped))
    found = run(Scoring(rank, lambda one: (rank(one), rank(one) + 6)), [hay(400)], k=2, keep_head=False, overlap=0)
    low = min(one.bounds[0] for one in found.kept)
    high = max(one.bounds[1] for one in found.dropped)
    assert low < high
    for one in found.kept:
        assert one.unsure == (one.bounds[0] < high)
    for one in found.dropped:
        assert one.unsure == (one.bounds[1] > low)


def test_what_cannot_be_done_is_said():
    scoring = Scoring(by_chance)
    with pytest.raises(UsageError, match="question is empty"):
        run(scoring, ["text"], question=" \n", k=1)
    with pytest.raises(UsageError, match="no text"):
        run(scoring, [], k=1)
    with pytest.raises(ValidationError, match="'d1' has no text"):
        run(scoring, ["text", " \n"], k=1)
    with pytest.raises(DuplicateId):
        select(scoring, [Document("a", "x"), Document("a", "y")], "q", default_tokenizer(), SelectSettings(k=1))
    with pytest.raises(UsageError, match="question has 40 tokens"):
        run(scoring, [hay(100)], question="why " * 40, budget_tokens=40)
    with pytest.raises(UsageError, match="no room for the best passage"):
        run(scoring, [hay(300)], budget_tokens=20, keep_head=False)
    with pytest.raises(UsageError, match="keep_head=False"):
        run(scoring, [hay(300)], budget_tokens=20)
    for bad in ({}, {"k": 0}, {"budget_tokens": 0}, {"k": 1, "question_tokens": 0}):
        with pytest.raises(UsageError):
            SelectSettings(**bad)


def test_a_title_is_part_of_the_source():
    document = Document("d", "some text of it", title="Its title")
    found = select(Scoring(by_chance), [document], "q", default_tokenizer(), SelectSettings(k=1))
    assert found.spans[0].text == document.source


def test_splices_join_what_overlaps_and_touches():
    text = "abcdefghij"
    parts = [Passage("d", a, b, text[a:b]) for a, b in [(6, 9), (0, 3), (2, 4), (4, 5), (2, 3)]]
    found = spliced(parts, ["d"])
    assert [(one.start, one.end, one.text) for one in found.spans] == [(0, 5, "abcde"), (6, 9, "ghi")]
    assert found.text == "abcde\n\nghi"


def test_the_most_that_fit_by_halving_is_that_of_trying_each():
    for count_ in range(9):
        for limit in range(12):
            assert most_that_fit(count_, lambda n, limit=limit: n <= limit) == min(count_, limit)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 100])
def test_the_most_that_fit_are_found_without_trying_much_longer_texts(count):
    from unabridged.rankers.select.splice import most_that_fit

    for most in range(count + 2):
        tried: list[int] = []

        def fits(number: int, most: int = most, tried: list[int] = tried) -> bool:
            tried.append(number)
            return number <= most

        assert most_that_fit(count, fits) == min(count, most)
        assert max(tried, default=0) <= max(1, 2 * most)
