"""Boards put only like numbers side by side, and say what is unlike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests_runs import passkeys, place, run, system
from typer.testing import CliRunner

from unabridged.apps.cli import app
from unabridged.apps.leaderboard import Board, collect, winners
from unabridged.apps.plots import markdown
from unabridged.errors import CorpusError, ValidationError
from unabridged.retrievers.result import Mode


def test_one_name_for_two_systems_is_refused(tmp_path: Path) -> None:
    run(tmp_path, system(Mode.BM25, name="mine"), passkeys(256))
    run(tmp_path, system(Mode.DENSE, name="mine"), passkeys(512))
    with pytest.raises(CorpusError, match="mine are of 2 different systems"):
        Board(collect(tmp_path))


def test_values_of_different_first_measures_are_never_subtracted(tmp_path: Path) -> None:
    run(tmp_path, system(Mode.BM25), measures=["nDCG@10"])
    run(tmp_path, system(Mode.DENSE), measures=["RR@10"])
    with pytest.raises(CorpusError, match="2 different first measures"):
        Board(collect(tmp_path))


def test_a_copy_of_a_run_does_not_count_twice(tmp_path: Path) -> None:
    run(tmp_path, system())
    shutil.copytree(tmp_path / "runs", tmp_path / "copy")
    with pytest.raises(CorpusError, match="there twice"):
        Board(collect(tmp_path))


def test_a_baseline_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    run(tmp_path, system())
    for command in ("leaderboard", "report"):
        asked = CliRunner().invoke(app, ["eval", command, str(tmp_path), "--baseline", "BM52", "--output", "json"])
        assert asked.exit_code == 2
        assert "BM52" in json.loads(asked.stdout)["error"]["message"]
        assert "hashing hybrid" in json.loads(asked.stdout)["error"]["message"]


def test_a_page_that_cannot_be_written_is_a_usage_error_that_names_the_option(tmp_path: Path) -> None:
    run(tmp_path, system())
    (tmp_path / "file").write_text("kept")
    for out in (tmp_path / "file" / "page.md", tmp_path / "runs"):
        asked = CliRunner().invoke(app, ["eval", "leaderboard", str(tmp_path), "--out", str(out), "--output", "json"])
        assert asked.exit_code == 2
        error = json.loads(asked.stdout)["error"]
        assert error["type"] == "UsageError"
        assert "--out" in error["message"]
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("text", ["{torn", '{"query": "q"}\n', None])
def test_damaged_values_of_a_run_are_a_typed_error(tmp_path: Path, text: str | None) -> None:
    run(tmp_path, system())
    path = place(tmp_path).with_name("queries.jsonl")
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(ValidationError, match=r"queries\.jsonl does not have the values"):
        collect(tmp_path)


def test_no_p_is_shown_as_zero(tmp_path: Path) -> None:
    whole = passkeys(documents=60, queries=40)
    run(tmp_path, system(Mode.BM25), whole)
    run(tmp_path, system(Mode.DENSE, window=16), whole)
    said = winners(Board(collect(tmp_path)))
    assert len(said) == 1
    assert "p < 0.001" in said[0]


def test_a_bar_in_a_name_adds_no_column() -> None:
    assert markdown([["", "set"], ["a|b", "1"]]).splitlines()[-1] == r"| a\|b | 1 |"
