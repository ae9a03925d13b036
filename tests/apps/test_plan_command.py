"""The ``plan`` command: what it prints over a corpus and without one, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from unabridged.apps import calibrating, scaling
from unabridged.apps.cli import app
from unabridged.apps.scaling import long_duration, shown
from unabridged.retrievers.scale_question import BACKENDS, Sum

HASHING = ["--encoder", "hashing:16"]


def call(*words: object, code: int = 0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


def asked(*words: object, code: int = 0):
    return json.loads(call(*words, "--output", "json", code=code).stdout.splitlines()[0])


def test_a_plan_is_tried_in_another_process_and_its_sums_are_shown(corpus_file: Path) -> None:
    plan = asked("plan", corpus_file, *HASHING)
    measured = plan["assumptions"]["measured"]
    assert measured["device"] == "cpu"
    assert plan["seconds"] == pytest.approx(sum(plan["parts"]["seconds"].values()))
    assert plan["cpu_seconds"] == pytest.approx(sum(plan["parts"]["cpu_seconds"].values()))
    assert plan["ram"] == pytest.approx(sum(plan["parts"]["ram"].values()), abs=1)
    assert plan["disk"] == pytest.approx(sum(plan["parts"]["disk"].values()), abs=1)
    assert plan["ram"] >= measured["ram_base"] > 10_000_000
    assert plan["largest_unit"] == plan["characters"]


def test_people_read_where_the_figures_come_from(corpus_file: Path) -> None:
    assert "tried on" in call("plan", corpus_file, *HASHING).stdout
    assert "nothing was tried (as asked)" in call("plan", corpus_file, *HASHING, "--no-calibrate").stdout


def test_a_child_that_fails_leaves_a_plan_by_arithmetic_or_an_error_where_trying_was_asked_for(
    corpus_file: Path, monkeypatch
) -> None:
    monkeypatch.setattr(calibrating, "CHILD", "raise SystemExit(9)")
    plan = asked("plan", corpus_file, *HASHING)
    assert plan["assumptions"]["calibrated"] is False
    assert "exit code 9" in plan["assumptions"]["why_not"]
    error = asked("plan", corpus_file, *HASHING, "--calibrate", code=6)["error"]
    assert error["type"] == "RuntimeFailure"
    assert "--no-calibrate" in error["message"]


def test_a_child_reports_its_own_errors_as_json(corpus_file: Path, monkeypatch) -> None:
    monkeypatch.setattr(calibrating, "CHILD", 'print(\'{"error": {"message": "no memory."}}\')')
    assert "no memory." in asked("plan", corpus_file, *HASHING)["assumptions"]["why_not"]


def test_a_plan_loads_no_torch_itself(corpus_file: Path) -> None:
    code = (
        "import sys; from unabridged.apps.cli import app\n"
        f"sys.argv = ['unabridged', 'plan', {str(corpus_file)!r}, '--encoder', 'hashing', '--output', 'json']\n"
        "try: app()\nexcept SystemExit: pass\n"
        "sys.stderr.write(str(sorted({'torch', 'transformers', 'faiss'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.endswith("[]")
    assert json.loads(done.stdout)["assumptions"]["calibrated"] is True


def test_nothing_to_plan_is_refused_with_both_ways() -> None:
    assert "--documents" in call("plan", code=2).stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_three_billion_documents_on_every_backend(backend: str) -> None:
    words = ["plan", "--documents", "3e9", "--backend", backend, "--tokens-per-document", 300, "--gpus", 2]
    answer = asked(*words, "--gpu-tokens-per-second", 50_000, "--price-per-hour", 2.5, "--load-rows-per-second", 1e5)
    assert answer["documents"] == 3 * 10**9
    assert answer["backend"] == backend
    assert set(answer) == {
        "documents", "backend", "sums", "assumptions", "limits", "does_not_fit", "recipes", "fits",
    }  # fmt: skip
    for one in (*answer["sums"], *answer["assumptions"]):
        assert set(one) == {"name", "value", "unit", "how"}
    names = [one["name"] for one in answer["sums"]]
    assert names[0] == "tokens"
    assert names[-1] == "cost"
    text = call(*words).stdout
    assert "assumed:" in text
    assert ("does not fit:" in text) or ("it fits" in text)


def test_a_sample_answers_what_is_not_given(corpus_file: Path) -> None:
    plan = asked("plan", corpus_file, *HASHING)
    answer = asked("plan", corpus_file, "--documents", 6_000_000, *HASHING)
    sums = {one["name"]: one["value"] for one in answer["sums"]}
    assert sums["tokens"] == pytest.approx(plan["tokens"] * 1e6, rel=1e-6)
    assert sums["segments"] == pytest.approx(plan["segments"] * 1e6, rel=1e-6)
    assert sums["encoding"] > 0
    assumed = {one["name"]: one["how"] for one in answer["assumptions"]}
    assert assumed["encoding on a machine"] == "as given or tried"
    assert "tokens per document" not in assumed
    given = asked("plan", corpus_file, "--documents", 6_000_000, "--tokens-per-document", 7, "--no-calibrate", *HASHING)
    assert {one["name"]: one["value"] for one in given["sums"]}["tokens"] == 42_000_000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--documents", "0"], "from 1"),
        (["--documents", "-4"], "from 1"),
        (["--documents", "1e30"], "from 1"),
        (["--documents", "nan"], "whole number"),
        (["--documents", "inf"], "whole number"),
        (["--documents", "1.5"], "whole number"),
        (["--documents", "10", "--backend", "faiss"], "known: local, shards, gpu, milvus, pgvector"),
        (["--documents", "10", "--ram", "nan"], "ram"),
        (["--documents", "10", "--ram", "-1"], "ram"),
        (["--documents", "10", "--disk", "inf"], "disk"),
        (["--documents", "10", "--ram", "0"], "--ram is in GiB, from 0.001"),
        (["--documents", "10", "--gpu-memory", "nan"], "--gpu-memory is in GiB"),
        (["--documents", "10", "--overflow", "truncate"], "--tokens-per-document 254"),
        (["--documents", "10", "--machines", "2"], "searches on one machine"),
        (["--documents", "10", "--recipe", "best"], "auto, flat, hnsw"),
        (["--backend", "gpu"], "--backend plan a corpus that is not at hand"),
        (["--gpu-memory", "80", "-k", "5"], "--k, --gpu-memory plan"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_nonsense_ends_with_two_and_says_what_is_expected(words: list[str], message: str) -> None:
    error = asked("plan", *words, code=2)["error"]
    assert error["type"] == "UsageError"
    assert message in error["message"]


def test_a_rate_of_gpus_is_that_of_a_gpu(monkeypatch, corpus_file: Path) -> None:
    """Whether it is given or was measured, encoding is planned on GPUs, one where their number is not given."""
    seconds = {}
    for words in ([], ["--gpus", 1], ["--gpus", 4]):
        answer = asked("plan", "--documents", "1e6", "--gpu-tokens-per-second", 1000, *words, *HASHING)
        seconds[str(words)] = {one["name"]: one["value"] for one in answer["sums"]}["encoding"]
    assert seconds["[]"] == seconds["['--gpus', 1]"] == 4 * seconds["['--gpus', 4]"] == 1e6
    monkeypatch.setattr(scaling, "of_sample", lambda plan: {"gpu_tokens_per_second": 500.0, "tokens_per_document": 10})
    answer = asked("plan", corpus_file, "--documents", "1e6", "--no-calibrate", *HASHING)
    assert {one["name"]: one["value"] for one in answer["sums"]}["encoding"] == 1e7 / 500


def test_late_segments_are_counted_and_not_windows() -> None:
    answer = asked("plan", "--documents", "1e6", "--tokens-per-document", 6400, "--late-tokens", 64)
    assert {one["name"]: one["value"] for one in answer["sums"]}["segments"] == 1e8


def test_no_amount_is_too_large_to_answer() -> None:
    words = ["--documents", "1e12", "--tokens-per-document", "1e9", "--backend", "shards"]
    assert asked("plan", *words, *HASHING)["does_not_fit"]


def test_figures_are_written_for_people() -> None:
    assert shown(Sum("a", None, "seconds", "x")) == "unknown"
    assert shown(Sum("a", 2.5e12, "bytes per machine", "x")) == "2.5 TB per machine"
    assert shown(Sum("a", 12_345.6, "", "x")) == "12,346"
    assert shown(Sum("a", 0.88, "", "x")) == "0.88"
    assert long_duration(3600 * 30) == "30.0 h"
    assert long_duration(86_400 * 10) == "10.0 days"
    assert long_duration(86_400 * 3652.5) == "10.0 years"
