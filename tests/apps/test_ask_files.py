"""``unabridged ask --file``: what of the files the model was shown, and a reason for all of the rest."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from conftest import words
from typer.testing import CliRunner

from unabridged.apps.cli import app

TINY = Path(__file__).parents[1] / "rankers" / "lm" / "tiny_language_models.py"
FACT = "The secret annex was signed by Quetzalcoatl in Reykjavik."


def test_shown_and_left_out_are_together_the_whole_file(tmp_path):
    spec = importlib.util.spec_from_file_location("tiny_language_models", TINY)
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    model = tiny.llama(tmp_path / "model", context=4096)
    book = tmp_path / "book.txt"
    text = "\n\n".join([words(1, 2000), FACT, words(2, 2000)]) + "\n"
    book.write_text(text, "utf-8")
    asked = ["ask", "--file", book, "who signed the secret annex?", "--model", model, "--mode", "bm25", "-k", 4]
    asked += ["--budget", 900, "--max-tokens", 8, "--output", "json"]
    result = CliRunner().invoke(app, [str(one) for one in asked])
    assert result.exit_code == 0, (result.stdout, result.stderr)
    pack = json.loads(result.stdout)["pack"]
    assert FACT in pack["text"]
    spans = [(one["start"], one["end"]) for one in (*pack["sources"], *pack["dropped"])]
    assert {at for start, end in spans for at in range(start, end)} == set(range(len(text)))
    assert "behind the best" in {one["reason"] for one in pack["dropped"]}
