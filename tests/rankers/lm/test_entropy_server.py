"""Entropies from a server's log-probabilities over HTTP: those of the weights behind it lie in the stated bounds."""

import json
import math

import pytest

from unabridged.errors import BadRequest, ContextOverflow, UsageError
from unabridged.rankers.lm.contracts import Message, Sampling
from unabridged.rankers.lm.openai_server import ServerModel
from unabridged.rankers.lm.pacing import Retry
from unabridged.rankers.lm.server import Server
from unabridged.rankers.select.contracts import Passage
from unabridged.rankers.select.layouts import AnswerLayout
from unabridged.rankers.select.xl3m import NO_LOGPROBS, EntropySelector, EntropySettings

QUESTION = "where is the cat?"
TEXTS = ["the cat is there", "an end [1] > [2]", "a dog 100 12", "the the the " * 20, "\U0001f600 \u6f22\u5b57"]
LAYOUT = AnswerLayout(opening="", without_opening="")
"""The same prompt for models that continue an answer and for those that begin one."""
BARE = {"content": "x"}


def passages(texts=TEXTS):
    return [Passage(f"d{place}", 0, len(text), text) for place, text in enumerate(texts)]


def telling(model, *, top=20):
    """Chat completions of ``model`` with log-probabilities as the protocol has them, parts of letters included."""

    def reply(body):
        import torch

        prompt = [Message(one["role"], one["content"]) for one in body["messages"]]
        with torch.inference_mode():
            logits = model.model(torch.tensor([model.ids(prompt)])).logits[0, -1].double()
        best = torch.log_softmax(logits, -1).topk(min(top, body["top_logprobs"]))
        listed = [
            {"token": model.tokenizer.decode([token]), "logprob": value, "bytes": None}
            for token, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]
        taken = {**listed[0], "top_logprobs": listed}
        choice = {"message": {"role": "assistant", "content": listed[0]["token"] or "x"}, "finish_reason": "length",
                  "logprobs": {"content": [taken]}}  # fmt: skip
        return {"status": 200, "json": {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 1}}}

    return reply


def behind(script, **options):
    return ServerModel("m", Server(base_url=script.url, retry=Retry(attempts=1), **options))


def check_bounds(local, scripted, *, top, vocabulary):
    settings = EntropySettings(layout=LAYOUT, vocabulary=vocabulary)
    exact = EntropySelector(local, settings).score(QUESTION, passages()).scores
    with scripted.serving(telling(local, top=top)) as script:
        found = EntropySelector(behind(script), settings).score(QUESTION, passages())
        assert len(script.requests) == len(TEXTS)
        assert all(body["logprobs"] and body["top_logprobs"] == 20 for body in script.requests)
    for one, score, bounds in zip(exact, found.scores, found.bounds, strict=True):
        assert bounds[0] == score
        assert bounds[0] - 1e-5 <= one <= bounds[1] + 1e-5
    assert found.spent.calls == len(TEXTS)
    return exact, found


@pytest.mark.parametrize("top", [1, 5, 20])
def test_the_entropy_of_the_weights_lies_within_the_bounds_of_what_a_server_tells(tiny_model, scripted, top):
    size = len(tiny_model.tokenizer)
    exact, found = check_bounds(tiny_model, scripted, top=top, vocabulary=size)
    _, wide = check_bounds(tiny_model, scripted, top=top, vocabulary=262_144)
    # What the others may add at most: their share of the probability, spread over a larger vocabulary.
    assert all(other[0] <= one[0] for one, other in zip(found.bounds, wide.bounds, strict=True))
    assert max(high - low for low, high in found.bounds) < math.log(size) + 1
    assert len(set(exact)) == len(TEXTS)


def test_tokens_that_look_alike_count_each(scripted):
    entries = [{"token": "\ufffd", "logprob": math.log(share)} for share in (0.4, 0.3, 0.2)]
    top = [{**entries[0], "top_logprobs": entries}]
    choice = {"message": BARE, "finish_reason": "length", "logprobs": {"content": top}}
    with scripted.serving({"status": 200, "json": {"choices": [choice]}}) as script:
        [found] = behind(script).complete([[Message("user", "q")]], Sampling(max_tokens=1, top_logprobs=3))
    assert sorted(found.first.values()) == pytest.approx([math.log(share) for share in (0.2, 0.3, 0.4)])


