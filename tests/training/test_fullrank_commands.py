"""Labels and a training from the command line, on a tiny model."""

import importlib.util
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests_support import one_thread  # noqa: F401  a fixture for all that is here
from unabridged.apps.train_fullrank import fullrank
from unabridged.apps.train_labels import fullrank_labels
from unabridged.training.fullrank.labels import Label, read_labels, write_labels

_PLACE = Path(__file__).parents[1] / "rankers" / "lm" / "tiny_language_models.py"
_SPEC = importlib.util.spec_from_file_location("tiny_language_models", _PLACE)
tiny = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tiny)

app = typer.Typer()
app.command("fullrank")(fullrank)
app.command("fullrank-labels")(fullrank_labels)

IDS = ["d0", "d1", "d2", "d3"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fullrank")
    tiny.llama(folder / "model")
    documents = [{"_id": one, "text": f"text {one} " * (3 + 40 * (one == "d3"))} for one in IDS]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(one) + "\n" for one in documents))
    queries = [{"_id": f"q{n}", "text": f"question {n}"} for n in range(4)]
    (folder / "queries.jsonl").write_text("".join(json.dumps(one) + "\n" for one in queries))
    lines = [f"q{n} Q0 {one} {rank} {9 - rank} x" for n in range(4) for rank, one in enumerate(IDS, start=1)]
    (folder / "run.trec").write_text("\n".join(lines) + "\n")
    write_labels(folder / "labels.jsonl", [Label(f"q{n}", tuple(IDS), tuple(IDS[n:] + IDS[:n])) for n in range(4)])
    return folder


def call(place, *line: str):
    data = ["--queries", str(place / "queries.jsonl"), "--corpus", str(place / "corpus.jsonl"), "--output", "json"]
    return CliRunner().invoke(app, [*line, *data])


def test_a_model_is_trained_from_labels_and_lists_are_held_out(place, tmp_path):
    line = ["fullrank", str(place / "labels.jsonl"), "--out", str(tmp_path / "out"), "--model", str(place / "model")]
    more = ["--held-out", "1", "--passage-tokens", "20", "--steps", "3", "--batch", "2", "--device", "cpu", "--quiet"]
    found = call(place, *line, *more)
    assert found.exit_code == 0, found.output
    report = json.loads(found.stdout.splitlines()[-1])
    assert (report["lists"], report["held_out"], report["steps"]) == (3, 1, 3)
    assert report["cut"] > 0
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_a_teacher_makes_complete_lists_of_a_run(place, tmp_path):
    line = ["fullrank-labels", str(place / "run.trec"), "--out", str(tmp_path / "labels.jsonl"), "--depth", "3"]
    found = call(place, *line, "--teacher", str(place / "model"), "--strategy", "multipass")
    assert found.exit_code == 0, found.output
    labels = read_labels(tmp_path / "labels.jsonl")
    assert [one.qid for one in labels] == ["q0", "q1", "q2", "q3"]
    assert all(one.initial == ("d0", "d1", "d2") for one in labels)
    report = json.loads(found.stdout.splitlines()[-1])
    assert (report["lists"], report["calls"], report["failures"]) == (4, 4, [])


def test_an_encoder_may_be_the_teacher(place, tmp_path):
    line = ["fullrank-labels", str(place / "run.trec"), "--out", str(tmp_path / "labels.jsonl")]
    found = call(place, *line, "--teacher", "encoder:hashing")
    assert found.exit_code == 0, found.output
    assert all(set(one.final) == set(IDS) for one in read_labels(tmp_path / "labels.jsonl"))
    assert call(place, *line, "--teacher", "encoder:hashing", "--strategy", "full").exit_code == 2


@pytest.mark.parametrize(
    ("more", "code"),
    [(["--method", "half"], 2), (["--held-out", "9"], 2), (["--template", "none.json"], 3), (["--alpha", "3"], 2)],
)
def test_options_that_cannot_be_meant_are_refused(place, tmp_path, more, code):
    line = ["fullrank", str(place / "labels.jsonl"), "--out", str(tmp_path / "out"), "--model", str(place / "model")]
    assert call(place, *line, *more).exit_code == code


def test_labels_of_other_data_are_refused(place, tmp_path):
    write_labels(tmp_path / "labels.jsonl", [Label("q0", ("d0", "zz"), ("zz", "d0"))])
    line = ["fullrank", str(tmp_path / "labels.jsonl"), "--out", str(tmp_path / "out"), "--model", str(place / "model")]
    found = call(place, *line)
    assert found.exit_code == 5
    assert "'zz'" in found.output
