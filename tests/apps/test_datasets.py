"""The commands that make retrieval sets: what they write, print and refuse."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from unabridged.apps.cli import app
from unabridged.encoders.load import load_encoder
from unabridged.errors import CorpusError, MissingFile
from unabridged.eval.evidence import read_evidence, read_record
from unabridged.eval.sets import facts, read_beir
from unabridged.eval.synth.folders import read_samples
from unabridged.eval.synth.niah import Kind, niah
from unabridged.eval.synth.sentences import nominal_tokens

BODY = "\n".join(f"value_{n} = {n}" for n in range(30))


def run(*arguments):
    return CliRunner().invoke(app, ["eval", *map(str, arguments)])


def answered(*arguments):
    done = run(*arguments, "--output", "json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A standard library of two modules, and no way to download anything."""
    folder = tmp_path / "lib"
    folder.mkdir()
    for name in ("one", "two"):
        text = f'"""What {name} is for."""\n{BODY}\n\n\ndef f_{name}(x):\n    """Gives {name} back."""\n'
        (folder / f"{name}.py").write_text(text + "    y = x\n    y += 1\n    return y\n")
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(folder))
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.usefixtures("library")
def test_local_sets_are_built_and_listed_with_their_hashes(tmp_path):
    answer = answered("fetch-local-sets", "stdlibmod", "stdlibcode", "--out", tmp_path / "out")
    assert [one["name"] for one in answer["sets"]] == ["stdlibmod", "stdlibcode"]
    for one in answer["sets"]:
        assert facts(read_beir(one["folder"])).revision == one["revision"]
        assert (one["documents"], one["queries"]) == (2, 2)
    again = run("fetch-local-sets", "stdlibmod", "stdlibcode", "--out", tmp_path / "out")
    assert again.exit_code == 0
    rows = [line.split() for line in again.stdout.splitlines()]
    assert [row[0] for row in rows] == ["set", "stdlibmod", "stdlibcode"]
    assert rows[1][-1] == answer["sets"][0]["revision"][:16]
    assert again.stderr == "stdlibmod: 2 documents\nstdlibcode: 2 documents\n"


