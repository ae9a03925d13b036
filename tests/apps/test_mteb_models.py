"""Encoders and pipelines inside mteb: the same scores as its own wrapper, nothing lost, nothing kept too long."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests_mteb import evaluated, made_up, measures, prose, split_data, task_class

from unabridged.apps.integrations.mteb_encoder import MtebEncoder
from unabridged.apps.integrations.mteb_hub import hub
from unabridged.apps.integrations.mteb_meta import revision_of
from unabridged.apps.integrations.mteb_records import Records, Split
from unabridged.apps.integrations.mteb_run import row_of
from unabridged.apps.integrations.mteb_search import MtebSearch
from unabridged.apps.integrations.mteb_tasks import recorded
from unabridged.apps.pipeline import Pipeline
from unabridged.contracts import Level, OverflowPolicy
from unabridged.encoders.hashing import HashingEncoder
from unabridged.encoders.load import load_encoder
from unabridged.errors import RuntimeFailure, UsageError
from unabridged.retrievers.result import Mode
from unabridged.retrievers.scoring import DocumentScoring, Fusion

pytestmark = pytest.mark.skipif(importlib.util.find_spec("mteb") is None, reason="needs mteb")
DENSE_DOC = Pipeline(mode=Mode.DENSE, building={"level": "doc", "overflow": "truncate"})


@pytest.fixture(scope="module", autouse=True)
def closed_hub(tmp_path_factory):
    with hub(tmp_path_factory.mktemp("hub"), local=True) as mteb:
        yield mteb


def search(
    tmp_path: Path, pipeline: Pipeline | None = None, *, records: Records | None = None, **options
) -> MtebSearch:
    return MtebSearch(HashingEncoder(dim=512, window=32, **options), tmp_path / "indexes", pipeline, records=records)


def test_mteb_takes_the_encoder_for_an_encoder_and_the_pipeline_for_a_search_model_and_nothing_else(tmp_path):
    from mteb.models import CrossEncoderProtocol, EncoderProtocol, SearchProtocol

    encoder, pipeline = MtebEncoder(HashingEncoder()), search(tmp_path)
    kinds = (EncoderProtocol, SearchProtocol, CrossEncoderProtocol)
    assert [isinstance(encoder, kind) for kind in kinds] == [True, False, False]
    assert [isinstance(pipeline, kind) for kind in kinds] == [False, True, False]


@pytest.mark.parametrize("overflow", ["truncate", "split"])
def test_pipeline_and_plain_wrapper_give_equal_scores_with_the_same_vectors(tmp_path, overflow):
    data = {"test": split_data(1, documents=30, queries=15)}
    plain = MtebEncoder(HashingEncoder(dim=512, window=32), overflow=OverflowPolicy(overflow))
    ours = search(tmp_path, Pipeline(mode=Mode.DENSE, building={"level": "doc", "overflow": overflow}))
    first = evaluated(plain, made_up(data), predictions=tmp_path / "a")["test"]
    second = evaluated(ours, made_up(data), predictions=tmp_path / "b")["test"]
    assert measures(first) == measures(second)
    assert 0 < first["ndcg_at_1"] < 1 or overflow == "split"
    a, b = (json.loads((tmp_path / name / "MadeUpRetrieval_predictions.json").read_text()) for name in "ab")
    for query, scores in a["default"]["test"].items():
        assert b["default"]["test"][query] == pytest.approx(scores, abs=1e-6)


def test_no_state_leaks_between_splits_in_any_order_and_any_repetition(tmp_path):
    data = {f"test_{n}": split_data(n) for n in range(2)}
    alone = {split: evaluated(search(tmp_path / split), made_up({split: own}))[split] for split, own in data.items()}
    for number, order in enumerate((list(data), list(data)[::-1])):
        model = search(tmp_path / f"p{number}")
        task = made_up({split: data[split] for split in order})
        for _ in range(2):
            scores = evaluated(model, task)
            assert {split: measures(own) for split, own in scores.items()} == {
                split: measures(own) for split, own in alone.items()
            }


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("level", list(Level))
def test_every_query_comes_back_with_floats_that_fall_strictly_and_no_document_twice(tmp_path, mode, level):
    data = split_data(4, documents=20, queries=5, words=200)
    data["corpus"] |= {f"copy {n}": "lome kela lome" for n in range(9)}
    data["queries"]["q copies"] = "lome kela"
    model, task = search(tmp_path, Pipeline(mode=mode, level=level)), task_class({"test": data})()
    task.load_data()
    own = task.dataset["default"]["test"]
    where = {"task_metadata": task.metadata, "hf_split": "test", "hf_subset": "default", "encode_kwargs": {}, "new": 1}
    model.index(own["corpus"], num_proc=None, **where)
    found = model.search(own["queries"], top_k=15, top_ranked=None, num_proc=None, **where)
    assert list(found) == list(data["queries"])
    for scores in found.values():
        values = list(scores.values())
        assert all(type(value) is float for value in values)
        assert (np.diff(np.array(values, np.float32)) < 0).all()
        assert mode is Mode.BM25 or len(values) == 15


def test_a_failing_query_is_empty_recorded_and_lowers_the_mean(tmp_path):
    data = split_data(5)
    good = {"test": data}
    victim = next(iter(data["queries"]))
    bad = {"test": {**data, "queries": {**data["queries"], victim: "POISON " + data["queries"][victim]}}}
    blank = {"test": {**data, "queries": {**data["queries"], victim: "  "}}}
    records = Records()
    model = search(tmp_path, records=records, fail_on="POISON")
    whole = evaluated(model, made_up(good, records))["test"]["ndcg_at_10"]
    each = records.of(Split("MadeUpRetrieval", "test"))["per_query"]
    assert whole == pytest.approx(sum(each.values()) / 6, abs=1e-5)
    assert each[victim] > 0
    for broken, reason in ((bad, "RuntimeFailure"), (blank, "UsageError")):
        scores = evaluated(model, made_up(broken, records), predictions=tmp_path / reason)["test"]
        found = records.of(Split("MadeUpRetrieval", "test"))
        assert list(found["missing"]) == [victim]
        assert found["missing"][victim].startswith(reason)
        assert scores["ndcg_at_10"] == pytest.approx(whole - each[victim] / 6, abs=1e-5)
        answers = json.loads((tmp_path / reason / "MadeUpRetrieval_predictions.json").read_text())
        assert answers["default"]["test"][victim] == {}
        assert len(answers["default"]["test"]) == 6


def test_a_document_that_fails_is_counted_and_lost_and_the_others_are_found(tmp_path):
    data = split_data(12)
    query = next(iter(data["queries"]))
    (victim,) = data["qrels"][query]
    data["corpus"][victim] += " POISON"
    records = Records()
    task = made_up({"test": data}, records)
    scores = evaluated(search(tmp_path, records=records, fail_on="POISON"), task)["test"]
    facts = records.of(Split("MadeUpRetrieval", "test"))
    row = row_of(task, "test", scores, records)
    assert (row.failed_documents, row.documents, row.missing, row.queries) == (1, 11, 0, 6)
    assert facts["per_query"][query] == 0
    assert row.score == pytest.approx(sum(facts["per_query"].values()) / 6, abs=1e-5)
    assert row.score > 0.5


def test_a_model_that_fails_on_every_query_is_an_error_and_no_score_of_zero(tmp_path):
    data = split_data(6)
    data["queries"] = {query: f"POISON {text}" for query, text in data["queries"].items()}
    with pytest.raises(RuntimeFailure, match="All 6 queries"):
        evaluated(search(tmp_path, fail_on="POISON"), made_up({"test": data}), cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("MadeUpRetrieval.json"))


def test_an_encoder_serves_tasks_without_a_corpus_too():
    from datasets import Dataset, DatasetDict
    from mteb.abstasks.sts import AbsTaskSTS
    from scipy.stats import spearmanr

    rng = random.Random(1)
    pairs = [(prose(rng, 12), prose(rng, 12)) for _ in range(20)]
    pairs = [(a, " ".join([*a.split()[: n % 12], *b.split()[n % 12 :]])) for n, (a, b) in enumerate(pairs)]
    grades = [float(n % 12) for n in range(20)]

    class Pairs(AbsTaskSTS):
        metadata = task_class({"test": {}}).metadata.model_copy(
            update={"name": "MadeUpPairs", "type": "STS", "main_score": "cosine_spearman"}
        )
        min_score, max_score = 0, 12

        def load_data(self, num_proc=None, **_):
            first, second = ([pair[at] for pair in pairs] for at in (0, 1))
            rows = Dataset.from_dict({"sentence1": first, "sentence2": second, "score": grades})
            self.dataset, self.data_loaded = DatasetDict({"test": rows}), True

    encoder = HashingEncoder(dim=512, window=32)
    scores = evaluated(MtebEncoder(encoder), recorded(Pairs, Records(), {})())["test"]
    a, b = (encoder.encode_documents([pair[at] for pair in pairs], level=Level.DOC).documents for at in (0, 1))
    expected = spearmanr(grades, np.sum(a * b, axis=1)).statistic
    assert scores["main_score"] == pytest.approx(expected, abs=1e-4)
    assert expected > 0.8


def test_searching_before_indexing_is_a_typed_error(tmp_path):
    task = task_class({"test": split_data(1)})()
    with pytest.raises(UsageError, match="index first"):
        search(tmp_path).search([], task_metadata=task.metadata, hf_split="test", hf_subset="default", top_k=3)


def test_two_stage_reranking_scores_as_our_search_over_the_same_candidates_alone(tmp_path):
    data = {"test": split_data(7, documents=40, queries=10)}
    first = search(tmp_path, Pipeline(mode=Mode.BM25))
    evaluated(first, made_up(data), predictions=tmp_path / "first")
    task = made_up(data).convert_to_reranking(tmp_path / "first", top_k=5)
    candidates = {query: list(own) for query, own in task.dataset["default"]["test"]["top_ranked"].items()}
    second = search(tmp_path, DENSE_DOC)
    scores = evaluated(second, task, predictions=tmp_path / "second")["test"]
    answers = json.loads((tmp_path / "second/MadeUpRetrieval_predictions.json").read_text())["default"]["test"]
    encoder = second.encoder
    hits = []
    for query, own in candidates.items():
        texts = [data["test"]["corpus"][name] for name in own]
        vectors = encoder.encode_documents(texts, level=Level.DOC, overflow=OverflowPolicy.TRUNCATE).documents
        similar = vectors @ encoder.encode_queries([data["test"]["queries"][query]])[0]
        expected = dict(zip(own, similar.tolist(), strict=True))
        assert answers[query] == pytest.approx(expected, abs=1e-6)
        hits.append(next(iter(data["test"]["qrels"][query])) == max(expected, key=expected.__getitem__))
    assert scores["ndcg_at_1"] == pytest.approx(np.mean(hits), abs=1e-5)


def test_a_query_without_candidates_is_empty_and_said_to_be(tmp_path):
    data = split_data(8)
    some = {query: list(data["corpus"])[:4] for query in list(data["queries"])[:-1]}
    records = Records()
    evaluated(search(tmp_path, records=records), made_up({"test": {**data, "top_ranked": some}}, records))
    assert records.of(Split("MadeUpRetrieval", "test"))["missing"] == {list(data["queries"])[-1]: "no candidates"}


def test_the_truncation_of_each_split_stands_beside_its_score(tmp_path):
    data = {"test": split_data(9, documents=10)}
    words = [len(text.split()) for text in data["test"]["corpus"].values()]
    expected = (sum(words), sum(min(count, 32) for count in words), sum(count > 32 for count in words))
    assert expected[2] > 0
    for number, make in enumerate((
        lambda records: MtebEncoder(
            HashingEncoder(dim=512, window=32), overflow=OverflowPolicy.TRUNCATE, records=records
        ),
        lambda records: search(tmp_path, DENSE_DOC, records=records),
    )):  # fmt: skip
        records = Records(tmp_path / str(number))
        for _ in range(2):
            evaluated(make(records), made_up(data, records))
            found = Records(tmp_path / str(number)).of(Split("MadeUpRetrieval", "test"))
            assert (found["tokens_total"], found["tokens_seen"], found["truncated"]) == expected
            assert found["documents"] == 10
            assert len(found["per_query"]) == found["queries"] == 6


def test_the_revision_changes_with_everything_that_may_change_a_score(tmp_path):
    base = HashingEncoder(dim=64, window=32)
    pipelines = [
        Pipeline(),
        Pipeline(mode=Mode.DENSE),
        Pipeline(level=Level.SEGMENT),
        Pipeline(building={"overflow": "truncate"}),
        Pipeline(building={"recipe": "flat"}),
        Pipeline(building={"k1": 1.2}),
        Pipeline(scoring=DocumentScoring(alpha=0.5)),
        Pipeline(fusion=Fusion(weights=(0.5, 0.5))),
    ]
    revisions = [revision_of(base, pipeline.as_json()) for pipeline in pipelines]
    revisions += [
        revision_of(other, Pipeline().as_json()) for other in (HashingEncoder(65, 32), HashingEncoder(64, 33))
    ]
    revisions += [MtebEncoder(base, overflow=policy).mteb_model_meta.revision for policy in OverflowPolicy]
    assert len(set(revisions)) == len(revisions)
    assert revision_of(HashingEncoder(64, 32), replace(Pipeline()).as_json()) == revisions[0]


def test_an_equal_system_is_served_from_the_cache_and_a_changed_one_is_evaluated_again(tmp_path, monkeypatch):
    import mteb

    calls = []
    real = MtebSearch.index
    monkeypatch.setattr(MtebSearch, "index", lambda self, *a, **o: (calls.append(1), real(self, *a, **o))[1])
    data = {"test": split_data(10)}
    for pipeline, expected in ((Pipeline(), 1), (Pipeline(), 1), (Pipeline(mode=Mode.DENSE), 2)):
        evaluated(search(tmp_path, pipeline), made_up(data), cache=tmp_path / "cache")
        assert len(calls) == expected
    evaluated(search(tmp_path, seed=1), made_up(data), cache=tmp_path / "cache")
    assert len(calls) == 3
    loaded = mteb.ResultCache(tmp_path / "cache").load_results(tasks=[made_up(data)])
    assert {(one.model_name, one.model_revision) for one in loaded.model_results} == {
        (model.mteb_model_meta.name, model.mteb_model_meta.revision)
        for model in (
            search(tmp_path),
            search(tmp_path, Pipeline(mode=Mode.DENSE)),
            search(tmp_path, seed=1),
        )
    }


MORTAL = """
    import os, signal, sys
    sys.path.insert(0, {support!r})
    from pathlib import Path
    from unabridged.apps.integrations.mteb_records import Records
    from unabridged.apps.integrations.mteb_search import MtebSearch
    from unabridged.encoders.hashing import HashingEncoder
    from unabridged.retrievers import fill
    from tests_mteb import evaluated, made_up, split_data

    fill.UNIT_CHARACTERS = 700
    place, last = Path({place!r}), {last}

    class Mortal(HashingEncoder):
        units = 0
        def encode_documents(self, texts, **options):
            Mortal.units += 1
            if Mortal.units > last:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().encode_documents(texts, **options)

    records = Records(place / "records")
    model = MtebSearch(Mortal(dim=512, window=32), place / "indexes", records=records)
