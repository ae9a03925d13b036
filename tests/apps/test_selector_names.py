"""Selectors by name, and the command that judges them by the evidence that they find."""

import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from unabridged.apps import select_runs
from unabridged.apps.cli import app
from unabridged.apps.select_runs import chosen, stretches
from unabridged.apps.selector_names import KINDS, SelectorOptions, identity, load_selector, options_of
from unabridged.encoders.hashing import HashingEncoder
from unabridged.errors import UsageError
from unabridged.eval.choices import Case, case_of, judge, summary
from unabridged.eval.evidence import Evidence, write_set
from unabridged.eval.sets import read_set
from unabridged.eval.synth.selection import judged
from unabridged.eval.synth.twohop import twohop
from unabridged.eval.synth.vartrack import vartrack
from unabridged.rankers.select.cascade import CascadeSelector
from unabridged.rankers.select.contracts import Passage, Selector
from unabridged.rankers.select.fused import FusedSelector
from unabridged.rankers.select.iterative import IterativeSelector
from unabridged.rankers.select.linked import LinkedSelector
from unabridged.rankers.select.vectors import VectorSelector
from unabridged.rankers.select.words import WordSelector


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (None, {}, "named by a text such as 'bm25'"),
        (5, {}, "got 5"),
        ("bm25", {"nope": 3}, "has no option 'nope'; options are encoder"),
        ("bm25>linked", {"depth": "x"}, "depth='x'"),
        ("bm25>linked", {"depth": True}, "depth=True"),
    ],
)
def test_names_and_options_that_no_selector_can_have_are_refused(name, options, message):
    with pytest.raises(UsageError, match=message):
        load_selector(name, **options)


@pytest.mark.parametrize(
    ("name", "kind", "label"),
    [
        ("bm25", WordSelector, "bm25"),
        ("bm25:atire", WordSelector, "bm25:atire"),
        ("vectors:hashing:32", VectorSelector, "vectors:hashing"),
        ("hybrid:hashing", FusedSelector, "bm25+vectors:hashing"),
        ("linked", LinkedSelector, "linked:bm25"),
        ("linked:hybrid:hashing", LinkedSelector, "linked:bm25+vectors:hashing"),
        ("iterative", IterativeSelector, "iterative:bm25:6"),
        ("iterative:vectors:hashing", IterativeSelector, "iterative:vectors:hashing:6"),
        ("bm25>vectors:hashing", CascadeSelector, "bm25>32>vectors:hashing"),
        ("bm25 > 7 > linked", CascadeSelector, "bm25>7>linked:bm25"),
        ("bm25>64>hybrid:hashing>8>linked", CascadeSelector, "bm25>64>bm25+vectors:hashing>8>linked:bm25"),
    ],
)
def test_names_are_read_as_they_are_written(name, kind, label):
    found = load_selector(name)
    assert isinstance(found, kind)
    assert isinstance(found, Selector)
    assert found.label == label


@pytest.mark.parametrize("name", ["", "foo", "bm25>foo", "linked:foo", "bm25>", "iterative:linked:foo"])
def test_an_unknown_name_is_told_all_that_there_are(name):
    with pytest.raises(UsageError) as caught:
        load_selector(name)
    assert all(kind in str(caught.value) for kind in KINDS)


@pytest.mark.parametrize("name", ["7>bm25", "bm25>7", "bm25>7>8>linked", "bm25>0>linked"])
def test_a_number_that_stands_for_nothing_is_refused(name):
    with pytest.raises(UsageError, match=r"between two selectors|at least 1"):
        load_selector(name)


def test_options_without_effect_are_refused_and_those_with_one_are_used():
    for name, options in (("bm25", {"depth": 3}), ("bm25", {"device": "cpu"}), ("linked", {"network": True})):
        with pytest.raises(UsageError, match="has no"):
            load_selector(name, **options)
    assert load_selector("bm25>linked", depth=3).depth == 3
    assert load_selector("bm25>5>linked", SelectorOptions(depth=3)).depth == 5
    assert load_selector("vectors:hashing:32").encoder.dim == 32
    encoder = HashingEncoder(16)
    assert load_selector("vectors", encoder=encoder).encoder is encoder
    with pytest.raises(UsageError, match="besides"):
        load_selector("vectors:hashing", encoder=encoder)
    with pytest.raises(UsageError, match="not both"):
        load_selector("bm25>linked", SelectorOptions(), depth=3)
    with pytest.raises(UsageError, match="names no model"):
        load_selector("cross")
    assert options_of("bm25") == frozenset()
    assert "encoder" in options_of("iterative:hybrid")


def test_the_identity_tells_models_apart_that_share_a_name():
    one = load_selector("bm25>vectors", encoder=HashingEncoder(16, seed=1))
    two = load_selector("bm25>vectors", encoder=HashingEncoder(16, seed=2))
    assert identity(one)["label"] == identity(two)["label"]
    assert identity(one) != identity(two)
    assert identity(one) == identity(load_selector("bm25>vectors", encoder=HashingEncoder(16, seed=1)))


# Judgements.


