"""Synthetic sets made and evaluated by one command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from unabridged.apps.cli import app
from unabridged.apps.pipeline import Pipeline
from unabridged.apps.synth_runs import select
from unabridged.encoders.hashing import HashingEncoder
from unabridged.errors import MissingFile
from unabridged.eval.synth import folders, needle, passkey, sentences
from unabridged.eval.synth.niah import niah
from unabridged.eval.synth.vartrack import vartrack
from unabridged.retrievers.result import Mode


def run(out: Path, *words: str) -> dict[str, Any]:
    line = ["eval", "synth", *words, "--out", str(out), "--encoder", "hashing", "--quiet", "--output", "json"]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


def test_words_find_every_passkey_at_every_depth(tmp_path):
    records = run(tmp_path, "passkey", "--lengths", "256,1024", "--mode", "bm25")["runs"]
    assert [record["set"]["name"] for record in records] == ["passkey_256", "passkey_1024"]
    for record in records:
        assert record["measures"]["RR@10"]["value"] == 1.0
        assert sum(one["queries"] for one in record["by_depth"]) == 50


def test_the_same_line_keeps_what_it_made(tmp_path):
    first = run(tmp_path, "needle", "--lengths", "256", "--mode", "bm25")
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert run(tmp_path, "needle", "--lengths", "256", "--mode", "bm25") == first
    written = {path for path in made if path.stat().st_mtime_ns != made[path]}
    assert not {path.name for path in written} & {"corpus.jsonl", "run.json", "run.trec", "manifest.json"}


@pytest.mark.parametrize(("task", "module"), [("passkey", passkey), ("needle", needle), ("niah", sentences)])
def test_a_set_of_an_older_generator_is_not_kept(tmp_path, monkeypatch, task, module):
    words = [task, "--lengths", "256", "--mode", "bm25", *(["--samples", "2"] if task == "niah" else [])]
    run(tmp_path, *words)
    monkeypatch.setattr(module, "VERSION", 99)
    monkeypatch.setattr(folders, "VERSION", 99)
    run(tmp_path, *words)
    versions = [json.loads(path.read_text())["version"] for path in (tmp_path / "sets").rglob("set.json")]
    assert sorted(versions) == [1, 99]


def test_one_shot_search_reaches_only_the_first_link_of_a_chain(tmp_path):
    keys = run(tmp_path, "niah", "--lengths", "1024", "--samples", "5", "--mode", "bm25")["selections"][0]
    chain = run(tmp_path, "vartrack", "--lengths", "1024", "--samples", "5", "--mode", "bm25")["selections"][0]
    assert keys["recall"] == keys["all_evidence"] == keys["answered"] == 1.0
    assert chain["recall"] <= 1 / 5 + 0.1
    assert chain["all_evidence"] == 0.0


def test_an_allowance_for_the_whole_text_finds_everything_and_a_tiny_one_nothing(tmp_path):
    samples = [make(40, seed) for make in (niah, vartrack) for seed in range(2)]
    encoder, pipeline = HashingEncoder(dim=32, window=64), Pipeline(Mode.DENSE)
    whole = select(samples, encoder, pipeline, tmp_path, 4, 100_000)
    none = select(samples, encoder, pipeline, tmp_path, 4, 3)
    assert whole.read == none.read == 1.0
    assert whole.tokens_per_second > 0
    assert none.tokens_per_second is None  # the indexes were there
    assert whole.recall == whole.all_evidence == whole.answered == 1.0
    assert none.recall == none.answered == 0.0


def test_an_interval_stands_beside_evidence_recall(tmp_path):
    samples = [make(60, seed) for make in (niah, vartrack) for seed in range(4)]
    each = [select([one], HashingEncoder(dim=32), Pipeline(Mode.BM25), tmp_path, 2, 120).recall for one in samples]
    whole = select(samples, HashingEncoder(dim=32), Pipeline(Mode.BM25), tmp_path, 2, 120)
    assert len(set(each)) > 1
    draws = np.random.default_rng(1).choice(each, (20_000, len(each))).mean(axis=1)  # another seed, no blocks
    low, high = np.quantile(draws, [0.025, 0.975])
    assert (whole.recall_low, whole.recall_high) == pytest.approx((low, high), abs=0.02)
    few = ("niah", "--lengths", "512", "--samples", "3", "--mode", "bm25", "--allowance", "60")
    (row,) = run(tmp_path, *few)["selections"]
    assert row["recall_low"] <= row["recall"] <= row["recall_high"]
    line = ["eval", "synth", *few, "--out", str(tmp_path), "--encoder", "hashing", "--quiet"]
    text = CliRunner().invoke(app, line).stdout
    assert f"{row['recall_low']:.3f}-{row['recall_high']:.3f}" in text


@pytest.mark.parametrize("task", ["niah", "vartrack", "twohop"])
def test_a_choice_of_context_is_kept_and_shown_again_until_something_changes(tmp_path, task):
    words = (task, "--lengths", "512", "--samples", "2", "--mode", "bm25")
    first = run(tmp_path, *words)
    (path,) = (tmp_path / "selections" / task).iterdir()
    record = json.loads(path.read_text())
    assert first == {"selections": record["selections"], "record": str(path)}
    assert (record["system"], record["settings"]["seed"]) == ("hashing-bm25", 0)
    stamp = path.stat().st_mtime_ns
    assert run(tmp_path, *words) == first  # the speed too, though the indexes are there by now
    assert path.stat().st_mtime_ns == stamp
    line = ["eval", "synth", *words, "--out", str(tmp_path), "--encoder", "hashing", "--quiet"]
    assert f"record: {path}" in CliRunner().invoke(app, line).stdout
    for change in (("--allowance", "50"), ("--stretch", "2"), ("--seed", "1"), ("--mode", "dense"), ("--name", "x")):
        before = set((tmp_path / "selections" / task).iterdir())
        assert run(tmp_path, *words, *change)["record"] != str(path)
        assert len(set((tmp_path / "selections" / task).iterdir()) - before) == 1
    path.write_text("{damaged")
    again = run(tmp_path, *words)["selections"]
    assert again == [{**row, "tokens_per_second": None} for row in record["selections"]]
    assert json.loads(path.read_text())["selections"] == again


@pytest.mark.parametrize("words", [["--allowance", "0"], ["--stretch", "0"], ["--samples", "0"]])
def test_numbers_below_one_are_refused(tmp_path, words):
    line = ["eval", "synth", "niah", "--lengths", "512", *words, "--out", str(tmp_path), "--encoder", "hashing"]
    assert CliRunner().invoke(app, line).exit_code == 2


def test_tasks_have_the_names_that_people_know_and_others_are_refused_with_them(tmp_path):
    few = ("--lengths", "512", "--samples", "2", "--mode", "bm25")
    for name, other in (("vartrack", "vt"), ("twohop", "multihop")):
        (first,), (again,) = (run(tmp_path, called, *few)["selections"] for called in (name, other))
        assert first == again  # the second finds the record of the first
    for command in ("synth", "make-synth"):
        result = CliRunner().invoke(app, ["eval", command, "ruler", "--out", str(tmp_path / "no"), "--output", "json"])
        assert result.exit_code == 2
        assert "vartrack, twohop, vt, multihop" in json.loads(result.stdout)["error"]["message"]


def test_a_tenth_without_evidence_has_no_share_and_the_answer_is_json(tmp_path):
    def refused(name: str) -> float:
        raise AssertionError(f"{name} is no JSON")

    line = ["eval", "synth", "niah", "--lengths", "512", "--samples", "2", "--mode", "bm25", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, [*line, "--encoder", "hashing", "--quiet", "--output", "json"])
    depths = json.loads(result.stdout, parse_constant=refused)["selections"][0]["by_depth"]
    assert len(depths) == 10
    assert all((share is None) == (size == 0) for size, share in depths)
    assert any(size == 0 for size, _ in depths)


def test_words_alone_need_no_model(tmp_path, monkeypatch):
    def missing(*_, **__):
        raise MissingFile("a model was looked for")

    monkeypatch.setattr("unabridged.encoders._resolve.resolve", missing)
    line = ["eval", "synth", "passkey", "--lengths", "256", "--out", str(tmp_path), "--quiet"]
    assert CliRunner().invoke(app, [*line, "--mode", "bm25"]).exit_code == 0
    assert CliRunner().invoke(app, [*line, "--mode", "dense"]).exit_code == 3
