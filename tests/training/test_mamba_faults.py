"""Trainings of a tiny Mamba that would teach nothing, continue differently than they began, or lie in damaged files."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from unabridged.apps.cli import app
from unabridged.contracts import Document
from unabridged.encoders._hf import read_folder
from unabridged.encoders.load import load_encoder
from unabridged.errors import UsageError, ValidationError
from unabridged.training.heldout import small_set
from unabridged.training.loop import Checkpoint, Schedule, fit
from unabridged.training.mamba.start import Shape, fresh, word_vectors
from unabridged.training.mamba.tower import MambaTower, Running
from unabridged.training.mamba.train import Data, Evaluating, Folder, Plan, train_mamba
from unabridged.training.pairs import Source
from unabridged.training.retriever import Drawing, Objective, RetrieverTask
from unabridged.training.shelf import Framing, make_shelf
from unabridged.training.teacher import teacher_vectors

WORDS = [*"abcdefghijklmnopqrstuvwxyz", "the", "cat", "sat", "on", "mat"]


def drawn(count, seed):
    chance = np.random.default_rng(seed)
    return [" ".join(chance.choice(WORDS, 6, replace=False)) for _ in range(count)]


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pairs(folder, count, **more):
    return Source(write(folder / "pairs.jsonl", ({"query": t[:6], "positive": t, **more} for t in drawn(count, 1))))


def held_out(folder, seed):
    texts = drawn(12, seed)
    write(folder / "corpus.jsonl", ({"_id": str(n), "text": text, "title": ""} for n, text in enumerate(texts)))
    write(folder / "queries.jsonl", ({"_id": str(n), "text": text[:6]} for n, text in enumerate(texts)))
    (folder / "qrels").mkdir()
    lines = ["query-id\tcorpus-id\tscore", *(f"{n}\t{n}\t1" for n in range(len(texts)))]
    (folder / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n")
    return small_set(folder, "test", None, 0)


@pytest.fixture(scope="module")
def words(bert_folder):
    return read_folder(bert_folder)


@pytest.fixture(scope="module")
def start(words):
    return fresh(Shape(width=32, layers=1, state=8, head_dim=16), words, "last", 0, embeddings=True)


@pytest.fixture(scope="module")
def teacher(bert_folder):
    return load_encoder(bert_folder, device="cpu")


def a_plan(start, out, **changes):
    plan = Plan(
        start, out, schedule=Schedule(epochs=1, lr=0.01, warmup_steps=2, checkpoint_steps=5),
        drawing=Drawing(pairs=8), folder=Folder(max_tokens=16, storage="float32"),
    )  # fmt: skip
    return replace(plan, **changes)


class Stopped(Exception):
    """A kill, as far as the code can tell."""


def stopped(plan, data, steps):
    """The folder of a run that was killed in step ``steps``."""
    seen = []

    def stop(event):
        seen.append(event.stage)
        if seen.count("train") == steps:
            raise Stopped

    with pytest.raises(Stopped):
        train_mamba(plan, data, listener=stop)
    return plan.out.with_name(plan.out.name + ".unfinished")


@pytest.mark.parametrize("kind", ["pairs", "texts"])
def test_a_last_step_of_one_text_does_not_end_a_training_by_rankings(start, teacher, tmp_path, kind):
    texts = [Document(str(n), text) for n, text in enumerate(drawn(9, 2))]
    data = Data([pairs(tmp_path, 9)]) if kind == "pairs" else Data(texts=texts)
    plan = a_plan(start, tmp_path / "out", objective=Objective(contrast=0, scores=1), drawing=Drawing(pairs=8, texts=8))
    report = train_mamba(plan, data, teacher)
    assert report.steps == 2
    assert sorted(loss > 0 for loss in report.losses) == [False, True]


@pytest.mark.parametrize(
    ("objective", "drawing"),
    [
        (Objective(), Drawing(pairs=1)),
        (Objective(contrast=0, both=1), Drawing(pairs=1, random_negatives=2)),
        (Objective(contrast=0, scores=1), Drawing(pairs=1)),
    ],
    ids=["one answer", "one query", "a ranking of one"],
)
def test_steps_with_nothing_to_compare_are_refused(start, teacher, tmp_path, objective, drawing):
    plan = a_plan(start, tmp_path / "out", objective=objective, drawing=drawing)
    with pytest.raises(UsageError, match="nothing is learned"):
        train_mamba(plan, Data([pairs(tmp_path, 6)]), teacher if objective.taught else None)


def test_one_pair_with_something_to_compare_is_taught(start, tmp_path):
    plan = a_plan(start, tmp_path / "random", drawing=Drawing(pairs=1, random_negatives=2))
    assert train_mamba(plan, Data([pairs(tmp_path, 4)])).first_loss > 0
    given = Data([pairs(tmp_path, 4, negative="the cat")])
    assert train_mamba(a_plan(start, tmp_path / "given", drawing=Drawing(pairs=1)), given).first_loss > 0


def test_a_teacher_or_texts_from_which_nothing_is_learned_are_refused(start, teacher, tmp_path):
    data = Data([pairs(tmp_path, 9)])
    with pytest.raises(UsageError, match=r"A teacher is given.*--vectors 1"):
        train_mamba(a_plan(start, tmp_path / "out"), data, teacher)
    with pytest.raises(UsageError, match="Texts without queries are given"):
        train_mamba(a_plan(start, tmp_path / "out"), replace(data, texts=[Document("a", "the cat")]))


def test_what_would_only_fail_at_the_end_is_refused_at_the_start():
    for tokens in (0, -5, 1 << 40):
        with pytest.raises(UsageError, match="segment"):
            Folder(segment_tokens=tokens)


def test_right_answers_of_the_same_query_in_other_lines_are_no_wrong_ones(start, tmp_path):
    rows = [("a b", "a b c"), ("a b", "b a d"), ("e f", "e f g")]
    path = write(tmp_path / "pairs.jsonl", ({"query": query, "positive": text} for query, text in rows))
    tower = MambaTower(start, Running())
    framing = Framing(load_encoder(start.words.path, device="cpu").tokenizer, (np.zeros(0, np.int32),) * 2)
    shelf = make_shelf(tmp_path / "shelf", framing, 1, Source(path))
    task = RetrieverTask(tower, shelf, Objective(temperature=1.0), Drawing(3))
    (rows,) = task.batches(0)
    ids, offsets = shelf.packed(np.arange(len(shelf)))
    vectors = tower.vectors(ids, offsets)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    right = {pair: shelf.positives[0][pair] for pair in range(3)}
    expected = 0.0
    for pair, others in ((0, [2]), (1, [2]), (2, [0, 1])):
        powers = {n: np.exp(vectors[shelf.queries[pair]] @ vectors[right[n]]) for n in (pair, *others)}
        expected -= np.log(powers[pair] / sum(powers.values())) / 3
    assert task.loss(0, 0, rows).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there_is_a_usage_error(start, bert_folder, tmp_path, device):
    with pytest.raises(UsageError, match=f"'{device}' cannot be used"):
        MambaTower(start, Running(device=device))


def test_a_training_that_starts_from_a_checkpoint_keeps_its_prompts_unless_others_are_named(words, tmp_path):
    data = str(pairs(tmp_path, 9).path)

    def prompts(name, *options):
        line = ["train", "mamba", data, "--out", str(tmp_path / name), "--steps", "1", "--max-tokens", "9", "--quiet"]
        found = CliRunner().invoke(app, [*line, *options])
        assert found.exit_code == 0, found.output
        return read_folder(tmp_path / name).prompts

    shape = ["--width", "32", "--layers", "1", "--state", "8", "--head-dim", "16", "--tokenizer-from", str(words.path)]
    first = prompts("first", *shape, "--query-prompt", "the ", "--document-prompt", "cat ")
    assert first == {"query": "the ", "document": "cat "}
    begin = ["--init", str(tmp_path / "first")]
    assert prompts("second", *begin) == first
    assert prompts("third", *begin, "--query-prompt", "on ") == {"query": "on ", "document": "cat "}
    assert prompts("fourth", *begin, "--query-prompt", "", "--document-prompt", "") == {}


def test_seeds_that_no_generator_takes_are_refused(words):
    for seed in (-1, 1 << 63):
        with pytest.raises(UsageError, match=f"seed={seed}"):
            fresh(Shape(width=32), words, "last", seed, embeddings=False)


def test_a_vocabulary_with_holes_has_a_vector_for_its_highest_token(words, tmp_path):
    folder = tmp_path / "holes"
    folder.mkdir()
    for path in words.path.glob("*"):
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["mat"] = 500
    (folder / "tokenizer.json").write_text(json.dumps(content))
    holed = read_folder(folder)
    shape = Shape(width=32, layers=1, state=8, head_dim=16)
    assert fresh(shape, holed, "last", 0, embeddings=False).config.vocab == 501
    # With word vectors there is none for token 500, which is told by its number before a step is made.
    begun = fresh(shape, holed, "last", 0, embeddings=True)
    path = write(tmp_path / "pairs.jsonl", [{"query": "the cat", "positive": "on the mat"}] * 2)
    with pytest.raises(ValidationError, match="a token 500, and the model has word vectors for"):
        train_mamba(a_plan(begun, tmp_path / "out", drawing=Drawing(random_negatives=1)), Data([Source(path)]))


def test_word_vectors_of_a_damaged_file_are_refused(words, tmp_path):
    folder = tmp_path / "damaged"
    folder.mkdir()
    (folder / "config.json").write_bytes((words.path / "config.json").read_bytes())
    (folder / "model.safetensors").write_bytes((words.path / "model.safetensors").read_bytes()[:-9])
    with pytest.raises(ValidationError, match="is not a file of safetensors"):
        word_vectors(read_folder(folder))
    (folder / "model.safetensors").unlink()
    torch.save({"model": {"wte.weight": torch.zeros(2, 2)}}, folder / "pytorch_model.bin")
    with pytest.raises(ValidationError, match="holds a dict under 'model'"):
        word_vectors(read_folder(folder))


def test_a_damaged_or_foreign_checkpoint_is_named(start, tmp_path):
    data = Data([pairs(tmp_path, 64)])
    plan = a_plan(start, tmp_path / "out")
    path = stopped(plan, data, 7) / "checkpoint.safetensors"
    for content in (path.read_bytes()[:500], b"", b"nothing"):
        path.write_bytes(content)
        with pytest.raises(ValidationError, match="does not load as one"):
            train_mamba(plan, data)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(ValidationError, match=r"checkpoint\.safetensors should be the checkpoint"):
        train_mamba(plan, data)


@pytest.mark.parametrize(
    ("name", "content"),
    [("ids.i32", b"1234"), ("ids.i32", None), ("texts.utf8", b"a"), ("rows.npz", b"xx"), ("facts.json", b"{")],
    ids=str,
)
def test_damaged_texts_are_read_again_and_the_run_goes_on(start, tmp_path, name, content):
    data = Data([pairs(tmp_path, 64)])
    whole = train_mamba(a_plan(start, tmp_path / "whole"), data)
    plan = a_plan(start, tmp_path / "out")
    path = stopped(plan, data, 7) / "data" / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert train_mamba(plan, data).losses == whole.losses


@pytest.mark.parametrize("name", ["npy", "json"])
def test_damaged_vectors_of_a_teacher_are_computed_again(start, teacher, tmp_path, name):
    framing = Framing(teacher.tokenizer, (np.zeros(0, np.int32),) * 2)
    shelf = make_shelf(tmp_path / "shelf", framing, 1, pairs(tmp_path, 9))
    expected = np.array(teacher_vectors(shelf, teacher, tmp_path))
    (path,) = tmp_path.glob(f"teacher-*.{name}")
    path.write_bytes(path.read_bytes()[:50])
    assert np.array_equal(teacher_vectors(shelf, teacher, tmp_path), expected)


def test_a_run_that_asks_for_its_best_only_later_keeps_the_best_of_what_was_saved(start, tmp_path):
    data = Data([pairs(tmp_path, 96)])
    evaluating = Evaluating(held_out(tmp_path / "set", 2), every=3)
    plan = a_plan(start, tmp_path / "out", evaluating=replace(evaluating, keep="last"))
    stopped(plan, data, 7)
    report = train_mamba(replace(plan, evaluating=evaluating), data)
    later = {step: score for step, score in report.evaluations if step > 5}
    assert [step for step, _ in report.evaluations] == [0, 3, 6, 9, 12]
    kept = report.kept_step or 12
    assert kept in later
    assert report.stored_score == later[kept] == max(later.values())


def test_held_out_texts_and_queries_that_are_cut_are_on_the_card(start, tmp_path):
    plan = a_plan(
        start, tmp_path / "out", evaluating=Evaluating(held_out(tmp_path / "set", 2)),
        folder=Folder(max_tokens=1, storage="float32"), schedule=Schedule(steps=1),
    )  # fmt: skip
    train_mamba(plan, Data([pairs(tmp_path, 9)]))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "12 queries, 12 documents; longer than was read: 12 documents, 12 queries." in card


def test_evaluations_of_another_set_are_not_compared(start, tmp_path):
    data = Data([pairs(tmp_path, 96)])
    first, second = (Evaluating(held_out(tmp_path / f"set{seed}", seed), every=3) for seed in (2, 3))
    plan = a_plan(start, tmp_path / "out", evaluating=first)
    stopped(plan, data, 7)
    report = train_mamba(replace(plan, evaluating=second), data)
    assert [step for step, _ in report.evaluations] == [6, 9, 12]
    scores = dict(report.evaluations)
    assert report.stored_score == scores[report.kept_step or 12] == max(scores.values())


def test_a_best_that_an_earlier_version_saved_is_still_the_one_that_is_kept(start, tmp_path):
    data = Data([pairs(tmp_path, 96)])
    plan = a_plan(start, tmp_path / "out", evaluating=Evaluating(held_out(tmp_path / "set", 2), every=3))
    whole = train_mamba(replace(plan, out=tmp_path / "whole"), data)
    best = stopped(plan, data, 7) / "best.safetensors"
    save_file(load_file(best), best)
    report = train_mamba(plan, data)
    assert (report.kept_step, report.stored_score, report.evaluations) == (
        whole.kept_step, whole.stored_score, whole.evaluations,
    )  # fmt: skip


def test_states_that_a_training_makes_infinite_ask_for_a_lower_rate(start, tmp_path):
    plan = a_plan(start, tmp_path / "out", schedule=Schedule(steps=9, lr=1e30, warmup_steps=0))
    with pytest.raises(ValidationError, match=r"NaN or infinite values in training\. Lower the rate"):
        train_mamba(plan, Data([pairs(tmp_path, 32)]))


def test_a_parameter_that_its_storage_does_not_hold_is_told_and_the_training_is_kept(start, tmp_path):
    large = start.tensors["norm_f.weight"] * 1e5
    begun = replace(start, tensors={**start.tensors, "norm_f.weight": large})
    plan = a_plan(begun, tmp_path / "out", folder=Folder(max_tokens=16, storage="float16"))
    data = Data([pairs(tmp_path, 32)])
    with pytest.raises(ValidationError, match=r"norm_f\.weight reaches .*float16 does not hold.*--storage float32"):
        train_mamba(plan, data)
    seen = []
    train_mamba(replace(plan, folder=Folder(max_tokens=16, storage="float32")), data, listener=seen.append)
    assert not seen
    assert float(load_file(tmp_path / "out" / "model.safetensors")["norm_f.weight"].abs().max()) > 9e4


class Steep:
    """A task whose loss is finite and whose gradient is not."""

    def __init__(self):
        self.parameters = {"a": torch.zeros(2, requires_grad=True)}

    def batches(self, epoch):
        return [np.zeros(1, np.int64)] * 3

    def tokens(self, rows):
        return 1

    def loss(self, epoch, number, rows):
        return self.parameters["a"].sqrt().sum()


def test_a_gradient_that_is_not_finite_stops_the_run_before_it_reaches_parameters(tmp_path):
    task = Steep()
    with pytest.raises(ValidationError, match="gradient of step 1 of 3 has norm inf"):
        fit(task, Schedule(epochs=1, checkpoint_steps=1), Checkpoint(tmp_path / "checkpoint.safetensors", {}))
    assert torch.equal(task.parameters["a"], torch.zeros(2))
    assert not (tmp_path / "checkpoint.safetensors").exists()
