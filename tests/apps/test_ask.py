"""``ub.answer`` and ``unabridged ask``: from an index, from hits and from files, by a server and by local weights."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import words
from typer.testing import CliRunner

import unabridged as ub
from unabridged.apps import ask_run
from unabridged.apps.cli import app
from unabridged.encoders.hashing import HashingEncoder
from unabridged.errors import AnswerBroken, MissingFile, UsageError
from unabridged.rankers.generate.contracts import NOT_FOUND

LM = Path(__file__).parents[1] / "rankers" / "lm"


def loaded(name: str):
    spec = importlib.util.spec_from_file_location(name, LM / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SERVER = loaded("scripted_server")
FACT = "The secret annex was signed by Quetzalcoatl in Reykjavik."
QUESTION = "who signed the secret annex in Reykjavik?"
ANSWER = ["The annex was ", "signed by Quetzalcoatl [1]. ", "Whales sing."]


def streamed(*pieces: str, ends: bool = True):
    events = [{"choices": [{"delta": {"content": piece}}]} for piece in pieces]
    if ends:
        events.append({"choices": [{"delta": {}, "finish_reason": "stop"}]})
        events.append({"choices": [], "usage": {"prompt_tokens": 90, "completion_tokens": 7}})
    data = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + ("data: [DONE]\n\n" if ends else "")
    return {"status": 200, "raw": data, "headers": {"Content-Type": "text/event-stream"}}


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return {f"doc {n}": f"{words(n * 999, 300)} {FACT if n == 3 else ''} {words(n * 777, 300)}" for n in range(5)}


@pytest.fixture(scope="module")
def folder(texts: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ask") / "ix"
    ub.build_index([{"id": name, "text": text} for name, text in texts.items()], HashingEncoder(window=64), out)
    return out


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loaded("tiny_language_models").llama(tmp_path_factory.mktemp("tiny") / "model", context=4096)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNABRIDGED_API_KEY", "k")


def call(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, ["ask", *(str(one) for one in arguments)])
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr, result.exception)
    return result


def served(script) -> str:
    return f"openai:m@{script.url}"


def test_an_answer_of_an_index_is_shown_with_its_passages(folder):
    with SERVER.serving(streamed(*ANSWER)) as script:
        shown = call(folder, QUESTION, "--model", served(script), "--budget", 150)
    lines = shown.stdout.splitlines()
    assert lines[0] == "".join(ANSWER)
    assert any(line.startswith("[1] doc 3, characters ") and "named by the model" in line for line in lines)
    assert any(FACT in line for line in lines)
    assert "No source: Whales sing." in lines
    assert "1 calls, 97 tokens" in shown.stderr
    prompt = script.requests[0]["messages"][-1]["content"]
    assert FACT in prompt
    assert QUESTION in prompt


def test_as_json_everything_is_there(folder, texts):
    with SERVER.serving(streamed(*ANSWER)) as script:
        body = json.loads(call(folder, QUESTION, "--model", served(script), "--output", "json", "--k", 9).stdout)
    assert (body["answer"], body["found"], body["finish"]) == ("".join(ANSWER), True, "stop")
    [cited] = body["citations"]
    assert texts[cited["doc_id"]][cited["start"] : cited["end"]] == cited["text"]
    assert FACT in cited["text"]
    assert body["spent"]["prompt_tokens"] == 90
    assert len({hit for one in body["pack"]["sources"] for hit in one["hits"]}) + sum(
        one["reason"] != "overlap merged" for one in body["pack"]["dropped"]
    ) == 9  # fmt: skip
    for source in body["pack"]["sources"]:
        assert source["text"] == texts[source["doc_id"]][source["start"] : source["end"]]


def test_that_there_is_no_answer_is_one_unless_one_is_required(folder):
    with SERVER.serving(streamed(NOT_FOUND)) as script:
        shown = call(folder, QUESTION, "--model", served(script))
        assert "do not hold the answer (said so)" in shown.stdout
        call(folder, QUESTION, "--model", served(script), "--require-found", code=7)
        body = call(folder, QUESTION, "--model", served(script), "--require-found", "--output", "json", code=7).stdout
    assert json.loads(body)["found"] is False


def test_a_file_is_asked_without_an_index(tmp_path, texts):
    book = tmp_path / "book.txt"
    book.write_text(" ".join(texts.values()), encoding="utf-8")
    with SERVER.serving(streamed("By Quetzalcoatl in Reykjavik.")) as script:
        body = json.loads(
            call("--file", book, QUESTION, "--model", served(script), "--mode", "bm25", "--output", "json").stdout
        )
    [cited] = body["citations"]
    assert cited["by"] == "words"
    assert FACT in cited["text"]
    assert book.read_text(encoding="utf-8")[cited["start"] : cited["end"]] == cited["text"]
    assert body["cited"] == "By Quetzalcoatl in Reykjavik. [~1]".replace("1", str(cited["number"]))


def test_a_server_that_dies_in_the_middle_leaves_what_had_come_and_exit_code_6(folder):
    with SERVER.serving(streamed("The annex ", "was signed", ends=False)) as script:
        shown = call(folder, QUESTION, "--model", served(script), code=6)
        assert shown.stdout == "The annex was signed\n"
        assert "AnswerBroken" in shown.stderr
        body = json.loads(call(folder, QUESTION, "--model", served(script), "--output", "json", code=6).stdout)
        with pytest.raises(AnswerBroken) as caught:
            ub.answer(QUESTION, folder, model=served(script), mode="bm25")
    assert body["partial"] == caught.value.partial == "The annex was signed"
    assert body["error"]["type"] == "AnswerBroken"


@pytest.mark.parametrize("output", ["text", "json"])
def test_an_interrupt_leaves_what_had_come(folder, monkeypatch, output):
    def interrupted(*_, listener, **__):
        listener("The annex ")
        raise KeyboardInterrupt

    monkeypatch.setattr(ask_run, "answer", interrupted)
    with SERVER.serving(SERVER.answer()) as script:
        shown = call(folder, QUESTION, "--model", served(script), "--output", output, code=130)
    if output == "json":
        assert json.loads(shown.stdout)["partial"] == "The annex "
    else:
        assert shown.stdout == "The annex \n"


def test_sure_makes_seven_calls(folder):
    def reply(body):
        text = body["messages"][-1]["content"]
        if "two likeliest" in text:
            return SERVER.answer("(a) Reykjavik (b) Quetzalcoatl")
        if "True or False" in text:
            return SERVER.answer("True" if "answer: Quetzalcoatl" in text else "False")
        return SERVER.answer("Passage 1" if "more informative" in text else "It says so.")

    with SERVER.serving(reply) as script:
        body = json.loads(
            call(folder, QUESTION, "--sure", "--model", served(script), "--output", "json", "--budget", 150).stdout
        )
        assert len(script.requests) == 7
    assert body["answer"] == "Quetzalcoatl"
    assert body["sure"]["decision"]["votes"] == [0.25, 0.75]
    assert body["spent"]["calls"] == 7


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["  "], 2),
        ([QUESTION, "--model", "cross:somewhere"], 2),
        ([QUESTION, "--model", "/nowhere/at/all"], 3),
        ([QUESTION, "--model", "embedded", "--timeout", "3"], 2),
        ([QUESTION, "--model", "openai:m@http://127.0.0.1:9/v1", "--precision", "float32"], 2),
        ([QUESTION, "--max-tokens", "0", "--model", "openai:m@http://127.0.0.1:9/v1"], 2),
        ([QUESTION, "--budget", "0", "--model", "openai:m@http://127.0.0.1:9/v1"], 2),
        ([QUESTION, "--select", "bm25", "--rerank", "embedded"], 2),
        ([QUESTION, "--model", "openai:m@http://127.0.0.1:9/v1", "--attempts", "1"], 6),
        (["one", "two", "three"], 2),
    ],
)
def test_what_cannot_be_meant_says_so(folder, arguments, code):
    shown = call(folder, *arguments, "--output", "json", code=code)
    assert json.loads(shown.stdout)["error"]["exit_code"] == code


def test_local_weights_answer_alike_from_an_index_its_folder_its_hits_and_plain_hits(folder, texts, tiny):
    options = {"model": str(tiny), "max_tokens": 12, "mode": "bm25", "k": 12, "budget": 1200}
    with ub.open_index(folder) as index:
        hits = index.search_one(QUESTION, k=12, mode="bm25", level="segment")
        found = [
            ub.answer(QUESTION, index, **options),
            ub.answer(QUESTION, folder, **options),
            ub.answer(QUESTION, hits, **options),
            ub.answer(QUESTION, list(hits), sources=texts, **options),
        ]
    first = found[0]
    assert isinstance(first, ub.Answer)
    for one in found:
        assert (one.text, one.citations, one.pack.text) == (first.text, first.citations, first.pack.text)
    assert {"search_ms", "load_ms", "total_ms"} <= set(first.timings)


def test_hits_are_ranked_again_or_scored_where_that_is_asked_for(folder, tiny):
    options = {"model": str(tiny), "max_tokens": 4, "mode": "bm25", "k": 8, "budget": 1200}
    scored = ub.answer(QUESTION, folder, select="bm25", **options)
    assert scored.timings["select_ms"] > 0
    assert FACT in scored.pack.text
    ranked = ub.answer(QUESTION, folder, rerank=f"{tiny}:likelihood", rerank_depth=3, **options)
    assert ranked.timings["rerank_ms"] > 0
    assert ranked.spent.calls > scored.spent.calls == 1
    with pytest.raises(UsageError, match="name one"):
        ub.answer(QUESTION, folder, rerank="embedded", select="bm25")


def test_refusals_of_the_function(folder):
    with pytest.raises(UsageError, match="empty"):
        ub.answer(" ", folder)
    with pytest.raises(MissingFile):
        ub.answer(QUESTION, folder, model="/nowhere/at/all")
    with pytest.raises(UsageError, match="cross-encoder"):
        ub.answer(QUESTION, folder, model="cross:x")
    with pytest.raises(UsageError, match="citing, short"):
        ub.answer(QUESTION, folder, template="odd")


@pytest.mark.slow
def test_the_embedded_model_answers_a_real_question_with_a_true_citation(tmp_path):
    text = (
        "Mr. Speaker of the House. Guthrie has a population of about 8,000. It has five banks and fifty miles of "
        "streets.\n\nOklahoma City has a population of about 5,000, and is as well provided as Guthrie with churches, "
        "schools, and newspapers."
    )
    (tmp_path / "speech.txt").write_text(text, encoding="utf-8")
    arguments = ["--file", tmp_path / "speech.txt", "How many people live in Oklahoma City?", "--mode", "bm25"]
    bodies = [json.loads(call(*arguments, "--output", "json").stdout) for _ in range(2)]
    assert bodies[0]["answer"] == bodies[1]["answer"]
    assert "5,000" in bodies[0]["answer"]
    [cited] = bodies[0]["citations"]
    assert cited["by"] == "words"
    assert text[cited["start"] : cited["end"]] == cited["text"]
    assert cited["text"].startswith("Oklahoma City")


def scripted(*replies: str) -> Any:
    place = Path(__file__).parents[1] / "rankers" / "generate" / "writing_models.py"
    spec = importlib.util.spec_from_file_location("writing_models", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Scripted(*replies)


@pytest.mark.parametrize("given", [{}, {"doc_id": "a"}, "a"])
def test_a_selector_is_told_which_hits_it_cannot_read(given: Any) -> None:
    with pytest.raises(UsageError, match="select reads the text"):
        ub.answer("who?", [given], model=scripted("x"), sources={"a": "text"}, select="bm25")


def test_a_selector_scores_hits_given_as_mappings() -> None:
    sources = {"a": "hello world", "b": "the annex was signed by Anna"}
    hits = [{"doc_id": name, "start": 0, "end": len(text), "text": text} for name, text in sources.items()]
    found = ub.answer("who signed the annex?", hits, model=scripted("Anna"), sources=sources, select="bm25")
    assert [one.doc_id for one in found.citations] == ["b"]


def test_an_unknown_mode_is_named() -> None:
    with pytest.raises(UsageError, match="mode='foo' is not one of"):
        ub.answer("who?", [], model=scripted("x"), mode="foo")


ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m\x08\u202e"


def test_what_documents_and_models_hold_does_not_act_on_a_terminal(tmp_path: Path) -> None:
    name = f"doc{ESCAPES}\r"
    out = tmp_path / "ix"
    text = f"{FACT}{ESCAPES} It is\tkept.\r\nAnother line \ud83d\ude00 of it."
    text = text.encode("utf-16", "surrogatepass").decode("utf-16")
    ub.build_index([{"id": name, "title": f"T{ESCAPES}", "text": text}], HashingEncoder(window=64), out)
    pieces = ["The annex was signed ", f"{ESCAPES}by Quetzalcoatl [1].\r", f" Whales{ESCAPES} sing [7]."]
    with SERVER.serving(streamed(*pieces)) as script:
        shown = call(out, QUESTION, "--model", served(script), "--mode", "bm25")
        raw = call(out, QUESTION, "--model", served(script), "--mode", "bm25", "--output", "json").stdout
    for stream in (shown.stdout, shown.stderr, raw):
        assert not set(stream) & set(ESCAPES + "\r") - set("]0;owned[231mJ"), ascii(stream)
    assert "\\x1b[2J" in shown.stdout
    assert "\\x9b31m" in shown.stdout
    assert "\\u202e" in shown.stdout
    body = json.loads(raw)
    assert body["answer"] == "".join(pieces)
    assert body["citations"][0]["doc_id"] == name
    source = f"T{ESCAPES} {text}"
    assert body["citations"][0]["text"] in source


def test_a_context_is_piped_as_it_is_and_shown_on_a_terminal_harmlessly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io
    import sys

    from unabridged.apps.output import hand_on

    class Terminal(io.StringIO):
        encoding = "utf-8"

        def __init__(self, terminal: bool) -> None:
            super().__init__()
            self.terminal = terminal

        def isatty(self) -> bool:
            return self.terminal

    for terminal, wanted in ((True, "a\\x1b[2J\tb\n"), (False, "a\x1b[2J\tb\n")):
        monkeypatch.setattr(sys, "stdout", Terminal(terminal))
        hand_on("a\x1b[2J\tb")
        assert sys.stdout.getvalue() == wanted


def test_a_ranker_that_gave_no_order_is_told(folder: Path) -> None:
    with SERVER.serving(SERVER.answer("I have no idea")) as script:
        options = {"rerank": f"openai:m@{script.url}", "rerank_depth": 3, "mode": "hybrid"}
        found = ub.answer(QUESTION, folder, model=scripted("By Quetzalcoatl."), **options)
    assert found.found
    assert any("gave no order: the hits are in that of the search" in note for note in found.notes), found.notes


def test_an_answer_without_a_word_is_told_from_documents_without_a_passage(folder: Path) -> None:
    with SERVER.serving(streamed("", " ")) as script:
        shown = call(folder, QUESTION, "--model", served(script))
        assert "the model was shown the passages and wrote nothing" in shown.stdout
        body = json.loads(call(folder, QUESTION, "--model", served(script), "--output", "json").stdout)
        assert (body["found"], body["why"], body["answer"]) == (False, "empty answer", "")
