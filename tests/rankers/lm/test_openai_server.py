"""A client against a scripted server: every refusal is a typed error, every attempt is counted, none is endless."""

import json
import logging
import threading
import time
from email.utils import formatdate

import pytest

from unabridged.errors import (
    AuthFailed,
    BadRequest,
    ContentFiltered,
    ContextOverflow,
    MalformedResponse,
    ModelCancelled,
    ModelTimeout,
    RateLimited,
    ServerUnavailable,
    UsageError,
)
from unabridged.rankers.lm.contracts import Choice, Completion, LanguageModel, Message, Permutation, Sampling, Usage
from unabridged.rankers.lm.openai_server import ServerModel
from unabridged.rankers.lm.pacing import MINUTE, Pace, Retry
from unabridged.rankers.lm.server import Server

SECRET = "sk-very-secret-0123456789"
FAST = Retry(attempts=3, first_wait=0.01, longest_wait=0.02)
LABELS = Permutation(labels=("[1]", "[2]", "[3]"))
PROMPT = [Message("system", "rank"), Message("user", "these")]


def client(script, **options):
    options = {"api_key": SECRET, "retry": FAST, "read_timeout": 2.0, "connect_timeout": 2.0} | options
    return ServerModel("m", Server(base_url=script.url, **options))


def ask(script, *, count=1, sampling=None, constraint=None, **options):
    model = client(script, **options)
    return model, model.complete([PROMPT] * count, sampling or Sampling(max_tokens=9), constraint=constraint)


def test_it_is_a_language_model_that_says_its_counts_are_estimates(scripted):
    with scripted.serving(scripted.answer()) as script:
        model = client(script)
        assert isinstance(model, LanguageModel)
        assert not model.capabilities.exact_tokens
        assert model.count_tokens(PROMPT) >= 2
        assert model.count_texts(["a b c d", ""])[1] == 0
        assert model.cut("漢字漢字", 2) == "漢字"
        assert model.cut("abc", 9) == "abc"


def test_the_request_says_temperature_and_limit_and_the_answer_is_read(scripted):
    reply = scripted.answer("[2] > [1]", usage=(100, 7))
    reply["json"]["usage"] |= {
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    with scripted.serving(reply) as script:
        _, (found,) = ask(script, sampling=Sampling(max_tokens=9, seed=3, stop=("x",)))
        body = script.requests[0]
    assert isinstance(found, Completion)
    assert (found.text, found.finish, found.attempts, found.constrained) == ("[2] > [1]", "stop", 1, False)
    assert found.usage == Usage(prompt=100, completion=7, cached=64, reasoning=5)
    assert body["temperature"] == 0.0
    assert body["max_tokens"] == 9
    assert (body["seed"], body["stop"]) == (3, ["x"])
    assert body["messages"] == [{"role": "system", "content": "rank"}, {"role": "user", "content": "these"}]


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (400, "bad thing", BadRequest),
        (404, "no such model", BadRequest),
        (422, "cannot be processed", BadRequest),
        (401, "who are you", AuthFailed),
        (403, "not for you", AuthFailed),
    ],
)
def test_errors_that_concern_every_call_are_raised_after_one_attempt(scripted, status, message, expected):
    with scripted.serving(scripted.error(status, message)) as script:
        with pytest.raises(expected, match=message):
            ask(script)
        assert len(script.requests) == 1


@pytest.mark.parametrize(
    ("status", "expected"),
    [(500, ServerUnavailable), (503, ServerUnavailable), (429, RateLimited), (408, ModelTimeout)],
)
def test_errors_that_may_pass_are_tried_again_and_no_more_often_than_allowed(scripted, status, expected):
    with scripted.serving(scripted.error(status)) as script:
        _, (outcome,) = ask(script)
        assert type(outcome) is expected
        assert len(script.requests) == FAST.attempts


@pytest.mark.parametrize("first", ["500", "429", "drop", "hang"])
def test_an_answer_after_failures_counts_its_attempts(scripted, first):
    trouble = {
        "500": scripted.error(500), "429": scripted.error(429), "drop": scripted.DROP, "hang": scripted.HANG,
    }[first]  # fmt: skip
    with scripted.serving(trouble, trouble, scripted.answer("fine")) as script:
        _, (outcome,) = ask(script, read_timeout=0.3)
        assert (outcome.text, outcome.attempts) == ("fine", 3)
        assert len(script.requests) == 3


