"""Tuned positions on tiny models: what is frozen stays, what is learned helps, and a kill changes nothing."""

from itertools import pairwise

import numpy as np
import pytest
from safetensors.numpy import load_file

from unabridged.contracts import Document, Failure
from unabridged.encoders._hf import read_folder
from unabridged.encoders._tokens import Tokenizer
from unabridged.encoders.load import load_encoder
from unabridged.errors import CorpusError, ShapeError, UsageError, ValidationError
from unabridged.files import check_free
from unabridged.training.loop import Checkpoint, Schedule, fit
from unabridged.training.losses import cosine_distance, info_nce
from unabridged.training.made import train_folder
from unabridged.training.needles import draw
from unabridged.training.texts import Pieces, cut
from unabridged.training.tuned_positions import (
    Tuning,
    position_task,
    random_starts,
    split_rows,
    stretched,
)

MATRIX = "embeddings.position_embeddings.weight"
SCHEDULE = Schedule(epochs=2, lr=0.02, warmup_steps=2, weight_decay=0.1, checkpoint_steps=3)
TUNING = Tuning(256, batch_tokens=256, seed=3)
WORDS = ["the", "cat", "sat", "on", "mat", "query", "passage", "long", "document"]


def corpus(count=6, words=400, seed=1):
    chance = np.random.default_rng(seed)
    return [Document(f"d{n}", " ".join(chance.choice(WORDS, words).tolist())) for n in range(count)]


