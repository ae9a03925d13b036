"""LongEmbed's own task classes on folders of ours: made, converted, refused, and run from the command line."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path

import pytest
from tests_mteb import QUIET, evaluated, measures, split_data, task_class
from typer.testing import CliRunner

from unabridged.apps.benchmarking import NAMES
from unabridged.apps.cli import app
from unabridged.apps.integrations import longembed_folder as layout
from unabridged.apps.integrations.mteb_encoder import MtebEncoder
from unabridged.apps.integrations.mteb_hub import hub
from unabridged.apps.integrations.mteb_records import Records, Split
from unabridged.apps.integrations.mteb_run import _drop_torn, interval
from unabridged.apps.integrations.mteb_search import MtebSearch
from unabridged.apps.integrations.mteb_tasks import longembed_tasks, named_tasks, per_query_name
from unabridged.apps.pipeline import Pipeline
from unabridged.contracts import OverflowPolicy
from unabridged.encoders._resolve import resolve
from unabridged.encoders.hashing import HashingEncoder
from unabridged.encoders.load import load_encoder
from unabridged.errors import CorpusError, MissingFile, UsageError, ValidationError
from unabridged.eval.synth.needle import needle
from unabridged.eval.synth.passkey import passkey
from unabridged.retrievers.result import Mode

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mteb") is None, reason="needs mteb")
LENGTHS = (256, 512)
REAL = [key for key in layout.KEYS.values() if key not in layout.SYNTHETIC]


def raw_rows(folder: Path, documents: int = 3, **changes: list[dict]) -> Path:
    """A stand-in for the published rows of a real task: each document has words of its own."""
    folder.mkdir(parents=True)
    rows = {
        "corpus": [{"doc_id": f"d {n}", "text": f"topic{n} prose about topic{n}. " * 30} for n in range(documents)],
        "queries": [{"qid": f"q {n}", "text": f"topic{n}?"} for n in range(documents)],
        "qrels": [{"qid": f"q {n}", "doc_id": f"d {n}"} for n in range(documents)],
    } | changes
    for part, lines in rows.items():
        (folder / f"{part}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """The six data sets, small: the synthetic two generated, the real four as raw rows."""
    folder = tmp_path_factory.mktemp("data")
    layout.generate(folder, LENGTHS, documents=20, queries=10)
    for key in REAL:
        raw_rows(folder / key)
    return folder


@pytest.fixture
def mteb(tmp_path):
    with hub(tmp_path / "hub", local=True) as library:
        yield library


def call(*arguments: object, code: int = 0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr, result.exception)
    return result


def test_the_real_classes_load_from_a_folder_what_the_generators_made(data, tmp_path, mteb):
    tasks = longembed_tasks(data, tmp_path / "work", Records(), names=["passkey", "needle"])
    for task, make in zip(tasks, (passkey, needle), strict=True):
        assert type(task).__mro__[1].__module__.startswith("mteb.tasks.")
        assert list(task.eval_splits) == ["test_256", "test_512"]
        task.load_data()
        task.convert_v1_dataset_format_to_v2(num_proc=None)
        for length in LENGTHS:
            own, made = task.dataset["default"][f"test_{length}"], make(length, documents=20, queries=10)
            assert dict(zip(own["corpus"]["id"], own["corpus"]["text"], strict=True)) == {
                document.id: document.text for document in made.documents
            }
            assert dict(zip(own["queries"]["id"], own["queries"]["text"], strict=True)) == dict(made.queries)
            assert own["relevant_docs"] == made.qrels


def test_a_task_on_a_folder_is_still_on_it_after_its_data_was_unloaded(data, tmp_path, mteb):
    (task,) = longembed_tasks(data, tmp_path / "work", Records(), names=["qmsum"])
    for _ in range(2):
        task.load_data()
        task.unload_data()
        assert Path(task.metadata.dataset["path"]).is_dir()


def test_other_data_at_the_same_path_has_another_revision_and_is_what_gets_loaded(tmp_path):
    found = []
    for number in range(2):
        folder = tmp_path / "data"
        raw_rows(folder / "qmsum", queries=[{"qid": f"q {n}", "text": f"version {number}"} for n in range(3)])
        with hub(tmp_path / "hub", local=True):
            (task,) = longembed_tasks(folder, tmp_path / "work", Records(), names=["qmsum"])
            task.load_data()
            found.append((task.metadata.revision, set(task.queries["test"].values())))
        for file in (folder / "qmsum").iterdir():
            file.unlink()
        (folder / "qmsum").rmdir()
    assert found[0][0] != found[1][0]
    assert [texts for _, texts in found] == [{"version 0"}, {"version 1"}]


def test_lengths_choose_splits_and_lengths_that_are_not_there_are_refused(data, tmp_path, mteb):
    for task in longembed_tasks(data, tmp_path / "work", Records(), names=["passkey", "needle"], lengths=[512]):
        assert list(task.eval_splits) == ["test_512"]
    with pytest.raises(UsageError, match=r"256, 512.*4096"):
        longembed_tasks(data, tmp_path / "work", Records(), names=["needle"], lengths=[512, 4096])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["encoder", "pipeline"])
def test_the_six_classes_run_offline_with_encoder_and_pipeline(data, tmp_path, mteb, kind):
    records = Records()
    encoder = HashingEncoder(dim=1024, window=64)
    model = MtebEncoder(encoder, records=records)
    if kind == "pipeline":
        model = MtebSearch(encoder, tmp_path / "indexes", Pipeline(mode=Mode.HYBRID), records=records)
    tasks = longembed_tasks(data, tmp_path / "work", records)
    assert [task.metadata.name for task in tasks] == list(layout.KEYS)
    for task in tasks:
        for _ in range(2):  # the second time the data is loaded again
            found = mteb.evaluate(model, task, cache=None, encode_kwargs=dict(QUIET), show_progress_bar=False)
            (result,) = found.task_results
            assert set(result.scores) == set(task.eval_splits)
            for split, (scores,) in result.scores.items():
                each = records.of(Split(task.metadata.name, split))["per_query"]
                assert scores["main_score"] == pytest.approx(sum(each.values()) / len(each), abs=1e-5)
                assert scores["main_score"] > (0.5 if task.metadata.name.startswith(("LEMBP", "LEMBNe")) else 0.99)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The fill_missing parameter:DeprecationWarning")  # mteb's own calls
@pytest.mark.filterwarnings("ignore:The `get_sentence_embedding_dimension` method:FutureWarning")
def test_the_six_classes_give_the_scores_of_sentence_transformers_when_splitting_is_off(data, tmp_path, mteb):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    encoder = load_encoder()
    models = {
        "reference": sentence_transformers.SentenceTransformer(str(resolve(None).path), device="cpu"),
        "vector": MtebEncoder(encoder, overflow=OverflowPolicy.TRUNCATE),
        "pipeline": MtebSearch(
            encoder,
            tmp_path / "indexes",
            Pipeline(mode=Mode.DENSE, building={"level": "doc", "overflow": "truncate"}),
        ),
    }
    found = {}
    for name, model in models.items():
        for task in longembed_tasks(data, tmp_path / "work", Records(), lengths=[256]):
            for split, scores in evaluated(model, task).items():
                found.setdefault((task.metadata.name, split), {})[name] = measures(scores)
    assert len(found) == 6
    for own in found.values():
        assert own["vector"] == pytest.approx(own["reference"], abs=1e-4)
        assert own["pipeline"] == pytest.approx(own["reference"], abs=1e-4)
    assert min(own["reference"]["ndcg_at_1"] for own in found.values()) < 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"queries": [{"qid": "a"}]}, r"queries.jsonl:1 .*qid, text"),
        ({"corpus": [{"doc_id": "a", "text": 3}]}, r"corpus.jsonl:1 .*no string"),
        ({"corpus": [{"doc_id": "a", "text": "x"}] * 2}, r"'a' twice"),
        ({"qrels": [{"qid": "q 0", "doc_id": "elsewhere"}]}, r"elsewhere.*corpus has no such id"),
        ({"qrels": [{"qid": "elsewhere", "doc_id": "d 0"}]}, r"elsewhere.*queries has no such id"),
        ({"queries": []}, r"no row"),
        ({"corpus": [["a"]]}, r"corpus.jsonl:1"),
    ],
)
def test_rows_that_are_none_are_refused_and_leave_no_folder(tmp_path, changes, message):
    raw = raw_rows(tmp_path / "raw", **changes)
    with pytest.raises(CorpusError, match=message):
        layout.convert(raw, tmp_path / "made", "qmsum")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_published_rows_of_a_synthetic_task_are_divided_by_their_length(tmp_path, mteb):
    rows = layout.synthetic_rows([passkey(length, 3, documents=4, queries=2) for length in LENGTHS])
    raw = raw_rows(tmp_path / "raw", corpus=rows.corpus, queries=rows.queries, qrels=rows.qrels)
    layout.convert(raw, tmp_path / "data/passkey", "passkey")
    (task,) = longembed_tasks(tmp_path / "data", tmp_path / "work", Records(), names=["LEMBPasskeyRetrieval"])
    task.load_data()
    assert {split: len(own["corpus"]) for split, own in task.dataset["default"].items()} == {
        "test_256": 4,
        "test_512": 4,
    }
    assert layout.origin_of(tmp_path / "data/passkey") == "converted"


def test_a_length_that_longembed_does_not_have_is_refused(tmp_path):
    rows = layout.synthetic_rows([passkey(256, documents=4, queries=2)])
    bad = [{**row, "context_length": 300} for row in rows.corpus]
    raw = raw_rows(tmp_path / "raw", corpus=bad, queries=rows.queries, qrels=rows.qrels)
    with pytest.raises(CorpusError, match="300"):
        layout.convert(raw, tmp_path / "made", "passkey")
    with pytest.raises(UsageError, match="300"):
        layout.generate(tmp_path / "generated", [256, 300])


def test_the_data_is_a_pure_function_of_its_parameters_and_every_byte_is_in_its_revision(tmp_path):
    hashes = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        layout.generate(tmp_path / name, [256], seed, documents=4, queries=2)
        hashes.append(layout.content_hash(tmp_path / name / "needle"))
    assert hashes[0] == hashes[1] != hashes[2]
    with (tmp_path / "b/needle/qrels.jsonl").open("a") as file:
        file.write("\n")
    assert layout.content_hash(tmp_path / "b/needle") != hashes[0]
    with pytest.raises(UsageError, match="exists already"):
        layout.generate(tmp_path / "a", [256], documents=4, queries=2)


def test_data_that_is_not_there_is_named_with_what_to_put_where(tmp_path, mteb):
    with pytest.raises(MissingFile, match=r"narrativeqa.*corpus.jsonl.*dwzhu/LongEmbed.*--network"):
        longembed_tasks(tmp_path, tmp_path / "work", Records(), names=["narrativeqa"])
    with pytest.raises(MissingFile, match="longembed-data"):
        longembed_tasks(tmp_path, tmp_path / "work", Records(), names=["needle"])
    for task in [*longembed_tasks(None, tmp_path, Records(), names=["needle"]), *named_tasks(["NFCorpus"], Records())]:
        with pytest.raises(MissingFile, match=rf"{task.metadata.dataset['path']}.*--network"):
            task.load_data()


def test_unknown_names_are_refused_with_the_nearest(mteb, tmp_path):
    with pytest.raises(UsageError, match="NFCorpus"):
        named_tasks(["NFCorpsu"], Records())
    with pytest.raises(UsageError, match=r"'NoSuchTaskX'; .*such as NFCorpus or LongEmbed"):
        named_tasks(["NoSuchTaskX"], Records())
    with pytest.raises(UsageError, match="passkey"):
        longembed_tasks(tmp_path, tmp_path, Records(), names=["passkeys"])


def test_a_benchmark_is_its_tasks_each_of_them_once(mteb):
    names = [task.metadata.name for task in named_tasks(["LongEmbed", "LEMBNeedleRetrieval"], Records())]
    assert sorted(names) == sorted(layout.KEYS)


def test_a_task_of_a_benchmark_keeps_the_splits_that_the_benchmark_chose(mteb):
    chosen = {task.metadata.name: list(task.eval_splits) for task in mteb.get_benchmark("BEIR").tasks}
    found = {task.metadata.name: list(task.eval_splits) for task in named_tasks(["BEIR"], Records())}
    assert found["MSMARCO"] == chosen["MSMARCO"] == ["dev"]
    assert {name: found[name] for name in chosen if name in found} == {
        name: chosen[name] for name in chosen if name in found
    }
    assert {name for name in found if name not in chosen} == {name for name in found if name.startswith("CQADupstack")}


def test_the_engine_calls_measures_by_its_own_names():
    assert per_query_name("ndcg_at_10") == "ndcg_cut_10"
    assert per_query_name("recall_at_100") == "recall_100"
    assert per_query_name("accuracy") is None


def test_a_result_file_that_a_kill_left_half_written_is_dropped_and_a_whole_one_kept(tmp_path):
    whole, torn = tmp_path / "whole.json", tmp_path / "torn.json"
    whole.write_text('{"a": [1]}')
    torn.write_text('{"a": [1')
    for path in (whole, torn, tmp_path / "none.json"):
        _drop_torn(path)
    assert [path.name for path in tmp_path.iterdir()] == ["whole.json"]


def test_records_are_read_again_and_damaged_ones_are_refused(tmp_path):
    where = Split("T", "test", "a/b")
    Records(tmp_path).note(where, score=1)
    assert Records(tmp_path).of(where) == {"score": 1}
    (tmp_path / where.file).write_text("{")
    with pytest.raises(ValidationError, match="no record"):
        Records(tmp_path).of(where)
    assert interval([]) == (None, None)


def test_the_command_prints_scores_with_interval_truncation_and_speed_and_continues(data, tmp_path):
    arguments = ["eval", "longembed", "--data", data, "--out", tmp_path / "out", "--encoder", "hashing:256", "--quiet"]
    arguments += ["--tasks", "passkey,qmsum", "--lengths", "256", "--mode", "dense", "--overflow", "truncate"]
    arguments += ["--level", "doc", "--max-tokens", 32]
    text = call(*arguments).stdout
    assert "tokens cut" in text
    assert "our own wording" in text
    body = json.loads(call(*arguments, "--output", "json").stdout)
    assert [(row["task"], row["split"], row["data"]) for row in body["rows"]] == [
        ("LEMBPasskeyRetrieval", "test_256", "generated"),
        ("LEMBQMSumRetrieval", "test", "converted"),
    ]
    for row in body["rows"]:
        assert row["low"] <= row["score"] <= row["high"]
        assert row["documents_cut"] == 1.0
        assert 0 < row["tokens_cut"] < 1
        assert row["tokens_per_second"] > 0  # of the first run: the second found everything
        assert row["missing"] == 0
    report = json.loads(Path(body["report"]).read_text())
    assert report["revision"] == body["revision"]
    assert report["versions"]["mteb"]
    other = json.loads(call(*arguments, "--output", "json", "--search-level", "doc", "--recipe", "flat").stdout)
    assert other["revision"] != body["revision"]


@pytest.mark.parametrize("system", [["--as", "vector"], ["--mode", "dense"], ["--mode", "bm25"]])
def test_a_task_of_mteb_runs_by_its_name(tmp_path, monkeypatch, mteb, system):
    registry = importlib.import_module("mteb.get_tasks")
    data = split_data(3)
    monkeypatch.setitem(registry._TASKS_REGISTRY, "MadeUpRetrieval", task_class({"test": data}))
    encoder = [] if "bm25" in system else ["--encoder", "hashing:512"]
    arguments = ["eval", "mteb", "MadeUpRetrieval", "--out", tmp_path / "out", *encoder, *system, "--quiet"]
    body = json.loads(call(*arguments, "--output", "json").stdout)
    (row,) = body["rows"]
    assert (row["data"], row["queries"], row["documents"]) == ("hub", 6, 12)
    assert row["score"] > 0.8
    loaded = mteb.ResultCache(tmp_path / "out").load_results(tasks=[task_class({"test": data})()])
    assert [one.model_revision for one in loaded.model_results] == [body["revision"]]


def test_a_task_that_cannot_run_does_not_stop_the_others_and_the_exit_code_says_so(data, tmp_path):
    arguments = ["--out", tmp_path / "out", "--encoder", "hashing", "--quiet", "--output", "json"]
    (tmp_path / "data").mkdir()
    layout.convert(data / "qmsum", tmp_path / "data/qmsum", "qmsum")
    layout.convert(data / "2wikimqa", tmp_path / "data/2wikimqa", "2wikimqa")
    (tmp_path / "data/2wikimqa/corpus.jsonl").write_text("no json\n")
    found = call("eval", "longembed", "--data", tmp_path / "data", "--tasks", "qmsum,2wikimqa", *arguments, code=7)
    body = json.loads(found.stdout)
    assert list(body["tasks"]) == ["LEMBQMSumRetrieval"]
    assert "longembed-data" in body["errors"]["LEMBWikimQARetrieval"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["longembed", "--tasks", "passkeys"], 2),
        (["longembed", "--tasks", "passkey", "--lengths", "x"], 2),
        (["longembed", "--tasks", "qmsum"], 3),
        (["longembed", "--as", "vector", "--mode", "dense"], 2),
        (["longembed", "--as", "vector", "--recipe", "flat"], 2),
        (["mteb", "NFCorpsu"], 2),
        (["mteb", "NFCorpus"], 3),
        (["mteb", "STS12"], 2),
        (["longembed-data", "--raw", "qmsum"], 2),
    ],
)
def test_commands_refuse_with_the_exit_code_of_the_kind(tmp_path, arguments, code):
    if arguments[0] == "longembed-data":
        result = call("eval", "longembed-data", tmp_path / "made", *arguments[1:], code=code)
    else:
        result = call("eval", *arguments, "--out", tmp_path, "--encoder", "hashing", "--quiet", code=code)
    assert result.stderr.strip()
    assert "Traceback" not in result.stderr


def test_data_is_made_from_the_command_line(data, tmp_path):
    made = json.loads(call("eval", "longembed-data", tmp_path / "a", "--lengths", 256, "--output", "json").stdout)
    assert [Path(folder).name for folder in made["folders"]] == ["passkey", "needle"]
    call("eval", "longembed-data", tmp_path / "b", "--raw", f"qmsum={data / 'qmsum'}")
    assert layout.is_made(tmp_path / "b/qmsum")
    assert NAMES.split(", ") == list(layout.KEYS.values())