def test_synthetic_choices_agree_with_the_older_judgement():
    for make in (vartrack, twohop):
        sample = make(80, 3)
        case = case_of(sample, 2)
        order = random.Random(1).sample(range(len(case.passages)), len(case.passages))
        found = judge(case, order, 120)
        older = judged(sample, [case.passages[row] for row in order], 120)
        assert tuple(one == 1.0 for one in found.covered) == older.found
        assert (found.recall, found.used) == (older.recall, older.used)


def test_choices_count_characters_by_hand_and_against_a_naive_mask():
    text = "aa bb cc dd ee ff gg hh"
    case = Case("q", "?", text, ((0, 5), (6, 11), (12, 17), (18, 23)), ((3, 8), (6, 14)))
    found = judge(case, [1, 3], 4)
    assert found.covered == (2 / 5, 5 / 8)
    assert found.precise == 5 / 10
    assert found.used == 4
    inside = np.zeros(len(text), bool)
    inside[6:11] = inside[18:23] = True
    evidence = np.zeros(len(text), bool)
    evidence[3:14] = True
    assert found.precise == (inside & evidence).sum() / inside.sum()
    none = judge(case, [0], 1)
    assert (none.covered, none.precise, none.used) == ((0.0, 0.0), 0.0, 0)
    whole = summary([case, case], [found, none], 4)
    assert whole.recall.value == pytest.approx((0.4 + 0.625) / 4)
    assert whole.all_evidence.value == 0.0
    assert whole.hit.value == 0.5
    assert whole.by_depth[2] == (2, 0.2)
    assert whole.by_depth[4] == (2, 0.3125)
    with pytest.raises(UsageError):
        summary([case], [], 4)


def test_an_oracle_finds_everything_and_what_has_no_score_is_not_chosen():
    sample = vartrack(60, 1)
    case = case_of(sample, 1)

    class Oracle:
        label = "oracle"

        def score(self, question, passages, *, cancel=None):
            from unabridged.rankers.select.contracts import Scored

            right = {(one.start, one.end) for one in passages} & set(case.evidence)
            scores = tuple(1.0 if (one.start, one.end) in right else None for one in passages)
            return Scored(scores, tuple("" if score else "no" for score in scores))

    found = chosen(case, Oracle(), 300)
    assert (found.recall, found.precise) == (1.0, 1.0)
    assert found.unscored == len(case.passages) - len(case.evidence)


def test_stretches_of_a_real_text_hold_all_of_it():
    text = "One. Two! Three?\n\nFour. Five"
    assert [text[a:b] for a, b in stretches(text, 2)] == ["One. Two!", "Three?\n\nFour.", "Five"]


# The command.


def run(*words: object, code: int = 0) -> dict:
    line = ["eval", "select", *map(str, words), "--quiet", "--output", "json"]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == code, result.output
    return json.loads(result.stdout or result.stderr)


def test_chains_are_found_by_links_and_not_by_one_question(tmp_path):
    words = ("vt", "twohop", "single", "--lengths", "1024", "--samples", 6, "--stretch", 1, "--allowance", 100)
    rows = run(*words, "--out", tmp_path, "--selector", "bm25", "--selector", "linked")["selections"]
    recall = {(row["task"], row["selector"]): row["recall"]["value"] for row in rows}
    assert recall["vartrack", "bm25"] <= 0.35
    assert recall["twohop", "bm25"] <= 0.75
    assert recall["vartrack", "linked"] == recall["twohop", "linked"] == recall["single", "linked"] == 1.0
    for row in rows:
        assert row["recall"]["low"] <= row["recall"]["value"] <= row["recall"]["high"]
        assert sum(size for size, _ in row["by_depth"]) == 6 * {"vartrack": 5, "twohop": 2, "single": 1}[row["task"]]
        assert row["used"] <= 100


def test_a_record_is_kept_until_something_changes(tmp_path, monkeypatch):
    words = ("niah", "--lengths", "512", "--samples", 3, "--out", tmp_path, "--selector", "hybrid:hashing")
    [first] = run(*words)["selections"]
    record = json.loads(Path(first["record"]).read_text())
    assert len(record["cases"]) == 3
    assert record["settings"]["seed"] == 0
    assert record["settings"]["selector"]["models"]
    monkeypatch.setattr(select_runs, "chosen", None)  # nothing is chosen again
    assert run(*words)["selections"] == [first]
    monkeypatch.undo()
    for change in (("--seed", 1), ("--allowance", 50), ("--stretch", 1), ("--samples", 2)):
        [other] = run(*words, *change)["selections"]
        assert other["record"] != first["record"]


