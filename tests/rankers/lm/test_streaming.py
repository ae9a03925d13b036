"""An answer in pieces is the answer in one, and a stream that breaks off is never a whole answer."""

import json
import threading
import time

import pytest

from unabridged.errors import (
    AuthFailed,
    BadRequest,
    ContentFiltered,
    ContextOverflow,
    MalformedResponse,
    ModelCancelled,
    ModelTimeout,
    ServerUnavailable,
    UsageError,
)
from unabridged.rankers.lm.contracts import Completion, Message, Sampling, Streaming, Usage
from unabridged.rankers.lm.openai_server import ServerModel
from unabridged.rankers.lm.pacing import Retry
from unabridged.rankers.lm.pieces import Pieces
from unabridged.rankers.lm.server import Server
from unabridged.rankers.lm.streaming import streamed

FAST = Retry(attempts=3, first_wait=0.01, longest_wait=0.02)
PROMPT = [Message("user", "say it")]
OTHER = [Message("user", "something else, which is longer")]


def split(items):
    *pieces, last = items
    assert all(isinstance(piece, str) and piece for piece in pieces)
    assert isinstance(last, Completion)
    assert "".join(pieces) == last.text
    return pieces, last


# --- pieces ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stops", [(), ("\n\n",), ("END", "E"), ("cde", "de fg")])
@pytest.mark.parametrize("text", ["abc de fgh", "  a\n\nb", "xEND", "naïve 漢字 \ufffd", "", "cdcdcde", "   "])
def test_pieces_of_every_beginning_join_to_the_text_up_to_the_first_stop(text, stops):
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    whole = text[: min(places)] if places else text
    pieces = Pieces(stops)
    got = [pieces.more(text[:end]) for end in range(len(text) + 1)]
    assert "".join([*got, pieces.rest(whole)]) == whole


def test_a_text_that_takes_its_last_space_back_is_still_joined_right():
    pieces = Pieces()
    got = [pieces.more(text) for text in ("Yes", "Yes ", "Yes, it")] + [pieces.rest("Yes, it")]
    assert got == ["Yes", "", ", it", ""]


# --- local ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_tokens=24),
        Sampling(max_tokens=40, temperature=1.5, seed=3),
        Sampling(max_tokens=40, temperature=1.0, seed=5, stop=("e", "th")),
        Sampling(max_tokens=9, min_tokens=9, top_logprobs=3),
    ],
)
def test_a_local_stream_is_what_complete_gives(tiny_model, sampling):
    [whole] = tiny_model.complete([PROMPT], sampling)
    _, last = split(tiny_model.stream(PROMPT, sampling))
    assert isinstance(tiny_model, Streaming)
    assert (last.text, last.finish, last.first) == (whole.text, whole.finish, whole.first)
    assert (last.usage.prompt, last.usage.completion) == (whole.usage.prompt, whole.usage.completion)


def test_pieces_come_one_by_one_and_not_at_the_end(tiny_model):
    pieces, last = split(tiny_model.stream(PROMPT, Sampling(max_tokens=60, temperature=1.0, seed=1, min_tokens=60)))
    assert len(pieces) > 10
    assert last.finish == "length"


def test_two_streams_and_a_call_in_between_do_not_disturb_one_another(tiny_model):
    sampling = Sampling(max_tokens=20, min_tokens=20)
    expected = [tiny_model.complete([prompt], sampling)[0].text for prompt in (PROMPT, OTHER)]
    one, two = tiny_model.stream(PROMPT, sampling), tiny_model.stream(OTHER, sampling)
    texts = ["", ""]
    going = {0: one, 1: two}
    while going:
        for place, stream in list(going.items()):
            item = next(stream)
            if isinstance(item, Completion):
                assert item.text == texts[place]
                del going[place]
            else:
                texts[place] += item
        tiny_model.complete([[Message("user", "between")]], Sampling(max_tokens=2))
    assert texts == expected


def test_a_stream_that_nobody_reads_on_holds_no_lock(tiny_model):
    stream = tiny_model.stream(PROMPT, Sampling(max_tokens=30, min_tokens=30))
    next(stream)
    done = threading.Event()

    def other():
        tiny_model.complete([OTHER], Sampling(max_tokens=1))
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    assert done.wait(20)
    thread.join()
    stream.close()


def test_a_local_stream_that_is_cancelled_raises_after_its_pieces(tiny_model):
    cancel = threading.Event()
    stream = tiny_model.stream(PROMPT, Sampling(max_tokens=50, min_tokens=50), cancel=cancel)
    assert next(stream)
    cancel.set()
    with pytest.raises(ModelCancelled):
        list(stream)


def test_a_prompt_that_does_not_fit_is_refused_before_anything_is_read(tiny_model):
    with pytest.raises(ContextOverflow) as caught:
        tiny_model.stream([Message("user", "x" * 5000)], Sampling(max_tokens=5))
    assert caught.value.limit == 2048


