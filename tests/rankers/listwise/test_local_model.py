"""Listwise ranking with a real model on this machine, tiny and random: permutations by construction."""

import importlib.util
from pathlib import Path

import pytest

from tests_support import one_thread  # noqa: F401  a fixture for all that is here
from unabridged.rankers.contracts import Candidate, Request, Status
from unabridged.rankers.listwise.asking import Settings
from unabridged.rankers.listwise.engine import ListwiseRanker
from unabridged.rankers.listwise.prompts import LETTERED
from unabridged.rankers.listwise.sliding import Full
from unabridged.rankers.listwise.strategies import read_strategy
from unabridged.rankers.listwise.templates import Shown, render
from unabridged.rankers.lm.contracts import Message
from unabridged.rankers.pointwise import PointwiseRanker, QueryLikelihoodRanker

_PLACE = Path(__file__).parents[1] / "lm" / "tiny_language_models.py"
_SPEC = importlib.util.spec_from_file_location("tiny_language_models", _PLACE)
tiny = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tiny)

TEXTS = [f"the text {number} about {word}" for number, word in enumerate(["cats", "Peru", "stocks", "rain", "code"])]
REQUEST = Request("the capital of Peru", tuple(Candidate(str(place), text) for place, text in enumerate(TEXTS)))


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    from unabridged.rankers.lm.local import LocalModel

    return LocalModel.load(tiny.llama(tmp_path_factory.mktemp("listwise") / "model"), device="cpu")


@pytest.mark.parametrize("strategy", ["full", "full:2", "sliding:3:2", "topdown:3:1", "setwise:2:2"])
def test_a_random_model_gives_whole_answers_for_its_answers_are_held_to_the_ids(local, strategy):
    ranker = ListwiseRanker(local, read_strategy(strategy))
    [ranking] = ranker.rank([REQUEST])
    assert sorted(ranking.order) == list(range(5))
    assert (ranking.status, ranking.steps) == (Status.OK, ())
    assert ranking.spent.usage.prompt > 0
    assert ranking.order == ranker.rank([REQUEST])[0].order
    if strategy in ("full", "sliding:3:2"):
        assert ranker.estimate([REQUEST]).usage.prompt == ranking.spent.usage.prompt


def test_the_first_token_orders_as_the_logits_behind_the_bracket(local):
    import torch

    settings = Settings(template=LETTERED, first_token=True)
    [ranking] = ListwiseRanker(local, Full(), settings).rank([REQUEST])
    prompt = (*render(LETTERED, REQUEST.query, [Shown(text) for text in TEXTS]), Message("assistant", "["))
    with torch.inference_mode():
        logits = local.model(torch.tensor([local.ids(prompt)])).logits[0, -1]
    [letters] = zip(*(local.vocabulary.encode(letter) for letter in "ABCDE"), strict=True)
    right = sorted(range(5), key=lambda place: -float(logits[letters[place]]))
    assert ranking.order == tuple(right)
    assert ranking.status is Status.OK


def test_yes_and_no_and_likelihoods_are_those_of_the_logits(local):
    import torch

    [ranking] = PointwiseRanker(local).rank([REQUEST])
    [likely] = QueryLikelihoodRanker(local).rank([REQUEST])
    assert ranking.status is likely.status is Status.OK
    scores = dict(zip(likely.order, likely.scores, strict=True))
    from unabridged.rankers.pointwise import ASKED

    for place, text in enumerate(TEXTS):
        ids = local.ids(render(ASKED, "", [Shown(text)]))
        more = local.vocabulary.encode(REQUEST.query)
        with torch.inference_mode():
            values = torch.log_softmax(local.model(torch.tensor([[*ids, *more]])).logits[0].double(), -1)
        total = sum(float(values[len(ids) - 1 + at, token]) for at, token in enumerate(more))
        assert scores[place] == pytest.approx(total, abs=1e-4)


def test_texts_too_long_for_the_context_are_shown_by_segments_and_ranked(local):
    long = tuple(Candidate(str(n), f"the text {n}. " * 400 + "Peru.") for n in range(4))
    [ranking] = ListwiseRanker(local, Full()).rank([Request("Peru", long)])
    assert ranking.status is Status.OK
    assert all(exposure.shown < exposure.total for exposure in ranking.exposures)
    assert all(any("Peru" in long[n].text[slice(*span)] for span in exposure.spans)
               for n, exposure in enumerate(ranking.exposures))  # fmt: skip
    assert ranking.spent.usage.total <= local.capabilities.context