@pytest.mark.usefixtures("library")
def test_a_set_that_cannot_be_built_leaves_the_others_and_says_where_to_put_its_package(tmp_path):
    done = run("fetch-local-sets", "aafaq", "stdlibmod", "--out", tmp_path / "out", "--quiet", "--output", "json")
    assert done.exit_code == 7
    answer = json.loads(done.stdout)
    assert [one["name"] for one in answer["sets"]] == ["stdlibmod"]
    assert "put anarchism_*.deb into" in answer["failed"]["aafaq"]
    alone = run("fetch-local-sets", "aafaq", "--out", tmp_path / "out")
    assert alone.exit_code == 3
    assert "MissingFile" in alone.stderr
    assert alone.stdout == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [(["nosuch"], "there are aafaq, pydoc"), (["aafaq", "--packages", "nowhere"], "--packages nowhere is no folder")],
)
def test_what_cannot_be_is_refused_before_anything_is_built(tmp_path, options, message):
    done = run("fetch-local-sets", "stdlibmod", *options, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def bytes_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("task", ["passkey", "needle"])
def test_synthetic_sets_are_beir_folders_whose_evidence_answers(tmp_path, task):
    small = ["--documents", 12, "--queries", 6, "--lengths", "256,512,256", "--seed", 3]
    answer = answered("make-synth", task, "--out", tmp_path / "a", *small)
    assert [one["length"] for one in answer["made"]] == [256, 512]
    for one in answer["made"]:
        found = read_beir(one["folder"])
        texts = {document.id: document.text for document in found.corpus}
        asked = {query.id: query.text for query in found.queries}
        record = read_record(one["folder"])
        answers = {each["doc_id"]: each["answer"] for each in record["records"]}
        shown = read_evidence(one["folder"])
        assert {each.query_id: {each.doc_id: 1} for each in shown} == found.qrels
        assert (len(texts), len(asked), len(shown)) == (12, 6, 6)
        for each in shown:
            line = texts[each.doc_id][each.start : each.end]
            assert answers[each.doc_id] in line
            assert "\n" not in line
        assert record["revision"] == one["revision"] == facts(found).revision
        assert (record["seed"], record["version"], record["tokenizer"], record["tokens"]) == (3, 1, "", None)
    answered("make-synth", task, "--out", tmp_path / "b", *small)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


def test_true_token_counts_are_recorded_where_an_encoder_is_named(tmp_path):
    [one] = answered(
        *("make-synth", "passkey", "--out", tmp_path, "--lengths", 256, "--documents", 5, "--queries", 2),
        *("--encoder", "hashing"),
    )["made"]
    texts = [document.text for document in read_beir(one["folder"]).corpus]
    assert one["tokens"] == load_encoder("hashing").count_tokens(texts).tolist()
    assert one["tokenizer"] == "hashing"
    assert "records" not in one


@pytest.mark.parametrize("task", ["niah", "vartrack", "twohop"])
def test_samples_are_read_back_as_they_were_made_and_fit_their_length(tmp_path, task):
    answer = answered("make-synth", task, "--out", tmp_path, "--lengths", "512,1024", "--samples", 3, "--seed", 2)
    for one, length in zip(answer["made"], (512, 1024), strict=True):
        samples = read_samples(one["folder"])
        assert [sample.seed for sample in samples] == [20_000, 20_001, 20_002]
        assert len({sample.text for sample in samples}) == 3
        for sample in samples:
            counted = nominal_tokens(sample.text)
            assert length - 14 <= counted <= length
        assert one["words"] == [len(sample.text.split()) for sample in samples]
        assert (one["task"], one["sizing"], one["samples"]) == (task, "nominal", 3)


def test_samples_can_be_filled_by_the_tokens_of_an_encoder(tmp_path):
    [one] = answered(
        *("make-synth", "niah", "--out", tmp_path, "--lengths", 600, "--samples", 2, "--values", 2),
        *("--key-kind", "uuids", "--sizing", "tokens", "--encoder", "embedded"),
    )["made"]
    samples = read_samples(one["folder"])
    assert one["tokens"] == load_encoder().count_tokens([sample.text for sample in samples]).tolist()
    assert all(580 <= count <= 600 for count in one["tokens"])
    assert (one["parameters"]["values"], one["parameters"]["key_kind"]) == (2, "uuids")
    size = samples[0].parameters["sentences"]
    assert samples[0] == niah(size, 0, values=2, key_kind=Kind.UUIDS, length=600)


def test_a_users_folder_is_the_haystack_of_needles(tmp_path):
    (tmp_path / "texts").mkdir()
    for name in "ab":
        text = " ".join(f"This is entry {n} of {name}." for n in range(200))
        (tmp_path / "texts" / f"{name}.txt").write_text(text)
    options = ["--lengths", 256, "--documents", 3, "--queries", 1, "--haystack", tmp_path / "texts"]
    [one] = answered("make-synth", "needle", "--out", tmp_path / "out", *options)["made"]
    assert all("This is entry 1" in document.text for document in read_beir(one["folder"]).corpus)


def test_statistics_stand_beside_the_published_ones_and_say_whether_they_are_equal(tmp_path):
    done = run("make-synth", "passkey", "--out", tmp_path / "a", "--lengths", "256,300,512", "--stats")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["256", "published", "866", "875.24", "890", "87,524", "100", "50", "yes"] in rows
    assert ["256", "made", "866", "875.24", "890", "87,524", "100", "50"] in rows
    assert [row[:2] for row in rows if row[:1] == ["300"]][1:] == [["300", "made"]], "nobody published it"
    chance = answered(
        "make-synth", "passkey", "--out", tmp_path / "b", "--lengths", 512, "--edges", "chance", "--stats"
    )
    [row] = chance["statistics"]
    assert row["published"]["total"] == 178_519
    assert row["equal"] == (row["made"]["total"] == 178_519)
    assert row["made"]["total"] - row["edge_needles"] == 178_519 - 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["passkey", "--samples", "3"], "passkey has no --samples; it takes --documents, --edges, --queries"),
        (["niah", "--haystack", "x"], "niah has no --haystack"),
        (["passkey", "--sizing", "tokens", "--encoder", "hashing"], "sized in words"),
        (["niah", "--sizing", "tokens"], "needs --encoder"),
        (["niah", "--samples", "0"], "1 to 10,000, got 0"),
        (["niah", "--lengths", "many"], "--lengths takes whole numbers"),
        (["niah", "--lengths", "20"], "needles alone have"),
        (["needle", "--lengths", "256", "--distractors", "-1"], "distractors must number 0"),
        (["needle", "--haystack", "nowhere"], "nowhere"),
    ],
)
def test_orders_that_cannot_be_are_refused_and_leave_no_folder(tmp_path, options, message):
    done = run("make-synth", *options, "--out", tmp_path / "out")
    assert done.exit_code in (2, 3)
    assert message in done.stderr
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_folder_that_is_there_is_refused_before_anything_is_made(tmp_path):
    (tmp_path / "twohop_1024").mkdir()
    (tmp_path / "twohop_1024" / "mine").write_text("x")
    done = run("make-synth", "twohop", "--out", tmp_path, "--lengths", "512,1024")
    assert done.exit_code == 2
    assert "twohop_1024 exists already" in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["twohop_1024"]


def test_damaged_samples_are_named_by_their_line(tmp_path):
    run("make-synth", "niah", "--out", tmp_path, "--lengths", "256", "--samples", "2")
    path = tmp_path / "niah_256" / "samples.jsonl"
    first, second = path.read_text().splitlines()
    moved = json.loads(second) | {"evidence_spans": [[0, 4]]}
    for bad in ("{", "[]", '{"task": "niah"}', json.dumps(moved), json.dumps(moved | {"evidence": [9999]})):
        path.write_text(f"{first}\n{bad}\n")
        with pytest.raises(CorpusError, match=r"samples.jsonl:2: expected a sample"):
            read_samples(tmp_path / "niah_256")
    with pytest.raises(MissingFile):
        read_samples(tmp_path)
