"""A tiny Mamba retriever: what a step is against a loop, that it learns, that a killed run ends with the same bytes."""

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from unabridged.apps.cli import app
from unabridged.contracts import Document
from unabridged.encoders._hf import read_folder
from unabridged.encoders.load import load_encoder
from unabridged.errors import UsageError, ValidationError
from unabridged.eval.measures import evaluate
from unabridged.training.heldout import small_set
from unabridged.training.loop import Schedule
from unabridged.training.mamba.start import Shape, fresh, from_checkpoint, word_vectors
from unabridged.training.mamba.tower import MambaTower, Running
from unabridged.training.mamba.train import Data, Evaluating, Folder, Plan, _framing, train_mamba
from unabridged.training.pairs import Source
from unabridged.training.retriever import PROJECTION, Drawing, Objective, RetrieverTask
from unabridged.training.shelf import make_shelf, rows_of
from unabridged.training.teacher import teacher_vectors

SHAPE = Shape(width=32, layers=2, state=8, head_dim=16)
ALPHABET = [*"abcdefghijklmnopqrstuvwxyz0123456789", "the", "cat", "sat", "on", "mat", "query", "long"]


def drawn(count, seed):
    """Documents of 6 words, and for each a question of 3 of them."""
    chance = np.random.default_rng(seed)
    documents = [chance.choice(ALPHABET, 6, replace=False) for _ in range(count)]
    return [(" ".join(chance.choice(words, 3, replace=False)), " ".join(words)) for words in documents]


def write_pairs(path, count=256, seed=1, **more):
    rows = (json.dumps({"query": query, "positive": text, **more}) for query, text in drawn(count, seed))
    path.write_text("\n".join(rows) + "\n")
    return path


