"""``eval trec`` and ``eval compare`` from the command line: scores that nothing flatters, and honest differences."""

from __future__ import annotations

import json

import pytest
from tests_runs import passkeys, place, run, system
from typer.testing import CliRunner

from unabridged.apps.cli import app
from unabridged.contracts import Document
from unabridged.eval.sets import RetrievalSet
from unabridged.eval.trec import write_run

QUERIES = [f"q{n:02}" for n in range(40)]


def call(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, ["eval", *map(str, arguments)])
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr, result.exception)
    return result


def asked(*arguments: object, code: int = 0) -> dict:
    return json.loads(call(*arguments, "--output", "json", code=code).stdout)


def save(path, results):
    write_run(path, [(query, list(hits.items())) for query, hits in results.items()])
    return path


@pytest.fixture
def qrels(tmp_path):
    path = tmp_path / "qrels.tsv"
    path.write_text("query-id\tcorpus-id\tscore\n" + "".join(f"{query}\tgood\t1\n" for query in QUERIES))
    return path


@pytest.fixture
def perfect(tmp_path):
    return save(tmp_path / "perfect.trec", {query: {"good": 2.0, "bad": 1.0} for query in QUERIES})


@pytest.fixture
def weak(tmp_path):
    hits = {q: {"good": 2.0, "bad": 1.0} if n % 3 else {"bad": 2.0, "good": 1.0} for n, q in enumerate(QUERIES)}
    return save(tmp_path / "weak.trec", hits)


def test_a_run_with_a_dropped_query_scores_lower_and_not_equal(tmp_path, perfect, qrels):
    lines = [line for line in perfect.read_text().splitlines(keepends=True) if not line.startswith("q07 ")]
    dropped = tmp_path / "dropped.trec"
    dropped.write_text("".join(lines))
    whole = asked("trec", "--run", perfect, "--qrels", qrels, "-m", "nDCG@10")
    less = asked("trec", "--run", dropped, "--qrels", qrels, "-m", "nDCG@10")
    assert whole["measures"]["nDCG@10"]["mean"] == 1.0
    assert less["measures"]["nDCG@10"]["mean"] == pytest.approx(39 / 40)
    assert (whole["missing"], less["missing"]) == ([], ["q07"])
    text = call("trec", "--run", dropped, "--qrels", qrels, "-m", "nDCG@10").stdout
    assert "0.9750" in text
    assert "queries that the run leaves out, counted 0: 1 (q07)" in text


def test_scores_are_printed_with_intervals_and_the_values_of_each_query(weak, qrels):
    found = asked("trec", "--run", weak, "--qrels", qrels, "-m", "RR,P@1", "-m", "recall@100", "--per-query")
    assert list(found["measures"]) == ["RR", "P@1", "R@100"]
    one = found["measures"]["RR"]
    assert one["mean"] == pytest.approx(sum(row["RR"] for row in found["per_query"].values()) / 40)
    assert one["low"] < one["mean"] < one["high"]
    assert one["worst"] == one["mean"] == one["best"]
    assert found["per_query"]["q00"] == {"RR": 0.5, "P@1": 0.0, "R@100": 1.0}
    assert (found["queries"], found["tied"], found["seed"], found["level"]) == (40, [], 0, 0.95)
    text = call("trec", "--run", weak, "--qrels", qrels, "--per-query").stdout
    assert "nDCG@10" in text
    assert "q39" in text


def test_ties_are_shown_with_what_they_could_change(tmp_path, qrels):
    run = tmp_path / "tied.trec"
    run.write_text("".join(f"{q} Q0 {d} 1 0.5 t\n" for q in QUERIES for d in ("good", "zzz")))
    found = asked("trec", "--run", run, "--qrels", qrels, "-m", "RR")
    assert found["measures"]["RR"] | {"low": 0, "high": 0} == {
        "mean": 0.5,
        "low": 0,
        "high": 0,
        "worst": 0.5,
        "best": 1.0,
    }
    assert found["tied"] == QUERIES
    text = call("trec", "--run", run, "--qrels", qrels, "-m", "RR").stdout
    assert "ties, worst" in text
    assert "queries with equal scores" in text


