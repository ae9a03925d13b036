"""Indexing a tree of source code and finding lines in it, from the command line."""

import json

import pytest
from tests_code import SOURCES
from typer.testing import CliRunner

from unabridged.apps.cli import app
from unabridged.apps.code_lines import line_range, numbered
from unabridged.contracts import Span
from unabridged.encoders.load import load_encoder
from unabridged.retrievers.build import build
from unabridged.retrievers.compact import compact
from unabridged.retrievers.opened import Index

ENDINGS = {
    "python": "py", "java": "java", "javascript": "js", "typescript": "ts", "tsx": "tsx", "go": "go", "php": "php",
    "ruby": "rb", "rust": "rs", "c": "c", "cpp": "cpp", "c_sharp": "cs",
}  # fmt: skip


def call(*arguments, code=0):
    done = CliRunner().invoke(app, [str(part) for part in arguments])
    assert done.exit_code == code, done.output
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree")
    for name, text in SOURCES.items():
        (folder / f"shop.{ENDINGS[name]}").write_text(text, encoding="utf-8")
    (folder / "notes.md").write_text("Dear reader, nothing here is code. " * 30, encoding="utf-8")
    (folder / "broken.py").write_text("Dear ) reader } nothing ] here is code! " * 30, encoding="utf-8")
    (folder / "zero.py").write_bytes(b"\x00")
    return folder


@pytest.fixture(scope="module")
def indexed(tree, tmp_path_factory):
    out = tmp_path_factory.mktemp("index") / "i"
    shown = call(
        "index",
        tree,
        "--out",
        out,
        "--encoder",
        "hashing:64",
        "--max-tokens",
        30,
        "--split",
        "syntax",
        "--quiet",
        code=7,
    )
    return out, shown


def test_a_tree_of_code_is_indexed_and_how_each_file_was_cut_is_told(indexed):
    out, shown = indexed
    assert "1 syntax: python" in shown
    assert "2 lines" in shown
    assert "1 items failed (1 binary)" in shown
    lines = {line.doc_id: line.split for line in Index(out).ledger()}
    for name, ending in ENDINGS.items():
        assert lines[f"shop.{ending}"] == f"syntax: {name}"
    assert lines["notes.md"] == "lines: unknown language"
    assert lines["broken.py"].endswith("does not parse as python")
    assert "\tsyntax: rust" in call("info", out, "--ledger")
    body = json.loads(call("info", out, "--ledger", "--verify", "--output", "json"))
    assert {line["doc_id"]: line["split"] for line in body["ledger"]} == lines


@pytest.mark.parametrize(
    ("question", "file", "first", "text"),
    [
        ("with tax rate nothing négatif rust u32", "shop.rs", 10, "impl Item {"),
        ("usort cheapest items php", "shop.php", 15, "function cheapest(array $items) {"),
        ("readAll promise map paths", "shop.js", None, "async readAll(paths) {"),
    ],
)
def test_a_search_shows_path_lines_and_code(indexed, tree, question, file, first, text):
    out, _ = indexed
    shown = call("search", out, question, "-k", 1, "--mode", "bm25")
    body = json.loads(call("search", out, question, "-k", 1, "--mode", "bm25", "--output", "json"))
    (hit,) = body["hits"]
    assert hit["doc_id"] == file
    start, end = hit["lines"]
    if first is not None:
        assert start == first
    assert f"{file}:{start}-{end}" in shown
    assert text in shown
    written = (tree / file).read_text(encoding="utf-8").split("\n")
    for number in range(start, min(end, start + 11) + 1):
        assert f"{number}  {written[number - 1]}".rstrip() in shown


def test_lines_are_shown_of_other_files_where_that_is_asked_for(indexed):
    out, _ = indexed
    assert "notes.md:1-1" in call("search", out, "dear reader nothing code", "-k", 3, "--lines")
    plain = call("search", out, "usort cheapest items", "-k", 3, "--no-lines")
    assert "characters " in plain
    body = json.loads(call("search", out, "dear reader nothing code", "-k", 3, "--no-lines", "--output", "json"))
    assert all("lines" not in hit for hit in body["hits"])


def test_the_name_in_front_of_the_first_line_is_not_shown_as_code():
    source = "a%20b.py import os\nx = 1\n\n\ny = 2\n"
    assert numbered("a b.py", source, Span(0, 25, source[:25])) == "     1  import os\n     2  x = 1"
    assert line_range(source, Span(19, len(source), source[19:])) == (2, 5)
    assert line_range(source, Span(25, 27, "\n\n")) == (3, 3)


def test_an_index_of_prose_tells_nothing_of_cuts(tmp_path, tree):
    out = tmp_path / "i"
    shown = call("index", tree / "notes.md", "--out", out, "--encoder", "hashing:64", "--quiet")
    assert "cut:" not in shown
    assert "split\n" not in call("info", out, "--ledger")
    assert not list(out.rglob("notes.*"))


def test_notes_outlive_compaction_and_an_update(tree, tmp_path):
    from unabridged.contracts import Document
    from unabridged.corpora import ListCorpus

    encoder = load_encoder("hashing:16", split="syntax", max_tokens=30)
    first = [Document(name, text) for name, text in SOURCES.items()]
    build(ListCorpus(first), encoder, tmp_path / "i")
    changed = [*first[:-1], Document("twin", SOURCES["go"]), Document("new", "x = 1")]
    report = build(ListCorpus(changed), encoder, tmp_path / "i", delete_missing=True)
    compact(tmp_path / "i")
    found = {line.doc_id: line.split for line in Index(tmp_path / "i", verify=True).ledger()}
    assert found == {**{name: f"syntax: {name}" for name in list(SOURCES)[:-1]}, "twin": "syntax: go", "new": "whole"}
    assert report.splits["syntax: go"] == 2
    assert report.splits["whole"] == 1


def test_an_update_without_the_option_keeps_the_way_of_the_index(indexed, tree):
    out, _ = indexed
    shown = call("index", tree, "--out", out, "--quiet", code=7)
    assert f"{len(SOURCES) + 2} unchanged" in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--language", "go"), "split='prose' has none"),
        (("--split", "lines", "--header"), "needs split='syntax'"),
        (("--split", "syntax", "--language", "cobol"), "not among the languages with a grammar"),
    ],
)
def test_options_that_do_not_fit_end_with_code_2(tree, tmp_path, options, message):
    done = CliRunner().invoke(app, ["index", str(tree), "--out", str(tmp_path / "i"), "--quiet", *options])
    assert done.exit_code == 2
    assert message in done.output + done.stderr