def write_set(folder, count=40, seed=2):
    (folder / "qrels").mkdir(parents=True)
    found = drawn(count, seed)
    for name, part in (("queries", 0), ("corpus", 1)):
        lines = (json.dumps({"_id": str(n), "text": one[part], "title": ""}) for n, one in enumerate(found))
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    lines = ["query-id\tcorpus-id\tscore", *(f"{n}\t{n}\t1" for n in range(count))]
    (folder / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def words(bert_folder):
    return read_folder(bert_folder)


@pytest.fixture(scope="module")
def start(words):
    return fresh(SHAPE, words, "last", 0, embeddings=True)


def a_plan(start, out, **changes):
    plan = Plan(
        start, out, schedule=Schedule(steps=40, lr=0.01, warmup_steps=4, checkpoint_steps=7, weight_decay=0.01),
        drawing=Drawing(pairs=16, chunk_tokens=120), folder=Folder(max_tokens=16, storage="float32"),
    )  # fmt: skip
    return replace(plan, **changes)


@pytest.fixture(scope="module")
def shelf(start, tmp_path_factory):
    work = tmp_path_factory.mktemp("shelf")
    framing = _framing(a_plan(start, work / "out"), work)
    rows = [
        {"query": "a b", "positive": ["a b c", "b a"], "negative": ["c d", "e f", "g"]},
        {"query": "c d", "positive": "c d e", "negative": "a b c"},
        {"query": "e", "positive": "c d e"},
        {"query": "the cat", "positive": "cat sat"},
    ]
    path = work / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lone = [Document(str(n), " ".join(ALPHABET[n:])) for n in range(3)]
    return make_shelf(work / "data", framing, 1, Source(path), lone)


def naive(task, vectors, pairs, right, candidates, lone, teacher):
    """The objective by loops; ``vectors`` and ``teacher`` are dictionaries from rows."""
    aim, shelf = task.objective, task.shelf

    def cos(table, a, b):
        return float(table[a] @ table[b] / np.linalg.norm(table[a]) / np.linalg.norm(table[b]))

    known = {pair: set(rows_of(shelf.positives, pair).tolist()) for pair in pairs}
    total = 0.0
    for pair, answer in zip(pairs, right, strict=True):
        query = shelf.queries[pair]
        others = [c for c in candidates if c == answer or c not in known[pair]]
        powers = {c: math.exp(cos(vectors, query, c) / aim.temperature) for c in others}
        total -= aim.contrast * math.log(powers[answer] / sum(powers.values())) / len(pairs)
        queries = [p for p, found in zip(pairs, right, strict=True) if p == pair or answer not in known[p]]
        powers = {p: math.exp(cos(vectors, shelf.queries[p], answer) / aim.temperature) for p in queries}
        total -= aim.both * math.log(powers[pair] / sum(powers.values())) / len(pairs)
        for c in candidates:
            wanted = 1.0 if c in known[pair] else 0.0
            total += aim.orthogonal * (cos(vectors, query, c) - wanted) ** 2 / len(pairs) / len(candidates)
    rows = sorted({*(shelf.queries[pair] for pair in pairs), *candidates, *lone})
    for row in rows:
        cosine = vectors[row] @ teacher[row] / np.linalg.norm(vectors[row]) / np.linalg.norm(teacher[row])
        total += aim.vectors * (1 - float(cosine)) / len(rows)

    def divergence(row, others):
        shares = []
        for table in (vectors, teacher):
            powers = [math.exp(cos(table, row, other) / aim.teacher_temperature) for other in others]
            shares.append([power / sum(powers) for power in powers])
        return sum(q * math.log(q / p) for p, q in zip(*shares, strict=True))

    total += aim.scores * sum(divergence(shelf.queries[pair], candidates) for pair in pairs) / len(pairs)
    total += aim.scores * sum(divergence(row, [o for o in lone if o != row]) for row in lone) / len(lone)
    return total


def test_a_step_is_the_sum_that_loops_give(start, shelf):
    teacher = np.random.default_rng(0).standard_normal((len(shelf), 32)).astype(np.float32)
    objective = Objective(1.0, 0.5, 0.25, 2.0, 3.0, temperature=0.1, teacher_temperature=0.2)
    tower = MambaTower(start, Running())
    for negatives, chunk in ((3, 4096), (1, 20)):
        task = RetrieverTask(tower, shelf, objective, Drawing(4, 3, negatives, chunk_tokens=chunk), teacher)
        for number, rows in enumerate(task.batches(0)):
            pairs = rows[rows < 4]
            lone = shelf.lone[rows[rows >= 4] - 4]
            chance = np.random.default_rng([0, 2, 0, number])  # the same draws, in the same order
            right = [int(chance.choice(rows_of(shelf.positives, pair))) for pair in pairs]
            wrong = task._wrong(pairs, chance)
            assert set(wrong.tolist()) <= set(shelf.documents.tolist())
            candidates = sorted({*right, *wrong.tolist()})
            ids, offsets = shelf.packed(np.arange(len(shelf)))
            vectors = dict(enumerate(tower.vectors(ids, offsets).astype(np.float64)))
            expected = naive(task, vectors, pairs.tolist(), right, candidates, lone.tolist(), teacher)
            assert task.loss(0, number, rows).item() == pytest.approx(expected, rel=1e-4)


def test_gradients_in_chunks_are_those_of_a_whole_step_and_reach_every_parameter(start, shelf):
    teacher = np.random.default_rng(0).standard_normal((len(shelf), 8)).astype(np.float32)
    objective = Objective(both=0.5, vectors=1.0, scores=1.0)
    found = []
    for drawing in (Drawing(4, 3, cached=False), Drawing(4, 3, chunk_tokens=12), Drawing(4, 3, chunk_tokens=1)):
        task = RetrieverTask(MambaTower(start, Running()), shelf, objective, drawing, teacher)
        assert task.parameters[PROJECTION].shape == (8, 32)
        task.loss(0, 0, task.batches(0)[0]).backward()
        found.append({name: value.grad for name, value in task.parameters.items()})
    for name, whole in found[0].items():
        assert whole.abs().max() > 0, name
        for other in found[1:]:
            torch.testing.assert_close(other[name], whole, rtol=1e-4, atol=1e-5)


def test_layers_computed_again_on_the_way_back_give_the_same_gradients(start, shelf):
    found = []
    for again in (False, True):
        task = RetrieverTask(MambaTower(start, Running(checkpoint=again)), shelf, Objective(), Drawing(4))
        task.loss(0, 0, task.batches(0)[0]).backward()
        found.append([value.grad for value in task.parameters.values()])
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_one_pair_by_itself_teaches_by_orthogonal_projection(start, shelf):
    tower = MambaTower(start, Running())
    task = RetrieverTask(tower, shelf, Objective(contrast=0, orthogonal=1), Drawing(1, negatives=2))
    rows = task.batches(0)[0]
    before = task.loss(0, 0, rows)
    before.backward()
    with torch.no_grad():
        for value in task.parameters.values():
            if value.grad is not None:
                value -= 0.05 * value.grad
    assert task.loss(0, 0, rows).item() < before.item()


def test_every_pair_comes_once_in_an_epoch_and_lone_texts_take_turns(start, shelf):
    task = RetrieverTask(MambaTower(start, Running()), shelf, Objective(), Drawing(3, 4))
    seen = []
    for epoch in range(6):
        steps = task.batches(epoch)
        assert sorted(np.concatenate([rows[rows < 4] for rows in steps]).tolist()) == [0, 1, 2, 3]
        assert [rows.tolist() for rows in task.batches(epoch)] == [rows.tolist() for rows in steps]
        seen += np.concatenate([rows[rows >= 4] for rows in steps]).tolist()
    lone = len(shelf.lone)
    for turn in range(len(seen) // lone):
        assert sorted(seen[turn * lone : (turn + 1) * lone]) == list(range(4, 4 + lone))


def test_a_few_steps_lower_the_loss_and_lift_held_out_queries(start, tmp_path):
    pairs = Source(write_pairs(tmp_path / "pairs.jsonl"))
    folder = write_set(tmp_path / "set")
    evaluating = Evaluating(small_set(folder, "test", None, 0), every=50)
    schedule = Schedule(steps=100, lr=0.01, warmup_steps=10, checkpoint_steps=90)
    report = train_mamba(a_plan(start, tmp_path / "out", schedule=schedule, evaluating=evaluating), Data([pairs]))
    assert report.steps == 100
    assert report.last_loss < 0.5 * report.first_loss
    assert [step for step, _ in report.evaluations] == [0, 50, 100]
    assert report.evaluations[-1][1] > 2 * report.evaluations[0][1]

    encoder = load_encoder(tmp_path / "out", device="cpu")
    whole = small_set(folder, "test", None, 0)
    documents = list(whole.corpus)
    scores = encoder.encode_queries([query.text for query in whole.queries]) @ (
        encoder.encode_documents([document.source for document in documents]).documents.T
    )
    run = {
        query.id: {document.id: float(score) for document, score in zip(documents, row, strict=True)}
        for query, row in zip(whole.queries, scores, strict=True)
    }
    found = float(evaluate(run, whole.qrels, ["nDCG@10"]).means[0])
    assert found == pytest.approx(report.stored_score, abs=1e-3)
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"{report.stored_score:.6g}" in card
    assert pairs.described()["files"]["pairs.jsonl"] in card
    assert str(tmp_path) not in card


def test_a_teacher_alone_brings_the_student_nearer(start, bert_folder, tmp_path):
    texts = [Document(str(n), text) for n, (_, text) in enumerate(drawn(128, 5))]
    teacher = load_encoder(bert_folder, device="cpu")
    plan = a_plan(
        start, tmp_path / "out", objective=Objective(contrast=0, vectors=1), drawing=Drawing(texts=16, chunk_tokens=512)
    )
    report = train_mamba(plan, Data(texts=texts), teacher)
    assert report.pairs == 0
    assert report.last_loss < 0.6 * report.first_loss
    fresh_texts = [text for _, text in drawn(32, 6)]
    wanted = teacher.encode_documents(fresh_texts).documents
    found = load_encoder(tmp_path / "out", device="cpu").encode_documents(fresh_texts).documents
    assert float((found * wanted).sum(1).mean()) > 0.5


def test_a_teacher_of_another_width_is_reached_by_a_projection_that_is_dropped(words, bert_folder, tmp_path):
    start = fresh(replace(SHAPE, width=16), words, "mean", 0, embeddings=False)
    pairs = [Source(write_pairs(tmp_path / "pairs.jsonl", 32))]
    plan = a_plan(
        start, tmp_path / "out", objective=Objective(vectors=1), schedule=Schedule(steps=3),
        folder=Folder(storage="float16"),
    )  # fmt: skip
    train_mamba(plan, Data(pairs), load_encoder(bert_folder, device="cpu"))
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert set(stored) == set(start.config.shapes())
    assert {value.dtype for value in stored.values()} == {torch.float16}
    assert load_encoder(tmp_path / "out", device="cpu").dim == 16


class Stopped(Exception):
    """A kill, as far as the code can tell."""


def test_a_run_that_was_stopped_anywhere_ends_with_the_bytes_of_one_that_was_not(start, bert_folder, tmp_path):
    pairs = Source(write_pairs(tmp_path / "pairs.jsonl", 64))
    held_out = small_set(write_set(tmp_path / "set"), "test", 20, 0)
    teacher = load_encoder(bert_folder, device="cpu")

    def run(out, listener=None):
        plan = a_plan(
            start, out, schedule=Schedule(steps=12, lr=0.01, warmup_steps=2, checkpoint_steps=5, shape="cosine"),
            objective=Objective(vectors=1.0), evaluating=Evaluating(held_out, every=4),
        )  # fmt: skip
        return train_mamba(plan, Data([pairs]), teacher, listener)

    whole = run(tmp_path / "whole")
    for stage, number in (("teach", 1), ("train", 3), ("train", 9), ("train", 12)):
        out = tmp_path / f"{stage}{number}"
        events = []

        def stop(event, stage=stage, number=number, events=events):
            events.append(event.stage)
            if events.count(stage) == number and event.stage == stage:
                raise Stopped

        with pytest.raises(Stopped):
            run(out, stop)
        assert not out.exists()
        again = run(out)
        assert again.losses == whole.losses
        assert again.evaluations == whole.evaluations
        names = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
        for name in names:
            assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.mark.slow
def test_a_killed_process_continues_to_the_same_loss_curve(bert_folder, tmp_path):
    pairs = write_pairs(tmp_path / "pairs.jsonl")
    code = textwrap.dedent("""
        import sys
        from unabridged.apps.cli import main
        sys.exit(main())
    """)
    line = ["train", "mamba", str(pairs), "--embeddings-from", str(bert_folder), "--width", "32", "--layers", "2"]
    line += ["--state", "8", "--head-dim", "16", "--max-tokens", "16", "--steps", "60", "--checkpoint-steps", "1"]
    line += ["--warmup-steps", "5", "--output", "json"]

    def command(name):
        return [sys.executable, "-c", code, *line, "--out", str(tmp_path / name)]

    whole = subprocess.run(command("whole"), capture_output=True, check=True)
    process = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = tmp_path / "killed.unfinished" / "checkpoint.safetensors"
    while not checkpoint.is_file() and process.poll() is None:
        pass
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    again = subprocess.run(command("killed"), capture_output=True, check=True)
    curves = [json.loads(one.stdout.splitlines()[-1])["losses"] for one in (whole, again)]
    assert curves[0] == curves[1]


def test_another_run_in_the_same_place_is_refused(start, tmp_path):
    pairs = Source(write_pairs(tmp_path / "pairs.jsonl", 32))

    def stop(event):
        if event.stage == "train":
            raise Stopped

    plan = a_plan(start, tmp_path / "out", schedule=Schedule(steps=4, checkpoint_steps=1))
    with pytest.raises(Stopped):
        train_mamba(plan, Data([pairs]), listener=stop)
    with pytest.raises(ValidationError, match=r"unfinished training with lr=0\.001, and 0\.01"):
        train_mamba(a_plan(start, tmp_path / "out", schedule=Schedule(steps=4, lr=0.01)), Data([pairs]))


def test_a_loss_that_is_not_finite_stops_the_run(start, tmp_path):
    pairs = Source(write_pairs(tmp_path / "pairs.jsonl", 32))
    plan = a_plan(start, tmp_path / "out", schedule=Schedule(steps=9, lr=1e30, warmup_steps=0))
    with pytest.raises(ValidationError, match=r"loss of step|not finite|NaN"):
        train_mamba(plan, Data([pairs]))


def test_scales_biases_and_decays_do_not_decay(start):
    tower = MambaTower(start, Running())
    kept = {name for name in tower.parameters if name not in tower.undecayed}
    assert {name.rpartition("mixer.")[2] for name in kept} == {
        "embeddings.weight", "in_proj.weight", "conv1d.weight", "out_proj.weight",
    }  # fmt: skip
    assert "embeddings.weight" not in MambaTower(start, Running(freeze_words=True)).parameters


def test_a_start_has_the_words_of_the_encoder_it_names(start, words, tmp_path):
    expected = load_file(words.path / "model.safetensors")["embeddings.word_embeddings.weight"]
    assert torch.equal(start.tensors["embeddings.weight"], expected)
    assert torch.equal(word_vectors(words), expected)
    start.write(tmp_path / "start", start.tensors)
    folder = read_folder(tmp_path / "start")
    again = from_checkpoint(folder, None)
    assert again.config == start.config
    assert again.pooling == "last"
    assert again.eos == "[SEP]" == json.loads((tmp_path / "start" / "tokenizer_config.json").read_text())["eos_token"]
    assert all(torch.equal(again.tensors[name], value) for name, value in start.tensors.items())
    from transformers import AutoConfig

    read = AutoConfig.from_pretrained(tmp_path / "start")
    assert (read.num_heads, read.head_dim, read.state_size, read.n_groups) == (4, 16, 8, 1)
    assert tuple(read.time_step_limit) == (0.0, math.inf)
    with pytest.raises(UsageError, match="are 32 wide, and the model is to be 64"):
        fresh(replace(SHAPE, width=64), words, "last", 0, embeddings=True)
    with pytest.raises(UsageError, match="is no Mamba"):
        from_checkpoint(words, None)


def test_mamba_1_learns_too(words, tmp_path):
    start = fresh(replace(SHAPE, variant=1), words, "mean", 0, embeddings=True)
    pairs = Source(write_pairs(tmp_path / "pairs.jsonl"))
    report = train_mamba(a_plan(start, tmp_path / "out", schedule=Schedule(steps=16, lr=0.01)), Data([pairs]))
    assert report.last_loss < report.first_loss


def test_what_was_cut_is_in_the_report(start, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"query": "a", "positive": "b " * 20}) + "\n")
    report = train_mamba(a_plan(start, tmp_path / "out", schedule=Schedule(steps=1)), Data([Source(path)]))
    assert report.read["read"]["documents"] == {"texts": 1, "tokens": 16, "cut": 1, "tokens_cut": 4, "empty": 0}
    assert "| documents | 1 | 16 | 1 | 4 | 0 |" in (tmp_path / "out" / "README.md").read_text()


