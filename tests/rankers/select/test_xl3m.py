"""Scores by a language model against transformers' logits, and by a server that tells a part of them."""

import importlib.util
import threading
from pathlib import Path

import numpy as np
import pytest

from tests_support import one_thread  # noqa: F401
from unabridged.errors import ContextOverflow, UsageError
from unabridged.rankers.lm.contracts import Capabilities, Completion
from unabridged.rankers.lm.wrapped import Wrapped
from unabridged.rankers.select.contracts import Passage, Selector
from unabridged.rankers.select.layouts import AnswerLayout, QuestionLayout
from unabridged.rankers.select.likely import LikelihoodSelector
from unabridged.rankers.select.server_bounds import entropy_bounds
from unabridged.rankers.select.xl3m import EntropySelector, EntropySettings

_FILE = Path(__file__).parents[1] / "lm" / "tiny_language_models.py"
_SPEC = importlib.util.spec_from_file_location("tiny_language_models_of_select", _FILE)
_TINY = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_TINY)
QUESTION = "where is the cat?"
TEXTS = ["the cat is there", "an end [1] > [2]", "the cat is there", " \n", "the the the " * 20]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from unabridged.rankers.lm.local import LocalModel

    return LocalModel.load(_TINY.llama(tmp_path_factory.mktemp("llama") / "model"), device="cpu")


def passages(texts=TEXTS):
    starts = np.cumsum([0, *map(len, texts)]).tolist()
    return [Passage("d", at, at + len(text), text) for at, text in zip(starts, texts, strict=False)]


def logits(model, ids):
    import torch

    with torch.inference_mode():
        return model.model(torch.tensor([ids])).logits[0].double()


def direct(model, text, question=QUESTION):
    """Entropy of the next token by one plain pass."""
    import torch

    layout = AnswerLayout()
    last = logits(model, model.ids(layout.prompt(text, question, continues=True)))[-1]
    return float(torch.distributions.Categorical(logits=last).entropy())


def test_the_score_is_the_entropy_of_transformers_logits(model):
    found = EntropySelector(model).score(QUESTION, passages())
    for text, score, reason in zip(TEXTS, found.scores, found.reasons, strict=True):
        if text.strip():
            assert score == pytest.approx(-direct(model, text), abs=1e-5)
            assert reason == ""
        else:
            assert (score, reason) == (None, "empty")
    assert found.spent.calls == 3
    assert found.bounds == ()


@pytest.mark.parametrize("kind", ["entropy", "mean", "contrast"])
def test_a_passage_has_the_score_that_it_has_alone_and_the_cost_is_known_before(model, kind):
    selector = EntropySelector(model, EntropySettings(kind=kind, steps=3))
    assert isinstance(selector, Selector)
    given = [one for one in passages() if one.text.strip()]
    together = selector.score(QUESTION, given)
    cost = selector.cost(QUESTION, given)
    alone = [selector.score(QUESTION, [one]).scores[0] for one in given]
    np.testing.assert_allclose(together.scores, alone, atol=1e-5)
    assert together.spent.calls == cost.calls
    assert together.spent.usage.total <= cost.tokens


def test_contrast_is_entropy_shifted_by_that_without_a_passage(model):
    plain = EntropySelector(model).score(QUESTION, passages()[:2]).scores
    found = EntropySelector(model, EntropySettings(kind="contrast")).score(QUESTION, passages()[:2]).scores
    np.testing.assert_allclose(np.subtract(found, plain), direct(model, ""), atol=1e-5)


def test_the_likelihood_is_the_mean_over_the_questions_tokens(model):
    import torch

    layout = QuestionLayout()
    selector = LikelihoodSelector(model)
    found = selector.score(QUESTION, passages())
    more = model.vocabulary.encode(layout.written(QUESTION))
    for text, score in zip(TEXTS, found.scores, strict=True):
        if text.strip():
            ids = model.ids(layout.prompt(text))
            values = torch.log_softmax(logits(model, ids + more), -1)
            expected = sum(float(values[len(ids) - 1 + at, token]) for at, token in enumerate(more)) / len(more)
            assert score == pytest.approx(expected, abs=1e-5)
    assert found.spent.calls == selector.cost(QUESTION, passages()).calls == 3


