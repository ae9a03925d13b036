"""Kept answers and limits, around a model that counts its calls."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from unabridged.errors import ContentFiltered, LimitReached, ModelTimeout, ResourceError, UsageError, ValidationError
from unabridged.rankers.lm.budget import Limits, MeteredModel, Prices, percentile
from unabridged.rankers.lm.cache import CachedModel, ResponseCache, answer_key
from unabridged.rankers.lm.contracts import (
    Capabilities,
    Choice,
    Completion,
    LanguageModel,
    Message,
    Permutation,
    Sampling,
    Usage,
)
from unabridged.rankers.lm.wrapped import likelihood_of, unwrapped

SAMPLING = Sampling(max_tokens=5)


class Counting:
    """Answers with the last message; ``wrong`` texts get an error, ``secret`` ones are filtered in part."""

    def __init__(self, fingerprint="f", usage=True):
        self.name = "counting"
        self.fingerprint = fingerprint
        self.capabilities = Capabilities(constrained=False, structured=False, logprobs=0, context=None, prefix=False)
        self.asked = []
        self._usage = usage

    def count_tokens(self, prompt):
        return sum(len(message.content) for message in prompt)

    def count_texts(self, texts):
        return [len(text) for text in texts]

    def cut(self, text, tokens):
        return text[:tokens]

    def complete(self, prompts, sampling, *, constraint=None, cancel=None):
        found = []
        for prompt in prompts:
            text = prompt[-1].content
            self.asked.append(text)
            if text == "wrong":
                found.append(ModelTimeout("late"))
                continue
            if text == "raise":
                raise ContentFiltered("raised")
            usage = Usage(prompt=self.count_tokens(prompt), completion=2, cached=1) if self._usage else None
            finish = "filtered" if text == "secret" else "stop"
            found.append(
                Completion(
                    text=f"re {text}", usage=usage, finish=finish, seconds=0.5 + len(self.asked), constrained=False,
                    first={"a": -0.25},
                )
            )  # fmt: skip
        return found


def user(*texts):
    return [[Message("user", text)] for text in texts]


def test_wrappers_are_language_models_that_say_what_the_inner_one_says(tmp_path):
    inner = Counting()
    outer = CachedModel(MeteredModel(inner), ResponseCache(tmp_path / "c.sqlite"))
    assert isinstance(outer, LanguageModel)
    assert (outer.name, outer.fingerprint, outer.capabilities) == ("counting", "f", inner.capabilities)
    assert (outer.count_tokens(user("abc")[0]), outer.count_texts(["ab"]), outer.cut("abc", 2)) == (3, [2], "ab")
    assert unwrapped(outer) is inner
    assert likelihood_of(outer) is None


def test_what_was_answered_is_not_asked_again_and_is_equal(tmp_path):
    inner = Counting()
    path = tmp_path / "deep" / "c.sqlite"
    first = CachedModel(inner, ResponseCache(path)).complete(user("a", "ü", "a"), SAMPLING)
    assert inner.asked == ["a", "ü"]
    second = CachedModel(inner, ResponseCache(path)).complete(user("ü", "a"), SAMPLING)
    assert inner.asked == ["a", "ü"]
    assert [answer.text for answer in first] == ["re a", "re ü", "re a"]
    assert [answer.cached for answer in first] == [False, False, True]
    assert second == [replace(first[row], cached=True, attempts=0, seconds=0.0) for row in (1, 0)]


def test_everything_an_answer_depends_on_is_in_the_key():
    base = {"fingerprint": "f", "prompt": user("a")[0], "sampling": SAMPLING, "constraint": None}
    others = [
        {"fingerprint": "g"},
        {"prompt": user("b")[0]},
        {"prompt": [Message("system", "a")]},
        {"prompt": [Message("user", ""), Message("user", "a")]},
        {"sampling": Sampling(max_tokens=6)},
        {"sampling": Sampling(max_tokens=5, temperature=0.5, seed=1)},
        {"sampling": Sampling(max_tokens=5, temperature=0.5, seed=2)},
        {"sampling": Sampling(max_tokens=5, stop=("x",))},
        {"sampling": Sampling(max_tokens=5, top_logprobs=1)},
        {"sampling": Sampling(max_tokens=5, min_tokens=1)},
        {"constraint": Choice(labels=("a", "b"))},
        {"constraint": Permutation(labels=("a", "b"))},
        {"constraint": Permutation(labels=("a", "b"), most=1)},
        {"constraint": Permutation(labels=("a", "b"), separator=",")},
        {"constraint": Permutation(labels=("b", "a"))},
    ]
    keys = {answer_key(**base), *(answer_key(**{**base, **other}) for other in others)}
    assert len(keys) == len(others) + 1
    assert answer_key(**base) == answer_key(**base)


def test_errors_and_withheld_answers_are_asked_again(tmp_path):
    inner = Counting()
    model = CachedModel(inner, ResponseCache(tmp_path / "c.sqlite"))
    for _ in range(2):
        found = model.complete(user("wrong", "secret"), SAMPLING)
        assert isinstance(found[0], ModelTimeout)
        assert found[1].finish == "filtered"
    assert inner.asked == ["wrong", "secret"] * 2


def test_draws_without_a_seed_are_never_kept(tmp_path):
    inner = Counting()
    model = CachedModel(inner, ResponseCache(tmp_path / "c.sqlite"))
    for sampling in (Sampling(max_tokens=5, temperature=1.0), Sampling(max_tokens=5, temperature=1.0, seed=0)):
        inner.asked.clear()
        for _ in range(2):
            model.complete(user("a"), sampling)
        assert len(inner.asked) == (2 if sampling.seed is None else 1)


def test_unknown_usage_stays_unknown_in_the_cache(tmp_path):
    model = CachedModel(Counting(usage=False), ResponseCache(tmp_path / "c.sqlite"))
    assert [model.complete(user("a"), SAMPLING)[0].usage for _ in range(2)] == [None, None]


def test_answers_of_finished_chunks_are_kept_when_a_later_one_raises(tmp_path):
    inner = Counting()
    cache = ResponseCache(tmp_path / "c.sqlite")
    with pytest.raises(ContentFiltered):
        CachedModel(inner, cache, chunk=2).complete(user("a", "b", "c", "raise"), SAMPLING)
    assert len(cache) == 2


WORKER = """
    import sys, time
    from pathlib import Path
    from unabridged.rankers.lm.cache import CachedModel, ResponseCache
    from unabridged.rankers.lm.contracts import Capabilities, Completion, Message, Sampling, Usage

    class Slow:
        name = fingerprint = "slow"
        def complete(self, prompts, sampling, *, constraint=None, cancel=None):
            for prompt in prompts:
                print(prompt[-1].content, flush=True)
                time.sleep(float(sys.argv[2]))
            return [Completion(text=p[-1].content, usage=None, finish="stop", seconds=0.0, constrained=False)
                    for p in prompts]

    model = CachedModel(Slow(), ResponseCache(Path(sys.argv[1])), chunk=1)
    model.complete([[Message("user", str(n))] for n in range(int(sys.argv[3]))], Sampling(max_tokens=1))