def test_equal_texts_count_once_in_a_number_of_their_own(tmp_path, weak, qrels):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"_id": d, "text": "same text"}) + "\n" for d in ("good", "bad")))
    found = asked("trec", "--run", weak, "--qrels", qrels, "-m", "RR", "--corpus", corpus)
    assert found["duplicates"] == {"share": 0.5, "measures": {"RR": 1.0}}
    assert found["measures"]["RR"]["mean"] < 1
    text = call("trec", "--run", weak, "--qrels", qrels, "-m", "RR", "--corpus", corpus).stdout
    assert "equal texts once" in text
    assert "50.0% of the documents" in text
    corpus.write_text("{broken\n")
    assert "--corpus needs every" in call("trec", "--run", weak, "--qrels", qrels, "--corpus", corpus, code=5).stderr


def test_a_clear_difference_is_significant_and_none_is_not(tmp_path, perfect, weak, qrels):
    twin = save(tmp_path / "twin.trec", {query: {"good": 9.0} for query in QUERIES})
    found = asked("compare", perfect, weak, twin, "--qrels", qrels, "-m", "RR", "--flips", 2000, "--resamples", 2000)
    assert list(found["runs"]) == ["perfect", "weak", "twin"]
    first, same, last = found["comparisons"]
    assert (first["a"], first["b"], first["measure"]) == ("perfect", "weak", "RR")
    assert first["difference"] == pytest.approx(14 / 40 / 2)
    assert 0 < first["low"] < first["difference"] < first["high"]
    assert 0 < first["p_randomization"] < first["p_holm"] < 0.01 > first["p_t"]
    assert (same["difference"], same["p_randomization"], same["p_t"], same["p_holm"]) == (0, 1, 1, 1)
    assert last["difference"] == -first["difference"]
    assert (found["flips"], found["resamples"], found["seed"]) == (2000, 2000, 0)


def test_one_query_has_no_interval_and_nothing_to_compare(tmp_path, perfect, weak):
    qrels = tmp_path / "one.tsv"
    qrels.write_text("query-id\tcorpus-id\tscore\nq00\tgood\t1\n")
    line = ("--qrels", qrels, "-m", "RR", "--ignore-unjudged")
    one = asked("trec", "--run", weak, *line)["measures"]["RR"]
    assert one == {"mean": 0.5, "low": None, "high": None, "worst": 0.5, "best": 0.5}
    text = call("trec", "--run", weak, *line).stdout
    assert "not defined" in text
    assert "1 query; an interval needs at least two" in text
    error = asked("compare", perfect, weak, *line, code=5)["error"]["message"]
    assert f"at least two queries with judgements, {qrels} has 1. Add judgements" in error
    two = tmp_path / "two.tsv"
    two.write_text(qrels.read_text() + "q01\tgood\t1\n")
    found = asked("compare", perfect, weak, "--qrels", two, "-m", "RR", "--ignore-unjudged", "--resamples", 99)
    assert found["comparisons"][0]["difference"] == 0.25


