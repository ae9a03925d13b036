"""mteb's tasks show scores by length of the relevant document and by depth of the evidence, as our own runs do."""

from __future__ import annotations

import importlib
import importlib.util
import json
import random
from pathlib import Path

import pytest
from tests_mteb import prose, task_class
from typer.testing import CliRunner

from unabridged.apps.cli import app
from unabridged.apps.integrations import longembed_folder as layout
from unabridged.apps.integrations.longembed_evidence import depths_in
from unabridged.errors import CorpusError
from unabridged.eval.synth.needle import needle
from unabridged.eval.synth.passkey import passkey

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mteb") is None, reason="needs mteb")
WORDS = (100, 511, 512, 700, 1024, 1300)
BINS = [(0, 512, [0, 1]), (512, 1024, [2, 3]), (1024, 2048, [4, 5])]


def call(*words: object) -> str:
    result = CliRunner().invoke(app, ["eval", *map(str, words)])
    assert result.exit_code == 0, (result.stdout, result.stderr)
    return result.stdout


@pytest.mark.parametrize("system", [["--as", "vector"], ["--mode", "dense"], ["--mode", "bm25"]])
def test_scores_stand_by_true_tokens_of_the_relevant_document(tmp_path, monkeypatch, system):
    rng = random.Random(3)
    corpus = {f"d{n}": prose(rng, count) for n, count in enumerate(WORDS)}
    queries = {f"q{n}": " ".join(corpus[f"d{n}"].split()[40:60]) for n in range(len(WORDS))}
    queries["q3"] = "a query of other words"  # so that not all bins are alike
    qrels = {f"q{n}": {f"d{n}": 2, f"d{(n + 3) % 6}": 1} for n in range(len(WORDS))}
    registry = importlib.import_module("mteb.get_tasks")
    task = task_class({"test": {"corpus": corpus, "queries": queries, "qrels": qrels}})
    monkeypatch.setitem(registry._TASKS_REGISTRY, "MadeUpRetrieval", task)
    line = ["mteb", "MadeUpRetrieval", "--out", tmp_path / "out", "--encoder", "hashing:512", *system, "--quiet"]
    text = call(*line)
    (row,) = json.loads(call(*line, "--output", "json"))["rows"]
    (record,) = (tmp_path / "out" / "records").rglob("test.json")
    values = json.loads(record.read_text())["per_query"]
    expected = [
        {"from": low, "to": high, "queries": len(own), row["measure"]: sum(values[f"q{n}"] for n in own) / len(own)}
        for low, high, own in BINS
    ]
    assert row["by_length"] == [{**one, row["measure"]: pytest.approx(one[row["measure"]])} for one in expected]
    assert row["by_depth"] == []
    assert f"512 to 1,024 tokens: {expected[1][row['measure']]:.4f} (2 queries)" in text
    (report,) = (tmp_path / "out" / "reports").iterdir()
    assert json.loads(report.read_text())["rows"][0]["by_length"] == row["by_length"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    layout.generate(folder, (256, 512), documents=20, queries=15)
    return folder


@pytest.mark.parametrize("system", [["--as", "vector"], ["--mode", "dense"]])
def test_generated_longembed_data_is_scored_by_depth(data, tmp_path, system):
    line = ["longembed", "--data", data, "--out", tmp_path, "--encoder", "hashing:64", *system, "--quiet"]
    line += ["--tasks", "passkey,needle"]
    rows = json.loads(call(*line, "--output", "json"))["rows"]
    assert len(rows) == 4
    for row in rows:
        make, split = (passkey if "Passkey" in row["task"] else needle), row["split"]
        made = make(int(split.removeprefix("test_")), documents=20, queries=15)
        (record,) = (tmp_path / "records").rglob(f"{row['task']}/{split}.json")
        values = json.loads(record.read_text())["per_query"]
        tenths: dict[float, list[float]] = {}
        for (query, _), at in zip(made.queries, made.relevant, strict=True):
            depth = made.records[at].start / len(made.documents[at].text)
            tenths.setdefault(int(10 * depth) / 10, []).append(values[query])
        assert {one["from"]: (one["queries"], one[row["measure"]]) for one in row["by_depth"]} == {
            tenth: (len(own), pytest.approx(sum(own) / len(own))) for tenth, own in tenths.items()
        }
        assert sum(one["queries"] for one in row["by_length"]) == 15
    assert "depth 0." in call(*line)


BACKWARDS = json.dumps({"qid": "q", "doc_id": "d", "context_length": 256, "start": 9, "end": 8, "characters": 9})


@pytest.mark.parametrize("line", ["{", "[]", '{"qid": "q"}', BACKWARDS])
def test_a_damaged_line_of_evidence_is_a_typed_error_with_its_place(tmp_path, line):
    (tmp_path / "evidence.jsonl").write_text(line + "\n")
    with pytest.raises(CorpusError, match=r"evidence\.jsonl:1"):
        depths_in(tmp_path)
    assert depths_in(tmp_path / "elsewhere") == {}