def test_a_model_that_does_not_stream_gives_one_piece(tiny_model):
    class Whole:
        complete = staticmethod(tiny_model.complete)

    pieces, last = split(streamed(Whole(), PROMPT, Sampling(max_tokens=6)))
    assert len(pieces) == 1
    assert last.text == tiny_model.complete([PROMPT], Sampling(max_tokens=6))[0].text
    with pytest.raises(ContextOverflow):
        list(streamed(Whole(), [Message("user", "x" * 5000)], Sampling(max_tokens=5)))


# --- server ---------------------------------------------------------------------------------------------------------


def event(text=None, *, finish=None, **more):
    delta = {} if text is None else {"content": text}
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


USAGE = {"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 3}}


def stream_of(*events, end=True, **more):
    lines = [": a comment", *(f"data: {json.dumps(one) if isinstance(one, dict) else one}" for one in events)]
    data = "\n\n".join([*lines, "data: [DONE]"] if end else lines) + "\n\n"
    return {"status": 200, "raw": data, "headers": {"Content-Type": "text/event-stream"}, **more}


def ask(script, sampling=None, cancel=None, **options):
    options = {"api_key": "sk-secret", "retry": FAST, "read_timeout": 2.0, "connect_timeout": 2.0} | options
    model = ServerModel("m", Server(base_url=script.url, **options))
    return model.stream(PROMPT, sampling or Sampling(max_tokens=9), cancel=cancel)


def pieces_and_error(stream, kind):
    got = []
    with pytest.raises(kind) as caught:
        got.extend(stream)  # what came before the error stays
    return got, caught.value


def test_events_are_joined_and_the_usage_is_that_of_the_last_event(scripted):
    reply = stream_of({**event(""), "choices": [{"delta": {"role": "assistant"}}]}, event("He"), event("llo"),
                      event(" wor"), event("ld"), event(finish="stop"), USAGE)  # fmt: skip
    with scripted.serving(reply) as script:
        pieces, last = split(ask(script))
        body = script.requests[0]
    assert (last.text, last.finish, last.attempts) == ("Hello world", "stop", 1)
    assert last.usage == Usage(prompt=12, completion=3)
    assert len(pieces) == 4
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})


def test_usage_that_is_not_told_is_unknown_and_never_zero(scripted):
    with scripted.serving(stream_of(event("a", finish="length"))) as script:
        _, last = split(ask(script))
    assert last.usage is None
    assert last.finish == "length"


def test_stop_strings_end_the_text_where_a_server_does_not_know_them(scripted):
    with scripted.serving(stream_of(event("one E"), event("N"), event("D two"), event(finish="stop"))) as script:
        pieces, last = split(ask(script, Sampling(max_tokens=9, stop=("END",))))
    assert last.text == "one "
    assert "E" not in "".join(pieces)


def test_a_server_that_does_not_stream_is_read_all_the_same(scripted):
    with scripted.serving(scripted.answer("whole", usage=(4, 2))) as script:
        pieces, last = split(ask(script))
    assert pieces == ["whole"]
    assert last.usage == Usage(prompt=4, completion=2)


def test_a_refused_field_is_left_out_and_asked_again(scripted):
    refusal = scripted.error(400, "stream_options is not supported", param="stream_options")
    with scripted.serving(refusal, stream_of(event("ok", finish="stop"))) as script:
        _, last = split(ask(script))
        assert "stream_options" not in script.requests[1]
        assert script.requests[1]["stream"] is True
    assert (last.text, last.attempts) == ("ok", 2)


@pytest.mark.parametrize(
    "broken",
    [
        stream_of(event("part"), event(" of it"), end=False),
        stream_of(event("part"), event(" of it")),
        stream_of(event("part"), event(" of it"), {"error": {"message": "the worker died sk-secret", "code": 500}}),
    ],
    ids=["closed", "done without an end", "an error event"],
)
def test_a_server_that_dies_after_some_text_is_an_error_and_is_not_asked_again(scripted, broken):
    with scripted.serving(broken) as script:
        got, error = pieces_and_error(ask(script), ServerUnavailable)
        assert len(script.requests) == 1
    assert "".join(got) == "part of it"
    assert "sk-secret" not in str(error)


def test_a_connection_that_breaks_inside_a_line_is_an_error(scripted):
    data = stream_of(event("part of"), end=False)["raw"].encode() + b'data: {"choices'
    with scripted.serving({**stream_of(end=False), "raw": data}) as script:
        got, _ = pieces_and_error(ask(script), MalformedResponse)
    assert "".join(got) == "part of"


