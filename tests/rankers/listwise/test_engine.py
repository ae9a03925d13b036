"""The listwise ranker: always a permutation, never a silent failure."""

import random
import re
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_rankers import ScriptedModel, body, request_of, sorting, worths

from unabridged.errors import (
    AuthFailed,
    BadRequest,
    ContentFiltered,
    ContextOverflow,
    DuplicateId,
    LimitReached,
    MalformedResponse,
    ModelTimeout,
    RateLimited,
    ServerUnavailable,
    UsageError,
)
from unabridged.rankers.contracts import KEPT, SEGMENTS, SHRUNK, UNREAD, Candidate, Ranker, Request, Spent, Status
from unabridged.rankers.listwise.asking import Settings
from unabridged.rankers.listwise.engine import ListwiseRanker
from unabridged.rankers.listwise.plans import cost
from unabridged.rankers.listwise.prompts import LETTERED, TURNS, YES_NO
from unabridged.rankers.listwise.sliding import Full, Sliding
from unabridged.rankers.listwise.strategies import read_strategy
from unabridged.rankers.lm.contracts import Choice, Completion, LanguageModel, Permutation, Usage

WORTHS = random.Random(4).sample(range(1000), 60)
RIGHT = tuple(sorted(range(60), key=lambda one: -WORTHS[one]))


def ranked(answer, strategy="full", request=None, settings=None, **model):
    scripted = ScriptedModel(answer, **model)
    ranker = ListwiseRanker(scripted, read_strategy(strategy), settings)
    [ranking] = ranker.rank([request_of(WORTHS) if request is None else request])
    return ranking, scripted


def actions(ranking):
    return [step.action for step in ranking.steps]


def test_the_scripted_model_and_the_ranker_are_what_the_protocols_say():
    model = ScriptedModel(sorting)
    assert isinstance(model, LanguageModel)
    assert isinstance(ListwiseRanker(model), Ranker)
    assert ListwiseRanker(model, Sliding()).label == "scripted:sliding:20:10"


@pytest.mark.parametrize(
    "strategy", ["full", "sliding", "multipass", "topdown", "tournament:3", "setwise", "setwise-insertion", "full:10"]
)
def test_a_perfect_model_gives_the_right_head_by_every_strategy_and_calls_are_those_of_the_plan(strategy):
    ranking, model = ranked(sorting, strategy)
    head = 2 if strategy.startswith("tournament") else 10
    assert set(ranking.order[:head]) == set(RIGHT[:head])
    assert ranking.status is Status.OK
    assert ranking.steps == ()
    assert ranking.spent.calls == len(model.calls)
    assert ranking.spent.usage.prompt == sum(model.count_tokens(prompt) for prompt, *_ in model.calls)
    assert all(exposure.prompts > 0 and exposure.shown == exposure.total == 2 for exposure in ranking.exposures)
    if strategy.startswith(("full", "sliding", "multipass", "tournament")):
        assert len(model.calls) == cost(read_strategy(strategy), 60).calls


def test_one_prompt_for_a_hundred_where_windows_take_nine_in_the_same_run():
    request = request_of(random.Random(1).sample(range(999), 100))
    for strategy, calls in (("full", 1), ("sliding", 9)):
        assert ranked(sorting, strategy, request)[0].spent.calls == calls


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_order_needs_no_call(count):
    ranking, model = ranked(sorting, "sliding", request_of(range(count)))
    assert ranking.order == tuple(range(count))
    assert ranking.status is Status.OK
    assert model.calls == []
    assert all(exposure.flags == (UNREAD,) for exposure in ranking.exposures)


@pytest.mark.parametrize("count", [2, 15, 19, 20, 21, 25, 95, 100])
@pytest.mark.parametrize("strategy", ["full", "sliding", "topdown", "tournament", "setwise"])
def test_every_candidate_is_in_a_prompt(count, strategy):
    ranking, _ = ranked(sorting, strategy, request_of(random.Random(count).sample(range(999), count)))
    assert all(exposure.prompts > 0 for exposure in ranking.exposures)


def test_identical_candidates_keep_their_order_with_a_model_that_does():
    ranking, _ = ranked(lambda *_: "[1] > [2] > [3]", request=request_of([5, 5, 5]))
    assert ranking.order == (0, 1, 2)


def test_a_candidate_that_stands_twice_is_refused():
    with pytest.raises(DuplicateId, match="twice"):
        Request("q", (Candidate("a", "x"), Candidate("a", "y")))
    with pytest.raises(UsageError, match="Segment"):
        Candidate("a", "x", segments=((0, 2),))


