"""``unabridged context``: packs of an index and of single files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from conftest import words
from typer.testing import CliRunner

import unabridged as ub
from unabridged.apps.cli import app
from unabridged.encoders.hashing import HashingEncoder
from unabridged.errors import SourceChanged, UsageError
from unabridged.rankers.context.counting import token_counter

FACT = "The secret annex was signed by Quetzalcoatl in Reykjavik."
QUESTION = "who signed the secret annex in Reykjavik?"


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return {f"doc {n}": f"{words(n * 999, 400)} {FACT if n == 3 else ''} {words(n * 777, 400)}" for n in range(6)}


@pytest.fixture(scope="module")
def folder(texts: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("context") / "ix"
    ub.build_index([{"id": name, "text": text} for name, text in texts.items()], HashingEncoder(window=64), out)
    return out


def call(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, ["context", *(str(one) for one in arguments)])
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr, result.exception)
    return result


def packed(*arguments: object, code: int = 0) -> dict:
    return json.loads(call(*arguments, "--output", "json", code=code).stdout)


def check(body: dict, texts: dict[str, str], budget: int) -> None:
    """What every pack must hold, by the texts alone."""
    assert body["tokens"] == token_counter(body["tokenizer"])(body["text"]) <= budget
    for source in body["sources"]:
        text = texts[source["doc_id"]]
        assert source["text"] == text[source["start"] : source["end"]]
        assert source["sha256"] == hashlib.sha256(text.encode()).hexdigest()
        assert body["text"][source["at"] :].startswith(source["text"])
    for one in body["dropped"]:
        assert 0 <= one["start"] <= one["end"] <= len(texts[one["doc_id"]])
        assert one["reason"]


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
@pytest.mark.parametrize("select", [None, "bm25", "vectors:hashing"])
def test_an_index_gives_a_pack_with_the_answer_first_and_all_candidates_accounted_for(folder, texts, mode, select):
    extra = [] if select is None else ["--select", select]
    body = packed(folder, QUESTION, "--budget", 400, "--k", 30, "--mode", mode, *extra)
    assert list(body)[:6] == ["question", "text", "tokens", "sources", "dropped", "timings"]
    check(body, texts, 400)
    assert body["question"] == QUESTION
    assert FACT in body["text"]
    first = {hit for source in body["sources"] for hit in source["hits"][:1]}
    assert sorted(first | {one["hit"] for one in body["dropped"]}) == list(range(len(first) + len(body["dropped"])))
    assert body["timings"]["total_ms"] >= body["timings"]["find_ms"] >= 0
    assert ("select" in body) == (select is not None)


def test_as_text_the_pack_alone_is_on_stdout(folder):
    shown = call(folder, QUESTION, "--budget", 300, "--mode", "bm25")
    body = packed(folder, QUESTION, "--budget", 300, "--mode", "bm25")
    assert shown.stdout == body["text"] + "\n"
    assert f"{body['tokens']} of 300 tokens by embedded" in shown.stderr


def test_options_reach_the_pack(folder, texts):
    plain = packed(folder, "w345 w192 w300", "--mode", "bm25", "--budget", 2000, "--k", 5)
    wide = packed(folder, "w345 w192 w300", "--mode", "bm25", "--budget", 2000, "--k", 5, "--neighbours", 1)
    assert sum(len(one["text"]) for one in wide["sources"]) > sum(len(one["text"]) for one in plain["sources"])
    check(wide, texts, 2000)
    best = packed(folder, "w345 w192 w300", "--mode", "bm25", "--k", 5, "--order", "reverse", "--no-headers")
    assert best["order"] == "reverse"
    scores = [one["score"] for one in best["sources"]]
    assert scores == sorted(scores)
    assert best["text"].startswith("[1] ")
    assert "doc " not in best["text"]
    asked = packed(folder, "w345 w192 w300", "--mode", "bm25", "--k", 5, "--show-question", "last")
    assert asked["text"].endswith("\n\nw345 w192 w300")
    one = packed(folder, QUESTION, "--mode", "bm25", "--filter", "id=doc 3")
    assert {source["doc_id"] for source in one["sources"]} == {"doc 3"}


def test_hits_of_a_search_find_their_index_and_what_was_recorded_there(folder, texts):
    index = ub.open_index(folder)
    result = index.search_one(QUESTION, k=5, level="segment", mode="bm25")
    pack = ub.assemble(QUESTION, result)
    assert pack.sources[0].doc_id == "doc 3"
    assert ub.assemble(QUESTION, result, sources=texts).text == pack.text
    changed = {**texts, "doc 3": texts["doc 3"] + " "}  # behind the span: only the record can tell
    with pytest.raises(SourceChanged, match=r"'doc 3'.*blake3 [0-9a-f]{32}, found blake3 [0-9a-f]{32}"):
        ub.assemble(QUESTION, result, sources=changed)
    dropped = ub.assemble(QUESTION, result, sources=changed, faults="drop").dropped
    assert {one.reason for one in dropped if one.doc_id == "doc 3"} == {"changed source"}
    index.close()
    with pytest.raises(UsageError, match="was closed"):
        ub.assemble(QUESTION, result)


def test_a_file_needs_no_index(tmp_path, texts):
    book = tmp_path / "book.txt"
    book.write_bytes(texts["doc 3"].replace(". ", ".\r\n\r\n").encode())
    own = {str(book): book.read_bytes().decode()}
    for select in ([], ["--select", "bm25"], ["--mode", "bm25"]):
        body = packed("--file", book, QUESTION, "--budget", 250, "--encoder", "hashing", *select)
        check(body, own, 250)
        assert "Quetzalcoatl" in body["text"]
        assert body["order"] == "source"
        assert body["select"]["passages"] > len(body["sources"])


def test_pages_code_and_several_files_are_read_as_an_index_reads_them(tmp_path):
    page, code = tmp_path / "page.html", tmp_path / "tool.py"
    page.write_text("<h1>Costs</h1><p>A pump costs nine crowns.</p><script>nine crowns</script>", "utf-8")
    code.write_text('class Pump:\n    def price(self):\n        """In crowns."""\n        return 9\n', "utf-8")
    body = packed("--file", page, "--file", code, "what does a pump cost in crowns?", "--mode", "bm25")
    assert {source["doc_id"] for source in body["sources"]} == {str(page), str(code)}
    assert "<script>" not in body["text"]
    assert "return 9" in body["text"]


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_packed(tmp_path):
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    good.write_text(FACT, "utf-8")
    bad.write_bytes(b"\xff\xfe\xfa broken \xff")
    body = packed("--file", good, "--file", bad, QUESTION, "--mode", "bm25", code=7)
    assert FACT in body["text"]
    [failed] = body["failed"]
    assert "bad.txt" in failed["where"]
    assert (
        json.loads(call("--file", bad, QUESTION, "--output", "json", code=5).stdout)["error"]["type"] == "CorpusError"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{ix}"], 2, "an index and a question"),
        (["--file", "{book}", "{ix}", "question"], 2, "files and a question"),
        (["{ix}", " "], 2, "at least one word"),
        (["{ix}", "who", "--budget", "0"], 2, "budget=0"),
        (["{ix}", "who signed", "--budget", "3", "--mode", "bm25"], 2, "one would"),
        (["{ix}", "who", "--k", "0"], 2, "k is a positive"),
        (["{ix}", "who", "--tokenizer", "no such"], 2, "embedded-lm"),
        (["{ix}", "who", "--show-question", "middle"], 2, "first, last"),
        (["{ix}", "who", "--faults", "hide"], 2, "raise, drop"),
        (["{ix}", "who", "--select", "guess"], 2, "guess"),
        (["{ix}", "who", "--select", "bm25", "--rerank", "embedded"], 2, "name one"),
        (["{ix}", "who", "--format", "text"], 2, "--file"),
        (["--file", "{book}", "who", "--filter", "a=b"], 2, "--filter"),
        (["--file", "{book}", "who", "--level", "doc"], 2, "--level"),
        (["--file", "{book}", "who", "--passage-tokens", "0", "--mode", "bm25"], 2, "at least 1"),
        (["--file", "{book}.gone", "who"], 3, "gone"),
        (["{book}.gone", "who"], 3, "gone"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_code(folder, tmp_path, arguments, code, message):
    book = tmp_path / "book.txt"
    book.write_text(FACT, "utf-8")
    given = [one.format(ix=folder, book=book) for one in arguments]
    result = call(*given, "--output", "json", code=code)
    body = json.loads(result.stdout)["error"]
    assert message in body["message"]
    assert body["exit_code"] == code


def test_an_empty_file_gives_an_empty_pack(tmp_path):
    (tmp_path / "empty.txt").write_text(" \n", "utf-8")
    body = packed("--file", tmp_path / "empty.txt", "who?", "--mode", "bm25")
    assert (body["text"], body["sources"], body["tokens"]) == ("", [], 0)
    assert [one["reason"] for one in body["dropped"]] == ["empty"]


def test_a_file_without_text_is_recorded_as_left_out(tmp_path):
    good, blank = tmp_path / "good.txt", tmp_path / "blank.txt"
    good.write_text(FACT, "utf-8")
    blank.write_bytes(b" \r\n\t ")
    alone = packed("--file", blank, QUESTION, "--mode", "bm25")
    assert [(one["doc_id"], one["reason"]) for one in alone["dropped"]] == [(str(blank), "empty")]
    body = packed("--file", good, "--file", blank, QUESTION, "--mode", "bm25")
    assert FACT in body["text"]
    assert [(one["doc_id"], one["reason"]) for one in body["dropped"]] == [(str(blank), "empty")]


@pytest.mark.parametrize("wrong", [["--tokenizer", "nix"], ["--budget", 0]])
def test_what_cannot_be_packed_is_told_before_anything_is_scored(tmp_path, wrong, monkeypatch):
    def scored(*_arguments: object) -> None:
        raise AssertionError("passages were scored")

    monkeypatch.setattr("unabridged.apps.context_packs.selected", scored)
    (tmp_path / "a.txt").write_text(FACT, "utf-8")
    call("--file", tmp_path / "a.txt", QUESTION, *wrong, code=2)