def test_the_teacher_is_asked_once_and_continued(start, bert_folder, shelf, tmp_path, monkeypatch):
    teacher = load_encoder(bert_folder, device="cpu")
    monkeypatch.setattr("unabridged.training.teacher.BLOCK", 3)
    found = np.array(teacher_vectors(shelf, teacher, tmp_path))
    texts = shelf.texts(0, len(shelf))
    asked = [shelf.roles[row] == 0 for row in range(len(shelf))]
    for row, (text, query) in enumerate(zip(texts, asked, strict=True)):
        expected = teacher.encode_queries([text])[0] if query else teacher.encode_documents([text]).documents[0]
        np.testing.assert_allclose(found[row], expected, atol=1e-5)
    events = []
    assert np.array_equal(teacher_vectors(shelf, teacher, tmp_path, events.append), found)
    assert not events
    (mark,) = tmp_path.glob("teacher-*.json")
    mark.write_text(json.dumps({**json.loads(mark.read_text()), "done": 3}))
    teacher_vectors(shelf, teacher, tmp_path, events.append)
    assert events[0].documents == 6


def test_texts_and_the_teachers_vectors_are_kept_for_other_runs_where_there_is_a_place_for_them(
    start, bert_folder, tmp_path
):
    pairs = Source(write_pairs(tmp_path / "pairs.jsonl", 32))
    teacher = load_encoder(bert_folder, device="cpu")

    def run(name, tokens=16, lr=0.01):
        plan = a_plan(
            start, tmp_path / name, schedule=Schedule(steps=2, lr=lr), objective=Objective(vectors=1),
            folder=Folder(max_tokens=tokens), cache=tmp_path / "cache",
        )  # fmt: skip
        events = []
        train_mamba(plan, Data([pairs]), teacher, lambda event: events.append(event.stage))
        return set(events)

    assert run("one") == {"teach", "train"}
    assert run("two", lr=0.02) == {"train"}
    assert run("three", tokens=5) == {"teach", "train"}
    assert run("four") == {"train"}
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_parts_that_lack_what_they_need_are_usage_errors(start, shelf, tmp_path):
    tower = MambaTower(start, Running())
    with pytest.raises(UsageError, match="learned from a teacher, and there is none"):
        RetrieverTask(tower, shelf, Objective(vectors=1), Drawing())
    with pytest.raises(UsageError, match="There is no pair to contrast"):
        train_mamba(a_plan(start, tmp_path / "out"), Data(texts=[Document("a", "the cat")]))
    for call, message in (
        (lambda: Objective(contrast=0), "one of them above 0"),
        (lambda: Objective(temperature=0), "Temperatures are finite and above 0"),
        (lambda: Objective(distance="l1"), "cosine or mse, got 'l1'"),
        (lambda: Drawing(pairs=0), "pairs must be at least 1, got 0"),
        (lambda: Schedule(shape="step"), "linear or cosine, got shape='step'"),
        (lambda: Schedule(steps=0), "at least 1 step, got steps=0"),
        (lambda: Running(precision="float16"), "float32 or bfloat16"),
        (lambda: Folder(storage="int8"), "float16, bfloat16, float32, got 'int8'"),
    ):
        with pytest.raises(UsageError, match=message):
            call()


