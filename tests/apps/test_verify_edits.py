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


@pytest.mark.parametrize("name", ["run.trec", "queries.jsonl"])
def test_an_edit_at_a_query_that_was_not_picked_is_found_too(record: Path, name: str) -> None:
    path = record.with_name(name)
    whole = path.read_bytes()
    picked = 0
    lines = whole.splitlines(keepends=True)
    for at, line in enumerate(lines):  # a mark at the end of each line in turn changes neither ranks nor values
        path.write_bytes(b"".join([*lines[:at], line.replace(b"\n", b" \n"), *lines[at + 1 :]]))
        found = verify_run(record, documents=1, queries=1)
        assert found.edited == (name,)
        assert not found.holds
        picked += bool(found.moved or found.other)
        if at == 3:
            break
    assert not picked  # nothing but the sum tells
    path.write_bytes(whole)
    assert verify_run(record, documents=1, queries=1).holds


def test_a_record_without_sums_does_not_hold_and_is_made_anew_by_the_same_run(record: Path, tmp_path: Path) -> None:
    body = json.loads(record.read_text())
    del body["files"], body["sha256"]  # as older releases wrote it
    record.write_text(json.dumps(body))
    assert verify_run(record).edited == ("run.trec", "queries.jsonl")
    run(tmp_path, system())
    assert verify_run(record).holds


def test_the_values_of_the_record_are_means_over_all_queries(tmp_path: Path) -> None:
    whole = passkeys()
    run(tmp_path, system(), whole)
    assert verify_run(place(tmp_path), documents=1, queries=1).other == ()