"""


def worker(path, seconds, count):
    code = [sys.executable, "-c", textwrap.dedent(WORKER), str(path), str(seconds), str(count)]
    return subprocess.Popen(code, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3])


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    path = tmp_path / "c.sqlite"
    killed = worker(path, 0.05, 40)
    seen = [killed.stdout.readline() for _ in range(6)]
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    assert seen == [f"{n}\n" for n in range(6)]
    again = worker(path, 0, 40)
    asked = [int(line) for line in again.communicate()[0].split()]
    assert again.returncode == 0
    assert asked[-1] == 39
    assert 5 <= asked[0] <= 12
    assert asked == list(range(asked[0], 40))
    assert len(ResponseCache(path)) == 40


def test_processes_share_a_file(tmp_path):
    path = tmp_path / "c.sqlite"
    workers = [worker(path, 0, 30) for _ in range(3)]
    for process in workers:
        process.communicate()
        assert process.returncode == 0
    assert len(ResponseCache(path)) == 30


def test_threads_share_a_cache(tmp_path):
    cache = ResponseCache(tmp_path / "c.sqlite")
    model = CachedModel(Counting(), cache)
    threads = [
        threading.Thread(target=model.complete, args=(user(*(str(n) for n in range(20))), SAMPLING)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cache) == 20


def test_a_cache_that_cannot_be_made_names_its_place(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ResourceError, match="cannot be used"):
        ResponseCache(tmp_path / "file" / "answers.sqlite")


def test_files_that_are_no_caches_are_refused_and_left_alone(tmp_path):
    other = tmp_path / "notes.txt"
    other.write_text("these are no answers\n" * 50)
    with pytest.raises(ValidationError, match="no response cache"):
        ResponseCache(other)
    assert other.read_text() == "these are no answers\n" * 50
    newer = tmp_path / "newer.sqlite"
    ResponseCache(newer)
    with sqlite3.connect(newer) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(ValidationError, match="format 99"):
        ResponseCache(newer)


def test_an_answer_that_was_edited_is_an_error_and_no_answer(tmp_path):
    cache = ResponseCache(tmp_path / "c.sqlite")
    model = CachedModel(Counting(), cache)
    model.complete(user("a"), SAMPLING)
    with sqlite3.connect(cache.path) as database:
        database.execute("UPDATE answers SET answer = ?", (json.dumps({"text": "x"}),))
    database.close()
    with pytest.raises(ValidationError, match="cannot be read"):
        model.complete(user("a"), SAMPLING)


def test_an_account_adds_up():
    model = MeteredModel(Counting(), prices=Prices(prompt=2.0, completion=10.0, cached=1.0))
    assert (model.account.p50, model.account.cost) == (None, 0.0)
    model.complete(user("abc", "wrong", "ab"), SAMPLING)
    account = model.account
    assert (account.calls, account.attempts, account.failures, account.from_cache) == (3, 2, 1, 0)
    assert account.usage == Usage(prompt=5, completion=4, cached=2)
    assert account.cost == pytest.approx((3 * 2.0 + 2 * 1.0 + 4 * 10.0) / 1e6)
    assert (account.p50, account.p95) == (1.5, 3.5)


def test_unknown_usage_or_price_is_an_unknown_cost():
    assert MeteredModel(Counting()).account.cost is None
    model = MeteredModel(Counting(usage=False), prices=Prices(prompt=1.0, completion=1.0))
    model.complete(user("a"), SAMPLING)
    assert (model.account.cost, model.account.unknown_usage) == (None, 1)
    with pytest.raises(UsageError, match="prices"):
        MeteredModel(Counting(), limits=Limits(max_cost=1.0))


@pytest.mark.parametrize(
    ("limits", "answered"),
    [
        (Limits(max_calls=2), 2),
        (Limits(max_calls=0), 0),
        (Limits(max_tokens=6 + 6 + 6), 3),
        (Limits(max_tokens=17), 2),
        (Limits(max_cost=12 / 1e6), 2),
        (Limits(), 4),
    ],
)
def test_prompts_that_could_pass_a_limit_are_not_sent(limits, answered):
    inner = Counting()
    model = MeteredModel(inner, limits=limits, prices=Prices(prompt=1.0, completion=1.0))
    outcomes = model.complete(user("a", "b", "c", "d"), SAMPLING)
    assert [isinstance(outcome, LimitReached) for outcome in outcomes] == [False] * answered + [True] * (4 - answered)
    assert len(inner.asked) == answered


def test_what_a_call_did_not_use_can_be_used_by_the_next():
    model = MeteredModel(Counting(), limits=Limits(max_tokens=9))
    for left in (True, True, False):
        (outcome,) = model.complete(user("a"), SAMPLING)
        assert isinstance(outcome, Completion) is left


def test_calls_that_report_no_usage_are_charged_what_they_reserved():
    model = MeteredModel(Counting(usage=False), limits=Limits(max_tokens=12))
    outcomes = [model.complete(user("a"), SAMPLING)[0] for _ in range(3)]
    assert [isinstance(outcome, Completion) for outcome in outcomes] == [True, True, False]


def test_a_call_that_raises_gives_its_reservation_back():
    model = MeteredModel(Counting(), limits=Limits(max_tokens=11))
    for _ in range(3):
        with pytest.raises(ContentFiltered):
            model.complete(user("raise"), SAMPLING)
    assert isinstance(model.complete(user("a"), SAMPLING)[0], Completion)
    assert model.account.failures == 3


def test_answers_from_the_cache_cost_nothing(tmp_path):
    cache = ResponseCache(tmp_path / "c.sqlite")
    CachedModel(Counting(), cache).complete(user("a"), SAMPLING)
    outside = MeteredModel(CachedModel(Counting(), cache))
    outside.complete(user("a"), SAMPLING)
    assert (outside.account.from_cache, outside.account.calls, outside.account.usage) == (1, 0, Usage.zero())
    inside = MeteredModel(Counting(), limits=Limits(max_calls=0))
    assert isinstance(CachedModel(inside, cache).complete(user("a"), SAMPLING)[0], Completion)


def test_limits_hold_over_threads():
    inner = Counting()
    model = MeteredModel(inner, limits=Limits(max_calls=25))
    threads = [threading.Thread(target=model.complete, args=(user(*"abcdefghij"), SAMPLING)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(inner.asked) == model.account.calls == 25


@pytest.mark.parametrize("wrong", [{"max_calls": -1}, {"max_tokens": float("inf")}, {"max_cost": float("nan")}])
def test_limits_that_mean_nothing_are_refused(wrong):
    with pytest.raises(UsageError):
        Limits(**wrong)


def test_percentiles_are_values_that_were_seen():
    assert percentile([], 50) is None
    assert percentile([4.0], 95) == 4.0
    assert percentile([float(n) for n in range(1, 101)], 95) == 95.0
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0


def test_usage_is_summed_and_its_parts_too():
    total = sum((Usage(prompt=1, completion=2, cached=1, reasoning=2) for _ in range(3)), Usage.zero())
    assert (total, total.total) == (Usage(prompt=3, completion=6, cached=3, reasoning=6), 9)