def real_set(folder: Path) -> Path:
    filler = "Nothing happens on this line at all. " * 30
    documents = [
        {"id": f"d{n}", "title": "Of rivers", "text": f"{filler}The code of gate {n} is {n}{n}{n}. {filler}"}
        for n in range(3)
    ]
    documents.append({"id": "short", "text": "The code of gate 9 is 999."})
    from unabridged.corpora import ListCorpus, Query
    from unabridged.eval._set import WholeCorpus, assembled

    queries = [Query(f"q{n}", f"What is the code of gate {n}?") for n in (0, 1, 2, 9)]
    qrels = {f"q{n}": {f"d{n}": 1} for n in range(3)} | {"q9": {"short": 1}}
    marked = [
        Evidence(f"q{n}", f"d{n}", one["text"].index("The code"), one["text"].index("The code") + 25)
        for n, one in enumerate(documents[:3])
    ]
    whole = assembled("gates", WholeCorpus(ListCorpus(documents)), queries, qrels)
    write_set(folder, whole, [*marked, Evidence("q9", "short", 0, 26)], {"name": "gates"})
    return folder


def test_real_sets_are_judged_by_their_marked_evidence_and_short_documents_are_counted(tmp_path):
    folder = real_set(tmp_path / "gates")
    words = (folder, "--out", tmp_path / "out", "--selector", "bm25", "--allowance", 40, "--stretch", 1)
    [row] = run(*words)["selections"]
    assert (row["cases"], row["recall"]["value"], row["hit"]["value"]) == (3, 1.0, 1.0)
    assert json.loads(Path(row["record"]).read_text())["settings"]["short"] == 1
    assert row["by_depth"][4][0] + row["by_depth"][5][0] == 3
    assert [one.id for one in read_set(folder).queries] == ["q0", "q1", "q2", "q9"]
    error = run(folder, "--out", tmp_path / "out", "--allowance", 10_000, code=2)
    assert "Lower the allowance" in json.dumps(error)


def test_costs_are_shown_before_anything_is_scored(tmp_path):
    words = ("niah", "--lengths", "512", "--samples", 2, "--out", tmp_path, "--selector", "vectors:hashing")
    [row] = run(*words, "--dry-run")["planned"]
    assert row["calls"] == 0
    assert row["tokens"] > 700
    [done] = run(*words)["selections"]
    assert done["tokens"] * 2 == row["tokens"]


def test_the_table_for_people_has_intervals_depths_and_the_place_of_the_record(tmp_path):
    line = ["eval", "select", "twohop", "--lengths", "512", "--samples", "2", "--out", str(tmp_path)]
    shown = CliRunner().invoke(app, line)
    assert shown.exit_code == 0
    assert all(word in shown.stdout for word in ("95 % interval", "linked", "bm25", "90 %", "record: "))
    planned = CliRunner().invoke(app, [*line, "--dry-run"]).stdout
    assert "calls" in planned


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere"], "neither a folder nor one of"),
        (["passkey"], "retrieval sets"),
        (["niah", "--selector", "foo"], "names no selector"),
        (["niah", "--allowance", "0"], "at least 1"),
        (["niah", "--stretch", "0"], "at least 1"),
        (["niah", "--samples", "0"], "at least 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, words, says):
    assert says in json.dumps(run(*words, "--out", tmp_path, code=2))


def test_naming_selectors_loads_no_model(tmp_path):
    import subprocess

    code = (
        "from unabridged.apps.selector_names import load_selector\nload_selector('bm25>hybrid>linked')\n"
        "import sys; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_passages_of_a_selector_are_those_of_the_text():
    case = case_of(twohop(20, 0), 3)
    assert all(isinstance(one, Passage) for one in select_runs.passages_of(case))
    assert "".join(one.text for one in select_runs.passages_of(case)).replace(" ", "") == case.text.replace(" ", "")


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    import importlib.util

    from unabridged.rankers.lm.local import LocalModel

    place = Path(__file__).parents[1] / "rankers" / "lm" / "tiny_language_models.py"
    spec = importlib.util.spec_from_file_location("tiny_language_models", place)
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    return LocalModel.load(tiny.llama(tmp_path_factory.mktemp("lm") / "model"), device="cpu")


@pytest.mark.parametrize("name", ["attention", "xl3m", "xl3m-mean", "contrast", "likelihood"])
def test_language_models_score_behind_words_and_alone(local, name):
    texts = [f"row {n} says that gate {n} is {n}{n}" for n in range(9)]
    own = [Passage("d", 0, len(text), text) for text in texts]
    alone = load_selector(name, language=local)
    assert isinstance(alone, Selector)
    found = alone.score("gate 3", own)
    assert len(found.scores) == 9
    assert found.spent.calls >= 1
    assert alone.cost("gate 3", own).calls >= 1
    behind = load_selector(f"bm25>4>{name}", language=local).score("gate 3", own)
    assert sum(score is not None for score in behind.scores) == 4
    assert behind.scores[3] is not None
    with pytest.raises(UsageError, match="besides"):
        load_selector(f"{name}:embedded", language=local)
    assert identity(alone)["models"] == [local.fingerprint]


def test_what_a_server_or_a_local_model_has_not_is_refused_before_anything_is_loaded():
    for name, options, says in (
        ("attention:openai:m@http://127.0.0.1:9/v1", {}, "needs local weights"),
        ("xl3m:openai:m@http://127.0.0.1:9/v1", {"device": "cpu"}, "behind a server"),
        ("xl3m", {"server": {"key": "k"}}, "has no server"),
    ):
        with pytest.raises(UsageError, match=says):
            load_selector(name, **options)
