"""``index`` and ``search`` with an engine: addresses, reports, exit codes, and nothing of an account on any stream."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests_backends import engine_url
from typer.testing import CliRunner

import unabridged as ub
from unabridged.apps.backends import split_backends
from unabridged.apps.cli import app
from unabridged.errors import UsageError
from unabridged.retrievers.compact import compact

HASHING = ["--encoder", "hashing"]


@pytest.fixture(autouse=True)
def account(monkeypatch):
    """An address that was written down has no account: the user is taken from where PostgreSQL's own clients do."""
    monkeypatch.setenv("PGUSER", "postgres")


def call(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr, result.exception)
    return result


def asked(*arguments: object, code: int = 0) -> dict:
    return json.loads(call(*arguments, "--output", "json", code=code).stdout)


@pytest.mark.parametrize("engine", ["pgvector", pytest.param("milvus-lite", marks=pytest.mark.slow)])
def test_index_loads_an_engine_and_search_asks_it(engine, corpus_file, tmp_path):
    url, out = engine_url(engine, tmp_path, options="texts=yes"), tmp_path / "ix"
    report = asked("index", corpus_file, "--out", out, *HASHING, "--backend", url)
    assert report["backend"]["documents"] == report["documents"] == 6
    assert report["backend"]["backend"] == engine
    assert asked("index", corpus_file, "--out", out, "--backend", url)["backend"]["loaded_shards"] == 0
    here = asked("search", out, "w5 w19", "-k", 3)
    assert "backend" not in here
    for backend in (url, "remembered"):
        there = asked("search", out, "w5 w19", "-k", 3, "--backend", backend)
        assert there["hits"] == here["hits"]
        assert there["backend"]["backend"] == engine
        assert there["backend"]["searches"] >= 1
        assert set(there["backend"]["applied"]) == {"segments", "documents"}
    assert "candidates from" in call("search", out, "w5 w19", "--backend", "remembered").stdout
    queries = tmp_path / "q.tsv"
    queries.write_text("q1\tw5 w19\n")
    body = asked("search", out, "--queries", queries, "-k", 3, "--backend", url)
    assert body["results"]["q1"]["hits"] == here["hits"]
    with ub.open_index(out, backend=url) as index:
        assert [hit.doc_id for hit in index.search_one("w5 w19", 3)] == [hit["doc_id"] for hit in here["hits"]]


def test_an_engine_that_holds_another_model_s_vectors_is_known_before_anything_is_encoded(corpus_file, tmp_path):
    url = engine_url("pgvector", tmp_path)
    call("index", corpus_file, "--out", tmp_path / "ix", *HASHING, "--quiet", "--backend", url)
    result = asked(
        "index", corpus_file, "--out", tmp_path / "other", "--encoder", "hashing:32", "--backend", url, code=5
    )
    assert result["error"]["type"] == "PassportMismatch"
    assert not (tmp_path / "other").exists()


def test_a_collection_of_another_folder_is_not_emptied_for_this_one(corpus_file, tmp_path):
    url = engine_url("pgvector", tmp_path)
    call("index", corpus_file, "--out", tmp_path / "ix", *HASHING, "--quiet", "--backend", url)
    other = tmp_path / "other.txt"
    other.write_text("another text of some words")
    error = asked("index", other, "--out", tmp_path / "other", *HASHING, "--backend", url, code=5)["error"]
    assert error["type"] == "BackendMismatch"
    assert "6 documents" in error["message"]
    assert "another collection" in error["message"]
    assert asked("search", tmp_path / "ix", "w5", "--backend", "remembered")["hits"]
    compact(tmp_path / "ix")  # all shards are new, and the folder remembers its collection
    call("index", other, "--out", tmp_path / "ix", "--add", "--quiet", "--backend", url + "&connect_timeout=9")
    assert len(asked("search", tmp_path / "ix", "text", "-k", 99, "--mode", "dense", "--backend", url)["hits"]) == 7


def test_texts_that_the_collection_lacks_are_refused_before_anything_is_encoded(corpus_file, tmp_path):
    url = engine_url("pgvector", tmp_path)
    call("index", corpus_file, "--out", tmp_path / "ix", *HASHING, "--quiet", "--backend", url)
    error = asked("index", corpus_file, "--out", tmp_path / "b", *HASHING, "--backend", f"{url}&texts=yes", code=5)
    assert "no texts, and texts=yes" in error["error"]["message"]
    assert not (tmp_path / "b").exists()