ANSWERS = {
    "empty": ("", Status.UNRANKED),
    "a refusal": ("I'm sorry, I cannot rank these 60 passages.", Status.UNRANKED),
    "an error text": ("Error code: 400 - maximum context length is 4096 tokens", Status.UNRANKED),
    "a thought without an end": ("<think>[1] > [2]", Status.UNRANKED),
    "one id of sixty": ("[7]", Status.PARTIAL),
    "half of the ids": (" > ".join(f"[{n}]" for n in range(31, 61)), Status.REPAIRED),
    "all but a few": (" > ".join(f"[{n}]" for n in range(60, 5, -1)), Status.REPAIRED),
    "repeated": ("[60] > " + " > ".join(f"[{n}]" for n in range(60, 0, -1)), Status.REPAIRED),
    "out of range": ("[99] > " + " > ".join(f"[{n}]" for n in range(60, 0, -1)), Status.REPAIRED),
    "whole": (" > ".join(f"[{n}]" for n in range(60, 0, -1)), Status.OK),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_status_says_how_much_of_the_order_is_the_models(name):
    text, status = ANSWERS[name]
    ranking, model = ranked(lambda *_: text)
    assert sorted(ranking.order) == list(range(60))
    assert ranking.status is status
    assert len(model.calls) == (2 if status is Status.UNRANKED else 1)
    if status is Status.UNRANKED:
        assert ranking.order == tuple(range(60))
        assert actions(ranking) == ["retry", "first-stage"]
        assert all(KEPT in exposure.flags for exposure in ranking.exposures)
    if status is Status.PARTIAL:
        assert ranking.order[0] == 6
        assert sum(KEPT in exposure.flags for exposure in ranking.exposures) == 59


def test_a_retry_reminds_of_the_form_and_holds_the_answer_to_its_ids_where_the_model_can():
    def once(prompt, sampling, constraint):
        return sorting(prompt, sampling, constraint) if "Write ids only" in body(prompt) else "I would rather not."

    ranking, model = ranked(once, structured=True)
    assert ranking.order == RIGHT
    assert ranking.status is Status.REPAIRED
    assert actions(ranking) == ["retry", "repaired"]
    first, second = (constraint for _, _, constraint in model.calls)
    assert first is None
    assert isinstance(second, Permutation)
    assert second.labels[:2] == ("[1]", "[2]")
    ranking, model = ranked(once)
    assert [constraint for _, _, constraint in model.calls] == [None, None]


def test_constraints_are_used_at_once_where_they_hold_by_construction_or_are_asked_for():
    for able, settings_, kinds in (
        ({"constrained": True}, Settings(), [Permutation]),
        ({"structured": True}, Settings(constrain="always"), [Permutation]),
        ({"constrained": True}, Settings(constrain="never"), [type(None)]),
    ):
        _, model = ranked(sorting, settings=settings_, **able)
        assert [type(constraint) for _, _, constraint in model.calls] == kinds
    _, model = ranked(sorting, "setwise", constrained=True)
    assert {type(constraint) for _, _, constraint in model.calls} == {Choice}
    _, model = ranked(sorting, "full:5", constrained=True)
    assert model.calls[0][2].most == 5


def test_retries_are_as_many_as_said():
    for retries in (0, 1, 3):
        _, model = ranked(lambda *_: "no", settings=Settings(retries=retries))
        assert len(model.calls) == 1 + retries


@pytest.mark.parametrize(
    "error",
    [ServerUnavailable("gone"), ModelTimeout("slow"), RateLimited("busy", retry_after=3), LimitReached("spent")],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("strategy", ["sliding", "topdown", "tournament", "setwise", "multipass"])
def test_a_server_that_dies_in_the_middle_leaves_the_ranking_so_far(error, strategy):
    # The best candidate is the last one: as long as the server lives it moves to the front.
    request = request_of([*range(1, 60), 999])
    calls = iter(range(1000))

    def dying(prompt, sampling, constraint):
        return sorting(prompt, sampling, constraint) if next(calls) < 2 else error

    ranking, model = ranked(dying, strategy, request)
    assert sorted(ranking.order) == list(range(60))
    assert ranking.status is Status.PARTIAL
    assert len(model.calls) <= 2 + 5
    assert actions(ranking) == ["stopped"]
    assert type(error).__name__ in ranking.steps[0].reason
    assert any(KEPT in exposure.flags for exposure in ranking.exposures)
    if strategy == "sliding":
        assert ranking.order.index(59) == 30
        assert len(model.calls) == 3


def test_a_server_that_never_answered_leaves_the_first_stage_and_says_so():
    ranking, model = ranked(lambda *_: ServerUnavailable("gone"), "sliding")
    assert ranking.order == tuple(range(60))
    assert ranking.status is Status.FAILED
    assert len(model.calls) == 1
    assert ranking.spent == Spent(calls=1, failed=1)
    assert {flag for exposure in ranking.exposures for flag in exposure.flags} == {UNREAD, KEPT}


def test_a_filtered_window_keeps_its_order_and_the_others_go_on():
    def squeamish(prompt, sampling, constraint):
        return ContentFiltered("no") if "worth 13 " in body(prompt) + " " else sorting(prompt, sampling, constraint)

    request = request_of([*range(100, 150), *range(5, 15)], words=1)
    ranking, model = ranked(squeamish, "sliding", request)
    assert ranking.status is Status.PARTIAL
    assert actions(ranking) == ["filtered"]
    assert len(model.calls) == 5
    assert ranking.order[:10] == tuple(range(49, 39, -1))
    assert KEPT in ranking.exposures[58].flags
    assert KEPT not in ranking.exposures[0].flags


def test_an_answer_that_the_server_cut_off_for_its_content_is_no_answer():
    filtered = Completion(text="", usage=None, finish="filtered", seconds=0.0, constrained=False)
    ranking, model = ranked(lambda *_: filtered)
    assert (ranking.status, len(model.calls), ranking.spent.unknown) == (Status.UNRANKED, 1, 1)


@pytest.mark.parametrize(
    ("text", "status", "told", "head"),
    [
        (" > ".join(f"[{n}]" for n in range(60, 0, -1)), Status.REPAIRED, ["filtered"], [59, 58]),
        (" > ".join(f"[{n}]" for n in range(60, 20, -1)), Status.REPAIRED, ["filtered", "repaired"], [59, 58]),
        ("[60] > [7]", Status.PARTIAL, ["filtered", "partial"], [59, 6, 0]),
        # The end may be a part of an id: 5 of 53.
        ("60 > 7 > 5", Status.PARTIAL, ["filtered", "partial"], [59, 6, 0]),
    ],
    ids=["every id", "most ids", "two ids", "cut inside an id"],
)
def test_ids_in_an_answer_that_was_withheld_in_part_are_used_and_told_of(text, status, told, head):
    withheld = Completion(text=text, usage=None, finish="filtered", seconds=0.0, constrained=False)
    ranking, model = ranked(lambda *_: withheld)
    assert sorted(ranking.order) == list(range(60))
    assert list(ranking.order[: len(head)]) == head
    assert (ranking.status, actions(ranking), len(model.calls)) == (status, told, 1)
    assert "withheld" in ranking.steps[0].reason


def test_a_malformed_response_is_asked_for_once_more():
    ranking, model = ranked(lambda *_: MalformedResponse("not JSON: 3 > 1"))
    assert ranking.order == tuple(range(60))
    assert (ranking.status, len(model.calls)) == (Status.FAILED, 2)


def test_a_prompt_that_one_server_call_refuses_keeps_its_group():
    ranking, model = ranked(lambda *_: BadRequest("no"), "sliding")
    assert (ranking.status, len(model.calls)) == (Status.FAILED, 5)


def test_what_concerns_every_call_is_raised():
    class Closed(ScriptedModel):
        def complete(self, *_, **__):
            raise AuthFailed("no key")

    with pytest.raises(AuthFailed, match="no key"):
        ListwiseRanker(Closed(sorting), Sliding()).rank([request_of(WORTHS)] * 5)


def test_a_context_that_is_known_is_kept_by_showing_less_of_long_texts_only():
    values = [*range(100, 118), 7, 8]
    short = request_of(values)
    texts = [one.text for one in short.candidates]
    texts[18] += " filler" * 3000
    request = Request("the best", tuple(Candidate(str(n), text) for n, text in enumerate(texts)))
    ranking, model = ranked(sorting, "full", request, context=600)
    [(prompt, sampling, _)] = model.calls
    assert model.count_tokens(prompt) + sampling.max_tokens <= 600
    assert model.count_tokens(prompt) + sampling.max_tokens > 400
    assert ranking.exposures[18].flags == (SEGMENTS,)
    assert ranking.exposures[18].shown < ranking.exposures[18].total == 3002
    assert all(one.flags == () for place, one in enumerate(ranking.exposures) if place != 18)
    assert ranking.status is Status.OK


def test_the_best_segments_are_shown_and_not_the_first_words():
    text = "filler. " * 400 + "The capital of Peru is Lima, worth 900. " + "filler. " * 400
    request = Request("capital of Peru", (Candidate("a", "worth 5"), Candidate("b", text)))
    ranking, _ = ranked(sorting, "full", request, context=300)
    assert ranking.order == (1, 0)
    [span] = [span for span in ranking.exposures[1].spans if "Lima" in text[slice(*span)]]
    assert span[0] > 2000
    assert ranking.exposures[1].flags == (SEGMENTS,)


def test_segments_that_the_first_stage_knows_are_shown_first():
    text = "a " * 300 + "worth 900 " + "b " * 300
    at = text.index("worth")
    request = Request("q", (Candidate("a", "worth 5"), Candidate("b", text, segments=((at, at + 9), (0, 40)))))
    ranking, model = ranked(sorting, "full", request, settings=Settings(passage_tokens=30))
    assert ranking.exposures[1].spans == ((0, 40), (at, at + 9))
    assert "a  \u2026 worth 900" in body(model.calls[0][0])


def overflowing(limit):
    def answer(prompt, sampling, constraint):
        got = len(body(prompt).split())
        return (
            ContextOverflow("too long", limit=limit, got=got) if got > limit else sorting(prompt, sampling, constraint)
        )

    return answer


def test_a_prompt_that_is_refused_as_too_long_is_shown_shorter():
    ranking, model = ranked(overflowing(1500), "full", request_of(WORTHS, words=60))
    assert ranking.order == RIGHT
    assert "shrink" in actions(ranking)
    assert len(model.calls) <= 7
    assert all(SHRUNK in exposure.flags and SEGMENTS in exposure.flags for exposure in ranking.exposures)


def test_a_prompt_that_cannot_be_shown_shorter_is_split_into_windows():
    ranking, model = ranked(overflowing(330), "full", request_of(WORTHS, words=60))
    assert set(RIGHT[:5]) <= set(ranking.order[:20])
    assert "split" in actions(ranking)
    assert ranking.status is Status.REPAIRED
    assert len(model.calls) < 60
    ranking, model = ranked(sorting, "full", request_of(WORTHS, words=60), context=400)
    assert "split" in actions(ranking)
    assert all(model.count_tokens(prompt) + sampling.max_tokens <= 400 for prompt, sampling, _ in model.calls)


def test_a_server_that_does_not_say_by_how_much_is_asked_a_bounded_number_of_times():
    ranking, model = ranked(lambda *_: ContextOverflow("too long"), "full", request_of(WORTHS, words=60))
    assert ranking.order == tuple(range(60))
    assert ranking.status is Status.FAILED
    assert len(model.calls) < 60
    small, model = ranked(lambda *_: ContextOverflow("too long"), "full", request_of([1, 2], words=60))
    assert (small.status, actions(small)[-2:]) == (Status.FAILED, ["first-stage", "stopped"])
    assert len(model.calls) <= 8


def test_a_query_longer_than_the_context_leaves_the_first_stage():
    ranking, model = ranked(sorting, "full", request_of([1, 2], query="long " * 900), context=300)
    assert (ranking.order, ranking.status, model.calls) == ((0, 1), Status.FAILED, [])


def test_results_stand_in_the_order_of_the_requests_whichever_is_done_first():
    def slow(prompt, sampling, constraint):
        time.sleep(0.05 if "slowly" in body(prompt) else 0)
        return sorting(prompt, sampling, constraint)

    told = []
    ranker = ListwiseRanker(ScriptedModel(slow), Full(), Settings(workers=4))
    requests = [request_of([1, 2, 3], query="slowly"), *(request_of([n, 9 - n], query=f"q{n}") for n in range(4))]
    rankings = ranker.rank(requests, finished=lambda number, ranking: told.append((number, ranking.order)))
    assert [len(ranking.order) for ranking in rankings] == [3, 2, 2, 2, 2]
    assert [ranking.order for ranking in rankings][:2] == [(2, 1, 0), (1, 0)]
    assert sorted(told) == [(number, ranking.order) for number, ranking in enumerate(rankings)]
    assert told[-1][0] == 0
    assert ListwiseRanker(ScriptedModel(slow), Full(), Settings(workers=1)).rank(requests) == rankings


def test_queries_run_side_by_side_and_windows_of_one_query_do_not():
    inside, most = [0, 0], [0, 0]
    lock = threading.Lock()

    def watched(prompt, sampling, constraint):
        number = int("q1" in body(prompt))
        with lock:
            inside[number] += 1
            most[number] = max(most[number], inside[number])
            together.append(sum(inside))
        time.sleep(0.01)
        with lock:
            inside[number] -= 1
        return sorting(prompt, sampling, constraint)

    together: list[int] = []
    requests = [request_of(WORTHS, query=f"q{number}") for number in range(2)]
    ListwiseRanker(ScriptedModel(watched), Sliding()).rank(requests)
    assert most == [1, 1]
    assert max(together) == 2


def test_a_run_that_is_cancelled_keeps_what_it_has():
    cancel = threading.Event()
    calls = iter(range(100))

    def stopping(prompt, sampling, constraint):
        if next(calls) == 1:
            cancel.set()
        return sorting(prompt, sampling, constraint)

    model = ScriptedModel(stopping)
    [ranking] = ListwiseRanker(model, Sliding()).rank([request_of(WORTHS)], cancel=cancel)
    assert (ranking.status, len(model.calls)) == (Status.PARTIAL, 2)
    assert actions(ranking) == ["stopped"]


@pytest.mark.parametrize("strategy", ["full", "sliding", "multipass", "tournament:2", "full:10"])
@pytest.mark.parametrize("constrained", [False, True])
def test_the_cost_before_is_the_cost_after(strategy, constrained):
    model = ScriptedModel(sorting, constrained=constrained, context=700)
    ranker = ListwiseRanker(model, read_strategy(strategy))
    requests = [request_of(WORTHS, words=9), request_of(WORTHS[:7]), request_of([])]
    before = ranker.estimate(requests)
    assert model.calls == []
    after = sum((ranking.spent for ranking in ranker.rank(requests)), Spent())
    assert before.usage == after.usage
    assert before.calls == after.calls == len(model.calls)


def test_one_position_orders_a_window_by_log_probabilities():
    def logits(prompt, sampling, constraint):
        assert (sampling.max_tokens, sampling.top_logprobs) == (1, 5)
        values = worths(prompt)
        first = {f"[{name}]": value / 100 - 99 for name, value in values.items()}
        usage = Usage(prompt=1, completion=1)
        return Completion(text="[", usage=usage, finish="length", seconds=0.0, constrained=True, first=first)

    request = request_of([3, 9, 1, 7, 5])
    settings_ = Settings(template=LETTERED, first_token=True)
    ranking, model = ranked(logits, "full", request, settings_, constrained=True, logprobs=1000)
    assert (ranking.order, ranking.status) == ((1, 3, 4, 0, 2), Status.OK)
    assert model.calls[0][2] == Choice(labels=("[A]", "[B]", "[C]", "[D]", "[E]"))
    before = ListwiseRanker(model, Full(), settings_).estimate([request])
    assert (before.calls, before.usage.completion) == (1, 1)


def test_a_server_names_bare_letters_behind_a_bracket_and_what_it_leaves_out_is_said():
    def some(prompt, sampling, constraint):
        if sampling.top_logprobs == 0:
            return sorting(prompt, sampling, constraint)
        assert prompt[-1].role == "assistant"
        assert prompt[-1].content == "["
        known = {} if "none" in body(prompt) else {"B": -0.1, "D": -1.0, "C": float("nan"), " the": -3.0}
        return Completion(text="B", usage=None, finish="length", seconds=0.0, constrained=False, first=known)

    settings_ = Settings(template=LETTERED, first_token=True)
    ranking, _ = ranked(some, "full", request_of([3, 9, 1, 7]), settings_, logprobs=20, prefix=True)
    assert ranking.order == (1, 3, 0, 2)
    assert ranking.status is Status.REPAIRED
    ranking, _ = ranked(some, "full", request_of([3, 9, 1, 7], query="none"), settings_, logprobs=20, prefix=True)
    assert ranking.order == (1, 3, 0, 2)
    assert actions(ranking) == ["retry", "repaired"]


def test_what_a_model_or_template_cannot_do_is_refused_before_any_call():
    with pytest.raises(UsageError, match="log-probabilities"):
        ListwiseRanker(ScriptedModel(sorting), Full(), Settings(template=LETTERED, first_token=True))
    model = ScriptedModel(sorting, logprobs=20)
    for settings_, match in (
        (Settings(template=LETTERED, first_token=True), "20|letters"),
        (Settings(template=LETTERED), "26"),
    ):
        with pytest.raises(UsageError, match=match):
            ListwiseRanker(model, Full(), settings_).rank([request_of(WORTHS)])
    for wrong in (
        {"template": YES_NO},
        {"floor": 0},
        {"enough": 2.0},
        {"retries": -1},
        {"workers": 0},
        {"passage_tokens": 3},
    ):
        with pytest.raises(UsageError):
            Settings(**wrong)
    assert model.calls == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Settings(), Settings(template=TURNS)),
        (Settings(), Settings(passage_tokens=16)),
        (Settings(), Settings(thinking=50)),
        (Settings(), Settings(controls=("<filler>",))),
    ],
    ids=["template", "passage_tokens", "thinking", "controls"],
)
def test_every_setting_changes_the_call(one, other):
    request = request_of(WORTHS[:5], words=40, query="a <filler>")
    calls = [ranked(sorting, "full", request, settings_)[1].calls[0][:2] for settings_ in (one, other)]
    assert calls[0] != calls[1]


