"""Ids that compete at one position, query likelihood and drawn orders: what is learned is what ranks."""

import importlib.util
import math
from pathlib import Path

import pytest
from tests_rankers import request_of

from tests_support import one_thread  # noqa: F401  a fixture for all that is here
from unabridged.errors import Overflow, UsageError
from unabridged.rankers.contracts import Candidate, Request
from unabridged.rankers.listwise.asking import Settings
from unabridged.rankers.listwise.engine import ListwiseRanker
from unabridged.rankers.listwise.prompts import LETTERED, LISTWISE
from unabridged.rankers.pointwise import QueryLikelihoodRanker
from unabridged.training.fullrank.examples import Making, make_example
from unabridged.training.fullrank.lessons import Lesson, shuffled
from unabridged.training.fullrank.likelihood import LikelihoodTask, make_group
from unabridged.training.fullrank.task import FullRankTask
from unabridged.training.fullrank.train import Plan, train_fullrank
from unabridged.training.fullrank.tuned import Tuning
from unabridged.training.loop import Schedule

_PLACE = Path(__file__).parents[1] / "rankers" / "lm" / "tiny_language_models.py"
_SPEC = importlib.util.spec_from_file_location("tiny_language_models", _PLACE)
tiny = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tiny)

REQUEST = request_of((9, 4, 5, 7), name="q")
ORDER = (2, 0, 3, 1)
LESSONS = [Lesson(request_of(values, name=str(values)), order) for values, order in (
    ((1, 2), (1, 0)), ((9, 4, 5), (0, 2, 1)), ((3, 8), (1, 0)), ((7, 6), (0, 1)))]  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.llama(tmp_path_factory.mktemp("base") / "model")


def load(folder):
    from unabridged.rankers.lm.local import LocalModel

    return LocalModel.load(folder, device="cpu", precision="float32")


def naive_rank_net(scores, ranks):
    pairs = [(i, j) for i in range(len(ranks)) for j in range(len(ranks)) if ranks[i] < ranks[j]]
    return sum(math.log1p(math.exp(scores[j] - scores[i])) / (ranks[i] + ranks[j]) for i, j in pairs) / len(pairs)


def test_the_first_ids_that_are_learned_are_those_whose_logits_rank(base):
    import torch

    local = load(base)
    example = make_example(local, Making(template=LETTERED), REQUEST, ORDER)
    assert local.vocabulary.bytes_of(list(example.first.ids)) == b"ABCD"
    assert example.first.ranks == (2, 4, 1, 3)
    ids = torch.tensor([[*example.prompt, *example.answer[: example.first.at]]])
    with torch.no_grad():
        row = local.model(ids).logits[0, -1]
    scores = [float(row[one]) for one in example.first.ids]
    plain, both = (
        FullRankTask(load(base).model, [example], Tuning(method="full", first=weight)).mean_loss([example])
        for weight in (0.0, 3.0)
    )
    assert both - plain == pytest.approx(3 * naive_rank_net(scores, example.first.ranks), abs=1e-5)
    settings = Settings(template=LETTERED, first_token=True, passage_tokens=100)
    [ranking] = ListwiseRanker(local, settings=settings).rank([REQUEST])
    assert ranking.order == tuple(sorted(range(4), key=lambda place: -scores[place]))


def test_ids_of_several_tokens_cannot_compete_at_one_position(base):
    local = load(base)
    long = request_of(range(30), name="long")
    example = make_example(local, Making(template=LISTWISE, passage_tokens=16), long, tuple(range(30)))
    assert example.first is None
    with pytest.raises(UsageError, match="one token each"):
        FullRankTask(local.model, [example], Tuning(first=1.0))
    assert FullRankTask(local.model, [example], Tuning()).mean_loss([example]) > 0