def test_what_breaks_before_the_first_piece_is_tried_again(scripted):
    with scripted.serving(scripted.error(503), stream_of(end=False), stream_of(event("fine", finish="stop"))) as script:
        _, last = split(ask(script))
        assert len(script.requests) == 3
    assert (last.text, last.attempts) == ("fine", 3)


def test_attempts_end(scripted):
    with scripted.serving(scripted.error(500)) as script:
        pieces_and_error(ask(script), ServerUnavailable)
        assert len(script.requests) == FAST.attempts


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (lambda s: s.error(401, "who"), AuthFailed),
        (lambda s: s.error(404, "no such model"), BadRequest),
        (lambda s: s.error(400, "maximum context length is 10 tokens"), ContextOverflow),
        (lambda s: stream_of("{not json"), MalformedResponse),
        (lambda s: stream_of("[1, 2]"), MalformedResponse),
        (lambda s: stream_of('{"choices": "no"}'), MalformedResponse),
        (lambda s: stream_of('{"choices": [{"delta": "text"}]}'), MalformedResponse),
        (lambda s: stream_of('{"choices": [{"delta": {"content": 7}}]}'), MalformedResponse),
        (lambda s: stream_of(event(finish="content_filter")), ContentFiltered),
        (
            lambda s: stream_of({"choices": [{"delta": {"refusal": "I cannot"}}]}, event(finish="stop")),
            ContentFiltered,
        ),
    ],
)
def test_errors_are_typed_and_asked_for_once(scripted, reply, kind):
    with scripted.serving(reply(scripted)) as script:
        got, _ = pieces_and_error(ask(script), kind)
        assert len(script.requests) == 1
    assert got == []


def test_a_server_that_hangs_is_a_timeout(scripted):
    with scripted.serving(scripted.HANG) as script:
        pieces_and_error(ask(script, read_timeout=0.2, retry=Retry(attempts=1)), (ModelTimeout, ServerUnavailable))


def test_a_caller_who_cancels_does_not_wait_for_the_server(scripted):
    cancel = threading.Event()
    with scripted.serving(scripted.HANG) as script:
        threading.Timer(0.1, cancel.set).start()
        started = time.monotonic()
        pieces_and_error(ask(script, cancel=cancel, read_timeout=60.0), ModelCancelled)
        assert time.monotonic() - started < 2


def test_a_caller_who_reads_no_further_frees_the_place(scripted):
    many = stream_of(*(event(f"w{number} ") for number in range(50)), event(finish="stop"))
    with scripted.serving(many) as script:
        model = ServerModel("m", Server(base_url=script.url, api_key="k", concurrency=1, retry=FAST))
        for _ in range(3):
            stream = model.stream(PROMPT, Sampling(max_tokens=9))
            next(stream)
            stream.close()
        split(model.stream(PROMPT, Sampling(max_tokens=9)))


def test_a_prompt_without_messages_is_refused_at_once(scripted):
    with scripted.serving(scripted.answer()) as script, pytest.raises(UsageError):
        ServerModel("m", Server(base_url=script.url)).stream([], Sampling(max_tokens=1))


# --- streams as real servers send them ------------------------------------------------------------------------------


def chunked(*events, at=None):
    """The bytes of ``events`` in chunks of ``at`` bytes."""
    data = stream_of(*events)["raw"].encode()
    return {"chunks": [data[start : start + at] for start in range(0, len(data), at)]}


@pytest.mark.parametrize(
    "silent",
    [
        {"usage": {"prompt_tokens": 12, "completion_tokens": 3}},
        {"choices": [], "usage": None},
        {"choices": None},
        {"choices": [{"index": 0, "delta": None, "finish_reason": None}]},
        {"choices": [{"index": 0, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {"content": None}}]},
        {"choices": [{"index": 0, "delta": {"reasoning_content": "let me think"}}]},
        {"prompt_filter_results": [{"content_filter_results": {}}]},
        {"type": "ping"},
    ],
    ids=json.dumps,
)
def test_events_that_say_nothing_of_the_answer_change_nothing(scripted, silent):
    reply = stream_of(silent, event("Hel"), silent, event("lo"), event(finish="stop"), silent)
    with scripted.serving(reply) as script:
        _, last = split(ask(script))
        assert len(script.requests) == 1
    assert (last.text, last.finish) == ("Hello", "stop")
    assert last.usage == (Usage(prompt=12, completion=3) if silent.get("usage") else None)


def test_comments_blank_lines_and_fields_of_other_names_are_no_text(scripted):
    lines = [": keep-alive", "", "event: message", "id: 7", "retry: 10", f"data:{json.dumps(event('one'))}", ":", ""]
    tail = [f"data:   {json.dumps(event(' two', finish='stop'))}", "", "data: [DONE]", "", "data: {after the end"]
    for gap in ("\n", "\r\n", "\r"):
        data = gap.join([*lines, *tail])
        with scripted.serving({"chunks": [b"\xef\xbb\xbf", data.encode()]}) as script:
            _, last = split(ask(script))
        assert last.text == "one two"