def test_a_folder_that_grew_without_its_engine_says_what_to_do(corpus_file, tmp_path):
    url, out = engine_url("pgvector", tmp_path), tmp_path / "ix"
    call("index", corpus_file, "--out", out, *HASHING, "--quiet", "--backend", url)
    more = tmp_path / "more.txt"
    more.write_text("another text of some words")
    call("index", more, "--out", out, "--add", "--quiet")
    error = asked("search", out, "w5", "--backend", "remembered", code=5)["error"]
    assert error["type"] == "BackendMismatch"
    assert "unabridged index" in error["message"]
    call("index", more, "--out", out, "--add", "--quiet", "--backend", url)
    assert asked("search", out, "w5", "--backend", "remembered")["hits"]


@pytest.mark.parametrize(
    ("backend", "kind", "code"),
    [
        ("postgresql://a:s3cr3t@127.0.0.1:1/base?collection=x&connect_timeout=2", "BackendUnreachable", 6),
        ("redis://a:s3cr3t@127.0.0.1/x", "UsageError", 2),
        ("milvus://a:s3cr3t@127.0.0.1:s3cr3t/x", "UsageError", 2),
        ("postgresql://a:s3cr3t@127.0.0.1/base?collection=x%27y", "UsageError", 2),
        ("remembered", "UsageError", 2),
        ("postgresql://a:1/s3cr3t@127.0.0.1/base", "UsageError", 2),
        ("postgresql://a:1?s3cr3t@127.0.0.1/base", "UsageError", 2),
        ("postgresql://a:1/base#s3cr3t@127.0.0.1/base", "UsageError", 2),
        ("milvus://a:1/s3cr3t@127.0.0.1/x", "UsageError", 2),
    ],
)
def test_errors_have_their_kind_and_no_password(corpus_file, tmp_path, backend, kind, code):
    out = tmp_path / "ix"
    call("index", corpus_file, "--out", out, *HASHING, "--quiet")
    result = call("search", out, "w5", "--backend", backend, "--output", "json", code=code)
    assert json.loads(result.stdout)["error"]["type"] == kind
    assert "s3cr3t" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["search", "ix", "w5", "--backend", "postgresql://a:s3cr3t@h/base", "--index-device", "cuda"],
        ["index", "c.jsonl", "--out", "ix", *HASHING, "--backend", "postgresql:a:s3cr3t@h/base"],
        ["plan", "--documents", "10", *HASHING, "--backend", "redis://a:s3cr3t@h/base"],
    ],
    ids=lambda words: words[0],
)
def test_what_is_refused_before_an_engine_is_asked_is_not_repeated(words):
    result = call(*words, "--output", "json", code=2)
    assert json.loads(result.stdout)["error"]["type"] == "UsageError"
    assert "s3cr3t" not in result.stdout + result.stderr


def test_an_engine_s_address_is_planned_as_its_kind():
    for url, backend in (("postgresql://a:s3cr3t@h/base", "pgvector"), ("milvus://a:s3cr3t@h/x", "milvus")):
        result = call("plan", "--documents", "10", *HASHING, "--backend", url, "--output", "json")
        assert json.loads(result.stdout)["backend"] == backend
        assert "s3cr3t" not in result.stdout + result.stderr


def test_nothing_of_an_account_stays_in_the_folder(corpus_file, tmp_path):
    url, out = engine_url("pgvector", tmp_path), tmp_path / "ix"
    with_account = url.replace("postgres:@", "postgres:s3cr3t@")
    assert with_account != url
    result = call("index", corpus_file, "--out", out, *HASHING, "--backend", with_account)
    assert "s3cr3t" not in result.stdout + result.stderr
    for path in out.rglob("*"):
        assert not path.is_file() or b"s3cr3t" not in path.read_bytes()
    assert Path(out / "backend.json").is_file()


def test_what_runs_the_model_and_what_holds_its_vectors_are_told_apart():
    assert split_backends(None) == (None, None)
    assert split_backends(["onnx"]) == ("onnx", None)
    runs, engine = split_backends(["milvus://host/x", "onnx"])
    assert (runs, engine.place) == ("onnx", "host:19530")
    with pytest.raises(UsageError, match="is for search"):
        split_backends(["remembered"])
    for two in (["onnx", "torch"], ["milvus://host/x", "postgresql://host/y"]):
        with pytest.raises(UsageError, match="at most one"):
            split_backends(two)
