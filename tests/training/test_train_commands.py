"""The train commands from end to end on a tiny BERT."""

import json

import pytest
from typer.testing import CliRunner

from unabridged.apps.cli import app
from unabridged.encoders.load import load_encoder


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"_id": n, "text": "the cat sat on mat " * 60}) + "\n" for n in range(4)))
    return path


def test_both_commands_make_folders_that_read_as_far_as_was_asked(bert_folder, texts, tmp_path):
    for command, option, window, extra in (
        ("positions", "--target-tokens", 128, {}),
        ("rope-student", "--tokens", 32, {"extend": "selfextend", "target_tokens": 128}),
    ):
        out = tmp_path / command
        line = ["train", command, str(texts), "--out", str(out), "--encoder", str(bert_folder), "--epochs", "1"]
        found = CliRunner().invoke(app, [*line, option, str(window), "--quiet", "--output", "json"])
        assert found.exit_code == 0, found.output
        report = json.loads(found.stdout.splitlines()[-1])
        assert report["out"] == str(out)
        assert report["tokens"] > 4 * 300
        assert load_encoder(out, device="cpu").window == window
        encoder = load_encoder(out, device="cpu", **extra)
        assert len(encoder.encode_documents(["the cat sat on mat " * 20]).segments) == 1


def test_a_target_below_the_trained_length_is_a_usage_error(bert_folder, texts, tmp_path):
    line = ["train", "positions", str(texts), "--out", str(tmp_path / "x"), "--encoder", str(bert_folder)]
    found = CliRunner().invoke(app, [*line, "--target-tokens", "32", "--quiet"])
    assert found.exit_code == 2
    assert "64 tokens" in found.output
    assert not (tmp_path / "x").exists()