def test_what_does_not_fit_is_said_before_anything_is_read(model, monkeypatch):
    monkeypatch.setattr(model._reader, "_last", lambda rows: pytest.fail("a pass was made"))
    long = passages(["short", "x" * 3000])
    for selector in (EntropySelector(model), LikelihoodSelector(model)):
        with pytest.raises(ContextOverflow, match="shorter passages") as error:
            selector.score(QUESTION, long)
        assert error.value.limit == 2048
    with pytest.raises(UsageError, match="question is empty"):
        EntropySelector(model).score(" ", passages())


def test_cancelled_passages_have_that_reason(model):
    cancel = threading.Event()
    cancel.set()
    for selector in (EntropySelector(model), LikelihoodSelector(model)):
        found = selector.score(QUESTION, passages(), cancel=cancel)
        assert set(found.scores) == {None}
        assert set(found.reasons) == {"cancelled", "empty"}


def test_control_strings_of_passages_do_not_act(model):
    prompt = AnswerLayout().prompt("a <|end|> b <think>", "what <|turn|>?", continues=True)
    assert "<|" not in "".join(one.content for one in prompt)
    assert "<think>" not in prompt[0].content


class Telling:
    """A model behind a server: it answers with the likeliest tokens of a local one, or with none."""

    def __init__(self, local, top):
        self.local, self.top = local, top
        self.name, self.fingerprint = "telling", "telling"
        self.count_tokens, self.count_texts, self.cut = local.count_tokens, local.count_texts, local.cut

    @property
    def capabilities(self):
        return Capabilities(constrained=False, structured=False, logprobs=20, context=None, prefix=False)

    def complete(self, prompts, sampling, *, constraint=None, cancel=None):
        found = self.local.complete(prompts, sampling)
        shown = [dict(list(one.first.items())[: self.top]) for one in found]
        return [
            Completion(text=one.text, usage=one.usage, finish=one.finish, seconds=0.0, constrained=False, first=first)
            for one, first in zip(found, shown, strict=True)
        ]


def test_a_server_gives_bounds_that_hold_the_entropy(model):
    import torch

    vocabulary = len(model.tokenizer)
    selector = EntropySelector(Telling(model, 20), EntropySettings(vocabulary=vocabulary))
    found = selector.score(QUESTION, passages())
    for text, score, bounds in zip(TEXTS, found.scores, found.bounds, strict=True):
        if not text.strip():
            assert bounds is None
            continue
        prompt = AnswerLayout().prompt(text, QUESTION, continues=False)
        last = logits(model, model.ids(prompt))[-1]
        exact = float(torch.distributions.Categorical(logits=last).entropy())
        assert bounds[0] - 1e-5 <= -exact <= bounds[1] + 1e-5
        assert score == bounds[0]
        top = torch.log_softmax(last, -1).topk(20).values.tolist()
        np.testing.assert_allclose(bounds, [-one for one in entropy_bounds(top, vocabulary)[::-1]], atol=1e-4)


def test_a_server_without_log_probabilities_is_refused_with_what_can_be_used(model):
    with pytest.raises(UsageError, match="Use a local model"):
        EntropySelector(Telling(model, 0)).score(QUESTION, passages())
    with pytest.raises(UsageError, match="kind='entropy'"):
        EntropySelector(Telling(model, 20), EntropySettings(kind="mean"))
    with pytest.raises(UsageError, match="local model"):
        LikelihoodSelector(Telling(model, 20))


def test_a_wrapped_local_model_is_read_like_the_one_inside(model):
    given = passages()[:2]
    assert EntropySelector(Wrapped(model)).score(QUESTION, given) == EntropySelector(model).score(QUESTION, given)


def test_settings_without_a_meaning_are_refused():
    for bad in ({"kind": "other"}, {"steps": 0}, {"vocabulary": 1}):
        with pytest.raises(UsageError):
            EntropySettings(**bad)
    with pytest.raises(UsageError, match="question"):
        AnswerLayout(asking="no place")
