"""Runs of a system on a set: records, tables, pages, and runs computed again."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from tests_runs import evidence_of, passkeys, place, run, system
from typer.testing import CliRunner

from unabridged.apps.cli import app
from unabridged.apps.leaderboard import Board, Entry, collect, differences, render, scores, winners
from unabridged.apps.reporting import length_by_depth, write_report
from unabridged.apps.runs import read_record
from unabridged.apps.verifying import same_ranking, verify_run
from unabridged.contracts import Document
from unabridged.corpora import Query
from unabridged.encoders.hashing import HashingEncoder
from unabridged.errors import CorpusError, ManifestMismatch, MissingFile, ValidationError
from unabridged.eval.measures import evaluate
from unabridged.eval.sets import RetrievalSet
from unabridged.eval.synth.passkey import passkey
from unabridged.eval.trec import read_run
from unabridged.retrievers.result import Mode

CHROMIUM = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def board_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("board")
    for length in (256, 512):
        whole = passkeys(length)
        for mode in (Mode.BM25, Mode.DENSE, Mode.HYBRID):
            run(out, system(mode), whole, evidence=evidence_of(length))
    return out


def test_the_record_has_the_scores_of_its_run_file(tmp_path: Path) -> None:
    record = run(tmp_path, system())
    again = evaluate(read_run(place(tmp_path).with_name("run.trec"), escaped=True), passkeys().qrels, ["nDCG@10"])
    assert record["measures"]["nDCG@10"]["value"] == pytest.approx(again.means[0], abs=1e-12)
    assert record["coverage"]["tokens_seen"] == record["coverage"]["tokens_total"] > 0


def test_a_finished_run_is_read_and_a_changed_system_is_run_again(tmp_path: Path) -> None:
    run(tmp_path, system())
    before = place(tmp_path).stat().st_mtime_ns
    run(tmp_path, system())
    assert place(tmp_path).stat().st_mtime_ns == before
    other = run(tmp_path, system(window=32, name="hashing hybrid"))
    assert place(tmp_path).stat().st_mtime_ns == before  # under the same name, and beside it
    assert (tmp_path / other["place"] / "run.json").stat().st_mtime_ns > before
    assert other["index"]["folder"] != ""
    assert len(list((tmp_path / "indexes").glob("*/manifest.json"))) == 2


def test_systems_that_differ_in_search_share_one_index(board_folder: Path) -> None:
    assert len(list((board_folder / "indexes").glob("*/manifest.json"))) == 2  # one a set, for three systems


def test_bins_by_length_and_by_depth_pool_to_the_mean(tmp_path: Path) -> None:
    record = run(tmp_path, system(Mode.DENSE), evidence=evidence_of())
    for which in ("by_length", "by_depth"):
        held = record[which]
        pooled = sum(one["queries"] * one["nDCG@10"] for one in held) / sum(one["queries"] for one in held)
        assert pooled == pytest.approx(record["measures"]["nDCG@10"]["value"])
    assert sum(one["queries"] for one in record["by_depth"]) == 12


def test_a_query_that_fails_counts_zero_and_is_named(tmp_path: Path) -> None:
    whole = passkeys()
    asked = (Query(whole.queries[0].id, "   "), *whole.queries[1:])
    broken = RetrievalSet("broken", whole.corpus, asked, whole.qrels)
    full = run(tmp_path, system(Mode.BM25), whole)
    less = run(tmp_path, system(Mode.BM25), broken)
    assert list(less["missing"]) == [whole.queries[0].id]
    assert full["measures"]["R@100"]["value"] == 1.0
    assert less["measures"]["R@100"]["value"] == pytest.approx(11 / 12)


def test_a_damaged_record_is_a_typed_error(tmp_path: Path) -> None:
    run(tmp_path, system())
    place(tmp_path).write_text("{}")
    with pytest.raises(ValidationError, match="remove it to run again"):
        read_record(place(tmp_path))


def test_ids_with_spaces_survive_in_a_run(tmp_path: Path) -> None:
    documents = [Document(f"a document {n}%20", f"word{n} and more text") for n in range(4)]
    asked = (Query("q 1", "word2"),)
    whole = RetrievalSet("spaces", documents, asked, {"q 1": {"a document 2%20": 1}})  # type: ignore[arg-type]
    assert run(tmp_path, system(Mode.BM25), whole)["measures"]["RR@10"]["value"] == 1.0
    assert verify_run(place(tmp_path, "hashing_bm25", "spaces")).holds


def test_verify_holds_for_an_honest_run(board_folder: Path) -> None:
    for path in sorted(board_folder.rglob("run.json")):
        verdict = verify_run(path, documents=8, queries=8)
        assert verdict.holds
        assert verdict.documents == verdict.queries == 8
        assert verdict.vectors >= 16


def test_verify_finds_an_edited_run_file(tmp_path: Path) -> None:
    run(tmp_path, system(Mode.DENSE))
    path = place(tmp_path, "hashing_dense")
    lines = path.with_name("run.trec").read_text().splitlines()
    for at in range(0, len(lines) - 12, 24):  # the first document of every query is exchanged for the twelfth
        first, other = lines[at].split(), lines[at + 12].split()
        first[2], other[2] = other[2], first[2]
        lines[at], lines[at + 12] = " ".join(first), " ".join(other)
    path.with_name("run.trec").write_text("\n".join(lines) + "\n")
    verdict = verify_run(path)
    assert not verdict.holds
    assert len(verdict.moved) == 12
    assert CliRunner().invoke(app, ["verify", str(path)]).exit_code == 5


def test_verify_finds_vectors_that_the_encoder_does_not_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = HashingEncoder.encode_documents

    def shifted(self: HashingEncoder, texts: list[str], **options: object) -> object:
        found = honest(self, texts, **options)  # type: ignore[arg-type]
        if found.segments is not None:
            found.segments[:, 0] += 0.5
        return found

    run(tmp_path, system(Mode.DENSE))
    monkeypatch.setattr(HashingEncoder, "encode_documents", shifted)
    verdict = verify_run(place(tmp_path, "hashing_dense"))
    assert not verdict.holds
    assert len(verdict.changed) == verdict.documents
    assert verdict.worst_distance > 1e-3


def test_verify_refuses_a_damaged_or_missing_index(tmp_path: Path) -> None:
    record = run(tmp_path, system(Mode.DENSE))
    index = tmp_path / "indexes" / record["index"]["folder"]
    victim = next(index.rglob("segments.npy"))
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    with pytest.raises(ManifestMismatch):
        verify_run(place(tmp_path, "hashing_dense"))
    shutil.rmtree(index)
    with pytest.raises(MissingFile, match="run the same evaluation again"):
        verify_run(place(tmp_path, "hashing_dense"))


def test_rankings_are_the_same_up_to_near_ties() -> None:
    list_a = {"a": 1.0, "b": 0.5, "c": 0.4999, "d": 0.1}
    assert same_ranking(list_a, dict(list_a))
    assert same_ranking(list_a, {"a": 1.0, "c": 0.5, "b": 0.4999, "d": 0.1})
    assert not same_ranking(list_a, {"b": 1.0, "a": 0.5, "c": 0.4999, "d": 0.1})
    assert not same_ranking(list_a, {"a": 1.0, "b": 0.5, "c": 0.4999})
    assert not same_ranking(list_a, {"e": 1.0, "b": 0.5, "c": 0.4999, "d": 0.1})
    assert same_ranking({}, {})


def test_tables_say_what_the_records_say(board_folder: Path) -> None:
    board = Board(collect(board_folder))
    rows = scores(board, "nDCG@10")
    assert rows[0] == ["", "passkey256", "passkey512", "mean"]
    by_hand = {
        (entry.system, entry.set): float(np.mean(list(entry.values.values()))) for entry in collect(board_folder)
    }
    for name, first, second, mean in rows[1:]:
        want = [by_hand[name, "passkey256"], by_hand[name, "passkey512"]]
        shown = [float(cell.split()[0].strip("*")) for cell in (first, second, mean)]
        assert shown == pytest.approx([100 * want[0], 100 * want[1], 50 * sum(want)], abs=0.051)
    best = max(by_hand[name, "passkey512"] for name in board.systems)
    assert all(row[2].startswith("**") == (by_hand[row[0], "passkey512"] > best - 5e-4) for row in rows[1:])


def made_up(name: str, set_: str, values: list[float]) -> Entry:
    what = {"name": name, "encoder": {"fingerprint": "f", "window": 64}, "pipeline": {}}
    record = {"system": what, "set": {"name": set_, "revision": "r"}, "primary": "nDCG@10"}
    return Entry(Path(name), record, {str(at): value for at, value in enumerate(values)})


def test_differences_are_marked_only_where_the_test_tells_them_apart() -> None:
    entries = [
        made_up("base", "one", [0.0] * 10),
        made_up("better", "one", [0.5] * 10),  # exact p = 2 / 1024, times 2 by Holm
        made_up("noise", "one", [0.5, -0.5] * 5),  # p = 1
    ]
    rows = differences(Board(entries), "base")
    assert rows == [["", "one"], ["better", "+50.0*"], ["noise", "+0.0"]]
    few = [made_up("base", "one", [0.0] * 5), made_up("better", "one", [0.5] * 5)]  # p = 2 / 32
    assert differences(Board(few), "base")[1] == ["better", "+50.0"]


def test_the_page_names_its_command_and_says_what_wins(board_folder: Path) -> None:
    page = render(Board(collect(board_folder)), "hashing bm25", "a command")
    assert "a command" in page
    assert "## What it costs" in page
    assert len(winners(Board(collect(board_folder)))) == 2
    assert "What wins:\n\n- **" in page


def test_the_page_says_what_empty_cells_and_rates_mean_and_a_lone_system_wins_nothing(tmp_path: Path) -> None:
    run(tmp_path, system(Mode.BM25))
    page = render(Board(collect(tmp_path)), None, "a command")
    assert "What wins" not in page
    assert page.index("An empty cell was not measured.") < page.index("## nDCG@10")
    below = page.partition("## What it costs")[2].partition("## Versions")[0]
    assert "those of the index that it shares with an encoder" in below
    assert "between rows that were made at other times they cannot be compared" in below
    assert below.rstrip().endswith("An empty cell was not measured.")


def test_runs_on_another_content_of_a_set_are_not_compared(tmp_path: Path) -> None:
    run(tmp_path, system(Mode.BM25))
    smaller = passkeys(documents=20)
    run(tmp_path, system(Mode.DENSE), RetrievalSet("passkey512", smaller.corpus, smaller.queries, smaller.qrels))
    with pytest.raises(CorpusError, match="different contents"):
        Board(collect(tmp_path))


def test_the_map_of_length_and_depth_has_the_means_of_its_cells(board_folder: Path) -> None:
    entries = [entry for entry in collect(board_folder) if entry.system == "hashing dense"]
    grid = length_by_depth(entries)
    cells = [value for row in grid.values() for value in row if value is not None]
    assert all(0 <= value <= 1 for value in cells)
    assert all(len(row) == 10 for row in grid.values())


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser (Debian: chromium)")
def test_a_browser_shows_the_report(board_folder: Path, tmp_path: Path) -> None:
    path = write_report(Board(collect(board_folder)), board_folder, "hashing bm25")
    page = path.read_text(encoding="utf-8")
    assert "http://" not in page
    assert "https://" not in page
    probe = (
        "<script>onload=()=>{document.title=document.images[0].naturalWidth+' '+document.images[0].naturalHeight+' '"
    )
    probe += "+document.querySelectorAll('table').length+' '+document.querySelectorAll('td').length}</script></body>"
    probed = tmp_path / "probed.html"
    probed.write_text(page.replace("</body>", probe), encoding="utf-8")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    shown = subprocess.run(
        [*command, "--virtual-time-budget=5000", "--dump-dom", probed.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    title = shown.split("<title>")[1].split("</title>")[0]
    width, height, tables, cells = map(int, title.split())
    assert width > 800
    assert height > 800
    assert tables >= 5
    assert cells > 50
    assert "hashing dense" in shown
    assert "passkey512" in shown


def test_the_command_runs_prints_and_continues(tmp_path: Path) -> None:
    made = passkey(256, 0, documents=12, queries=6)
    folder = tmp_path / "keys"
    (folder / "qrels").mkdir(parents=True)
    documents = [json.dumps({"_id": one.id, "text": one.text}) for one in made.documents]
    (folder / "corpus.jsonl").write_text("\n".join(documents) + "\n")
    (folder / "queries.jsonl").write_text("\n".join(json.dumps({"_id": q, "text": t}) for q, t in made.queries) + "\n")
    judged = [f"{q}\t{made.documents[row].id}\t1" for (q, _), row in zip(made.queries, made.relevant, strict=True)]
    (folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]) + "\n")
    line = ["eval", "beir", str(folder), "--out", str(tmp_path / "out"), "--encoder", "hashing", "--quiet"]
    first = CliRunner().invoke(app, [*line, "--output", "json"])
    assert first.exit_code == 0, first.output
    record = json.loads(first.output)["runs"][0]
    assert record["set"]["queries"] == 6
    assert record["system"]["name"] == "hashing-hybrid"
    text = CliRunner().invoke(app, line)
    assert "95 %" in text.output
    assert "tokens/s" in text.output
    assert "0 of 12 documents not read to the end" in text.output
    way = ["--cut", "syntax", "--language", "python", "--no-comments"]
    code = CliRunner().invoke(app, [*line, *way, "--output", "json"])
    assert code.exit_code == 0, code.output
    name = "hashing-hybrid-split=syntax-language=python-comments=False"
    assert json.loads(code.output)["runs"][0]["system"]["name"] == name
    other = CliRunner().invoke(app, [*line, "--cut", "lines", "--language", "python"])
    assert other.exit_code == 2
    assert "needs split='syntax'" in other.output
    refused = CliRunner().invoke(app, [*line, "-m", "nDGC@10"])
    assert refused.exit_code == 2
    assert "nDCG" in refused.output
    for command in (["eval", "leaderboard"], ["eval", "report"]):
        assert CliRunner().invoke(app, [*command, str(tmp_path / "out")]).exit_code == 0
        assert CliRunner().invoke(app, [*command, str(tmp_path / "nothing")]).exit_code == 3