LETTERS = "na\u00efve \u6f22\u5b57 \U0001f600\U0001f468\u200d\U0001f469 \u2028 \x85 e\u0301 end"


@pytest.mark.parametrize("at", [1, 2, 3, 7, 1000])
def test_letters_cut_anywhere_by_the_network_come_out_whole(scripted, at):
    halves = [event(LETTERS[:9]), event(LETTERS[9:]), event(finish="stop")]
    data = "".join(f"data: {json.dumps(one, ensure_ascii=False)}\n\n" for one in halves) + "data: [DONE]\n\n"
    raw = data.encode()
    with scripted.serving({"chunks": [raw[start : start + at] for start in range(0, len(raw), at)]}) as script:
        pieces, last = split(ask(script))
    assert last.text == LETTERS
    assert "\ufffd" not in "".join(pieces)


def test_letters_whose_halves_come_in_two_events_are_one_letter(scripted):
    raw = [
        '{"choices": [{"delta": {"content": "a \\ud83d"}}]}',
        '{"choices": [{"delta": {}}]}',
        '{"choices": [{"delta": {"content": "\\ude00 b"}}]}',
        '{"choices": [{"delta": {"content": " \\ud83d"}}]}',
        '{"choices": [{"delta": {"content": "x \\ude00 \\ud83d"}, "finish_reason": "stop"}]}',
    ]
    with scripted.serving(stream_of(*raw)) as script:
        pieces, last = split(ask(script))
    assert last.text == "a \U0001f600 b \ufffdx \ufffd \ufffd"
    assert all(piece.encode() for piece in pieces)


def test_a_whole_answer_with_half_a_letter_can_be_written(scripted):
    data = '{"choices": [{"message": {"content": "\\ud83d\\ude00 and \\ud83d"}, "finish_reason": "stop"}]}'
    with scripted.serving(scripted.raw(data)) as script:
        model = ServerModel("m", Server(base_url=script.url, retry=FAST))
        [found] = model.complete([PROMPT], Sampling(max_tokens=3))
    assert found.text == "\U0001f600 and \ufffd"


@pytest.mark.parametrize("cut", [7, 40, 75])
def test_a_connection_closed_in_the_middle_is_an_error_behind_what_had_come(scripted, cut):
    whole = "".join(f"data: {json.dumps(event(one))}\n\n" for one in ("part", " of", " it")).encode()
    chunks = [whole, f"data: {json.dumps(event('never'))}"[:cut].encode(), None]
    with scripted.serving({"chunks": chunks}) as script:
        got, _ = pieces_and_error(ask(script), (ServerUnavailable, MalformedResponse))
        assert len(script.requests) == 1
    assert "".join(got) == "part of it"


def test_a_server_that_falls_silent_in_the_middle_is_a_timeout_behind_what_had_come(scripted):
    with scripted.serving({"chunks": [f"data: {json.dumps(event('so far'))}\n\n".encode(), 5.0]}) as script:
        got, _ = pieces_and_error(ask(script, read_timeout=0.3), ModelTimeout)
    assert "".join(got) == "so far"


@pytest.mark.parametrize("raw", [b"data: \xff\xfe\n\n", b"x" * (1 << 22) + b"xx"], ids=["no UTF-8", "no line end"])
def test_bytes_that_are_no_lines_of_text_are_malformed(scripted, raw):
    with scripted.serving({"chunks": [raw]}) as script:
        pieces_and_error(ask(script, read_timeout=20.0), MalformedResponse)


def test_an_error_that_an_old_server_reports_without_its_field_is_that_error(scripted):
    told = {"object": "error", "message": "maximum context length is 10 tokens", "code": 400}
    with scripted.serving(stream_of(told)) as script:
        pieces_and_error(ask(script), ContextOverflow)


def test_half_a_letter_in_a_prompt_is_asked_as_an_unknown_one(scripted, tiny_model):
    prompt = [Message("user", "half \ud83d of it")]
    with scripted.serving(stream_of(event("x", finish="stop"))) as script:
        model = ServerModel("m", Server(base_url=script.url, retry=FAST))
        split(model.stream(prompt, Sampling(max_tokens=3)))
        assert script.requests[0]["messages"][0]["content"] == "half \ufffd of it"
    asked = [Message("user", "half \ufffd of it")]
    assert tiny_model.ids(prompt) == tiny_model.ids(asked)
    assert tiny_model.count_texts(["a\ud83d"]) == tiny_model.count_texts(["a\ufffd"])
    assert tiny_model.cut("ab\ud83dcd", 2) == "ab"
    assert tiny_model.cut("ab\ud83dcd", 6) == "ab\ud83dc"
    split(tiny_model.stream(prompt, Sampling(max_tokens=3)))
