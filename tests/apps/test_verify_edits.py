"""``verify`` finds what was edited after a run, wherever it is called from, and names what it cannot read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests_runs import passkeys, place, run, system

from unabridged.apps.verifying import verify_run
from unabridged.errors import MissingFile, ValidationError


@pytest.fixture
def record(tmp_path: Path) -> Path:
    run(tmp_path, system())
    return place(tmp_path)


def test_a_run_is_verified_from_its_own_folder_too(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(record.parent)
    assert verify_run(Path("run.json")).holds


def test_an_improved_score_does_not_hold(record: Path) -> None:
    body = json.loads(record.read_text())
    body["measures"]["nDCG@10"]["value"] = min(1.0, body["measures"]["nDCG@10"]["value"] + 0.01) - 0.005
    record.write_text(json.dumps(body))
    found = verify_run(record)
    assert found.other == ("nDCG@10",)
    assert not found.holds


def test_queries_that_were_left_out_later_are_missed(record: Path) -> None:
    path = record.with_name("queries.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    worst = min(rows, key=lambda row: row["values"]["nDCG@10"])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows if row is not worst))
    assert "queries" in verify_run(record).other


@pytest.mark.parametrize("text", ["{torn", "{}\n", None])
def test_a_file_of_queries_that_is_damaged_or_gone_is_a_typed_error(record: Path, text: str | None) -> None:
    path = record.with_name("queries.jsonl")
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(ValidationError, match=r"queries\.jsonl"):
        verify_run(record)


def test_a_record_that_was_moved_away_from_its_index_says_where_it_belongs(record: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "run.json"
    other.parent.mkdir()
    record.rename(other)
    with pytest.raises(MissingFile, match="needs its index"):
        verify_run(other)


def test_the_values_of_the_record_are_means_over_all_queries(tmp_path: Path) -> None:
    whole = passkeys()
    run(tmp_path, system(), whole)
    assert verify_run(place(tmp_path), documents=1, queries=1).other == ()
