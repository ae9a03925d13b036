"""Reranking where searches are: ``search --rerank``, ``eval beir --rerank`` and ``unabridged.rerank``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests_reranking import module, reversing, write_set
from typer.testing import CliRunner

import unabridged as ub
from tests_support import one_thread  # noqa: F401  a fixture for all that is here
from unabridged.apps.cli import app
from unabridged.apps.runs import read_record
from unabridged.eval.trec import read_run

SERVER = module("scripted_server")
GONE = SERVER.error(503, "gone")


def call(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr, result.exception)
    return result


def asked(*arguments: object, code: int = 0) -> dict:
    return json.loads(call(*arguments, "--output", "json", code=code).stdout)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BEIR folder, its index, and a language model of random weights."""
    folder = tmp_path_factory.mktemp("made")
    write_set(folder, queries=3, documents=8, long=(2,))
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"q{n}\td{n}\t1\n" for n in range(3))
    )
    (folder / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": f"q{n}", "text": f"question worth {n}"}) + "\n" for n in range(3))
    )
    built = ["index", folder / "corpus.jsonl", "--out", folder / "ix", "--encoder", "hashing", "--quiet"]
    call(*built, "--max-tokens", 64)
    module("tiny_language_models").llama(folder / "llama", context=1024)
    return folder


def options(url: str, *more: str, depth: int = 4, attempts: int = 1) -> list[object]:
    given = [f"attempts={attempts}", "concurrency=1", *more]
    pairs = [word for one in given for word in ("--rerank-option", one)]
    return ["--rerank", f"openai:m@{url}:full", "--rerank-depth", depth, *pairs]


def test_search_shows_its_hits_in_the_new_order_and_what_was_shown_of_them(made: Path) -> None:
    plain = asked("search", made / "ix", "worth 3", "-k", 6)
    with SERVER.serving(reversing) as server:
        body = asked("search", made / "ix", "worth 3", "-k", 6, *options(server.url))
        text = call("search", made / "ix", "worth 3", "-k", 6, *options(server.url)).stdout
    before = [hit["doc_id"] for hit in plain["hits"]]
    assert [hit["doc_id"] for hit in body["hits"]] == [*reversed(before[:4]), *before[4:]]
    assert [hit["rank"] for hit in body["hits"]] == [1, 2, 3, 4, 5, 6]
    assert [hit["stages"]["first_rank"] for hit in body["hits"]] == [4, 3, 2, 1, 5, 6]
    scores = {hit["doc_id"]: hit["score"] for hit in plain["hits"]}
    for hit, one in zip(body["hits"], plain["hits"], strict=True):
        assert hit["stages"]["first"] == pytest.approx(scores[hit["doc_id"]])
        assert hit["span"] == {h["doc_id"]: h["span"] for h in plain["hits"]}[hit["doc_id"]]
        assert one["rank"] >= 1
    told = body["rerank"]
    assert (told["status"], told["ranked"], told["spent"]["calls"]) == ("ok", 4, 1)
    assert [shown is None for shown in told["shown"]] == [False] * 4 + [True] * 2
    assert "reranked by openai:m@" in text


def test_search_ranks_deeper_than_it_shows(made: Path) -> None:
    before = [hit["doc_id"] for hit in asked("search", made / "ix", "worth 3", "-k", 8)["hits"]]
    with SERVER.serving(reversing) as server:
        body = asked("search", made / "ix", "worth 3", "-k", 2, *options(server.url, depth=6))
    assert [hit["doc_id"] for hit in body["hits"]] == before[5:3:-1]
    assert len(body["rerank"]["shown"]) == 2


def test_segments_are_ranked_by_their_own_text(made: Path) -> None:
    with SERVER.serving(reversing) as server:
        body = asked("search", made / "ix", "worth 2", "-k", 4, "--level", "segment", *options(server.url))
        prompt = server.requests[0]["messages"][-1]["content"]
    assert len(body["hits"]) == 4
    for hit in body["hits"]:
        assert hit["span"]["text"] in prompt


def test_a_model_that_is_gone_leaves_the_hits_as_they_were_with_exit_code_7(made: Path, tmp_path: Path) -> None:
    plain = [hit["doc_id"] for hit in asked("search", made / "ix", "worth 3", "-k", 5)["hits"]]
    with SERVER.serving(GONE) as server:
        body = asked("search", made / "ix", "worth 3", "-k", 5, *options(server.url), code=7)
        assert [hit["doc_id"] for hit in body["hits"]] == plain
        assert body["rerank"]["status"] == "failed"
    with SERVER.serving(reversing, GONE) as server:
        given = ["--queries", made / "queries.tsv", "--run", tmp_path / "r.trec", *options(server.url)]
        told = asked("search", made / "ix", *given, code=7)
    assert [told["rerank"][name]["status"] for name in ("q0", "q1", "q2")] == ["ok", "failed", "failed"]
    assert len(read_run(tmp_path / "r.trec")) == 3


