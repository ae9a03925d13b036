"""A rotary student of a tiny BERT: its beginning against a hand-written BERT, its training, its folder."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from unabridged.contracts import Document
from unabridged.encoders._hf import read_folder
from unabridged.encoders.load import load_encoder
from unabridged.errors import UsageError
from unabridged.training.loop import Schedule
from unabridged.training.made import train_folder
from unabridged.training.rope_student import FROZEN, Student, student_name, student_task

SCHEDULE = Schedule(epochs=3, lr=0.005, warmup_steps=2, checkpoint_steps=4)
STUDENT = Student(tokens=48, batch_tokens=512, seed=3)
WORDS = ["the", "cat", "sat", "on", "mat", "query", "passage", "long", "document"]


def corpus(count=6, words=300):
    chance = np.random.default_rng(1)
    return [Document(f"d{n}", " ".join(chance.choice(WORDS, words).tolist())) for n in range(count)]


@pytest.fixture(scope="module")
def taught(bert_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("student") / "model"
    return out, train_folder(student_task(read_folder(bert_folder), corpus(), STUDENT), SCHEDULE, out)


def test_every_matrix_of_the_teacher_has_a_place_in_the_student_but_positions_and_pooler(bert_folder):
    task = student_task(read_folder(bert_folder), corpus(1), STUDENT)
    teacher, student = task._models
    named = {student_name(name): value for name, value in teacher.state_dict().items()}
    del named[None]
    assert set(named) == set(student.state_dict())
    assert all((student.state_dict()[name] == value).all() for name, value in named.items())
    left = {name for name in teacher.state_dict() if student_name(name) is None}
    assert left == {"embeddings.position_embeddings.weight", "pooler.dense.weight", "pooler.dense.bias"}


def test_a_student_of_one_token_is_its_teacher_without_position_vectors(bert_folder):
    import torch

    teacher, student = student_task(read_folder(bert_folder), corpus(1), STUDENT)._models
    teacher.embeddings.position_embeddings.weight.data.zero_()
    ids = torch.tensor([[7], [9], [30]])  # alone, a token has no distance to another: rotations cancel out
    with torch.no_grad():
        expected, found = teacher(input_ids=ids).last_hidden_state, student(input_ids=ids).last_hidden_state
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=2e-6)


def test_teaching_brings_the_student_nearer_and_leaves_word_vectors_alone(bert_folder, taught):
    out, report = taught
    assert report.last_loss < 0.8 * report.first_loss
    before, after = load_file(bert_folder / "model.safetensors"), load_file(out / "model.safetensors")
    assert after[FROZEN].tobytes() == before[FROZEN].tobytes()
    moved = [name for name, value in before.items() if (to := student_name(name)) and (after[to] != value).any()]
    assert len(moved) == len(after) - 3  # the word vectors, and a pooler of zeros that nothing uses
    assert not after["pooler.dense.weight"].any()


def test_the_student_loads_as_a_rotary_encoder_that_takes_every_rotary_method(taught):
    folder = read_folder(taught[0])
    assert (folder.positions.value, folder.limit, folder.pooling, folder.normalize) == ("rotary", 48, ("mean",), True)
    plain = load_encoder(taught[0], device="cpu")
    text = ["the cat sat on mat " * 30]
    assert plain.window == 48
    vectors = [plain.encode_documents(text).documents]
    for method in ("ntk", "selfextend", "gp", "pi"):
        encoder = load_encoder(taught[0], device="cpu", extend=method, target_tokens=192)
        found = encoder.encode_documents(text)
        assert len(found.segments) == 1
        assert all(not np.allclose(found.documents, other, atol=1e-5) for other in vectors)
        vectors.append(found.documents)


def test_the_student_is_what_transformers_computes_from_its_folder(taught):
    import torch
    from transformers import AutoModel

    encoder = load_encoder(taught[0], device="cpu")
    before, after = encoder.tokenizer.specials
    ids = np.concatenate((before, encoder.tokenizer.encode(["the cat sat"])[0].ids, after)).astype(np.int64)
    with torch.no_grad():
        states = AutoModel.from_pretrained(str(taught[0])).eval()(input_ids=torch.from_numpy(ids[None]))
    mean = states.last_hidden_state[0].mean(0).numpy()
    found = encoder.encode_documents(["the cat sat"]).documents[0]
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=2e-6)


def test_an_interrupted_lesson_ends_with_the_bytes_of_an_uninterrupted_one(bert_folder, taught, tmp_path):
    def stop(event):
        if event.fraction > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_folder(student_task(read_folder(bert_folder), corpus(), STUDENT), SCHEDULE, tmp_path / "model", stop)
    train_folder(student_task(read_folder(bert_folder), corpus(), STUDENT), SCHEDULE, tmp_path / "model")
    found, expected = (folder / "model.safetensors" for folder in (tmp_path / "model", taught[0]))
    assert found.read_bytes() == expected.read_bytes()


def test_another_teacher_than_a_bert_and_a_length_it_does_not_read_are_refused(bert_folder, tmp_path):
    with pytest.raises(UsageError, match=r"from 8 to the 64 trained ones.*got 65"):
        student_task(read_folder(bert_folder), corpus(1), Student(tokens=65))
    config = json.loads((bert_folder / "config.json").read_text()) | {"model_type": "mpnet"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="needs a plain bert"):
        student_task(read_folder(tmp_path), corpus(1), STUDENT)