def test_the_rate_rises_and_falls_by_its_shape():
    for shape, middle in (("linear", 0.5), ("cosine", 0.5)):
        schedule = Schedule(lr=1.0, warmup_steps=4, shape=shape)
        rates = [schedule.rate(step, 24) for step in range(25)]
        assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
        assert rates[4] == 1.0
        assert rates[14] == pytest.approx(middle)
        assert rates[24] == pytest.approx(0.0, abs=1e-12)
    assert Schedule(lr=1.0, warmup_steps=0, shape="cosine").rate(1, 4) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)


def test_the_command_trains_and_the_folder_indexes_and_searches(bert_folder, tmp_path):
    pairs, folder = write_pairs(tmp_path / "pairs.jsonl", 64), write_set(tmp_path / "set")
    line = ["train", "mamba", str(pairs), "--out", str(tmp_path / "model"), "--embeddings-from", str(bert_folder)]
    line += [
        "--teacher",
        str(bert_folder),
        "--vectors",
        "1",
        "--scores",
        "0.5",
        "--texts",
        str(folder / "corpus.jsonl"),
    ]
    line += ["--width", "32", "--layers", "2", "--state", "8", "--head-dim", "16", "--max-tokens", "16"]
    line += ["--eval", str(folder), "--eval-queries", "10", "--steps", "6", "--licence", "apache-2.0", "--quiet"]
    found = CliRunner().invoke(app, [*line, "--output", "json"])
    assert found.exit_code == 0, found.output
    report = json.loads(found.stdout.splitlines()[-1])
    assert report["pairs"] == 64
    assert len(report["losses"]) == 6
    assert "license: apache-2.0" in (tmp_path / "model" / "README.md").read_text()
    index = [
        "index",
        str(folder / "corpus.jsonl"),
        "--out",
        str(tmp_path / "index"),
        "--encoder",
        str(tmp_path / "model"),
    ]
    found = CliRunner().invoke(app, [*index, "--device", "cpu"])
    assert found.exit_code == 0, found.output
    found = CliRunner().invoke(app, ["search", str(tmp_path / "index"), "a b", "--output", "json"])
    assert found.exit_code == 0, found.output
