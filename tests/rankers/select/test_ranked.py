"""Rankers behind the contract of selectors: those that judge alone, and those whose scores share one prompt."""

import importlib.util
import random
import threading
from pathlib import Path

import numpy as np
import pytest

from tests_support import one_thread  # noqa: F401  a fixture for all that is here
from unabridged.errors import UsageError
from unabridged.rankers.attention import AttentionRanker
from unabridged.rankers.contracts import CUT, Candidate, Exposure, Ranking, Request, Spent, Status, Step
from unabridged.rankers.cross import CrossRanker
from unabridged.rankers.lm.contracts import Usage
from unabridged.rankers.pointwise import QueryLikelihoodRanker
from unabridged.rankers.scored import scored
from unabridged.rankers.select.contracts import Cost, Passage, Selector
from unabridged.rankers.select.grouped import TOO_LONG, GroupedSelector, GroupSettings, grouped
from unabridged.rankers.select.ranked import READ_IN_PART, RankerSelector, cross_cost

_RANKERS = Path(__file__).parents[1]


def module(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    from unabridged.rankers.lm.local import LocalModel

    tiny = module(_RANKERS / "lm" / "tiny_language_models.py")
    return LocalModel.load(tiny.llama(tmp_path_factory.mktemp("lm") / "model"), device="cpu")


@pytest.fixture(scope="module")
def cross(tmp_path_factory):
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    place = tmp_path_factory.mktemp("cross")
    module(_RANKERS.parent / "encoders" / "tiny_models.py").bert(place, plain=True)
    config = BertConfig.from_pretrained(place)
    config.num_labels = 1
    torch.manual_seed(3)
    BertForSequenceClassification(config).save_pretrained(place)
    return CrossRanker.load(str(place))


def passages(*texts: str) -> list[Passage]:
    return [Passage("d", 0, len(text), text) for text in texts]


TEXTS = ("the cat sat", "mat " * 90 + "the query", "a dog", "the the the", "q", "cat mat cat")


class Counting:
    """Scores a text by how often it says the query; keeps what it was asked."""

    label = "counting"

    def __init__(self, *, flags=(), orders_only=False, fails=()):
        self.requests: list[Request] = []
        self.flags, self.orders_only, self.fails = flags, orders_only, fails

    def rank(self, requests, *, cancel=None):
        self.requests += requests
        return [self._one(request) for request in requests]

    def _one(self, request):
        texts = [one.text for one in request.candidates]
        if self.orders_only:
            return Ranking(tuple(range(len(texts))), Status.OK)
        known = [None if text in self.fails else float(text.split().count(request.query)) for text in texts]
        shown = tuple(Exposure(9, 9, (), 1, (CUT,) if text in self.flags else ()) for text in texts)
        steps = tuple(Step(1, (n,), "first-stage", "Broken: no answer") for n, one in enumerate(known) if one is None)
        return scored(
            known, exposures=shown, steps=steps, spent=Spent(calls=len(texts), usage=Usage(prompt=3, completion=0))
        )


def words_cost(question, texts):
    return Cost(calls=len(texts), tokens=sum(len(text.split()) for text in texts))


def test_a_cross_encoders_scores_are_those_of_its_ranking_and_its_cost_is_what_it_spends(cross):
    selector = RankerSelector(cross, cross_cost(cross))
    assert isinstance(selector, Selector)
    own = passages(*TEXTS)
    found = selector.score("the cat", own)
    request = Request("the cat", tuple(Candidate(str(n), text) for n, text in enumerate(TEXTS)))
    [ranking] = cross.rank([request])
    assert [found.scores[row] for row in ranking.order] == list(ranking.scores)
    assert len(set(found.scores)) > 3
    cost = selector.cost("the cat", own)
    assert (cost.calls, cost.tokens) == (found.spent.calls, found.spent.usage.prompt)
    assert cost.calls > len(TEXTS)  # the long one has several windows
    parts = RankerSelector(cross, cross_cost(cross), at_once=2).score("the cat", own)
    np.testing.assert_allclose(parts.scores, found.scores, atol=1e-5)


def test_likelihood_of_a_language_model_stands_behind_the_same_contract(local):
    selector = RankerSelector(QueryLikelihoodRanker(local), words_cost)
    found = selector.score("capital of Peru", passages("Lima is the capital of Peru.", "cats", ""))
    assert all(score is not None and score < 0.0 for score in found.scores)
    assert found.spent.calls == 3


def test_what_was_read_in_part_or_failed_has_no_score_and_says_so():
    ranker = Counting(flags=("fox fox",), fails=("hen",))
    found = RankerSelector(ranker, words_cost).score("fox", passages("fox", "fox fox", "hen"))
    assert found.scores == (1.0, None, None)
    assert found.reasons == ("", READ_IN_PART, "Broken: no answer")


def test_groups_of_passages_may_be_cancelled_between_each_other():
    stop = threading.Event()

    class Stopping(Counting):
        def rank(self, requests, *, cancel=None):
            if cancel is not None and cancel.is_set():
                texts = [one.text for one in requests[0].candidates]
                step = Step(1, tuple(range(len(texts))), "stopped", "cancelled")
                return [scored([None] * len(texts), exposures=(), steps=(step,))]
            stop.set()
            return super().rank(requests)

    found = RankerSelector(Stopping(), words_cost, at_once=2).score("fox", passages(*["fox"] * 5), cancel=stop)
    assert found.scores == (1.0, 1.0, None, None, None)
    assert found.reasons[2:] == ("cancelled",) * 3


def test_rankers_that_only_order_are_refused_by_name():
    for selector in (
        RankerSelector(Counting(orders_only=True), words_cost),
        GroupedSelector(Counting(orders_only=True), lambda texts: [1] * len(texts)),
    ):
        with pytest.raises(UsageError, match="counting orders without scores"):
            selector.score("fox", passages("fox"))


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_neighbours_that_fit_and_lose_nobody(seed):
    chance = random.Random(seed)
    sizes = [chance.randrange(0, 11) for _ in range(40)]
    rows = sorted(chance.sample(range(40), 30))
    found = grouped(rows, sizes, 20)
    assert [row for group in found for row in group] == rows
    assert all(sum(sizes[row] for row in group) <= 20 for group in found)
    assert all(len(group) > 1 for group in found[:-1])
    assert len(found[-1]) > 1 or len(found[-2]) == 2


def lengths(texts):
    return [len(text.split()) for text in texts]


def test_only_scores_of_one_prompt_are_given_and_the_best_of_all_is_among_them():
    texts = [f"pad{n} " + "fox " * (n * 7 % 12) + "end" for n in range(30)]
    ranker = Counting()
    selector = GroupedSelector(ranker, lengths, GroupSettings(tokens=40))
    found = selector.score("fox", passages(*texts))
    last = [one.text for one in ranker.requests[-1].candidates]
    assert {texts[row] for row, score in enumerate(found.scores) if score is not None} == set(last)
    assert sum(lengths(last)) <= 40
    counts = [text.split().count("fox") for text in texts]
    assert found.scores[counts.index(max(counts))] == max(counts)
    assert {reason for reason, score in zip(found.reasons, found.scores, strict=True) if score is None} <= {
        f"left out in round {n}" for n in range(1, len(ranker.requests))
    }
    assert all(sum(lengths([one.text for one in request.candidates])) <= 40 for request in ranker.requests)


def test_one_group_is_the_ranking_itself_and_costs_what_it_says(local):
    ranker = AttentionRanker(local)
    texts = ("The cat sat.", "Lima is the capital of Peru.", "mice")
    selector = GroupedSelector(ranker, local.count_texts, GroupSettings(tokens=512, calls=2))
    found = selector.score("capital of Peru", passages(*texts))
    [ranking] = ranker.rank([Request("capital of Peru", tuple(Candidate(str(n), one) for n, one in enumerate(texts)))])
    assert [found.scores[row] for row in ranking.order] == list(ranking.scores)
    cost = selector.cost("capital of Peru", passages(*texts))
    assert cost.calls == found.spent.calls == 2
    assert cost.tokens == sum(local.count_texts(list(texts))) + 2 * local.count_texts(["capital of Peru"])[0]


def test_attention_over_groups_ends_with_one_prompt(local):
    texts = [f"row {n} says {'Peru' if n == 7 else 'nothing'}" for n in range(12)]
    size = max(local.count_texts(texts))
    selector = GroupedSelector(AttentionRanker(local), local.count_texts, GroupSettings(tokens=4 * size, calls=2))
    found = selector.score("Peru", passages(*texts))
    known = [score for score in found.scores if score is not None]
    assert 1 < len(known) < 12
    assert found.spent.calls <= selector.cost("Peru", passages(*texts)).calls


def test_passages_too_long_to_meet_others_have_no_score_and_one_alone_has():
    selector = GroupedSelector(Counting(), lengths, GroupSettings(tokens=6))
    found = selector.score("fox", passages("fox hen hen hen", "fox", "hen"))
    assert (found.scores, found.reasons) == ((None, 1.0, 0.0), (TOO_LONG, "", ""))
    assert selector.score("fox", passages("fox hen hen hen hen hen hen")).scores == (1.0,)
    assert selector.score("fox", passages("a b c d e", "f g h i j")).scores == (None, None)


def test_a_set_cancel_leaves_nothing_half_compared():
    stop = threading.Event()

    class Stopping(Counting):
        def rank(self, requests, *, cancel=None):
            stop.set()
            return super().rank(requests)

    selector = GroupedSelector(Stopping(), lengths, GroupSettings(tokens=4))
    found = selector.score("fox", passages(*["fox hen"] * 6), cancel=stop)
    assert found.scores == (None,) * 6
    assert all(found.reasons)
    assert found.spent.calls == 2


@pytest.mark.parametrize(("question", "texts"), [("", ["a"]), ("fox", [])])
def test_no_question_and_no_passages_are_errors_that_say_so(question, texts):
    for selector in (RankerSelector(Counting(), words_cost), GroupedSelector(Counting(), lengths)):
        assert isinstance(selector, Selector)
        for call in (selector.score, selector.cost):
            with pytest.raises(UsageError, match=r"question is empty|no passages"):
                call(question, passages(*texts))


@pytest.mark.parametrize("wrong", [{"tokens": 1}, {"advance": 0.0}, {"advance": 1.0}, {"calls": 0}])
def test_settings_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(UsageError):
        GroupSettings(**wrong)
    with pytest.raises(UsageError):
        RankerSelector(Counting(), words_cost, at_once=0)