def test_thoughts_are_left_out_of_the_order():
    def thinking(prompt, sampling, constraint):
        return f"<think>[1] is good, [2] > [1]</think>\n{sorting(prompt, sampling, constraint)}"

    ranking, model = ranked(thinking, settings=Settings(thinking=500))
    assert (ranking.order, ranking.status) == (RIGHT, Status.OK)
    assert model.calls[0][1].max_tokens > 500


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_whatever_a_model_does_the_result_is_a_permutation_and_the_accounts_add_up(data):
    errors = [
        ServerUnavailable("x"),
        ContentFiltered("1 > 2"),
        MalformedResponse("3"),
        ContextOverflow("x"),
        BadRequest("2"),
    ]
    texts = st.one_of(
        st.text(max_size=20),
        st.sampled_from(errors),
        st.lists(st.integers(0, 40), max_size=25).map(lambda ids: " > ".join(f"[{one}]" for one in ids)),
        st.just("oracle"),
    )
    strategy = data.draw(
        st.sampled_from(["full", "sliding:6:3", "topdown:6:3", "tournament", "setwise", "multipass:6:3"])
    )
    count = data.draw(st.integers(0, 30))
    able = data.draw(st.sampled_from([{}, {"structured": True}, {"constrained": True}, {"context": 250}]))
    answers = data.draw(st.lists(texts, min_size=1, max_size=12))
    turns = iter(range(10**6))

    def answer(prompt, sampling, constraint):
        told = answers[next(turns) % len(answers)]
        return sorting(prompt, sampling, constraint) if told == "oracle" else told

    ranking, model = ranked(
        answer, strategy, request_of(random.Random(count).sample(range(999), count), words=5), **able
    )
    assert sorted(ranking.order) == list(range(count))
    assert len(model.calls) < 4000
    assert ranking.spent.calls == len(model.calls)
    stepless = not ranking.steps
    assert (ranking.status is Status.OK) == (stepless or count < 2)
    if ranking.status in (Status.FAILED, Status.UNRANKED):
        assert ranking.order == tuple(range(count))


