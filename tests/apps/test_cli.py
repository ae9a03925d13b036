"""The command line that scripts rely on: one JSON object on stdout, exit codes by kind of error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from unabridged.apps.cli import app
from unabridged.eval.trec import read_run
from unabridged.retrievers.lock import locked

HASHING = ["--encoder", "hashing"]


def call(*arguments: object, code: int = 0, stdin: str | None = None):
    result = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin)
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr, result.exception)
    return result


def asked(*arguments: object, code: int = 0, stdin: str | None = None) -> dict:
    """The single JSON object on stdout."""
    return json.loads(call(*arguments, "--output", "json", code=code, stdin=stdin).stdout)


@pytest.fixture
def index(corpus_file: Path, tmp_path: Path) -> Path:
    call("index", corpus_file, "--out", tmp_path / "ix", *HASHING, "--quiet")
    return tmp_path / "ix"


def test_index_prints_the_report_that_scripts_rely_on(corpus_file, tmp_path):
    report = asked("index", corpus_file, "--out", tmp_path / "ix", *HASHING)
    wanted = {"documents", "failed", "tokens_total", "tokens_seen", "vectors", "index", "seconds"}
    assert wanted <= set(report)
    assert set(report["index"]) == {"recipe", "recall_at_10"}
    assert report["documents"] == 6
    assert report["tokens_total"] == report["tokens_seen"]


def test_search_prints_hits_with_spans_and_stages(index):
    body = asked("search", index, "w5 w19", "-k", 3)
    assert set(body) == {"query", "mode", "hits", "timings"}
    assert body["mode"] == "hybrid"
    for rank, hit in enumerate(body["hits"], 1):
        assert set(hit) == {"rank", "doc_id", "score", "span", "stages"}
        assert hit["rank"] == rank
        assert set(hit["span"]) == {"start", "end", "text"}


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
@pytest.mark.parametrize("level", ["doc", "segment", "both"])
def test_every_mode_and_level_answers(index, mode, level):
    assert asked("search", index, "w5 w19", "--mode", mode, "--level", level)["hits"]


def test_text_output_is_for_people(index, corpus_file):
    assert "characters" in call("search", index, "w5").stdout
    assert "ledger" in call("info", index).stdout
    assert "documents" in call("plan", corpus_file, *HASHING).stdout


def test_plan_counts_without_writing(corpus_file, tmp_path):
    before = sorted(tmp_path.iterdir())
    plan = asked("plan", corpus_file, *HASHING)
    assert plan["documents"] == 6
    assert plan["over_window"] == 4
    assert sorted(tmp_path.iterdir()) == before


def test_a_dry_run_is_the_plan(corpus_file, tmp_path):
    plan = asked("index", corpus_file, "--out", tmp_path / "ix", "--dry-run", *HASHING)
    assert plan["documents"] == 6
    assert not (tmp_path / "ix").exists()


def test_the_plan_is_close_to_the_build(corpus_file, tmp_path):
    plan = asked("plan", corpus_file, *HASHING)
    report = asked("index", corpus_file, "--out", tmp_path / "ix", *HASHING)
    assert plan["tokens"] == pytest.approx(report["tokens_total"], rel=0.15)
    assert plan["vectors"] == pytest.approx(report["vectors"], rel=0.3)


def test_failed_items_give_exit_code_seven_and_a_list(corpus_file, tmp_path):
    with corpus_file.open("a") as file:
        file.write("{broken\n")
    report = asked("index", corpus_file, "--out", tmp_path / "ix", *HASHING, code=7)
    lines = [json.loads(line) for line in Path(report["failed_file"]).read_text().splitlines()]
    assert [(line["reason"], line["where"]) for line in lines] == [("malformed-json", f"{corpus_file}:7")]


def test_a_corpus_from_stdin(tmp_path):
    lines = '{"_id": "a", "text": "hello world"}\n{"_id": "b", "text": "good bye"}\n'
    assert asked("index", "-", "--out", tmp_path / "ix", *HASHING, stdin=lines)["documents"] == 2


def test_add_and_delete_missing(index, tmp_path):
    more = tmp_path / "more.jsonl"
    more.write_text('{"_id": "new", "text": "something new"}\n')
    assert asked("index", more, "--out", index, "--add")["documents"] == 7
    report = asked("index", more, "--out", index, "--delete-missing")
    assert (report["documents"], report["deleted"]) == (1, 6)
    assert asked("compact", index) == {"documents": 1, "shards": 1, "removed": 6}


def test_queries_to_a_trec_run(index, tmp_path):
    queries = tmp_path / "queries.tsv"
    queries.write_text("q1\tw5 w19\nq2\tw100\n")
    body = asked("search", index, "--queries", queries, "-k", 2)
    assert set(body["results"]) == {"q1", "q2"}
    plain = tmp_path / "plain.jsonl"
    plain.write_text("".join(f'{{"_id": "d{n}", "text": "word{n} common words"}}\n' for n in range(9)))
    call("index", plain, "--out", tmp_path / "ix2", *HASHING, "--quiet")
    call("search", tmp_path / "ix2", "--queries", queries, "--run", tmp_path / "run.trec", "-k", 5)
    run = read_run(tmp_path / "run.trec")
    assert set(run) == {"q1", "q2"}
    lines = [line.split() for line in (tmp_path / "run.trec").read_text().splitlines()]
    assert {len(line) for line in lines} == {6}
    assert [line[3] for line in lines if line[0] == "q1"] == ["1", "2", "3", "4", "5"]


def test_filters_on_the_command_line(index):
    hits = asked("search", index, "w5", "--filter", "even=true", "-k", 50)["hits"]
    assert {hit["doc_id"] for hit in hits} <= {"plain", "with\ttab", "naïve-é"}
    assert hits


def test_info_lists_the_ledger(index):
    body = asked("info", index, "--ledger", "--verify")
    assert body["verified"]
    assert len(body["ledger"]) == 6
    assert all(line["tokens_seen"] == line["tokens_total"] for line in body["ledger"])


def test_doctor_names_what_is_installed_and_what_is_not():
    report = asked("doctor")
    assert report["packages"]["torch"]["version"]
    assert report["faiss"]["owner"].startswith("faiss")
    assert report["mamba_scan"].partition(":")[0] in ("numba", "torch")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["index", "CORPUS", "--out", "OUT", "--overflow", "nonsense"], 2),
        (["index", "CORPUS", "--out", "OUT", "--encoder", "/no/such/model"], 3),
        (["index", "/no/such/file.jsonl", "--out", "OUT", *HASHING], 3),
        (["index", "CORPUS", "--out", "OUT", "--add", *HASHING], 2),
        (["search", "OUT", "question"], 3),
        (["search", "INDEX", "  "], 2),
        (["search", "INDEX"], 2),
        (["search", "INDEX", "w1", "-k", "0"], 2),
        (["search", "INDEX", "w1", "--encoder", "hashing:32"], 5),
        (["search", "INDEX", "w1", "--filter", "nothing"], 2),
        (["info", "OUT"], 3),
        (["no-such-command"], 2),
    ],
)
def test_errors_have_their_exit_code_and_say_what_was_found(arguments, code, index, corpus_file, tmp_path):
    places = {"CORPUS": corpus_file, "OUT": tmp_path / "out", "INDEX": index}
    result = call(*[places.get(a, a) for a in arguments], code=code)
    assert result.stderr.strip()
    assert "Traceback" not in result.stderr


def test_errors_are_json_too_when_asked(tmp_path):
    body = asked("info", tmp_path / "none", code=3)
    assert body["error"]["type"] == "MissingFile"
    assert str(tmp_path / "none") in body["error"]["message"]


def test_duplicate_ids_are_a_validation_error(corpus_file, tmp_path):
    with corpus_file.open("a") as file:
        file.write('{"_id": "plain", "text": "again"}\n')
    body = asked("index", corpus_file, "--out", tmp_path / "ix", *HASHING, code=5)
    assert body["error"]["type"] == "DuplicateId"
    assert "plain" in body["error"]["message"]


def test_a_locked_folder_is_a_resource_error(index, corpus_file):
    with locked(index):
        asked("index", corpus_file, "--out", index, code=4)


def test_progress_goes_to_stderr_as_json_lines(corpus_file, tmp_path):
    result = call("index", corpus_file, "--out", tmp_path / "ix", *HASHING)
    events = [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]
    assert events
    assert events[-1]["fraction"] == 1.0


def test_help_is_quick_and_loads_nothing_heavy():
    code = (
        "import sys; sys.argv = ['unabridged', '--help']\nfrom unabridged.apps.cli import main\n"
        "try:\n    main()\nexcept SystemExit as e:\n    assert not e.code\n"
        "heavy = {'torch', 'faiss', 'transformers', 'pyarrow', 'bm25s'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "index" in done.stdout


def test_help_shows_the_defaults_in_brackets():
    shown = call("index", "--help").stdout
    assert "[split]" in shown.replace("\n", "")