def test_a_connection_that_breaks_in_the_middle_is_no_answer(scripted):
    with scripted.serving(scripted.DROP) as script:
        _, (outcome,) = ask(script)
    assert isinstance(outcome, ServerUnavailable)
    assert "[3]" not in str(outcome)


def test_a_server_that_does_not_answer_is_a_timeout(scripted):
    with scripted.serving(scripted.HANG) as script:
        started = time.monotonic()
        _, (outcome,) = ask(script, read_timeout=0.2)
        assert isinstance(outcome, ModelTimeout)
        assert time.monotonic() - started < 3


def test_a_server_that_is_not_there_is_unavailable(scripted):
    with scripted.serving(scripted.answer()) as script:
        pass
    _, (outcome,) = ask(script)
    assert isinstance(outcome, ServerUnavailable)


@pytest.mark.parametrize("header", ["0.3", "date", "ms"])
def test_retry_after_is_honoured(scripted, header):
    def busy(body):
        headers = {
            "0.3": {"Retry-After": "0.3"},
            "date": {"Retry-After": formatdate(time.time() + 2, usegmt=True)},
            "ms": {"Retry-After-Ms": "300"},
        }[header]
        return scripted.error(429, headers=headers)

    with scripted.serving(busy, scripted.answer()) as script:
        _, (outcome,) = ask(script)
        gap = script.times[1] - script.times[0]
        assert outcome.attempts == 2
        # A date has no fractions of a second, and the answer takes its time to arrive.
        assert gap >= (0.3 if header != "date" else 0.5)


def test_a_server_that_asks_for_too_long_a_wait_gets_no_further_request(scripted):
    with scripted.serving(scripted.error(429, headers={"Retry-After": "9999"})) as script:
        _, (outcome,) = ask(script)
        assert isinstance(outcome, RateLimited)
        assert outcome.retry_after == 9999
        assert len(script.requests) == 1


@pytest.mark.parametrize("header", ["soon", "nan", "inf", "-5", "", "1e999"])
def test_a_senseless_retry_after_is_bounded_like_any_other_failure(scripted, header):
    with scripted.serving(scripted.error(429, headers={"Retry-After": header}), scripted.answer()) as script:
        started = time.monotonic()
        _, (outcome,) = ask(script)
        assert outcome.attempts == 2
        assert time.monotonic() - started < 2


def test_a_used_up_quota_is_not_waited_for(scripted):
    with scripted.serving(scripted.error(429, "You exceeded your current quota", code="insufficient_quota")) as script:
        _, (outcome,) = ask(script)
        assert isinstance(outcome, RateLimited)
        assert len(script.requests) == 1


OVERFLOWS = {
    "openai": ("This model's maximum context length is 4097 tokens. However, your messages resulted in 5000 tokens.",
               "context_length_exceeded", 4097, 5000),
    "vllm": ("This model's maximum context length is 2048 tokens. However, you requested 3000 tokens (2900 in the "
             "messages, 100 in the completion).", None, 2048, 3000),
    "llama.cpp": ("the request exceeds the available context size", "exceed_context_size_error", None, None),
    "anthropic style": ("prompt is too long: 210000 tokens > 200000 maximum", None, 200000, 210000),
}  # fmt: skip


@pytest.mark.parametrize("server", OVERFLOWS)
def test_an_overflow_says_limit_and_size_where_the_server_does(scripted, server):
    message, code, limit, got = OVERFLOWS[server]
    with scripted.serving(scripted.error(400, message, code=code, param="messages")) as script:
        _, (outcome,) = ask(script)
        assert isinstance(outcome, ContextOverflow)
        assert len(script.requests) == 1
    if server == "anthropic style":
        assert outcome.got in (210000, None)
    else:
        assert (outcome.limit, outcome.got) == (limit, got)


def test_an_overflow_of_llama_cpp_has_its_sizes_in_fields_of_their_own(scripted):
    reply = scripted.error(400, "request (9000 tokens) exceeds the available context size (4096 tokens)")
    reply["json"]["error"] |= {"type": "exceed_context_size_error", "n_prompt_tokens": 9000, "n_ctx": 4096}
    with scripted.serving(reply) as script:
        _, (outcome,) = ask(script)
    assert (outcome.limit, outcome.got) == (4096, 9000)


