"""``unabridged context --file``: every character of the files is shown, or left out for a reason that is told."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path

import pytest
from conftest import words
from typer.testing import CliRunner

import unabridged as ub
from unabridged.apps.cli import app
from unabridged.encoders.hashing import HashingEncoder

FACT = "The secret annex was signed by Quetzalcoatl in Reykjavik."
QUESTION = "who signed the secret annex in Reykjavik?"


def called(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, ["context", *(str(one) for one in arguments)])
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr, result.exception)
    return result


def packed(*arguments: object, code: int = 0) -> dict:
    return json.loads(called(*arguments, "--output", "json", code=code).stdout)


@pytest.fixture(scope="module")
def books(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("books")
    made = []
    for number in range(3):
        parts = [words(number * 999 + part, 90) for part in range(30)]
        parts.insert(13, FACT if number == 1 else "Nothing is said here.")
        path = folder / f"book {number}.txt"
        path.write_bytes(("\r\n" * number + ".\n\n".join(parts) + "\n").encode())
        made.append(path)
    return made


@pytest.mark.parametrize(
    "options",
    [
        ["--mode", "bm25"],
        ["--mode", "bm25", "-k", 3, "--trim", "--budget", 400],
        ["--select", "bm25>4>vectors:hashing", "-k", 6],
        ["--select", "linked", "-k", 5, "--neighbours", 1],
        ["--select", "iterative", "-k", 40, "--budget", 400, "--join-gap", 20],
    ],
)
def test_kept_and_dropped_are_together_the_whole_of_every_file(books, options):
    files = [one for path in books for one in ("--file", path)]
    body = packed(*files, QUESTION, *options)
    assert FACT in body["text"]
    for path in books:
        text = path.read_bytes().decode()
        seen = {
            at
            for one in (*body["sources"], *body["dropped"])
            if one["doc_id"] == str(path)
            for at in range(one["start"], one["end"])
        }
        assert seen == set(range(len(text)))
    assert all(one["reason"] for one in body["dropped"])
    hits = {hit for source in body["sources"] for hit in source["hits"]}
    lines = [one for one in body["dropped"] if "hit" in one and "into" not in one]
    stretches = sum(one["passages"] for one in body["dropped"] if "hit" not in one and one["reason"] != "budget")
    if "--neighbours" not in options:  # which show passages that were not offered
        assert len(hits) + len(lines) + stretches == body["select"]["passages"]


def test_a_long_file_has_few_lines_for_what_was_left_out(books, tmp_path):
    long = tmp_path / "long.txt"
    long.write_text("\n\n".join([words(7, 40_000), FACT, words(8, 40_000)]), "utf-8")
    body = packed("--file", long, QUESTION, "--mode", "bm25", "-k", 5)
    assert body["select"]["passages"] > 300
    assert len(body["dropped"]) < 20
    assert sum(one.get("passages", 0) for one in body["dropped"]) == body["select"]["passages"] - 5
    assert "behind the best" in {one["reason"] for one in body["dropped"]}
    told = called("--file", long, QUESTION, "--mode", "bm25", "-k", 5).stderr
    assert f"{body['select']['passages'] - 5:,} behind the best" in told


PUMP = "what does a pump cost?"
SAID = "A pump costs nine crowns."


@pytest.mark.parametrize(
    ("name", "body", "code", "shown"),
    [
        ("a.md", f"# Costs\n\n{SAID}\n".encode(), 0, SAID),
        ("a.html", f"<html><p>{SAID}<script>var pump</script></html>".encode(), 0, SAID),
        ("a.txt", f"{SAID[:6]}\0{SAID[6:]}".encode(), 0, "\0"),
        ("bom.txt", f"\ufeff{SAID}".encode(), 0, SAID),
        ("a.jsonl", json.dumps({"id": "x", "text": SAID}).encode(), 0, SAID),
        ("empty.txt", b"", 0, ""),
        ("blank.txt", b" \r\n\t\n", 0, ""),
        ("latin.txt", "M\u00fcller pump".encode("latin-1"), 5, "not UTF-8: byte 0xfc at byte offset 1"),
        ("data.txt", bytes(range(256)), 5, "not UTF-8"),
        ("data.bin", bytes(range(256)), 2, "unknown file type '.bin'"),
        ("junk.pdf", b"%PDF-1.4 junk", 5, "not readable as PDF"),
    ],
)
def test_every_kind_of_file_gives_a_pack_or_an_error_that_names_it(tmp_path, name, body, code, shown):
    (tmp_path / name).write_bytes(body)
    found = packed("--file", tmp_path / name, PUMP, "--mode", "bm25", code=code)
    if code:
        assert (found["error"]["exit_code"], name in found["error"]["message"]) == (code, True)
        assert shown in found["error"]["message"]
        return
    assert shown in found["text"]
    assert "failed" not in found
    if not body.strip():
        assert [one["reason"] for one in found["dropped"]] == ["empty"]
        assert (found["text"], found["tokens"], found["sources"]) == ("", 0, [])


def test_a_file_in_another_encoding_is_not_told_to_name_a_format(tmp_path):
    (tmp_path / "latin.txt").write_bytes("M\u00fcller pump".encode("latin-1"))
    found = packed("--file", tmp_path / "latin.txt", PUMP, "--mode", "bm25", code=5)
    assert "convert the file to UTF-8" in found["error"]["message"]
    assert "--format" not in found["error"]["message"]


def test_a_page_of_a_pdf_is_read(tmp_path):
    import pypdfium2

    document = pypdfium2.PdfDocument.new()
    page = document.new_page(300, 200)
    helvetica = pypdfium2.raw.FPDFText_LoadStandardFont(document, b"Helvetica")
    text = pypdfium2.raw.FPDFPageObj_CreateTextObj(document, helvetica, 12.0)
    written = (SAID + "\0").encode("utf-16-le")
    letters = ctypes.cast(ctypes.create_string_buffer(written), ctypes.POINTER(ctypes.c_ushort))
    pypdfium2.raw.FPDFText_SetText(text, letters)
    pypdfium2.raw.FPDFPage_InsertObject(page, text)
    page.gen_content()
    document.save(tmp_path / "a.pdf")
    assert SAID in packed("--file", tmp_path / "a.pdf", PUMP, "--mode", "bm25")["text"]


def test_folders_and_what_is_not_there(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "none").mkdir()
    (tmp_path / "sub" / "a.txt").write_text(SAID, "utf-8")
    assert SAID in packed("--file", tmp_path / "sub", PUMP, "--mode", "bm25")["text"]
    assert "--format" in packed("--file", tmp_path / "none", PUMP, "--mode", "bm25", code=5)["error"]["message"]
    assert "gone.txt" in packed("--file", tmp_path / "gone.txt", PUMP, "--mode", "bm25", code=3)["error"]["message"]


@pytest.mark.parametrize(("given", "options", "code"), [
    (SAID, ["--format", "text"], 0),
    (json.dumps({"id": "x", "text": SAID}), [], 0),
    (SAID, [], 5),
    ("", [], 5),
])  # fmt: skip
def test_standard_input_is_a_file_whose_format_is_named(given, options, code):
    arguments = ["context", "--file", "-", PUMP, "--mode", "bm25", "--output", "json", *options]
    result = CliRunner().invoke(app, arguments, input=given)
    assert result.exit_code == code, result.stdout
    body = json.loads(result.stdout)
    assert (SAID in body["text"]) if code == 0 else ("--format text" in body["error"]["message"])


def test_an_index_without_words_and_one_whose_files_changed_are_no_packs_of_something_else(tmp_path):
    empty, index = tmp_path / "empty", tmp_path / "index"
    ub.build_index([{"id": "x", "text": " "}], HashingEncoder(window=64), empty).close()
    assert packed(empty, PUMP)["sources"] == []
    ub.build_index([{"id": "x", "text": SAID}], HashingEncoder(window=64), index).close()
    assert SAID in packed(index, PUMP)["text"]
    [sources] = index.glob("shards/*/sources.bin")
    sources.write_bytes(SAID.replace("nine", "five").encode())
    told = packed(index, PUMP, code=5)["error"]
    assert (told["type"], str(sources) in told["message"]) == ("ManifestMismatch", True)


def test_sentences_that_say_nothing_are_left_out_and_told(tmp_path):
    book, index = tmp_path / "book.txt", tmp_path / "index"
    rows = [f"Row {at} tells of pear{at}. {SAID if at == 4 else 'The rest is gravel.'} It is late." for at in range(9)]
    text = "\n\n".join(rows)
    book.write_text(text, "utf-8")
    ub.build_index([{"id": str(book), "text": text}], HashingEncoder(window=24), index).close()
    for where in (["--file", book, "--passage-tokens", 24], [index, "--level", "segment"]):
        body = packed(*where, PUMP, "--select", "bm25", "-k", 5, "--prune", 0.1)
        assert [one["text"].strip() for one in body["sources"]] == [SAID]
        assert body["select"]["sentences"][0] == 1
        assert {"below the threshold"} <= {one["reason"] for one in body["dropped"]}
        for one in body["dropped"]:
            assert SAID not in text[one["start"] : one["end"]]
    whole = packed("--file", book, "--passage-tokens", 24, PUMP, "--select", "bm25", "--prune", 0.1)
    spans = sorted((one["start"], one["end"]) for one in (*whole["sources"], *whole["dropped"]))
    assert [start for start, _ in spans] == [0, *(end for _, end in spans[:-1])]
    assert spans[-1][1] == len(text)
    nothing = packed("--file", book, PUMP, "--select", "bm25", "--prune", 999)
    assert (nothing["sources"], nothing["text"]) == ([], "")
    assert "--select" in packed(index, PUMP, "--prune", 0.1, code=2)["error"]["message"]
    assert "not a number" in packed("--file", book, PUMP, "--prune", "nan", code=2)["error"]["message"]


def test_an_encoder_that_is_named_is_the_one_that_a_selector_of_vectors_reads_with(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text(SAID, "utf-8")
    body = packed("--file", book, PUMP, "--select", "vectors", "--encoder", "hashing:64")
    named = packed("--file", book, PUMP, "--select", "vectors:hashing:64")
    assert body["select"] == named["select"]
    assert "hashing" in body["select"]["selector"]
    twice = packed("--file", book, PUMP, "--select", "vectors:hashing", "--encoder", "hashing:64", code=2)["error"]
    assert "named besides" in twice["message"]
