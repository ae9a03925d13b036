"""A Mamba folder on the command line: index, resume, search, eval, save, doctor."""

import json
import os
import signal

import numpy as np
import pytest
from typer.testing import CliRunner

import unabridged as ub
from unabridged.apps.cli import app
from unabridged.encoders.load import load_encoder
from unabridged.manifest import load_manifest
from unabridged.retrievers import fill
from unabridged.retrievers.failures import read_failures
from unabridged.retrievers.plan import BASE_RAM
from unabridged.retrievers.state import IndexState

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "while",
    "rain",
    "fell",
    "over",
    "long",
    "road",
    "home",
    "nobody",
    "came",
]


def call(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr, result.exception)
    return result


def texts(count=8):
    rng = np.random.default_rng(0)
    return {f"d {n}": " ".join(rng.choice(WORDS, 20 + 40 * (n % 3))) for n in range(count)} | {"none": ""}


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    return tiny.mamba(tmp_path_factory.mktemp("mamba") / "m", variant=2)


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in texts().items()))
    return path


def index(corpus, folder, out, *more, code=0):
    return call("index", corpus, "--out", out, "--encoder", folder, "--device", "cpu", "--quiet", *more, code=code)


def passport_of(out):
    return IndexState.from_manifest(load_manifest(out)).passport


def test_an_index_is_built_and_searched_by_its_passport(corpus, folder, tmp_path):
    report = json.loads(index(corpus, folder, tmp_path / "ix", "--max-tokens", 64, "--output", "json").stdout)
    assert (report["documents"], report["failed"]) == (9, 0)
    assert report["tokens_seen"] == report["tokens_total"] == sum(map(len, texts().values()))
    encoder = load_encoder(folder, device="cpu", max_tokens=64)
    assert passport_of(tmp_path / "ix") == encoder.passport
    body = json.loads(call("search", tmp_path / "ix", "the cat", "--mode", "dense", "--output", "json").stdout)
    found = ub.open_index(tmp_path / "ix")
    lines = {line.doc_id: line for line in found.ledger()}
    assert (lines["none"].status, lines["none"].tokens_total) == ("empty", 0)
    hit = body["hits"][0]
    assert found.source(hit["doc_id"])[hit["span"]["start"] : hit["span"]["end"]] == hit["span"]["text"]


def test_the_options_of_a_mamba_are_kept_and_others_are_refused(corpus, folder, tmp_path):
    index(corpus, folder, tmp_path / "ix", "--no-carry", "--max-tokens", 64, "--overlap", 8, "--pooling", "mean")
    facts = passport_of(tmp_path / "ix").facts
    assert (facts["carry"], facts["window"], facts["overlap"], facts["pooling"]) == (False, 64, 8, "mean")
    call("search", tmp_path / "ix", "the cat")
    refused = index(corpus, folder, tmp_path / "other", "--extend", "pi", "--target-tokens", 1024, code=2)
    assert "no positions" in refused.stderr
    assert "Mamba" in call("index", corpus, "--out", tmp_path / "o", "--carry", "--encoder", "embedded", code=2).stderr


DYING = """
import os, signal, sys
from unabridged.apps.cli import app
from unabridged.retrievers import fill
fill.UNIT_CHARACTERS = 200
store, units = fill.Filler._store, []
def dying(self, unit):
    units.append(1)
    if len(units) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    store(self, unit)
fill.Filler._store = dying
app(sys.argv[1:])
"""


@pytest.mark.skipif(os.name == "nt", reason="kills a child")
def test_a_killed_build_continues_to_the_vectors_of_a_whole_one(corpus, folder, tmp_path, monkeypatch):
    import subprocess
    import sys

    monkeypatch.setattr(fill, "UNIT_CHARACTERS", 200)
    line = ["index", str(corpus), "--encoder", str(folder), "--device", "cpu", "--quiet", "--out"]
    died = subprocess.run([sys.executable, "-c", DYING, *line, str(tmp_path / "killed")], check=False)
    assert died.returncode == -signal.SIGKILL
    call(*line, tmp_path / "killed")
    call(*line, tmp_path / "whole")
    again, whole = ub.open_index(tmp_path / "killed"), ub.open_index(tmp_path / "whole")
    hits = [list(found.search_one("the cat", k=3, mode="dense")) for found in (again, whole)]
    assert hits[0] == hits[1]
    for shard, other in zip(again.shards, whole.shards, strict=True):
        for row in range(len(other.array("keys"))):
            np.testing.assert_array_equal(shard.piece(row).segments, other.piece(row).segments)
            np.testing.assert_array_equal(shard.piece(row).document, other.piece(row).document)


def test_a_document_with_states_that_are_not_finite_fails_by_itself(corpus, folder, tmp_path, tiny):
    import shutil

    from safetensors.torch import load_file, save_file

    damaged = shutil.copytree(folder, tmp_path / "damaged")
    state = load_file(str(damaged / "model.safetensors"))
    token = int(load_encoder(damaged).tokenizer.encode(["z"])[0].ids[0])
    state["embeddings.weight"][token] = float("nan")
    save_file(state, str(damaged / "model.safetensors"), metadata={"format": "pt"})
    with corpus.open("a") as file:
        file.write(json.dumps({"_id": "bad", "text": "a puzzle"}) + "\n")
    index(corpus, damaged, tmp_path / "ix", code=7)
    (failure,) = read_failures(tmp_path / "ix")
    assert (failure.id, failure.reason) == ("bad", "not-finite")


def test_eval_beir_runs_with_a_mamba(corpus, folder, tmp_path):
    data = tmp_path / "set"
    (data / "qrels").mkdir(parents=True)
    (data / "corpus.jsonl").write_text(corpus.read_text())
    (data / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "the cat"}) + "\n")
    (data / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\td 1\t1\n")
    line = ["eval", "beir", data, "--out", tmp_path / "out", "--encoder", folder, "--mode", "dense", "--device", "cpu"]
    record = json.loads(call(*line, "--quiet", "--output", "json").stdout)["runs"][0]
    assert record["set"]["queries"] == 1
    assert record["system"]["encoder"]["fingerprint"] == load_encoder(folder).passport.fingerprint


def test_the_plan_of_a_mamba_loads_no_torch(corpus, folder):
    import subprocess
    import sys

    code = (
        "import sys; from unabridged.apps.cli import app\n"
        f"sys.argv = ['unabridged', 'plan', {str(corpus)!r}, '--encoder', {str(folder)!r}, '--no-calibrate', "
        "'--output', 'json']\n"
        "try: app()\nexcept SystemExit: pass\n"
        "sys.stderr.write(str(sorted({'torch', 'transformers'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]"
    plan = json.loads(done.stdout)
    assert (plan["window"], plan["seconds"]) == (256, None)
    assert plan["ram"] >= BASE_RAM + (folder / "model.safetensors").stat().st_size
