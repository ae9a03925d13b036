"""Candidates judged alone: scores are numbers or None, never a number that looks like a score."""

import math

import pytest
from tests_rankers import ScriptedModel, body, request_of

from unabridged.errors import ContentFiltered, ContextOverflow, ServerUnavailable, UsageError
from unabridged.rankers.contracts import KEPT, SEGMENTS, UNREAD, Candidate, Ranker, Request, Status
from unabridged.rankers.listwise.prompts import LISTWISE, YES_NO
from unabridged.rankers.lm.contracts import Choice, Completion, Usage
from unabridged.rankers.pointwise import ASKED, PointwiseRanker, PointwiseSettings, QueryLikelihoodRanker


def worth(prompt) -> float:
    return float(body(prompt).partition("worth ")[2].split()[0])


def judged(prompt, sampling, constraint):
    """Yes with a probability that rises with the worth."""
    assert constraint == Choice(labels=("yes", "no"))
    assert sampling.max_tokens == 1
    good = 1 / (1 + math.exp(-worth(prompt) / 100))
    first = {"yes": math.log(good), "no": math.log(1 - good)}
    return Completion(
        text="yes", usage=Usage(prompt=7, completion=1), finish="length", seconds=0.5, constrained=True, first=first
    )


def test_the_score_is_the_difference_of_two_log_probabilities():
    ranker = PointwiseRanker(ScriptedModel(judged, logprobs=20))
    assert isinstance(ranker, Ranker)
    one, empty = ranker.rank([request_of([30, 90, 10, 90]), request_of([])])
    assert one.order == (1, 3, 0, 2)
    assert one.scores == pytest.approx((0.9, 0.9, 0.3, 0.1))
    assert (one.status, one.spent.calls, one.spent.usage.prompt, one.spent.seconds) == (Status.OK, 4, 28, 2.0)
    assert (empty.order, empty.scores, empty.status) == ((), (), Status.OK)


@pytest.mark.parametrize(
    "failure",
    [
        ServerUnavailable("gone"),
        ContentFiltered("no"),
        Completion(text="3", usage=None, finish="stop", seconds=0, constrained=False, first={"yes": -0.1, " no": -3}),
        Completion(text="yes", usage=None, finish="stop", seconds=0, constrained=False),
        Completion(text="", usage=None, finish="stop", seconds=0, constrained=False, first={"yes": -1, "no": math.nan}),
    ],
    ids=["gone", "filtered", "one label of two", "no log-probabilities", "no number"],
)
def test_a_candidate_without_a_score_has_none_and_stands_last(failure):
    def partly(prompt, sampling, constraint):
        return failure if worth(prompt) == 90 else judged(prompt, sampling, constraint)

    [ranking] = PointwiseRanker(ScriptedModel(partly, logprobs=20)).rank([request_of([10, 90, 30])])
    assert ranking.order == (2, 0, 1)
    assert ranking.scores[-1] is None
    assert (ranking.status, len(ranking.steps)) == (Status.PARTIAL, 1)
    assert ranking.steps[0].items == (1,)
    assert ranking.exposures[1].flags == (KEPT, UNREAD)
    [ranking] = PointwiseRanker(ScriptedModel(lambda *_: failure, logprobs=20)).rank([request_of([10, 90, 30])])
    assert (ranking.order, ranking.status) == ((0, 1, 2), Status.FAILED)


def test_long_candidates_are_shown_by_their_best_segments():
    text = "filler. " * 900 + "The capital of Peru is Lima, worth 90. " + "filler. " * 900
    request = Request("capital of Peru", (Candidate("a", "worth 5 x"), Candidate("b", text)))
    model = ScriptedModel(judged, logprobs=20, context=200)
    [ranking] = PointwiseRanker(model).rank([request])
    assert ranking.order == (1, 0)
    assert ranking.exposures[1].flags == (SEGMENTS,)
    assert all(model.count_tokens(prompt) + 1 <= 200 for prompt, *_ in model.calls)


class Likely(ScriptedModel):
    """The query is the likelier the more the document is worth."""

    def score(self, prefixes, continuations):
        self.asked = list(zip(prefixes, continuations, strict=True))
        return [worth(prompt) - 200 for prompt in prefixes]


def test_query_likelihood_scores_the_query_after_each_document():
    model = Likely(judged)
    ranker = QueryLikelihoodRanker(model)
    assert isinstance(ranker, Ranker)
    [ranking] = ranker.rank([request_of([3, 9, 1], query="some words")])
    assert (ranking.order, ranking.scores) == ((1, 0, 2), (-191.0, -197.0, -199.0))
    assert all(
        continuation == "some words" and "some words" not in body(prompt) for prompt, continuation in model.asked
    )
    assert ranking.spent.calls == 3
    [empty] = ranker.rank([request_of([])])
    assert empty.order == ()


def test_a_likelihood_that_fails_leaves_the_first_stage():
    class Small(Likely):
        def score(self, prefixes, continuations):
            raise ContextOverflow("too long")

    [ranking] = QueryLikelihoodRanker(Small(judged)).rank([request_of([3, 9, 1])])
    assert (ranking.order, ranking.status) == ((0, 1, 2), Status.FAILED)
    assert "ContextOverflow" in ranking.steps[0].reason


def test_models_and_templates_that_cannot_do_it_are_refused():
    with pytest.raises(UsageError, match="log-probabilities"):
        PointwiseRanker(ScriptedModel(judged))
    with pytest.raises(UsageError, match="local"):
        QueryLikelihoodRanker(ScriptedModel(judged))
    with pytest.raises(UsageError, match="shows the query"):
        QueryLikelihoodRanker(Likely(judged), PointwiseSettings(template=YES_NO))
    for wrong in ({"template": LISTWISE}, {"yes": "no"}, {"workers": 0}, {"passage_tokens": 0}):
        with pytest.raises(UsageError):
            PointwiseSettings(**wrong)
    assert ASKED.method == "pointwise"