@pytest.mark.parametrize(
    "logprobs",
    [None, {}, {"content": None}, {"content": []}, {"content": [None]}, {"content": [{"token": "x"}]},
     {"content": [{"token": None, "logprob": None, "top_logprobs": "none"}]}],
    ids=json.dumps,
)  # fmt: skip
def test_a_server_that_tells_none_is_refused_with_what_can_be_used_instead(scripted, logprobs):
    choice = {"message": BARE, "finish_reason": "length", "logprobs": logprobs}
    with scripted.serving({"status": 200, "json": {"choices": [choice]}}) as script:
        selector = EntropySelector(behind(script))
        with pytest.raises(UsageError, match=r"gives no log-probabilities.*local model.*vLLM, SGLang, llama\.cpp"):
            selector.score(QUESTION, passages())


def test_a_server_that_refuses_the_field_is_refused_too(scripted):
    def reply(body):
        if "logprobs" in body:
            return scripted.error(400, "logprobs is not supported by this model", param="logprobs")
        return scripted.answer("x")

    with scripted.serving(reply) as script, pytest.raises(UsageError, match="gives no log-probabilities"):
        EntropySelector(behind(script)).score(QUESTION, passages())


def test_a_server_that_tells_some_leaves_the_others_without_a_score_and_a_reason(tiny_model, scripted):
    tell = telling(tiny_model)

    def reply(body):
        return scripted.answer("x") if "a dog" in body["messages"][-1]["content"] else tell(body)

    with scripted.serving(reply) as script:
        found = EntropySelector(behind(script, concurrency=1)).score(QUESTION, passages())
    assert found.scores[2] is None
    assert found.reasons[2] == NO_LOGPROBS
    assert found.bounds[2] is None


def test_a_passage_that_does_not_fit_names_its_tokens_and_the_limit(tiny_model, scripted):
    long = [*passages()[:2], Passage("long", 0, 9_000, "x" * 9_000)]
    with pytest.raises(ContextOverflow, match=r"9,?\d\d\d tokens .*has room for 2,?048") as caught:
        EntropySelector(tiny_model).score(QUESTION, long)
    assert (caught.value.limit, caught.value.got > 9_000) == (2048, True)
    with scripted.serving(telling(tiny_model)) as script:
        with pytest.raises(ContextOverflow, match="has room for 500"):
            EntropySelector(behind(script, context=500)).score(QUESTION, long)
        assert script.requests == []


def test_a_server_that_says_itself_what_is_too_long_gives_that_as_the_reason(tiny_model, scripted):
    tell = telling(tiny_model)
    said = "This model's maximum context length is 2048 tokens. However, you requested 9001 tokens"

    def reply(body):
        return scripted.error(400, said) if len(body["messages"][-1]["content"]) > 5_000 else tell(body)

    with scripted.serving(reply) as script:
        long = [*passages()[:2], Passage("long", 0, 9_000, "x" * 9_000)]
        found = EntropySelector(behind(script)).score(QUESTION, long)
    assert found.scores[2] is None
    assert "ContextOverflow" in found.reasons[2]
    assert "2048" in found.reasons[2]
    assert None not in found.scores[:2]


def test_a_wrong_request_is_raised_and_not_a_passage_without_a_score(scripted):
    with scripted.serving(scripted.error(404, "no such model")) as script, pytest.raises(BadRequest):
        EntropySelector(behind(script)).score(QUESTION, passages())


@pytest.mark.slow
def test_the_embedded_model_behind_a_server_lies_within_the_bounds(scripted):
    from unabridged.rankers.lm.load import load_model

    local = load_model("embedded")
    _, found = check_bounds(local, scripted, top=20, vocabulary=int(local.model.config.vocab_size))
    assert all(high - low < 6 for low, high in found.bounds)