def test_the_table_of_a_comparison_names_all_it_rests_on(perfect, weak, qrels):
    text = call("compare", perfect, weak, "--qrels", qrels, "-m", "nDCG@10", "-m", "RR", "--resamples", 500).stdout
    for part in ("perfect - weak", "p randomisation", "p t-test", "p Holm", "95% interval", "40 queries", "+0.1750"):
        assert part in text


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path, perfect, weak, qrels):
    (tmp_path / "other").mkdir()
    again = tmp_path / "other" / "perfect.trec"
    again.write_bytes(weak.read_bytes())
    found = asked("compare", perfect, again, "--qrels", qrels, "-m", "RR", "--resamples", 100)
    assert list(found["runs"]) == [str(perfect), str(again)]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["trec", "--run", "perfect.trec", "--qrels", "qrels.tsv", "-m", "ndgc@10"], 2, "Did you mean nDCG@10"),
        (["trec", "--run", "none.trec", "--qrels", "qrels.tsv"], 3, "none.trec"),
        (["trec", "--run", "perfect.trec", "--qrels", "none.tsv"], 3, "none.tsv"),
        (["trec", "--run", "perfect.trec", "--qrels", "."], 3, ". is a folder; name a file"),
        (["trec", "--run", ".", "--qrels", "qrels.tsv"], 3, "cannot read the run file"),
        (["trec", "--run", "foreign.trec", "--qrels", "qrels.tsv"], 5, "share no query"),
        (["trec", "--run", "more.trec", "--qrels", "qrels.tsv"], 5, "no judgements"),
        (["trec", "--run", "infinite.trec", "--qrels", "qrels.tsv"], 5, "finite"),
        (["compare", "perfect.trec", "--qrels", "qrels.tsv"], 2, "two or more"),
        (["compare", "perfect.trec", "perfect.trec", "--qrels", "qrels.tsv"], 2, "different"),
        (["compare", "perfect.trec", "weak.trec", "--qrels", "qrels.tsv", "--flips", "0"], 2, "flips"),
        (["compare", "perfect.trec", "weak.trec", "--qrels", "qrels.tsv", "--resamples", "0"], 2, "resamples"),
        (["compare", "perfect.trec", "weak.trec", "--qrels", "qrels.tsv", "--seed", "-1"], 2, "seed"),
        (["trec", "--run", "perfect.trec", "--qrels", "qrels.tsv", "--seed", "-1"], 2, "seed"),
    ],
)
@pytest.mark.usefixtures("perfect", "weak", "qrels")
def test_mistakes_are_named_with_the_exit_code_of_their_kind(tmp_path, monkeypatch, arguments, code, message):
    (tmp_path / "foreign.trec").write_text("x1 Q0 good 1 1.0 t\n")
    (tmp_path / "more.trec").write_text("q01 Q0 good 1 1.0 t\nx1 Q0 good 1 1.0 t\n")
    (tmp_path / "infinite.trec").write_text("q01 Q0 good 1 inf t\n")
    monkeypatch.chdir(tmp_path)
    body = asked(*arguments, code=code)["error"]
    assert message in body["message"]
    assert body["exit_code"] == code


def test_queries_without_judgements_are_left_out_when_that_is_asked_for(tmp_path, qrels):
    run = tmp_path / "more.trec"
    run.write_text("q01 Q0 good 1 1.0 t\nx1 Q0 good 1 1.0 t\n")
    found = asked("trec", "--run", run, "--qrels", qrels, "-m", "RR", "--ignore-unjudged")
    assert found["unjudged"] == ["x1"]
    assert found["measures"]["RR"]["mean"] == 1 / 40
    assert len(found["missing"]) == 39


def test_a_run_of_an_evaluation_is_scored_under_the_ids_of_its_set(tmp_path):
    whole = passkeys(256)
    odd = {name: {f"{document} 100%": grade for document, grade in own.items()} for name, own in whole.qrels.items()}
    documents = [Document(f"{one.id} 100%", one.text) for one in whole.corpus]
    record = run(tmp_path / "out", system(), RetrievalSet("odd", documents, whole.queries, odd))
    (tmp_path / "qrels.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"{q}\t{d}\t1\n" for q, own in odd.items() for d in own)
    )
    path = place(tmp_path / "out", of="odd").with_name("run.trec")
    found = asked("trec", "--run", path, "--qrels", tmp_path / "qrels.tsv")
    assert found["measures"]["nDCG@10"]["mean"] == pytest.approx(record["measures"]["nDCG@10"]["value"])
    assert found["measures"]["nDCG@10"]["mean"] > 0