def test_what_is_recorded_of_a_candidate_is_what_stood_in_its_prompt_though_another_group_is_shown_shorter():
    # Two groups of a round: one is refused as too long and lowers the limit after the other was sent.
    def refusing(prompt, sampling, constraint):
        long = "big" in body(prompt) and len(body(prompt).split()) > 500
        return ContextOverflow("too long", limit=500, got=len(body(prompt).split())) if long else sorting(
            prompt, sampling, constraint
        )  # fmt: skip

    texts = [f"worth {n} " + ("filler " * 30 if n < 39 else "big " * 900) for n in range(58)]
    request = Request("the best", tuple(Candidate(str(n), text.strip()) for n, text in enumerate(texts)))
    ranking, model = ranked(refusing, "topdown", request, settings=Settings(passage_tokens=400))
    largest: dict[int, int] = {}
    for prompt, sampling, constraint in model.calls:
        if not isinstance(refusing(prompt, sampling, constraint), ContextOverflow):
            for part in body(prompt).split("\n\n["):
                found = re.search(r"\] worth (\d+) ?([^\n]*)", part)
                if found:
                    number = int(found.group(1))
                    largest[number] = max(largest.get(number, 0), 2 + len(found.group(2).split()))
    assert "shrink" in actions(ranking)
    assert {n: exposure.shown for n, exposure in enumerate(ranking.exposures)} == largest