"""
ONE_CORPUS = (
    MORTAL
    + """
    from types import SimpleNamespace
    rows = [{{"id": name, "text": text}} for name, text in split_data(4, documents=20)["corpus"].items()]
    model.index(rows, task_metadata=SimpleNamespace(name="MadeUpRetrieval"), hf_split="test_4", hf_subset="default")
"""
)
EIGHT_SPLITS = (
    MORTAL
    + """
    from unabridged.apps.integrations.mteb_hub import hub
    with hub(place / "hub", local=True):
        data = {{f"test_{{n}}": split_data(n, documents=20) for n in range(8)}}
        evaluated(model, made_up(data, records), cache=place / "cache")
"""
)


def killed(script: str, place: Path, last: int) -> None:
    """Runs ``script`` until its encoder was asked ``last`` times; then a real SIGKILL ends it."""
    filled = script.format(support=str(Path(__file__).parent.parent), place=str(place), last=last)
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(filled)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]


class Counting(HashingEncoder):
    """How many texts it was given, call by call."""

    def __init__(self, **options):
        super().__init__(**options)
        self.units: list[int] = []

    def encode_documents(self, texts, **options):
        self.units.append(len(texts))
        return super().encode_documents(texts, **options)


def test_killed_in_the_middle_of_a_corpus_it_encodes_the_rest_and_scores_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("unabridged.retrievers.fill.UNIT_CHARACTERS", 700)
    data = {"test_4": split_data(4, documents=20)}
    where = Split("MadeUpRetrieval", "test_4")
    records = [Records(), Records()]
    whole = evaluated(search(tmp_path / "whole", records=records[0]), made_up(data, records[0]))
    killed(ONE_CORPUS, tmp_path, last=4)
    encoder = Counting(dim=512, window=32)
    continued = MtebSearch(encoder, tmp_path / "indexes", records=records[1])
    scores = evaluated(continued, made_up(data, records[1]))
    first, second = (found.of(where) for found in records)
    assert first["tokens_encoded"] == first["tokens_total"] == second["tokens_total"] == second["tokens_seen"]
    assert 0 < second["tokens_encoded"] < second["tokens_total"]
    assert 0 < sum(encoder.units) < 20
    assert scores == whole
    assert first["per_query"] == second["per_query"]


@pytest.mark.slow
def test_killed_in_the_fifth_of_eight_splits_it_continues_there(tmp_path, monkeypatch):
    monkeypatch.setattr("unabridged.retrievers.fill.UNIT_CHARACTERS", 700)
    data = {f"test_{n}": split_data(n, documents=20) for n in range(8)}
    whole = evaluated(search(tmp_path / "whole"), made_up(data))
    counted = Counting(dim=512, window=32)
    evaluated(MtebSearch(counted, tmp_path / "counted"), made_up({name: data[name] for name in list(data)[:4]}))
    killed(EIGHT_SPLITS, tmp_path, last=len(counted.units) + 4)
    encoder, records = Counting(dim=512, window=32), Records(tmp_path / "records")
    model = MtebSearch(encoder, tmp_path / "indexes", records=records)
    scores = evaluated(model, made_up(data, records), cache=tmp_path / "cache")
    fifth = records.of(Split("MadeUpRetrieval", "test_4"))
    assert 0 < fifth["tokens_encoded"] < fifth["tokens_total"]
    assert sum(encoder.units) < 4 * 20
    assert list(scores) == list(whole)
    for split, own in scores.items():
        assert measures(own) == pytest.approx(measures(whole[split]), abs=1e-5)


@pytest.mark.slow
def test_an_import_of_ours_leaves_the_switches_of_the_hub_as_the_user_set_them(tmp_path):
    code = """
        import os, sys
        from pathlib import Path
        from unabridged.apps.integrations.mteb_hub import hub
        with hub(Path(sys.argv[1])):
            import datasets
            from huggingface_hub import constants
            assert constants.HF_HUB_OFFLINE and datasets.config.HF_HUB_OFFLINE
            try:
                datasets.load_dataset("none/none")
            except ConnectionError:
                pass
        assert not constants.HF_HUB_OFFLINE and not datasets.config.HF_HUB_OFFLINE
        assert not {"HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "MTEB_CACHE"} & set(os.environ)
        assert not (Path.home() / ".cache").exists() or not (Path.home() / ".cache/mteb").exists()
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MTEB_"))}
    environment |= {"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "scratch")],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The fill_missing parameter:DeprecationWarning")  # mteb's own calls
@pytest.mark.filterwarnings("ignore:The `get_sentence_embedding_dimension` method:FutureWarning")
def test_scores_are_those_of_sentence_transformers_in_plain_mteb_when_splitting_is_off(tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    from unabridged.encoders._resolve import resolve

    encoder = load_encoder()
    reference = sentence_transformers.SentenceTransformer(str(resolve(None).path), device="cpu")
    data = {"test": split_data(11, documents=40, queries=20, words=60)}
    expected = evaluated(reference, made_up(data), predictions=tmp_path / "st")["test"]
    plain = MtebEncoder(encoder, overflow=OverflowPolicy.TRUNCATE)
    ours = MtebSearch(encoder, tmp_path / "indexes", DENSE_DOC)
    wanted = json.loads((tmp_path / "st/MadeUpRetrieval_predictions.json").read_text())["default"]["test"]
    for name, model in (("plain", plain), ("ours", ours)):
        found = evaluated(model, made_up(data), predictions=tmp_path / name)["test"]
        assert measures(found) == pytest.approx(measures(expected), abs=1e-4)
        scores = json.loads((tmp_path / name / "MadeUpRetrieval_predictions.json").read_text())["default"]["test"]
        for query, own in wanted.items():
            assert scores[query] == pytest.approx(own, abs=2e-5)
    assert 0 < expected["ndcg_at_1"] < 1
