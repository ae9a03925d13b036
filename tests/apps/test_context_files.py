"""``unabridged context --file``: every character of the files is shown, or left out for a reason that is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import words
from typer.testing import CliRunner

from unabridged.apps.cli import app

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