@pytest.mark.parametrize(
    "data",
    [b"", b"<html>504</html>", b'{"choices": [{"mess', b"[]", b"null", b"{}", b'{"choices": []}',
     b'{"choices": [null]}', b'{"choices": [{"message": null}]}', b'{"choices": [{"message": {"content": 7}}]}',
     b'{"error": "Error code: 400"}', b"\xff\xfe"],
)  # fmt: skip
def test_a_reply_that_is_not_of_the_protocol_is_malformed_and_no_text(scripted, data):
    with scripted.serving(scripted.raw(data)) as script:
        _, (outcome,) = ask(script)
        assert isinstance(outcome, MalformedResponse)
        assert len(script.requests) == 1


@pytest.mark.parametrize("kind", ["refusal", "filter", "azure"])
def test_withheld_answers_are_filtered_and_not_tried_again(scripted, kind):
    reply = {
        "refusal": scripted.answer(None, refusal="I will not"),
        "filter": scripted.answer("", finish="content_filter"),
        "azure": scripted.error(400, "The response was filtered", code="content_filter"),
    }[kind]
    with scripted.serving(reply) as script:
        _, (outcome,) = ask(script)
        assert isinstance(outcome, ContentFiltered)
        assert len(script.requests) == 1


def test_ways_to_end_are_told_apart(scripted):
    replies = [
        scripted.answer("[1] > [", finish="length"),
        scripted.answer("[1]", finish="content_filter"),
        scripted.answer("[1]", finish=None),
        scripted.answer(None, finish="length", reasoning_content="hm"),
        scripted.answer([{"type": "text", "text": "[1]"}, {"type": "text", "text": " > [2]"}]),
    ]
    with scripted.serving(*replies) as script:
        model = client(script)
        found = [model.complete([PROMPT], Sampling(max_tokens=5))[0] for _ in replies]
    assert [(answer.text, answer.finish) for answer in found] == [
        ("[1] > [", "length"), ("[1]", "filtered"), ("[1]", "stop"), ("", "length"), ("[1] > [2]", "stop"),
    ]  # fmt: skip


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 3}, {"prompt_tokens": -1, "completion_tokens": 2}, "x"])
def test_usage_that_is_not_reported_is_unknown_and_not_zero(scripted, usage):
    reply = scripted.answer("a", usage=None)
    reply["json"]["usage"] = usage
    with scripted.serving(reply) as script:
        _, (outcome,) = ask(script)
    assert outcome.usage is None


def test_outcomes_are_in_the_order_of_prompts_and_never_more_at_once_than_allowed(scripted):
    def echo(body):
        text = body["messages"][-1]["content"]
        return scripted.answer(text) | {"wait": 0.2 if text in "01" else 0.02}

    with scripted.serving(echo) as script:
        model = client(script, concurrency=3)
        found = model.complete([[Message("user", str(n))] for n in range(9)], Sampling(max_tokens=4))
        assert [answer.text for answer in found] == [str(n) for n in range(9)]
        assert 1 < script.most_at_once <= 3


def test_one_bad_prompt_leaves_the_others_their_answers(scripted):
    def some(body):
        return scripted.error(400, "bad") if body["messages"][-1]["content"] == "1" else scripted.answer("fine")

    with scripted.serving(some) as script:
        found = client(script).complete([[Message("user", str(n))] for n in range(3)], Sampling(max_tokens=4))
    assert isinstance(found[1], BadRequest)
    assert [getattr(outcome, "text", None) for outcome in found] == ["fine", None, "fine"]


def test_a_wrong_key_stops_the_prompts_that_are_not_sent_yet(scripted):
    with scripted.serving(scripted.error(401, "no key")) as script:
        with pytest.raises(AuthFailed):
            ask(script, count=30, concurrency=1)
        assert len(script.requests) == 1