@pytest.fixture(scope="module")
def tuned(bert_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("tuned") / "model"
    return out, tune_positions(read_folder(bert_folder), corpus(), out, TUNING, SCHEDULE)


def tune_positions(folder, documents, out, tuning, schedule, listener=None):
    return train_folder(position_task(folder, documents, tuning), schedule, out, listener)


def matrix(folder):
    return load_file(folder / "model.safetensors")[MATRIX]


def test_the_long_matrix_is_the_published_interpolation():
    trained = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    long = stretched(trained, 4)
    for i in range(4):
        for r in range(4):
            expected = (1 - r / 4) * trained[i].astype(np.float64) + r / 4 * trained[i + 1].astype(np.float64)
            np.testing.assert_allclose(long[4 * i + r], expected, atol=1e-6)
    assert (long[16:] == trained[4]).all()
    assert (long[::4] == trained).all()


def test_starts_cover_every_place_a_text_can_stand_at_and_no_other():
    lengths = np.array([3, 10, 12])
    drawn = np.stack([random_starts(lengths, 12, np.random.default_rng(seed)) for seed in range(400)])
    assert [sorted(set(column.tolist())) for column in drawn.T] == [list(range(10)), [0, 1, 2], [0]]


def test_anchors_are_unchanged_to_the_bit_and_every_row_between_has_moved(bert_folder, tuned):
    before, after = matrix(bert_folder), matrix(tuned[0])
    assert after.shape == (256, 32)
    assert after[::4].tobytes() == before.tobytes()
    moved = np.abs(after - stretched(before, 4)).max(axis=1).reshape(64, 4)
    assert (moved[:, 0] == 0).all()
    assert (moved[:, 1:] > 0).all()


def test_every_other_weight_is_unchanged_to_the_bit(bert_folder, tuned):
    before, after = load_file(bert_folder / "model.safetensors"), load_file(tuned[0] / "model.safetensors")
    assert set(after) <= set(before)
    assert all(after[name].tobytes() == before[name].tobytes() for name in after if name != MATRIX)


@pytest.mark.parametrize("backend", ["packed", "torch", "onnx"])
def test_short_texts_have_the_untuned_vectors_to_the_bit_and_long_ones_read_the_new_rows(
    bert_folder, tuned, backend, tmp_path
):
    if backend == "onnx":
        pytest.importorskip("onnxruntime")
    plain = load_encoder(bert_folder, device="cpu", backend=backend)
    long = load_encoder(tuned[0], device="cpu", backend=backend)
    stretched_only = load_encoder(bert_folder, device="cpu", backend=backend, extend="pi", target_tokens=256)
    assert long.window == 256
    short = ["", "the cat", "the cat sat on the mat " * 4, " ".join(WORDS[:4] * 20)[:200]]
    assert max(plain.count_tokens(short)) + 2 <= 64
    assert long.encode_documents(short).documents.tobytes() == plain.encode_documents(short).documents.tobytes()
    text = ["the cat sat on mat " * 30]
    found, untuned = long.encode_documents(text).documents, stretched_only.encode_documents(text).documents
    assert not np.allclose(found, untuned, atol=1e-3)


def test_a_long_text_gets_the_vector_of_the_model_in_transformers_with_rows_in_order(tuned):
    import torch
    from transformers import AutoModel

    encoder = load_encoder(tuned[0], device="cpu")
    ids = np.concatenate((
        encoder.tokenizer.specials[0],
        encoder.tokenizer.encode(["the cat sat on mat " * 40])[0].ids,
        encoder.tokenizer.specials[1],
    ))  # fmt: skip
    assert 64 < len(ids) <= 256
    model = AutoModel.from_pretrained(str(tuned[0])).eval()
    with torch.no_grad():
        states = model(input_ids=torch.from_numpy(ids[None].astype(np.int64))).last_hidden_state[0]
    expected = states.mean(0).numpy() / np.linalg.norm(states.mean(0).numpy())
    found = encoder.encode_documents(["the cat sat on mat " * 40]).documents[0]
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_stretches_find_the_texts_they_stand_in_better_than_before(bert_folder, tmp_path):
    task = position_task(read_folder(bert_folder), corpus(), TUNING)
    fresh = [(99, number, rows) for number, rows in enumerate(task.batches(99))]

    def mean():
        return sum(task.loss(*batch).item() for batch in fresh) / len(fresh)

    before = mean()
    fit(task, Schedule(epochs=4, lr=0.1, warmup_steps=2), Checkpoint(tmp_path / "file", {}))
    assert mean() < 0.9 * before


def test_the_report_counts_texts_tokens_and_steps(tuned):
    report = tuned[1]
    assert report.texts > 6
    assert report.tokens > 2 * 6 * 400
    assert report.steps % SCHEDULE.epochs == 0


def test_the_gradient_reaches_the_new_rows_and_nothing_else(bert_folder):
    task = position_task(read_folder(bert_folder), corpus(), TUNING)
    task.loss(0, 0, task.batches(0)[0]).backward()
    model, rows, trained = task._parts
    assert task.parameters["new"].grad.abs().sum() > 0
    assert task.parameters["new"].shape == (64, 3, 32)
    touched = {name for name, p in [*model.named_parameters(), *rows.named_parameters()] if p.grad is not None}
    assert {name.rpartition(".")[2] for name in touched} == {"new"}
    assert trained.weight.grad is None
    assert set(dict(rows.named_parameters())) == {"new"}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_gives_others(bert_folder, tuned, tmp_path):
    folder = read_folder(bert_folder)
    tune_positions(folder, corpus(), tmp_path / "again", TUNING, SCHEDULE)
    assert matrix(tmp_path / "again").tobytes() == matrix(tuned[0]).tobytes()
    tune_positions(folder, corpus(), tmp_path / "other", Tuning(256, 256, seed=4), SCHEDULE)
    assert matrix(tmp_path / "other").tobytes() != matrix(tuned[0]).tobytes()


@pytest.mark.parametrize("after", [1, 4, 5])
def test_a_run_that_was_interrupted_ends_with_the_bytes_of_one_that_was_not(bert_folder, tuned, tmp_path, after):
    events = []

    def stop(event):
        events.append(event)
        if len(events) == after:
            raise KeyboardInterrupt

    folder, out = read_folder(bert_folder), tmp_path / "model"
    with pytest.raises(KeyboardInterrupt):
        tune_positions(folder, corpus(), out, TUNING, SCHEDULE, stop)
    assert not out.exists()
    continued = []
    report = tune_positions(folder, corpus(), out, TUNING, SCHEDULE, continued.append)
    assert matrix(out).tobytes() == matrix(tuned[0]).tobytes()
    assert len(continued) == report.steps - after // SCHEDULE.checkpoint_steps * SCHEDULE.checkpoint_steps
    assert continued[-1].fraction == 1.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_continuing_with_other_settings_is_refused_by_name(bert_folder, tmp_path):
    def stop(event):
        if event.documents > 10:
            raise KeyboardInterrupt

    folder, out = read_folder(bert_folder), tmp_path / "model"
    with pytest.raises(KeyboardInterrupt):
        tune_positions(folder, corpus(), out, TUNING, Schedule(lr=0.02, checkpoint_steps=1), stop)
    with pytest.raises(ValidationError, match=r"lr=0\.02.*0\.5 was asked"):
        tune_positions(folder, corpus(), out, TUNING, Schedule(lr=0.5, checkpoint_steps=1))


def test_roberta_keeps_the_rows_of_its_padding_in_front(roberta_folder, tmp_path):
    out = tmp_path / "model"
    tune_positions(read_folder(roberta_folder), corpus(2, 60), out, TUNING, SCHEDULE)
    before, after = matrix(roberta_folder), matrix(out)
    assert after.shape == (2 + 256, 32)
    assert after[:2].tobytes() == before[:2].tobytes()
    assert after[2::4].tobytes() == before[2:].tobytes()
    assert (after[3::4] != stretched(before[2:], 4)[1::4]).any()
    plain, long = load_encoder(roberta_folder, device="cpu"), load_encoder(out, device="cpu")
    short, text = ["a cat"], ["a cat sat on a mat " * 10]
    assert long.encode_documents(short).documents.tobytes() == plain.encode_documents(short).documents.tobytes()
    assert long.count_tokens(text)[0] > 64
    assert len(long.encode_documents(text).segments) == 1


def test_pieces_partition_each_document_and_fit_the_trained_length(bert_folder):
    tokenizer = Tokenizer(read_folder(bert_folder))
    documents = [*corpus(3), Document("empty", ""), Failure("x", "here", "read", "malformed-json", "bad")]
    pieces = cut(documents, tokenizer, 64, 5)
    assert pieces.lengths.max() <= 64
    assert len(set(pieces.lengths.tolist())) > 10
    own = [pieces.ids[a + 1 : b - 1] for a, b in zip(pieces.offsets[:-1], pieces.offsets[1:], strict=True)]
    whole = [tokens.ids for tokens in tokenizer.encode([document.source for document in documents[:3]])]
    assert np.concatenate(own).tolist() == np.concatenate(whole).tolist()
    assert all(
        pieces.ids[a] == 2 and pieces.ids[b - 1] == 3 for a, b in zip(pieces.offsets, pieces.offsets[1:], strict=False)
    )


def numbered(sizes, first=10):
    """Pieces in which no own token occurs twice, between 2 and 3."""
    ends = np.cumsum([0, *sizes]) + first
    parts = [np.array([2, *range(a, b), 3], np.int32) for a, b in pairwise(ends.tolist())]
    return Pieces(np.concatenate(parts), np.cumsum([0, *map(len, parts)]).astype(np.int64))


def own_tokens(pieces):
    return [pieces.own(row).tolist() for row in range(len(pieces))]


@pytest.mark.parametrize("size", [1, 2, 30, 300, 1100])
def test_texts_of_a_batch_are_one_haystack_but_for_their_stretches(size):
    pieces = numbered([size, *[45] * 400])
    repeated = checked = 0
    for seed in range(24):
        needles = draw(pieces, 0, 5, np.random.default_rng(seed))
        texts, asked = own_tokens(needles.texts), own_tokens(needles.asked)
        if min(map(min, asked)) < 10 + size:
            continue  # a stretch of the haystack itself could be taken for its place there
        checked += 1
        assert all(len(text) == size for text in texts)
        rests = []
        for text, stretch in zip(texts, asked, strict=True):
            place = next(at for at in range(size) if text[at : at + len(stretch)] == stretch)
            rests.append(text[:place] + text[place + len(stretch) :])
        longest = max(rests, key=len)
        assert all(rest == longest[: len(rest)] for rest in rests)
        assert sum(map(len, rests)) >= 5 * (size // 2) or size == 1
        repeated += len(set(longest)) < len(longest)
    assert checked > 10
    assert size < 100 or 0 < repeated < checked  # both kinds of haystack occur


def test_stretches_come_from_everywhere_and_have_a_question_s_length():
    pieces = numbered([300, 500, 40])
    asked = [one for seed in range(60) for one in own_tokens(draw(pieces, 0, 4, np.random.default_rng(seed)).asked)]
    assert {len(one) for one in asked} <= set(range(12, 40))
    assert len({len(one) for one in asked}) > 15
    assert min(one[0] for one in asked) < 100
    assert max(one[0] for one in asked) > 800


def test_long_texts_mostly_stand_at_row_0_and_short_ones_anywhere(bert_folder):
    task = position_task(read_folder(bert_folder), corpus(), TUNING)
    long = [task._starts(np.full(4, 100), np.random.default_rng(seed)).tolist() for seed in range(200)]
    assert all(len(set(starts)) == 1 for starts in long)
    at_zero = sum(starts[0] == 0 for starts in long)
    assert 110 < at_zero < 170
    assert max(starts[0] for starts in long) > 100
    short = [task._starts(np.full(4, 60), np.random.default_rng(seed)).tolist() for seed in range(20)]
    assert max(len(set(starts)) for starts in short) == 4


def test_info_nce_is_the_hand_written_softmax_and_cosine_distance_the_hand_written_mean():
    import torch

    a, b = np.random.default_rng(2).standard_normal((2, 4, 3))
    unit_a, unit_b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    scores = np.exp(unit_a @ unit_b.T / 0.05)
    expected = -np.log(np.diag(scores) / scores.sum(axis=1)).mean()
    assert info_nce(torch.from_numpy(a), torch.from_numpy(b)).item() == pytest.approx(expected)
    distance = cosine_distance(torch.from_numpy(a), torch.from_numpy(b)).item()
    assert distance == pytest.approx((1 - (unit_a * unit_b).sum(axis=1)).mean())
    with pytest.raises(ShapeError, match="two"):
        info_nce(torch.from_numpy(a), torch.from_numpy(b[:2]))


def test_frozen_and_new_rows_lie_side_by_side():
    trained = np.arange(12, dtype=np.float32).reshape(6, 2)
    rows = split_rows(trained, 2, 1)
    rows.new.data.fill_(-1.0)
    assert rows.rows[:, 0].tolist() == [0.0, 2.0, -1.0, 4.0, -1.0, 6.0, -1.0, 8.0, -1.0, 10.0, -1.0]


def test_a_target_that_is_not_above_the_trained_length_is_refused(bert_folder, tmp_path):
    with pytest.raises(UsageError, match="target_tokens=64 is not above the trained length"):
        tune_positions(read_folder(bert_folder), corpus(), tmp_path / "model", Tuning(64), SCHEDULE)


def test_a_model_that_is_tuned_already_is_refused(tuned, tmp_path):
    with pytest.raises(UsageError, match="extended model already"):
        tune_positions(read_folder(tuned[0]), corpus(), tmp_path / "model", Tuning(512), SCHEDULE)


def test_a_model_without_learned_positions_is_refused_by_type(tmp_path, bert_folder):
    import json

    config = json.loads((bert_folder / "config.json").read_text()) | {"model_type": "nomic_bert"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="'nomic_bert' with rotary positions"):
        tune_positions(read_folder(tmp_path), corpus(), tmp_path / "model", TUNING, SCHEDULE)


def test_a_corpus_without_text_and_a_folder_that_is_there_are_refused(bert_folder, tmp_path):
    with pytest.raises(CorpusError, match="no text to train on"):
        tune_positions(read_folder(bert_folder), [Document("a", "")], tmp_path / "model", TUNING, SCHEDULE)
    (tmp_path / "there").mkdir()
    check_free(tmp_path / "there")
    (tmp_path / "there" / "file").write_text("x")
    with pytest.raises(UsageError, match="exists already"):
        check_free(tmp_path / "there")