def test_options_of_a_reranker_need_one(made: Path) -> None:
    for command in (["search", made / "ix", "worth"], ["eval", "beir", made, "--out", made / "no"]):
        call(*command, "--rerank-option", "window=3", code=2)
        assert "likelihood" in call(*command, "--rerank", "embedded:best", code=2).stderr
    assert not (made / "no").exists()


def test_an_evaluation_has_the_first_stage_beside_its_scores_and_goes_on_where_it_stopped(
    made: Path, tmp_path: Path
) -> None:
    def line(url: str, *more: str) -> list[object]:
        shared = ["eval", "beir", made, "--out", tmp_path, "--encoder", "hashing", "--name", "again", "--quiet"]
        return [*shared, "-m", "RR@10", *options(url, *more)]

    with SERVER.serving(reversing, GONE, GONE, reversing) as server:
        [half] = asked(*line(server.url), code=7)["runs"]
        assert set(half["rerank"]["failed"]) == {"q1", "q2"}
        assert len(server.requests) == 3
        [record] = asked(*line(server.url))["runs"]
        assert len(server.requests) == 5  # the answer that was there is not asked for again
        before = (tmp_path / record["place"] / "run.json").read_bytes()
        call(*line(server.url))
        assert (tmp_path / record["place"] / "run.json").read_bytes() == before
        assert len(server.requests) == 5
        text = call("eval", "report", tmp_path)
        [other] = asked(*line(server.url, "passage_tokens=20"))["runs"]
    assert text.exit_code == 0
    assert record["rerank"]["failed"] == {}
    assert record["rerank"]["used"]["calls"] == 3
    assert record["system"]["pipeline"]["rerank"]["ranker"]["strategy"] == "full"
    assert {"RR@10", "R@4"} <= set(record["rerank"]["first_stage"])
    assert (other["identity"], other["place"]) != (record["identity"], record["place"])
    place = tmp_path / record["place"]
    first, run = (read_run(place / name, escaped=True) for name in ("first.trec", "run.trec"))
    for name, scores in run.items():
        assert list(scores) == [*reversed(list(first[name])[:4]), *list(first[name])[4:]]
        wanted = 1 / (1 + list(first[name]).index(name.replace("q", "d")))
        assert record["rerank"]["first_stage"]["RR@10"]["value"] > 0
        assert wanted > 0
    told = [json.loads(one) for one in (place / "rerank.jsonl").read_text().splitlines()]
    assert sum(len(one["candidates"]) for one in told) == 12
    verified = asked("verify", place / "run.json")
    assert verified["holds"]
    moved = (place / "first.trec").read_text().replace("d1", "d99", 1)
    (place / "first.trec").write_text(moved)
    assert not asked("verify", place / "run.json", code=5)["holds"]
    assert read_record(place / "run.json")["identity"] == record["identity"]


def test_systems_of_one_stage_keep_the_identity_that_they_had(made: Path, tmp_path: Path) -> None:
    shared = ["eval", "beir", made, "--out", tmp_path, "--encoder", "hashing", "--quiet"]
    [record] = asked(*shared)["runs"]
    assert "rerank" not in record
    assert "rerank" not in record["system"]["pipeline"]


def test_a_program_ranks_hits_with_a_model_that_it_loads_once(made: Path) -> None:
    from unabridged.errors import UsageError

    with ub.open_index(made / "ix") as index, SERVER.serving(reversing) as server:
        hits = index.search_one("worth 3", k=5)
        ranker = ub.load_ranker(f"openai:m@{server.url}", options=ub.RankerOptions(workers=1))
        found = ub.rerank("worth 3", hits, model=ranker, index=index, depth=3)
        assert [hit.doc_id for hit in found] == [hits[at].doc_id for at in (2, 1, 0, 3, 4)]
        assert found.ranking.exposures[0].total > 0
        alone = ub.rerank("worth 3", hits.hits, model=ranker)
        assert [hit.doc_id for hit in alone] == [hit.doc_id for hit in hits][::-1]
        assert len(ub.rerank("worth", [], model=ranker)) == 0
        with pytest.raises(UsageError, match="twice"):
            ub.rerank("worth", [hits[0], hits[0]], model=ranker, index=index)
        for wrong in ({"depth": 0}, {"options": ub.RankerOptions()}):
            with pytest.raises(UsageError):
                ub.rerank("worth", hits, model=ranker, **wrong)
        with pytest.raises(UsageError):
            ub.rerank("  ", hits, model=ranker)


