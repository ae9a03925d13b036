"""Names of rankers, and options: every one has an effect or is refused."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from unabridged.apps.ranker_names import AGGREGATES, SCORED, read_name
from unabridged.apps.rankers import RankerOptions, load_ranker
from unabridged.apps.rerank_options import NAMES, pairs, ranker_options
from unabridged.errors import MissingFile, UsageError
from unabridged.rankers.listwise.strategies import STRATEGIES
from unabridged.rankers.lm.budget import Limits, Prices

MODELS = [
    "embedded",
    "some/folder",
    "org/name@main",
    "https://host/v1",
    "http://127.0.0.1:8000",
    "http://[::1]:8000/v1",
    "openai:gpt",
    "openai:ft:gpt:org::7",
    "openai:llama3:8b@http://127.0.0.1:11434/v1",
    "openai:a@b@https://host:8000",
]


@pytest.mark.parametrize("model", MODELS)
def test_a_strategy_behind_any_model_is_found_and_the_model_stays_whole(model: str) -> None:
    assert (read_name(model).model, read_name(model).strategy) == (model, "full")
    for name, numbers in itertools.product([*STRATEGIES, *SCORED], ["", ":4", ":20:10"]):
        found = read_name(f"{model}:{name}{numbers}")
        assert (found.model, found.strategy, found.kind, found.cross) == (model, name + numbers, name, False)
        assert read_name(model, name + numbers) == found


@pytest.mark.parametrize("how", ["", *AGGREGATES, "mean-top:5"])
def test_a_cross_encoder_is_named_with_how_passages_make_a_score(how: str) -> None:
    found = read_name(f"cross:some/folder{':' if how else ''}{how}")
    assert (found.model, found.strategy, found.cross) == ("some/folder", how or "max", True)


@pytest.mark.parametrize(
    "text",
    [
        "embedded:best", "some/folder:best:4", "https://host/v1:best", "http://127.0.0.1:8000:best",
        "openai:m@http://127.0.0.1:8000/v1:best", "openai:m@http://127.0.0.1:8000:best", "embedded:full:x",
    ],
)  # fmt: skip
def test_an_unknown_strategy_is_refused_and_those_that_there_are_are_named(text: str) -> None:
    with pytest.raises(UsageError, match=r"sliding.*likelihood"):
        read_name(text)


def test_other_names_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(UsageError, match="one"):
        read_name("embedded:full", "sliding")
    with pytest.raises(UsageError, match="none of full"):
        read_name("embedded", "best")
    with pytest.raises(UsageError, match="max, first"):
        read_name("cross:folder:full")
    for empty in ("", "openai:", "cross:", "  "):
        with pytest.raises(UsageError):
            read_name(empty)


def test_a_folder_whose_name_holds_a_colon_is_a_model(tmp_path: Path) -> None:
    odd = tmp_path / "model:7b"
    odd.mkdir()
    assert read_name(str(odd)).model == str(odd)
    assert read_name(f"{odd}:full").model == str(odd)


WITHOUT_EFFECT = [
    ("m:full", {"window": 4}), ("m:full", {"passes": 2}), ("m:setwise", {"window": 4}), ("m:topdown", {"passes": 2}),
    ("m:attention", {"template": "turns"}), ("m:attention", {"limits": Limits(max_calls=1)}),
    ("m:likelihood", {"workers": 4}), ("m:likelihood", {"thinking": 5}),
    ("m:pointwise", {"first_token": True}), ("cross:m", {"context": 100}),
    ("cross:m", {"window": 100}), ("openai:m:full", {"device": "cpu"}), ("openai:m:full", {"network": True}),
    ("m:full", {"workers": 4}), ("m:full", {"server": {"revision": "1"}}),
]  # fmt: skip


@pytest.mark.parametrize(("model", "given"), WITHOUT_EFFECT, ids=[f"{m} {next(iter(g))}" for m, g in WITHOUT_EFFECT])
def test_an_option_that_would_change_nothing_is_refused_before_a_model_is_loaded(model: str, given: dict) -> None:
    with pytest.raises(UsageError, match=f"has no {next(iter(given))}"):
        load_ranker(model, options=RankerOptions(**given))


def server(strategy: str, **given: object):
    return load_ranker(f"openai:m@http://127.0.0.1:9/v1:{strategy}", options=RankerOptions(**given))


def test_numbers_of_a_strategy_come_from_its_name_or_from_options_and_from_one_of_them() -> None:
    assert server("sliding", window=6, step=2, passes=3).facts["strategy"] == "sliding:6:2:3"
    assert server("sliding:6", step=2).facts["strategy"] == "sliding:6:2"
    assert server("sliding", window=6).facts["strategy"] == "sliding:6:3"
    with pytest.raises(UsageError, match="already"):
        server("sliding:6", window=8)
    with pytest.raises(UsageError, match="step"):
        server("sliding", window=4, step=9)


def test_facts_tell_rankers_apart_by_all_that_decides_an_order_and_by_nothing_else(tmp_path: Path) -> None:
    body = "[{rank}] {candidate}\n"
    keys = {"method": "singleturn_listwise", "prefix": "{query}\n", "body": body, "suffix": "Order them."}
    for name, suffix in (("a", "Order them."), ("b", "Sort them.")):
        (tmp_path / f"{name}.json").write_text(json.dumps({**keys, "suffix": suffix}))
    regex = {"output_extraction_regex": "(" + "a" * 300 + ")?x"}
    (tmp_path / "c.json").write_text(json.dumps(keys | regex))
    (tmp_path / "d.json").write_text(
        json.dumps(keys | {"output_extraction_regex": regex["output_extraction_regex"] + "y"})
    )
    different = [
        server("full"), server("full:10"), server("topdown"), server("full", template="turns"),
        server("full", passage_tokens=100), server("full", context=1000), server("full", thinking=9),
        server("pointwise"), *(server("full", template=str(tmp_path / f"{name}.json")) for name in "abcd"),
    ]  # fmt: skip
    said = [json.dumps(one.facts, sort_keys=True) for one in different]
    assert len(set(said)) == len(said)
    same = [
        server("full", workers=2),
        server("full", prices=Prices(prompt=1, completion=1)),
        server("full:0" if 0 else "full"),
    ]
    assert {json.dumps(one.facts, sort_keys=True) for one in same} == {said[0]}


def test_a_server_cannot_be_looked_into() -> None:
    for strategy in ("attention", "likelihood"):
        with pytest.raises(UsageError, match="local"):
            server(strategy)
    with pytest.raises(MissingFile, match="no/such/model"):
        load_ranker("no/such/model")


def test_options_in_words_are_the_options_of_the_command() -> None:
    text = [
        "window=4", "step=2", "template=turns", "passage-tokens=90", "first_token=false", "concurrency=3",
        "max_cost=0.5", "price=1,2,0.5", "timeout=7", "attempts=2", "cache=a.sqlite",
    ]  # fmt: skip
    found = ranker_options(pairs(text))
    assert found == RankerOptions(
        window=4, step=2, template="turns", passage_tokens=90, workers=3, cache=Path("a.sqlite"),
        limits=Limits(max_cost=0.5), prices=Prices(prompt=1, completion=2, cached=0.5),
        server={"read_timeout": 7, "retry": found.server["retry"]},
    )  # fmt: skip
    assert found.server["retry"].attempts == 2


@pytest.mark.parametrize(
    "text", ["depth=3", "window", "window=many", "window=2.5", "first_token=1", "window=true", "="]
)
def test_options_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="rerank-option"):
        pairs([text])


@pytest.mark.parametrize("text", ["1", "1,2,3,4", "a,b", "-1,2", "nan,1", ""])
def test_prices_are_two_or_three_numbers(text: str) -> None:
    with pytest.raises(UsageError, match="price"):
        ranker_options({"price": text})


def test_every_option_of_the_command_may_be_given_in_words() -> None:
    import inspect

    from unabridged.apps.rerank_command import rerank

    others = {
        "run", "model", "corpus", "queries", "index", "strategy", "depth", "out", "explain", "format", "id_field",
        "text_field", "title_field", "mode", "dry_run", "quiet", "output",
    }  # fmt: skip
    assert set(inspect.signature(rerank).parameters) - others == set(NAMES)


@pytest.mark.parametrize("strategy", ["sliding", "pointwise"])
def test_no_request_at_a_time_is_refused_and_not_taken_for_the_default(strategy: str) -> None:
    with pytest.raises(UsageError, match="concurrency=0"):
        load_ranker(f"openai:m@http://127.0.0.1:9/v1:{strategy}", options=ranker_options({"concurrency": 0}))
