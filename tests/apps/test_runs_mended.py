"""A run that was edited, or has lost a part, is no result: the same evaluation makes it again and says why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests_runs import passkeys, place, run, system
from typer.testing import CliRunner

from unabridged.apps.cli import app
from unabridged.apps.leaderboard import collect
from unabridged.apps.seals import sealed
from unabridged.apps.verifying import verify_run
from unabridged.errors import ManifestMismatch, MissingFile, ValidationError
from unabridged.eval.sets import write_beir
from unabridged.retrievers.result import Mode


@pytest.fixture
def record(tmp_path: Path) -> Path:
    run(tmp_path, system())
    return place(tmp_path)


def edit(path: Path, change: Callable[[dict[str, Any]], object], *, seal: bool = False) -> None:
    body = json.loads(path.read_text())
    change(body)
    path.write_text(json.dumps(sealed(body) if seal else body))


def index_of(path: Path) -> Path:
    folder: Path = path.parents[3] / "indexes" / json.loads(path.read_text())["index"]["folder"]
    return folder


def again(out: Path) -> list[str]:
    """What the same evaluation says."""
    said: list[str] = []
    run(out, system(), notice=said.append)
    return said


def test_an_index_that_is_gone_is_built_anew_as_verify_says(record: Path, tmp_path: Path) -> None:
    shutil.rmtree(index_of(record))
    with pytest.raises(MissingFile, match="run the same evaluation again, which builds it anew"):
        verify_run(record)
    (said,) = again(tmp_path)
    assert "needs its index" in said
    assert verify_run(record).holds
    assert again(tmp_path) == []


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize("name", ["run.trec", "queries.jsonl"])
def test_files_that_are_gone_or_edited_are_made_again_from_the_index(
    record: Path, tmp_path: Path, name: str, edited: bool
) -> None:
    path = record.with_name(name)
    whole = path.read_bytes()
    built = {one: one.stat().st_mtime_ns for one in index_of(record).rglob("*.npy")}
    path.write_bytes(whole + b"\n") if edited else path.unlink()
    (said,) = again(tmp_path)
    assert name in said
    assert path.read_bytes() == whole
    assert {one: one.stat().st_mtime_ns for one in index_of(record).rglob("*.npy")} == built
    assert again(tmp_path) == []


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "score": lambda body: body["measures"]["nDCG@10"].update(value=0.999),
    "tokens_seen": lambda body: body["coverage"].update(tokens_seen=1),
    "speed": lambda body: body["speed"].update(tokens_per_second=1e9),
    "by_length": lambda body: body["by_length"][0].update({"nDCG@10": 1.0}),
    "missing": lambda body: body["missing"].update(q="never"),
    "interval": lambda body: body["measures"]["nDCG@10"].update(low=0.99),
    "another field": lambda body: body.update(note="the best"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_record_is_found_by_verify_refused_by_boards_and_made_again(
    record: Path, tmp_path: Path, name: str
) -> None:
    before = json.loads(record.read_text())
    edit(record, EDITS[name])
    found = verify_run(record)
    assert found.edited == ("run.json",)
    assert not found.holds
    with pytest.raises(ValidationError, match="edited after the run"):
        collect(tmp_path)
    (said,) = again(tmp_path)
    assert "was edited after the run" in said
    timed = {"speed", "sha256"}
    after = json.loads(record.read_text())
    assert {k: v for k, v in after.items() if k not in timed} == {k: v for k, v in before.items() if k not in timed}
    assert verify_run(record).holds


@pytest.mark.parametrize("name", ["documents", "empty", "truncated", "tokens_total", "tokens_seen"])
def test_coverage_is_held_against_the_ledger_even_where_the_sum_was_computed_again(record: Path, name: str) -> None:
    edit(record, lambda body: body["coverage"].update({name: body["coverage"][name] + 1}), seal=True)
    found = verify_run(record)
    assert (found.edited, found.coverage, found.holds) == ((), (name,), False)


def test_a_record_of_an_older_release_is_shown_verified_with_a_note_and_measured_again(
    record: Path, tmp_path: Path
) -> None:
    edit(record, lambda body: body.pop("sha256"))
    assert len(collect(tmp_path)) == 1
    found = verify_run(record)
    assert (found.holds, found.sealed) == (True, False)
    assert "no SHA-256 of itself" in CliRunner().invoke(app, ["verify", str(record)]).stdout
    (said,) = again(tmp_path)
    assert "older release" in said
    assert verify_run(record).sealed


def test_a_damaged_index_is_an_error_that_names_the_folder_to_remove(record: Path, tmp_path: Path) -> None:
    index = index_of(record)
    segments = next(index.rglob("segments.npy"))
    segments.write_bytes(segments.read_bytes()[:-64])
    for broken in (lambda: run(tmp_path, system(Mode.DENSE)), lambda: verify_run(record)):
        with pytest.raises(ManifestMismatch, match="remove the folder") as error:
            broken()
        assert f"remove the folder {index} " in str(error.value)
    shutil.rmtree(index)
    again(tmp_path)
    assert verify_run(record).holds
    assert np.load(segments).size


def test_the_command_says_on_stderr_why_it_runs_again_and_shows_no_forged_score(tmp_path: Path) -> None:
    write_beir(tmp_path / "keys", passkeys(256, 12, 6))
    out = tmp_path / "out"
    line = ["eval", "beir", str(tmp_path / "keys"), "--out", str(out), "--encoder", "hashing", "--quiet"]
    line += ["--output", "json"]
    first = CliRunner().invoke(app, line)
    (record,) = json.loads(first.stdout)["runs"]
    edit(out / record["place"] / "run.json", lambda body: body["measures"]["nDCG@10"].update(value=0.123456))
    second = CliRunner().invoke(app, line)
    assert second.exit_code == 0
    assert "edited after the run: the evaluation is made again" in second.stderr
    assert json.loads(second.stdout)["runs"][0]["measures"] == record["measures"]
    assert CliRunner().invoke(app, line).stderr == ""