@pytest.mark.parametrize("strategy", ["attention", "likelihood", "full"])
def test_local_weights_rank_and_what_they_gave_is_not_computed_again(made: Path, tmp_path: Path, strategy: str) -> None:
    pytest.importorskip("transformers")
    options = ub.RankerOptions(cache=tmp_path / "kept.sqlite", passage_tokens=24, device="cpu")
    with ub.open_index(made / "ix") as index:
        hits = index.search_one("worth 2", k=4)
        first = ub.rerank("worth 2", hits, model=f"{made / 'llama'}:{strategy}", index=index, options=options)
        again = ub.rerank("worth 2", hits, model=f"{made / 'llama'}:{strategy}", index=index, options=options)
        plain = ub.RankerOptions(passage_tokens=24, device="cpu")
        fresh = ub.rerank("worth 2", hits, model=f"{made / 'llama'}:{strategy}", index=index, options=plain)
    assert sorted(hit.doc_id for hit in first) == sorted(hit.doc_id for hit in hits)
    assert first.hits == again.hits == fresh.hits
    assert first.ranking.exposures == again.ranking.exposures
    assert first.ranking.spent.cached == fresh.ranking.spent.cached == 0
    assert again.ranking.spent.cached == again.ranking.spent.calls == first.ranking.spent.calls > 0
    assert any(one.shown < one.total for one in first.ranking.exposures)
    if strategy != "full":
        values = [hit.stages["rerank"] for hit in first]
        assert values == sorted(values, reverse=True)


def test_a_smaller_context_shows_less_and_the_estimate_is_what_local_weights_then_read(
    made: Path, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    shared = ["--corpus", made / "corpus.jsonl", "--queries", made / "queries.tsv", "--model", made / "llama"]
    given = ["rerank", made / "run.trec", *shared, "--depth", 3, "--device", "cpu"]
    sizes = {}
    for context in (1020, 980):
        body = asked(*given, "--context", context, "--explain", tmp_path / "e.jsonl")
        # Less than estimated where an answer under a constraint may be longer than was planned for.
        assert 0 < body["used"]["usage"]["prompt"] <= body["estimate"]["prompt_tokens"] <= 3 * context
        assert body["estimate"]["exact_tokens"] is True
        assert body["ranker"]["context"] == context
        lines = (tmp_path / "e.jsonl").read_text().splitlines()
        sizes[context] = sum(one["tokens_shown"] for line in lines for one in json.loads(line)["candidates"])
        assert sizes[context] == body["tokens_shown"]
    assert 0 < sizes[980] < sizes[1020]
    roomy = asked(*given, "--passage-tokens", 24)
    assert roomy["used"]["usage"]["prompt"] == roomy["estimate"]["prompt_tokens"] > 0
    assert "context" in call(*given, "--context", 0, code=2).stderr


def test_a_cross_encoder_reads_every_passage_and_is_known_by_its_weights(made: Path, tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    folder = cross_encoder(tmp_path / "cross")
    shared = ["--corpus", made / "corpus.jsonl", "--queries", made / "queries.tsv", "--device", "cpu"]
    best, mean = (
        asked(
            "rerank", made / "run.trec", *shared, "--model", f"cross:{folder}{how}", "--cache", tmp_path / "kept.sqlite"
        )
        for how in ("", ":mean-top:2")
    )
    again = asked(
        "rerank", made / "run.trec", *shared, "--model", f"cross:{folder}", "--cache", tmp_path / "kept.sqlite"
    )
    assert best["tokens_shown"] == best["tokens_total"] > 0
    assert best["used"]["calls"] > best["used"]["candidates"]  # the long document has several passages
    assert (best["used"]["cached"], mean["used"]["cached"]) == (0, 0)
    assert again["used"]["cached"] == again["used"]["calls"]
    assert again["results"] == best["results"]
    assert best["ranker"]["fingerprint"] == mean["ranker"]["fingerprint"]
    assert best["ranker"] != mean["ranker"]


def cross_encoder(place: Path) -> Path:
    """A random BERT of 64 positions with one output."""
    import importlib.util

    import torch
    from tokenizers import Tokenizer, processors
    from transformers import BertConfig, BertForSequenceClassification

    models = Path(__file__).parents[1] / "encoders" / "tiny_models.py"
    spec = importlib.util.spec_from_file_location("tiny_models", models)
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    place.mkdir()
    tiny.bert(place, plain=True)
    tokenizer = Tokenizer.from_file(str(place / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(place / "tokenizer.json"))
    config = BertConfig.from_pretrained(place)
    config.num_labels = 1
    torch.manual_seed(3)
    BertForSequenceClassification(config).save_pretrained(place)
    return place


@pytest.mark.slow
def test_the_embedded_model_ranks_by_every_strategy_and_always_gives_a_permutation(made: Path) -> None:
    names = [f"d{n}" for n in range(8)]
    for strategy in ("full", "sliding:4:2", "topdown:4", "setwise:3:2", "pointwise", "likelihood", "attention"):
        shared = ["--corpus", made / "corpus.jsonl", "--queries", made / "queries.tsv", "--device", "cpu"]
        body = asked("rerank", made / "run.trec", *shared, "--model", f"embedded:{strategy}", "--passage-tokens", 32)
        for hits in body["results"].values():
            assert sorted(name for name, _ in hits) == names
        assert body["failed"] == {}
