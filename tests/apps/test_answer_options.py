"""Options of ``ub.answer`` that mean nothing are told by name, value and what is expected, before anything is asked."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import pytest

import unabridged as ub
from unabridged.errors import BudgetTooSmall, MissingFile, UsageError
from unabridged.rankers.generate.answerer import AnswerSettings

_FILE = Path(__file__).parents[1] / "rankers" / "generate" / "writing_models.py"
_SPEC = importlib.util.spec_from_file_location("writing_models_of_options", _FILE)
_WRITING = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_WRITING)
_SERVER_FILE = Path(__file__).parents[1] / "rankers" / "lm" / "scripted_server.py"
_SERVER_SPEC = importlib.util.spec_from_file_location("scripted_server_of_options", _SERVER_FILE)
_SERVER = importlib.util.module_from_spec(_SERVER_SPEC)
_SERVER_SPEC.loader.exec_module(_SERVER)
TEXTS = {"a": "hello world, nobody signed this", "b": "the annex was signed by Anna in the old hall"}
HITS = [{"doc_id": name, "start": 0, "end": len(text), "text": text} for name, text in TEXTS.items()]
QUESTION = "who signed the annex?"


def ask(question: Any = QUESTION, found: Any = HITS, **options: Any) -> Any:
    model = options.pop("model", None)
    model = _WRITING.Scripted(*["By Anna [1]."] * 3) if model is None else model
    if "sources" not in options and found is HITS:
        options["sources"] = TEXTS
    return ub.answer(question, found, model=model, **options)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"budget": "100"}, "budget='100' (str); expected a positive whole number of tokens"),
        ({"budget": 0}, "budget=0 (int)"),
        ({"budget": -5}, "budget=-5 (int)"),
        ({"budget": True}, "budget=True (bool)"),
        ({"budget": 10.5}, "budget=10.5 (float)"),
        ({"max_tokens": "5"}, "max_tokens='5' (str)"),
        ({"max_tokens": 0}, "max_tokens=0 (int)"),
        ({"k": 0}, "k=0 (int); expected a positive whole number of segments"),
        ({"k": "5"}, "k='5' (str)"),
        ({"k": None}, "k=None (NoneType)"),
        ({"rerank_depth": 0}, "rerank_depth=0 (int)"),
        ({"rerank_depth": "3"}, "rerank_depth='3' (str)"),
        ({"mode": "odd"}, "mode='odd' is not one of dense, bm25, hybrid"),
        ({"mode": ["bm25"]}, "mode=['bm25'] (list) is not one of"),
        ({"template": ["short"]}, "template=['short'] (list) is not one of citing, short"),
        ({"template": "odd"}, "template='odd' is not one of citing, short"),
        ({"strategy": ["sure"]}, "strategy=['sure'] (list) is not one of plain, sure"),
        ({"attribute": {}}, "attribute={} (dict) is not one of words, choice, none"),
        ({"temperature": "1"}, "temperature='1' (str)"),
        ({"temperature": math.nan}, "temperature=nan (float)"),
        ({"temperature": -0.5}, "temperature=-0.5 (float)"),
        ({"seed": 1.5}, "seed=1.5 (float); expected a whole number"),
        ({"packing": {"foo": 1}}, "packing has 'foo', which is no option of assemble. It has order, join_gap"),
        ({"packing": {"budget": 3}}, "give budget as an option of its own"),
        ({"packing": "headings"}, "packing='headings' (str); expected a mapping"),
        ({"rerank": 3}, "rerank=3 (int); expected the name of a ranker"),
        ({"select": []}, "select=[] (list); expected the name of a selector"),
        ({"select": "bm25", "rerank": "embedded"}, "name one of them"),
        ({"model": ""}, "model is empty. Name embedded"),
        ({"model": 3}, "cannot write. Name a language model"),
        ({"listener": "print"}, "listener='print' (str); expected a function"),
        ({"cancel": 3}, "cancel=3 (int); expected a threading.Event"),
        ({"network": "yes"}, "network='yes' (str); expected True or False"),
        ({"question": None}, "question is None (NoneType); expected a text"),
        ({"question": ["who?"]}, "question is ['who?'] (list); expected a text"),
        ({"question": " \n"}, "The question is empty"),
        ({"found": 3}, "An answer cannot be found in 3 (int); expected an index or its folder"),
        ({"found": None}, "An answer cannot be found in None"),
        ({"found": {"doc_id": "a"}}, "An answer cannot be found in {'doc_id': 'a'} (dict)"),
        ({"found": b"folder"}, "An answer cannot be found in b'folder' (bytes)"),
        ({"found": " "}, "The name of the index is empty"),
        ({"found": [3]}, "hit 1 is int; expected a hit"),
    ],
    ids=str,
)
def test_an_option_that_means_nothing_is_told_by_name_value_and_what_is_expected(option: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        ask(**option)
    assert said in str(caught.value)


def test_settings_are_checked_by_whom_they_are_made() -> None:
    with pytest.raises(UsageError, match="expected an AnswerTemplate"):
        AnswerSettings(template="short")
    with pytest.raises(MissingFile):
        ask(found="/nowhere/at/all")


def test_a_question_longer_than_the_budget_is_asked_and_one_longer_than_the_model_reads_is_not() -> None:
    long = "word " * 60 + QUESTION
    assert ask(long, budget=20).found
    with pytest.raises(BudgetTooSmall, match="The question alone has"):
        ask(long, budget=20, packing={"show_question": "first"})
    with pytest.raises(UsageError, match=r"The 2,000 tokens of scripted have no room .* take 3,\d\d\d"):
        ask("word " * 3_000)


def pack(budget: int = 400, question: str = QUESTION, **options: Any) -> Any:
    return ub.assemble(question, HITS, sources=TEXTS, budget=budget, **options)


def test_a_pack_is_answered_from_as_it_is() -> None:
    given = pack(order="reverse", headers=False)
    model = _WRITING.Scripted("The annex was signed by Anna.")
    found = ask(found=given, model=model)
    assert given.text in model.prompts[0][-1].content
    assert found.pack is given
    [cited] = found.citations
    assert (cited.doc_id, TEXTS["b"][cited.start : cited.end]) == ("b", cited.text)
    assert (found.notes, found.found) == ((), True)


def test_a_pack_without_spans_is_no_answer_and_no_call() -> None:
    empty = ub.assemble(QUESTION, [], sources=TEXTS)
    model = _WRITING.Scripted()
    assert (ask(found=empty, model=model).why, model.prompts) == ("no passages", [])


def test_a_pack_of_another_question_is_told() -> None:
    assert "assembled for another question: 'what is it?'" in ask(found=pack(question="what is it?")).notes[0]


def test_a_pack_that_the_model_has_no_room_for_says_both_numbers_and_is_not_cut() -> None:
    texts = {"a": " ".join(f"Word {place} is here." for place in range(200))}
    given = ub.assemble(QUESTION, [{"doc_id": "a"}], sources=texts, budget=5_000)
    model = _WRITING.Scripted("x", context=300)
    with pytest.raises(UsageError, match=r"The pack has 8\d\d tokens of scripted, and \d+ may be shown.* reads 300"):
        ask(found=given, model=model)
    with pytest.raises(UsageError, match="and 50 may be shown"):
        ask(found=given, budget=50)
    assert model.prompts == []


@pytest.mark.parametrize(
    "option", [{"select": "bm25"}, {"rerank": "embedded"}, {"sources": TEXTS}, {"packing": {"headings": True}}], ids=str
)
def test_what_a_pack_leaves_nothing_to_do_is_refused(option: Any) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(option))} is for hits, and a pack is given"):
        ask(found=pack(), **option)


def test_a_server_that_refuses_a_pack_as_too_long_is_not_given_a_part_of_it() -> None:
    from unabridged.errors import ContextOverflow

    model = _WRITING.Scripted([ContextOverflow("long", limit=10, got=100)], ["never"])
    with pytest.raises(ContextOverflow):
        ask(found=pack(), model=model)
    assert len(model.prompts) == 1


class Half:
    """A selector that gives some passages no score."""

    label = "half"

    def __init__(self, *reasons: str) -> None:
        self.reasons = reasons

    def cost(self, question: str, passages: Any) -> Any:
        raise NotImplementedError

    def score(self, question: str, passages: Any, *, cancel: Any = None) -> Any:
        from unabridged.rankers.select.contracts import Scored

        return Scored(tuple(None if one else 1.0 for one in self.reasons), self.reasons)


def test_passages_that_a_selector_could_not_score_are_told() -> None:
    found = ask(select=Half("ServerUnavailable: it is down", ""))
    assert found.notes == ("1 of 2 passages have no score by half, and come last: ServerUnavailable: it is down",)
    assert ask(select=Half("behind the first stage's best", "empty")).notes == ()
    assert ask(select="bm25").notes == ()


def test_half_a_letter_in_question_or_document_is_shown_as_an_unknown_one(tmp_path: Path) -> None:
    from unabridged.rankers.lm.local import LocalModel

    file = Path(__file__).parents[1] / "rankers" / "lm" / "tiny_language_models.py"
    spec = importlib.util.spec_from_file_location("tiny_language_models_of_options", file)
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    model = LocalModel.load(tiny.llama(tmp_path / "model"), device="cpu")
    texts = {"a": "signed by Anna \ud83d today."}
    found = ask("who \udcff?", [{"doc_id": "a"}], sources=texts, model=model, max_tokens=4)
    assert found.pack.sources[0].text == texts["a"]


@pytest.mark.parametrize(
    "hits",
    [HITS, [(hit, 1.0) for hit in HITS], [ub.Hit(1, "b", 2.0, ub.Span(0, 5, TEXTS["b"][:5]))]],
    ids=["mappings", "pairs", "hits"],
)
def test_hits_of_every_shape_are_scored_and_ranked(hits: Any) -> None:
    server = _SERVER.serving(_SERVER.answer("[2] > [1]"))
    assert ask(found=hits, sources=TEXTS, select="bm25").found
    with server as script:
        assert ask(found=hits, sources=TEXTS, rerank=f"openai:m@{script.url}").notes == ()


@pytest.mark.parametrize("option", [{"select": "bm25"}, {"rerank": "openai:m@http://127.0.0.1:9/v1"}], ids=str)
def test_a_hit_without_its_text_cannot_be_ordered(option: Any) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(option))} reads the text of each hit, and a dict has not all"):
        ask(found=[{"doc_id": "a"}], sources=TEXTS, **option)
