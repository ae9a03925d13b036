"""Results of mteb are of the data that is there now, and the second look at them says what the first said."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from unabridged.apps.cli import app
from unabridged.apps.integrations import longembed_folder as layout

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mteb") is None, reason="needs mteb")


def rows_of(data: Path, out: Path) -> list[dict]:
    words = ["eval", "longembed", "--data", data, "--out", out, "--encoder", "hashing:64", "--quiet"]
    words += ["--tasks", "needle", "--lengths", 512, "--mode", "dense", "--output", "json"]
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == 0, (result.stdout, result.stderr)
    rows: list[dict] = json.loads(result.stdout)["rows"]
    return [{name: value for name, value in row.items() if name != "tokens_per_second"} for row in rows]


def test_changed_data_never_gets_the_old_score_and_unchanged_data_gets_the_same_row(tmp_path: Path) -> None:
    for seed in (0, 5):
        layout.generate(tmp_path / str(seed), (512,), seed=seed, documents=30, queries=25)
    first = rows_of(tmp_path / "0", tmp_path / "out")
    assert rows_of(tmp_path / "0", tmp_path / "out") == first  # ends of the interval too
    alone = rows_of(tmp_path / "5", tmp_path / "fresh")
    assert alone[0]["score"] != first[0]["score"]
    assert rows_of(tmp_path / "5", tmp_path / "out") == alone
