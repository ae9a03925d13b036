"""``unabridged rerank``: runs in and out, whatever the model behind it does."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path

import pytest
from tests_reranking import ids_of, module, reversing, write_set
from typer.testing import CliRunner

from unabridged.apps.cli import app
from unabridged.apps.rankers import OpenRanker
from unabridged.apps.rerank_files import read_lists
from unabridged.apps.reranking import IN_A_ROW, Listed, Reranking
from unabridged.contracts import Document
from unabridged.errors import CorpusError, DuplicateId, MissingFile
from unabridged.eval.trec import read_run
from unabridged.rankers.contracts import Ranking, Spent, Status, Step
from unabridged.rankers.lm.contracts import Usage

SERVER = module("scripted_server")


def call(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, ["rerank", *(str(one) for one in arguments)])
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr, result.exception)
    return result


def asked(folder: Path, url: str, *more: object, code: int = 0, strategy: str = "full") -> dict:
    texts = ["--corpus", folder / "corpus.jsonl", "--queries", folder / "queries.tsv"]
    model = ["--model", f"openai:m@{url}:{strategy}", "--attempts", 1, "--concurrency", 1]
    return json.loads(call(folder / "run.trec", *texts, *model, "--output", "json", *more, code=code).stdout)


def test_the_first_documents_are_ranked_and_the_others_stay_behind_them(tmp_path: Path) -> None:
    write_set(tmp_path)
    with SERVER.serving(reversing) as server:
        body = asked(tmp_path, server.url, "--depth", 4, "--out", tmp_path / "new.trec")
    run = read_run(tmp_path / "new.trec")
    assert list(run) == ["q0", "q1", "q2", "q3"]
    for scores in run.values():
        assert list(scores) == ["d3", "d2", "d1", "d0", "d4", "d5"]
        values = list(scores.values())
        assert all(one > other for one, other in pairwise(values))
    assert body["used"]["calls"] == body["estimate"]["calls"] == len(server.requests) == 4
    assert body["used"]["usage"]["prompt"] == 40
    assert body["used"]["statuses"] == {"ok": 4}
    assert body["failed"] == {}


def test_the_same_line_asks_for_nothing_that_was_answered(tmp_path: Path) -> None:
    write_set(tmp_path)
    with SERVER.serving(reversing) as server:
        first = asked(tmp_path, server.url, "--out", tmp_path / "new.trec")
        sent = len(server.requests)
        before = (tmp_path / "new.trec").read_bytes()
        again = asked(tmp_path, server.url, "--out", tmp_path / "new.trec")
        assert len(server.requests) == sent
        assert (tmp_path / "new.trec").read_bytes() == before
        assert again["used"]["cached"] == first["used"]["calls"] == sent
        assert again["used"]["sent"]["calls"] == 0
        keys = {
            "method": "singleturn_listwise",
            "prefix": "{query}\n",
            "body": "[{rank}] {candidate}\n",
            "suffix": "Order.",
        }
        (tmp_path / "own.json").write_text(json.dumps(keys))
        asked(tmp_path, server.url, "--out", tmp_path / "new.trec", "--template", tmp_path / "own.json")
        assert len(server.requests) == 2 * sent


def test_a_server_that_dies_in_the_middle_leaves_the_rest_ranked_and_the_others_as_they_were(tmp_path: Path) -> None:
    write_set(tmp_path, queries=6)
    gone = SERVER.error(503, "gone")
    with SERVER.serving(reversing, reversing, gone) as server:
        body = asked(tmp_path, server.url, "--out", tmp_path / "a.trec", "--explain", tmp_path / "a.jsonl", code=7)
    assert set(body["failed"]) == {"q2", "q3", "q4", "q5"}
    assert all("503" in reason for reason in body["failed"].values())
    run = read_run(tmp_path / "a.trec")
    reversed_, kept = [f"d{n}" for n in reversed(range(6))], [f"d{n}" for n in range(6)]
    assert [list(run[f"q{n}"]) for n in range(6)] == [reversed_] * 2 + [kept] * 4
    told = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [one["status"] for one in told] == ["ok"] * 2 + ["failed"] * 4
    assert all(one["failure"] for one in told[2:])
    with SERVER.serving(reversing) as server:  # another server: an answer is kept under the address that gave it
        asked(tmp_path, server.url, "--out", tmp_path / "a.trec")
        assert len(server.requests) == 6


def test_what_a_dying_server_did_not_answer_is_all_that_the_next_run_asks_for(tmp_path: Path) -> None:
    write_set(tmp_path, queries=5)
    replies = [reversing, reversing, SERVER.error(500), SERVER.error(500), SERVER.error(500), reversing]
    with SERVER.serving(*replies) as server:
        asked(tmp_path, server.url, "--out", tmp_path / "a.trec", code=7)
        assert len(server.requests) == 5
        body = asked(tmp_path, server.url, "--out", tmp_path / "a.trec")
        assert len(server.requests) == 8
    assert body["used"]["cached"] == 2
    assert body["used"]["calls"] == 5
    assert {tuple(hits) for hits in read_run(tmp_path / "a.trec").values()} == {("d5", "d4", "d3", "d2", "d1", "d0")}


def test_too_many_requests_are_waited_for_and_asked_again(tmp_path: Path) -> None:
    write_set(tmp_path, queries=2)
    busy = SERVER.error(429, "slow down", headers={"Retry-After": "0.01"})
    with SERVER.serving(busy, reversing) as server:
        body = asked(tmp_path, server.url, "--attempts", 2)
        assert len(server.requests) == 3
    assert body["used"]["sent"] == {"calls": 2, "attempts": 3, "prompt_tokens": 20, "completion_tokens": 4}
    with SERVER.serving(reversing, busy) as server:
        body = asked(tmp_path, server.url, code=7)
        assert len(server.requests) == 2  # attempts are bounded
    assert set(body["failed"]) == {"q1"}


def test_a_key_that_is_refused_ends_the_run_with_nothing_written(tmp_path: Path) -> None:
    write_set(tmp_path)
    with SERVER.serving(SERVER.error(401, "bad key")) as server:
        body = asked(tmp_path, server.url, "--out", tmp_path / "a.trec", code=6)
        assert len(server.requests) < 4
    assert body["error"]["type"] == "AuthFailed"
    assert not (tmp_path / "a.trec").exists()


def test_one_prompt_that_is_refused_costs_its_own_query_only(tmp_path: Path) -> None:
    write_set(tmp_path)

    def picky(body: dict) -> dict:
        return SERVER.error(400, "no such words") if "question 2" in json.dumps(body) else reversing(body)

    with SERVER.serving(picky) as server:
        body = asked(tmp_path, server.url, code=7)
    assert set(body["failed"]) == {"q2"}
    assert [hit[0] for hit in body["results"]["q3"]] == ["d5", "d4", "d3", "d2", "d1", "d0"]
    assert [hit[0] for hit in body["results"]["q2"]] == ["d0", "d1", "d2", "d3", "d4", "d5"]


@pytest.mark.parametrize("reply", [SERVER.error(400, "no"), SERVER.error(500, "no"), SERVER.answer("I will not.")])
def test_a_run_of_which_nothing_could_be_ranked_is_an_error_and_no_run(tmp_path: Path, reply: dict) -> None:
    write_set(tmp_path)
    with SERVER.serving(reply) as server:
        asked(tmp_path, server.url, "--out", tmp_path / "a.trec", code=6)
    assert not (tmp_path / "a.trec").exists()


def test_limits_stop_the_asking_and_what_was_ranked_stays(tmp_path: Path) -> None:
    write_set(tmp_path)
    with SERVER.serving(reversing) as server:
        body = asked(tmp_path, server.url, "--max-calls", 2, "--price", "1000000,0", code=7)
        assert len(server.requests) == 2
    assert set(body["failed"]) == {"q2", "q3"}
    assert "max_calls" in body["failed"]["q3"]
    assert body["used"]["cost"] == 20


def test_documents_and_queries_that_nobody_knows_keep_their_places_and_are_listed(tmp_path: Path) -> None:
    write_set(tmp_path)
    lines = (tmp_path / "corpus.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "corpus.jsonl").write_text("".join(lines[:1] + lines[2:]))  # without d1
    (tmp_path / "queries.tsv").write_text("q0\tworth\nq1\tworth\nq9\tnever asked\n")
    with SERVER.serving(reversing) as server:
        body = asked(tmp_path, server.url, code=7)
        assert len(server.requests) == 2
    assert [hit[0] for hit in body["results"]["q0"]] == ["d5", "d1", "d4", "d3", "d2", "d0"]
    assert [hit[0] for hit in body["results"]["q2"]] == ["d0", "d1", "d2", "d3", "d4", "d5"]
    assert set(body["failed"]) == {"q2", "q3"}
    assert body["unknown_documents"] == {"q0": ["d1"], "q1": ["d1"]}
    assert body["queries_without_list"] == ["q9"]


@pytest.mark.parametrize("strategy", ["full", "sliding:3:1", "tournament:1:4", "setwise:2:3"])
def test_the_estimate_is_what_the_run_then_takes(tmp_path: Path, strategy: str) -> None:
    write_set(tmp_path, queries=2)

    def keeping(body: dict) -> dict:
        count = len(ids_of(body))
        return SERVER.answer(" > ".join(f"[{n + 1}]" for n in range(count)) if count else "A")

    with SERVER.serving(keeping) as server:
        planned = asked(tmp_path, server.url, "--dry-run", strategy=strategy)["estimate"]
        assert not server.requests
        assert planned["calls"] >= 2
        assert planned["exact_tokens"] is False
        body = asked(tmp_path, server.url, strategy=strategy)
        assert body["used"]["calls"] == len(server.requests) == planned["calls"] == body["estimate"]["calls"]


def test_json_lines_go_in_and_out_with_the_questions_inside_and_ids_of_any_kind(tmp_path: Path) -> None:
    write_set(tmp_path)
    rows = [{"_id": name, "text": f"text of {name}"} for name in ("a b", "c\td", "%20")]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    hits = [{"docid": row["_id"], "score": 1.0 - n} for n, row in enumerate(rows)]
    run = tmp_path / "run.jsonl"
    run.write_text(json.dumps({"query": {"qid": 7, "text": "who?"}, "candidates": hits[::-1]}) + "\n\n")
    out = tmp_path / "new.jsonl"
    with SERVER.serving(reversing) as server:
        given = [run, "--corpus", tmp_path / "corpus.jsonl", "--model", f"openai:m@{server.url}", "--concurrency", 1]
        call(*given, "--out", out)
        assert "who?" in json.dumps(server.requests[0])
        refused = call(*given, "--out", tmp_path / "new.trec", code=2)
        assert "jsonl" in refused.stderr
        assert len(server.requests) == 1
    [line] = [json.loads(text) for text in out.read_text().splitlines()]
    assert line["query"] == {"qid": "7", "text": "who?"}
    assert [(one["docid"], one["first_rank"]) for one in line["candidates"]] == [("%20", 3), ("c\td", 2), ("a b", 1)]
    assert read_lists(out)[0].hits[0][0] == "%20"


def test_of_long_documents_the_record_says_what_was_shown(tmp_path: Path) -> None:
    write_set(tmp_path, queries=1, long=(1, 4))
    with SERVER.serving(reversing) as server:
        body = asked(tmp_path, server.url, "--context", 900, "--explain", tmp_path / "e.jsonl")
        prompt = server.requests[0]["messages"][-1]["content"]
    [told] = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
    texts = {}
    for line in (tmp_path / "corpus.jsonl").read_text().splitlines():
        row = json.loads(line)
        texts[row["_id"]] = f"{row['title']} {row['text']}"
    assert {one["doc_id"] for one in told["candidates"] if one["tokens_shown"] < one["tokens_total"]} == {"d1", "d4"}
    for one in told["candidates"]:
        for start, end in one["spans"]:
            assert texts[one["doc_id"]][start:end] in prompt
        assert one["rank"] == 7 - one["first_rank"]
    assert body["shown_in_part"] == 2
    assert body["tokens_shown"] == sum(one["tokens_shown"] for one in told["candidates"]) < body["tokens_total"]


def test_an_index_gives_the_texts_and_the_segments_that_it_ranks_first(tmp_path: Path) -> None:
    write_set(tmp_path, queries=1, long=(0, 1))
    rows = [json.loads(line) for line in (tmp_path / "corpus.jsonl").read_text().splitlines()]
    rows[1]["text"] = "the an " * 200 + "zebra crossing " + "12 100 " * 200
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "queries.tsv").write_text("q0\tzebra\n")
    built = ["index", tmp_path / "corpus.jsonl", "--out", tmp_path / "ix", "--encoder", "hashing", "--quiet"]
    assert CliRunner().invoke(app, [str(one) for one in [*built, "--max-tokens", 32]]).exit_code == 0
    with SERVER.serving(reversing) as server:
        shared = ["--model", f"openai:m@{server.url}", "--concurrency", 1, "--context", 700, "--output", "json"]
        given = [tmp_path / "run.trec", "--queries", tmp_path / "queries.tsv", "--index", tmp_path / "ix", *shared]
        call(*given, "--explain", tmp_path / "e.jsonl")
        assert "zebra crossing" in server.requests[0]["messages"][-1]["content"]
        call(*given, "--corpus", tmp_path / "corpus.jsonl")
        rows[1]["text"] += " changed"
        (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        refused = call(*given, "--corpus", tmp_path / "corpus.jsonl", code=5)
        assert "d1" in refused.stdout


@pytest.mark.parametrize(
    ("file", "text", "code"),
    [
        ("run.trec", "q0 Q0 d0 1\n", 5), ("run.trec", "", 5), ("run.trec", "q0 Q0 d0 1 1 t\nq0 Q0 d0 2 0 t\n", 5),
        ("run.trec", "x0 Q0 d0 1 1 t\n", 5), ("run.trec", "q0 Q0 unknown 1 1 t\n", 5), ("queries.tsv", "", 5),
        ("corpus.jsonl", '{"_id": "d0", "text": "a"}\n{"_id": "d0", "text": "b"}\n', 5),
    ],
    ids=["columns", "empty", "twice", "no query known", "no document known", "no queries", "two documents, one id"],
)  # fmt: skip
def test_files_that_do_not_fit_end_with_the_code_of_their_kind_and_no_call(
    tmp_path: Path, file: str, text: str, code: int
) -> None:
    write_set(tmp_path)
    (tmp_path / file).write_text(text)
    with SERVER.serving(reversing) as server:
        body = asked(tmp_path, server.url, "--out", tmp_path / "new.trec", code=code)
        assert not server.requests
    assert body["error"]["message"]
    assert not (tmp_path / "new.trec").exists()


def test_options_that_do_not_fit_are_usage_errors(tmp_path: Path) -> None:
    write_set(tmp_path)
    run, corpus = tmp_path / "run.trec", ["--corpus", tmp_path / "corpus.jsonl"]
    queries, model = ["--queries", tmp_path / "queries.tsv"], ["--model", "openai:m@http://127.0.0.1:9/v1"]
    assert "--corpus" in call(run, *queries, *model, code=2).stderr
    assert "--queries" in call(run, *corpus, *model, code=2).stderr
    assert "sliding" in call(run, *corpus, *queries, "--model", "embedded:best", code=2).stderr
    assert "depth" in call(run, *corpus, *queries, *model, "--depth", 0, code=2).stderr
    assert "price" in call(run, *corpus, *queries, *model, "--max-cost", 1, code=2).stderr
    assert "folder" in call(run, *corpus, *queries, *model, "--out", tmp_path, code=2).stderr
    assert "no.trec" in call(tmp_path / "no.trec", *corpus, *queries, *model, code=3).stderr
    assert "no/model" in call(run, *corpus, *queries, "--model", "no/model", code=3).stderr


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("not json", CorpusError), ("[]", CorpusError), ('{"query": {"text": "x"}, "candidates": []}', CorpusError),
        ('{"query": {"qid": "1"}, "candidates": [{"docid": "a"}]}', CorpusError),
        ('{"query": {"qid": "1"}, "candidates": [{"docid": "a", "score": NaN}]}', CorpusError),
        ('{"query": {"qid": "1"}, "candidates": [{"id": "a", "score": 1}, {"id": "a", "score": 0}]}', DuplicateId),
        ('{"query": {"qid": "1"}, "candidates": []}\n{"query": {"qid": 1}, "candidates": []}', DuplicateId),
        ("\n\n", CorpusError),
    ],
)  # fmt: skip
def test_json_lines_that_are_no_run_are_refused(tmp_path: Path, line: str, error: type[Exception]) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(line)
    with pytest.raises(error):
        read_lists(path)
    with pytest.raises(MissingFile):
        read_lists(tmp_path / "none.jsonl")


class Texts:
    """Every document but those whose name begins with x."""

    def text(self, doc_id: str) -> str | None:
        return None if doc_id.startswith("x") else f"text of {doc_id}"

    def segments(self, query: str, doc_ids: list[str]) -> dict[str, tuple[tuple[int, int], ...]]:
        return {}


class Drawn:
    """A ranker that gives any permutation, and sometimes none."""

    label = "drawn"

    def __init__(self, seed: int, failing: float = 0.0) -> None:
        self.rng, self.failing, self.asked = random.Random(seed), failing, 0

    def rank(self, requests: list, *, cancel: object = None) -> list[Ranking]:
        found = []
        for request in requests:
            self.asked += 1
            places = range(len(request.candidates))
            if self.rng.random() < self.failing:
                step = Step(1, tuple(places), "stopped", "drawn to fail")
                found.append(Ranking(tuple(places), Status.FAILED, steps=(step,), spent=Spent(calls=1, failed=1)))
            else:
                order = tuple(self.rng.sample(places, len(places)))
                found.append(Ranking(order, Status.OK, spent=Spent(calls=1, usage=Usage(prompt=1, completion=0))))
        return found


def opened(ranker: Drawn, at_once: int = 3) -> OpenRanker:
    return OpenRanker(ranker, "drawn", {"strategy": "drawn"}, at_once)


@pytest.mark.parametrize("seed", range(40))
def test_a_list_keeps_all_its_documents_and_moves_those_alone_that_were_ranked(seed: int) -> None:
    rng = random.Random(seed)
    names = [rng.choice(["d", "x"]) + str(n) for n in range(rng.choice([0, 1, 2, 7, 30]))]
    depth = rng.choice([1, 5, 100])
    lists = [
        Listed(f"q{n}", rng.choice(["words", None]), tuple((name, -float(at)) for at, name in enumerate(names)))
        for n in range(7)
    ]
    found = list(Reranking(opened(Drawn(seed, 0.3)), Texts(), depth).run(lists))
    assert [one.listed for one in found] == lists
    for one in found:
        assert sorted(one.order) == sorted(names)
        moved = [at for at, (old, new) in enumerate(zip(names, one.order, strict=True)) if old != new]
        assert all(at < depth and names[at].startswith("d") for at in moved)
        if one.failure:
            assert list(one.order) == names
        if one.listed.query is not None and names:
            assert set(one.ranked) | set(one.unknown) == set(names[:depth])


def test_queries_in_a_row_without_any_answer_end_the_asking() -> None:
    ranker = Drawn(0, failing=1.0)
    lists = [Listed(f"q{n}", "words", (("d1", 1.0), ("d2", 0.0))) for n in range(100)]
    found = list(Reranking(opened(ranker, 1), Texts(), 10).run(lists))
    assert ranker.asked == IN_A_ROW
    assert len(found) == 100
    assert all(one.failure and one.order == ("d1", "d2") for one in found)
    assert "not asked" in found[-1].failure


def test_a_document_is_kept_once_and_read_back_as_it_was() -> None:
    from unabridged.apps.candidates import StoredTexts

    texts = {"a": "plain", "b": "naïve 🦓 \ud800 end", "c": ""}
    corpus = [Document(name, text) for name, text in texts.items()]
    stored = StoredTexts(corpus, {"a", "b", "c", "nowhere"})
    assert {name: stored.text(name) for name in ("c", "b", "a", "b")} == texts
    assert stored.text("nowhere") is None
    assert StoredTexts(corpus, {"a"}).text("b") is None
