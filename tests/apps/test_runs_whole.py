"""Runs are as deep as their measures, keep every set and split apart, and say what no score can show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests_runs import evidence_of, passkeys, place, run, system
from typer.testing import CliRunner

from unabridged.apps.cli import app
from unabridged.apps.runs import depth_of, read_record
from unabridged.apps.verifying import verify_run
from unabridged.contracts import Document
from unabridged.corpora import Query
from unabridged.errors import CorpusError, ValidationError
from unabridged.eval.evidence import Evidence, write_set
from unabridged.eval.sets import RetrievalSet, write_beir
from unabridged.eval.trec import read_run
from unabridged.retrievers.result import Mode


def call(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["eval", *map(str, words)])
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
    return result.stdout


def asked(*words: object, code: int = 0) -> dict:  # type: ignore[type-arg]
    found: dict = json.loads(call(*words, "--output", "json", "--quiet", code=code))  # type: ignore[type-arg]
    return found


def test_a_measure_deeper_than_a_hundred_sees_as_many_documents(tmp_path: Path) -> None:
    documents = tuple(Document(f"d{n}", f"a text of number {n} and more") for n in range(150))
    whole = RetrievalSet("many", documents, (Query("q", "which number?"),), {"q": {one.id: 1 for one in documents}})  # type: ignore[arg-type]
    shallow = run(tmp_path / "a", system(Mode.DENSE), whole)
    deep = run(tmp_path / "b", system(Mode.DENSE), whole, measures=["R@150", "R@100"])
    assert deep["measures"]["R@150"]["value"] == 1.0
    written = read_run(place(tmp_path / "b", "hashing_dense", "many").with_name("run.trec"))
    assert {len(hits) for hits in written.values()} == {150}
    assert deep["measures"]["R@100"] == shallow["measures"]["R@100"]
    assert (depth_of(["nDCG@10"]), depth_of(["R@250", "RR@10"]), depth_of(["AP"])) == (100, 250, 1000)


def test_two_sets_of_one_name_never_replace_each_other(tmp_path: Path) -> None:
    for name, length in (("a", 256), ("b", 512)):
        write_beir(tmp_path / name / "same", passkeys(length))
    sets = [tmp_path / "a" / "same", tmp_path / "b" / "same"]
    refused = asked("beir", *sets, "--out", tmp_path / "out", "--encoder", "hashing", code=2)
    assert "Two sets are called same" in refused["error"]["message"]
    assert not (tmp_path / "out").exists()


def test_a_set_of_the_same_name_in_a_later_call_keeps_the_run_before(tmp_path: Path) -> None:
    for name, length in (("a", 256), ("b", 512)):
        write_beir(tmp_path / name / "same", passkeys(length))
    found = {}
    for _ in range(2):  # the second time both are found finished
        for name in ("a", "b"):
            line = ("beir", tmp_path / name / "same", "--out", tmp_path / "out", "--encoder", "hashing")
            (record,) = asked(*line)["runs"]
            assert found.setdefault(name, record) == record
            path = tmp_path / "out" / record["place"] / "run.json"
            assert json.loads(path.read_text()) == record
            assert verify_run(path).holds
            assert f"kept in {record['place']}" in call(*line, "--quiet")
    assert found["a"]["place"] != found["b"]["place"]
    assert found["a"]["set"]["revision"] != found["b"]["set"]["revision"]
    refused = CliRunner().invoke(app, ["eval", "leaderboard", str(tmp_path / "out")])
    assert refused.exit_code != 0
    assert "there twice" in refused.stderr


def test_every_split_keeps_a_run_of_its_own(tmp_path: Path) -> None:
    write_beir(tmp_path / "set", passkeys())
    table = tmp_path / "set" / "qrels" / "test.tsv"
    table.with_name("dev.tsv").write_text("".join(table.read_text().splitlines(keepends=True)[:4]))
    for split in ("test", "dev", "test"):
        asked("beir", tmp_path / "set", "--out", tmp_path / "out", "--encoder", "hashing", "--split", split)
    assert sorted(path.parents[1].name for path in tmp_path.rglob("run.json")) == ["set", "set.dev"]


def test_measures_may_stand_between_commas_and_twice(tmp_path: Path) -> None:
    write_beir(tmp_path / "set", passkeys())
    options = ("-m", "RR@10,R@5", "-m", "mrr@10")
    found = asked("beir", tmp_path / "set", "--out", tmp_path / "out", "--encoder", "hashing", *options)
    assert list(found["runs"][0]["measures"]) == ["RR@10", "R@5"]
    assert found["runs"][0]["primary"] == "RR@10"


def test_what_no_run_can_find_and_what_is_not_asked_is_said(tmp_path: Path) -> None:
    write_beir(tmp_path / "set", passkeys())
    with (tmp_path / "set" / "qrels" / "test.tsv").open("a") as file:
        file.write(f"{passkeys().queries[0].id}\tnowhere\t1\n")
    with (tmp_path / "set" / "queries.jsonl").open("a") as file:
        file.write('{"_id": "unasked", "text": "is this judged?"}\n')
    text = call("beir", tmp_path / "set", "--out", tmp_path / "out", "--encoder", "hashing", "--quiet")
    assert "1 judged documents are not in the corpus" in text
    assert "1 queries have no judgement" in text


def test_other_evidence_makes_the_scores_by_depth_anew(tmp_path: Path) -> None:
    first = run(tmp_path, system(), evidence=evidence_of())
    moved = {pair: (0, 1) for pair in evidence_of()}
    second = run(tmp_path, system(), evidence=moved)
    assert sum(one["queries"] for one in first["by_depth"]) == 12
    assert [(one["from"], one["queries"]) for one in second["by_depth"]] == [(0.0, 12)]


def test_a_query_without_a_relevant_document_is_in_no_bin_of_lengths(tmp_path: Path) -> None:
    whole = passkeys()
    first = whole.queries[0].id
    none = replace(whole, qrels={**whole.qrels, first: {document: 0 for document in whole.qrels[first]}})
    record = run(tmp_path, system(), none, evidence=evidence_of())
    assert record["set"]["queries"] == 12
    assert sum(one["queries"] for one in record["by_length"]) == 11
    assert sum(one["queries"] for one in record["by_depth"]) == 11


@pytest.mark.parametrize("option", ["bm25", "hybrid"])
def test_two_runs_have_the_same_bytes_but_for_times(tmp_path: Path, option: str) -> None:
    for name in ("a", "b"):
        run(tmp_path / name, system(Mode(option)), evidence=evidence_of())
    for name in ("run.trec", "queries.jsonl"):
        one, two = (place(tmp_path / out, f"hashing_{option}").with_name(name).read_bytes() for out in ("a", "b"))
        assert one == two


def test_evidence_outside_its_document_is_refused(tmp_path: Path) -> None:
    beyond = {pair: (0, 10_000_000) for pair in evidence_of()}
    with pytest.raises(CorpusError, match="belongs to another text"):
        run(tmp_path, system(), evidence=beyond)


@pytest.mark.parametrize(("part", "name"), [("index", "folder"), ("speed", "query_ms_p50"), ("system", "pipeline")])
def test_a_record_that_lacks_a_part_is_a_typed_error(tmp_path: Path, part: str, name: str) -> None:
    run(tmp_path, system())
    body = json.loads(place(tmp_path).read_text())
    del body[part][name]
    place(tmp_path).write_text(json.dumps(body))
    with pytest.raises(ValidationError, match="no record of a run"):
        read_record(place(tmp_path))
    place(tmp_path).write_text(json.dumps(body | {"system": {**body["system"], "pipeline": {}, "encoder": {}}}))
    with pytest.raises(ValidationError, match="no record of a run"):
        read_record(place(tmp_path))
    place(tmp_path).write_text(json.dumps(body | {part: []}))
    with pytest.raises(ValidationError, match="no record of a run"):
        read_record(place(tmp_path))


def test_the_depth_of_evidence_counts_the_title_before_its_text(tmp_path: Path) -> None:
    text = "words of the text " * 10
    whole = RetrievalSet("titled", (Document("d", text, "title " * 90),), (Query("q", "words?"),), {"q": {"d": 1}})  # type: ignore[arg-type]
    write_set(tmp_path / "titled", whole, [Evidence("q", "d", len(text) - 20, len(text) - 5)], {})
    found = asked("beir", tmp_path / "titled", "--out", tmp_path / "out", "--encoder", "hashing")
    assert [one["from"] for one in found["runs"][0]["by_depth"]] == [0.9]