def test_the_key_is_sent_and_appears_nowhere_else(scripted, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    with scripted.serving(scripted.error(400, f"the key {SECRET} is odd")) as script:
        with pytest.raises(BadRequest) as caught:
            ask(script)
        model = client(script)
        assert script.keys == [f"Bearer {SECRET}"]
    shown = f"{caught.value} {caplog.text} {model.name} {model.fingerprint} {model.server!r}"
    assert SECRET not in shown
    assert "***" in str(caught.value)


def test_the_key_for_openai_goes_to_openai_alone(scripted, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.delenv("UNABRIDGED_API_KEY", raising=False)
    assert Server().key == SECRET
    assert Server(base_url="http://127.0.0.1:1/v1").key == "none"
    monkeypatch.setenv("UNABRIDGED_API_KEY", "other")
    assert Server(base_url="http://127.0.0.1:1/v1").key == "other"


@pytest.mark.parametrize(
    "url", ["ftp://x/v1", "host/v1", "http://", "http://user:pw@host/v1", "https://h/v1?key=pw", ""]
)
def test_addresses_that_cannot_be_meant_are_refused_without_showing_what_is_in_them(url):
    with pytest.raises(UsageError) as caught:
        Server(base_url=url)
    assert "pw" not in str(caught.value)


ADAPTED = {
    "a reasoning model and temperature": (
        ("Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is "
         "supported.", "unsupported_value", "temperature"), "temperature"),
    "a reasoning model and logprobs": (
        ("You are not allowed to request logprobs from this model", None, None), "logprobs"),
    "a server without seeds": (("Extra inputs are not permitted: seed", None, None), "seed"),
    "a server without min_tokens": (("Unrecognized request argument supplied: min_tokens", None, None), "min_tokens"),
}  # fmt: skip


@pytest.mark.parametrize("case", ADAPTED)
def test_a_field_that_the_server_refuses_is_left_out_once_and_for_all(scripted, case):
    (message, code, param), field = ADAPTED[case]

    def picky(body):
        if field in body:
            return scripted.error(400, message, code=code, param=param)
        reply = scripted.answer("fine")
        reply["json"]["choices"][0]["logprobs"] = logprobs(fine=-0.5) if "logprobs" in body else None
        return reply

    with scripted.serving(picky) as script:
        model = client(script)
        sampling = Sampling(max_tokens=9, seed=1, min_tokens=2, top_logprobs=3)
        first, second = (model.complete([PROMPT], sampling)[0] for _ in range(2))
        assert (first.attempts, second.attempts) == (2, 1)
        assert len(script.requests) == 3
    assert len(model.adaptations) == 1
    assert field in model.adaptations[0]
    if field == "logprobs":
        assert model.capabilities.logprobs == 0


def test_the_limit_is_renamed_for_models_that_ask_for_it(scripted):
    def picky(body):
        message = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
        code = "unsupported_parameter"
        return (
            scripted.error(400, message, code=code, param="max_tokens") if "max_tokens" in body else scripted.answer()
        )

    with scripted.serving(picky) as script:
        _, (outcome,) = ask(script, sampling=Sampling(max_tokens=77))
        assert outcome.attempts == 2
        assert script.requests[-1]["max_completion_tokens"] == 77


def test_a_limit_that_is_too_large_is_a_bad_request_and_not_renamed(scripted):
    message = "max_tokens is too large: 9. This model supports at most 5 completion tokens."
    with scripted.serving(scripted.error(400, message, param="max_tokens")) as script:
        with pytest.raises(BadRequest, match="too large"):
            ask(script)
        assert len(script.requests) == 1


def test_a_server_that_refuses_everything_in_turn_is_asked_a_bounded_number_of_times(scripted):
    def spiteful(body):
        fields = [name for name in body if name not in ("model", "messages")]
        return scripted.error(400, f"Unsupported parameter: {fields[-1]}", param=fields[-1])

    with scripted.serving(spiteful) as script:
        with pytest.raises(BadRequest):
            ask(script, sampling=Sampling(max_tokens=9, seed=1, min_tokens=1, stop=("x",)), constraint=LABELS)
        assert len(script.requests) < 12


def test_a_json_answer_has_room_for_all_labels_whatever_the_plain_list_needs(scripted):
    labels = tuple(f"[{n}]" for n in range(100))
    with scripted.serving(ranking(scripted, list(labels))) as script:
        model = client(script)
        for constraint, enough in ((Permutation(labels=labels), 300), (None, 5)):
            model.complete([PROMPT], Sampling(max_tokens=5), constraint=constraint)
            assert script.requests[-1]["max_tokens"] >= enough
        assert script.requests[-1]["max_tokens"] == 5


def ranking(scripted, labels):
    return scripted.answer(json.dumps({"ranking": labels}))


def test_a_constraint_is_sent_as_a_schema_and_its_answer_read_as_labels(scripted):
    with scripted.serving(ranking(scripted, ["[3]", "[1]", "[2]"])) as script:
        _, (outcome,) = ask(script, constraint=LABELS)
        schema = script.requests[0]["response_format"]["json_schema"]["schema"]
    assert (outcome.text, outcome.constrained) == ("[3] > [1] > [2]", True)
    items = schema["properties"]["ranking"]
    assert items["items"]["enum"] == ["[1]", "[2]", "[3]"]
    assert (items["minItems"], items["maxItems"], items["uniqueItems"]) == (3, 3, True)


@pytest.mark.parametrize("labels", [["[3]", "[3]", "[2]"], ["[1]"], ["[1]", "[2]", "[9]"], []])
def test_a_schema_that_was_not_followed_is_an_answer_to_be_parsed(scripted, labels):
    with scripted.serving(ranking(scripted, labels)) as script:
        _, (outcome,) = ask(script, constraint=LABELS)
    assert (outcome.text, outcome.constrained) == (" > ".join(labels), False)


def test_a_choice_is_one_label(scripted):
    with scripted.serving(scripted.answer('{"answer": "B"}'), scripted.answer('{"answer": "Z"}')) as script:
        model = client(script)
        found = [
            model.complete([PROMPT], Sampling(max_tokens=5), constraint=Choice(labels=("A", "B")))[0] for _ in "12"
        ]
    assert [(answer.text, answer.constrained) for answer in found] == [("B", True), ("Z", False)]


def test_a_schema_is_made_plainer_and_then_given_up(scripted):
    def picky(body):
        form = body.get("response_format")
        if form is None:
            return scripted.answer("[2] > [1] > [3]")
        return scripted.error(400, "Invalid schema for response_format: 'uniqueItems' is not permitted.")

    with scripted.serving(picky) as script:
        model, (outcome,) = ask(script, constraint=LABELS)
        sent = [request.get("response_format") for request in script.requests]
    assert (outcome.text, outcome.constrained, outcome.attempts) == ("[2] > [1] > [3]", False, 3)
    assert "uniqueItems" in json.dumps(sent[0])
    assert "uniqueItems" not in json.dumps(sent[1])
    assert sent[2] is None
    assert not model.capabilities.structured
    assert len(model.adaptations) == 2


def test_a_server_that_ignores_schemas_is_sent_none_afterwards(scripted):
    with scripted.serving(scripted.answer("[2] > [1] > [3]")) as script:
        model, (outcome,) = ask(script, constraint=LABELS)
        model.complete([PROMPT], Sampling(max_tokens=5), constraint=LABELS)
        assert ["response_format" in request for request in script.requests] == [True, False]
    assert (outcome.text, outcome.constrained) == ("[2] > [1] > [3]", False)
    assert not model.capabilities.structured


def test_an_ignored_schema_is_known_by_how_the_answer_begins(scripted):
    with scripted.serving(scripted.answer("Sure, here is", finish="length")) as script:
        model, _ = ask(script, constraint=LABELS)
    assert not model.capabilities.structured


def test_a_schema_cut_off_by_the_limit_is_not_taken_for_ignored(scripted):
    with scripted.serving(scripted.answer('{"ranking": ["[1]", "[', finish="length")) as script:
        model, (outcome,) = ask(script, constraint=LABELS)
    assert (outcome.finish, outcome.constrained) == ("length", False)
    assert model.capabilities.structured


def logprobs(**tokens):
    return {
        "content": [
            {
                "token": next(iter(tokens)),
                "logprob": next(iter(tokens.values())),
                "top_logprobs": [{"token": token, "logprob": value} for token, value in tokens.items()],
            }
        ]
    }


def test_log_probabilities_of_labels_are_those_that_the_server_names(scripted):
    reply = scripted.answer("A")
    reply["json"]["choices"][0]["logprobs"] = logprobs(**{"A": -0.1, " B": -2.5, "B": -3.0, "the": -4.0})
    with scripted.serving(reply) as script:
        _, (outcome,) = ask(
            script, sampling=Sampling(max_tokens=5, top_logprobs=50), constraint=Choice(labels=("A", "B", "C"))
        )
        assert "response_format" not in script.requests[0]
        assert script.requests[0]["top_logprobs"] == 20
    assert outcome.first == {"A": -0.1, "B": -2.5}


def test_log_probabilities_without_a_constraint_are_of_tokens(scripted):
    reply = scripted.answer("A")
    reply["json"]["choices"][0]["logprobs"] = logprobs(A=-0.1, the=-4.0)
    with scripted.serving(reply, scripted.answer("A")) as script:
        model = client(script)
        first, second = (model.complete([PROMPT], Sampling(max_tokens=5, top_logprobs=2))[0] for _ in "12")
    assert first.first == {"A": -0.1, "the": -4.0}
    assert second.first is None


def test_a_server_that_ignores_the_wish_for_log_probabilities_is_not_asked_again(scripted):
    with scripted.serving(scripted.answer(""), scripted.answer("A")) as script:
        model = client(script)
        for left in (20, 0, 0):
            model.complete([PROMPT], Sampling(max_tokens=5, top_logprobs=2))
            assert model.capabilities.logprobs == left
        assert ["logprobs" in request for request in script.requests] == [True, True, False]


def test_stop_strings_are_cut_here_too(scripted):
    with scripted.serving(scripted.answer("[1] > [2]\nbecause of [3]")) as script:
        _, (outcome,) = ask(script, sampling=Sampling(max_tokens=5, stop=("\n",)))
    assert outcome.text == "[1] > [2]"


def test_extra_fields_are_in_every_request(scripted):
    extra = {"chat_template_kwargs": {"enable_thinking": False}}
    with scripted.serving(scripted.answer()) as script:
        ask(script, extra=extra)
        assert script.requests[0]["chat_template_kwargs"] == {"enable_thinking": False}


def test_a_cancelled_call_is_not_waited_for(scripted):
    cancel = threading.Event()
    with scripted.serving(scripted.HANG) as script:
        model = client(script, read_timeout=30.0)
        threading.Timer(0.3, cancel.set).start()
        started = time.monotonic()
        found = model.complete([PROMPT] * 3, Sampling(max_tokens=5), cancel=cancel)
        assert time.monotonic() - started < 2
    assert all(isinstance(outcome, ModelCancelled) for outcome in found)


def test_a_wait_between_attempts_can_be_cancelled(scripted):
    cancel = threading.Event()
    with scripted.serving(scripted.error(429, headers={"Retry-After": "60"})) as script:
        threading.Timer(0.3, cancel.set).start()
        started = time.monotonic()
        found = client(script).complete([PROMPT], Sampling(max_tokens=5), cancel=cancel)
        assert time.monotonic() - started < 2
        assert isinstance(found[0], ModelCancelled)
        assert len(script.requests) == 1


def test_a_prompt_without_messages_is_refused(scripted):
    with scripted.serving(scripted.answer()) as script:
        with pytest.raises(UsageError, match="no message"):
            client(script).complete([[]], Sampling(max_tokens=5))
        assert client(script).complete([], Sampling(max_tokens=5)) == []


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(("limits", "sizes"), [({"requests": 2}, [1, 1, 1]), ({"tokens": 100}, [60, 40, 5])])
def test_a_minute_holds_no_more_than_the_rate_allows(limits, sizes):
    clock = Clock()
    pace = Pace(9, clock=clock, **limits)
    waits = []
    for size in sizes:
        waits.append(pace._book(size))
        clock.now += 1
    assert waits[:2] == [0, 0]
    assert waits[2] == pytest.approx(MINUTE - 2)
    clock.now = 1000.0 + MINUTE + 0.1
    assert pace._book(sizes[2]) == 0


def test_a_request_above_the_rate_goes_when_it_is_alone():
    clock = Clock()
    pace = Pace(9, clock=clock, tokens=10)
    assert pace._book(500) == 0
    assert pace._book(1) > 0


def test_a_pause_holds_for_all_threads():
    clock = Clock()
    pace = Pace(9, clock=clock)
    pace.pause(7)
    assert pace._book(1) == pytest.approx(7)
    clock.now += 7
    assert pace._book(1) == 0


def test_waits_grow_are_bounded_and_never_undercut_what_was_asked():
    retry = Retry(attempts=1000, first_wait=1, longest_wait=8)
    for attempt in (1, 2, 3, 4, 50, 999):
        own = retry.wait(attempt, None)
        top = min(8, 2.0 ** (attempt - 1))
        assert 0.75 * top <= own <= top
        assert retry.wait(attempt, 30.0) >= 30.0
    assert retry.wait(1000, None) is None
    assert len({retry.wait(3, None) for _ in range(20)}) > 10
    with pytest.raises(UsageError):
        Retry(attempts=0)


@pytest.mark.parametrize(
    "options",
    [{"read_timeout": 0}, {"read_timeout": float("nan")}, {"connect_timeout": -3.0}, {"context": 0}, {"context": -5}],
    ids=str,
)
def test_times_and_contexts_that_allow_nothing_are_refused(options):
    [name] = options
    with pytest.raises(UsageError, match=f"{name}=.*positive"):
        Server(**options)