def test_the_likelihoods_that_are_learned_are_those_that_rank(base):
    local = load(base)
    group = make_group(local, REQUEST, ORDER, passage_tokens=None)
    [ranking] = QueryLikelihoodRanker(local).rank([REQUEST])
    task = LikelihoodTask(local.model, [group], Tuning(method="full"))
    scores = task.scores(group).tolist()
    assert [scores[place] for place in ranking.order] == pytest.approx(list(ranking.scores), abs=1e-3)
    assert group.ranks == (2, 4, 1, 3)
    assert task.mean_loss([group]) == pytest.approx(naive_rank_net(scores, group.ranks), abs=1e-5)
    assert task.tokens([0]) == len(group) == ranking.spent.usage.prompt


def test_rows_of_other_lengths_do_not_change_a_score(base):
    local = load(base)
    alone = [make_group(local, Request("the query", (one,)), (0,), passage_tokens=None) for one in REQUEST.candidates]
    longer = Request("the query", (*REQUEST.candidates, Candidate("long", "a much longer text " * 12)))
    together = make_group(local, longer, range(5), passage_tokens=None)
    task = LikelihoodTask(local.model, [together], Tuning(method="full"))
    apart = [value for one in alone for value in task.scores(one).tolist()]
    assert task.scores(together).tolist()[:4] == pytest.approx(apart, abs=1e-4)


def test_a_query_that_does_not_fit_or_says_nothing_is_refused(base):
    local = load(base)
    for request in (Request("", REQUEST.candidates, "e"), Request("word " * 5000, REQUEST.candidates, "e")):
        with pytest.raises(Overflow, match="'e'"):
            make_group(local, request, ORDER, passage_tokens=20)


def test_likelihood_is_learned_and_the_folder_ranks_by_it(base, tmp_path):
    plan = Plan(
        base=base, out=tmp_path / "out", tuning=Tuning(batch=2, rank=4), device="cpu", storage="float32",
        schedule=Schedule(epochs=6, lr=5e-3, warmup_steps=1), objective="likelihood",
    )  # fmt: skip
    report = train_fullrank(plan, LESSONS, LESSONS[:1])
    assert report.last_loss < 0.8 * report.first_loss
    assert report.held_out_after < report.held_out_before
    assert (report.lists, report.candidates) == (4, 9)
    assert not (tmp_path / "out" / "template.json").exists()
    rankings = QueryLikelihoodRanker(load(tmp_path / "out")).rank([one.request for one in LESSONS])
    assert [one.order for one in rankings] == [one.order for one in LESSONS]


@pytest.mark.parametrize("odd", [{"tuning": Tuning(first=1.0)}, {"making": Making(template=LETTERED)}])
def test_options_of_lists_mean_nothing_to_likelihood(base, tmp_path, odd):
    with pytest.raises(UsageError, match="no meaning"):
        Plan(base=base, out=tmp_path / "out", objective="likelihood", **odd)
    with pytest.raises(UsageError, match="likelihood"):
        Plan(base=base, out=tmp_path / "out", objective="lists")


def test_products_in_bfloat16_change_what_is_computed(base):
    local = load(base)
    group = make_group(local, REQUEST, ORDER, passage_tokens=None)
    exact, rough = (
        LikelihoodTask(local.model, [group], Tuning(method="full", bfloat16=kind)).mean_loss([group])
        for kind in (None, True)
    )
    assert exact != rough
    assert rough == pytest.approx(exact, rel=0.1)


def test_a_drawn_order_keeps_the_documents_their_ranks_and_is_the_same_again():
    lesson = Lesson(REQUEST, ORDER)
    [one], [again], [other] = shuffled([lesson], 0), shuffled([lesson], 0), shuffled([lesson], 4)
    assert one == again
    assert one.request.candidates != lesson.request.candidates
    assert other.request.candidates != one.request.candidates
    for dealt in (one, other):
        ids = [dealt.request.candidates[place].id for place in dealt.order]
        assert ids == [REQUEST.candidates[place].id for place in ORDER]
