"""Landmark pooling against transformers' own model, and the room that landmarks take."""

import json

import numpy as np
import pytest

from unabridged.contracts import OverflowPolicy
from unabridged.encoders._frame import Frame
from unabridged.encoders._hf import read_folder
from unabridged.encoders._tokens import Tokenizer
from unabridged.encoders._torch import TorchBackend
from unabridged.encoders.load import encoder_from_passport, load_encoder
from unabridged.encoders.transformer import Settings, TransformerEncoder
from unabridged.encoders.windows import split
from unabridged.errors import UsageError

torch = pytest.importorskip("torch")

CLS, SEP = 2, 3
TEXTS = [
    "cat",
    "The cat sat on the mat. 🙂\r\nThe long document sat.",
    "[CLS] the [SEP] cat [SEP] sat",
    "the cat sat on the mat " * 7,
]
LONG = "The cat sat on the mat.\r\nThe long document 🙂 sat on the cat. A mat is long! " * 12


def landmark(folder, g, **options):
    return load_encoder(folder, device="cpu", pooling="landmark", landmark_tokens=g, **options)


@pytest.fixture(scope="module")
def oracle(bert_folder):
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(bert_folder).eval(), AutoTokenizer.from_pretrained(bert_folder)

    def vector(prompt, text, g):
        """[CLS], prompt, pieces of g tokens, each with [SEP]: the mean of those [SEP] states, normalised; tokens."""
        lead = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        own = tokenizer(prompt + text, add_special_tokens=False)["input_ids"][len(lead) :]
        ids, marks = [CLS, *lead], []
        for start in range(0, max(len(own), 1), g):
            ids += [*own[start : start + g], SEP]
            marks.append(len(ids) - 1)
        if len(ids) > 64:
            return None, len(ids)
        with torch.inference_mode():
            states = model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
        mean = states[marks].mean(0)
        return mean / np.linalg.norm(mean), len(ids)

    return vector


@pytest.mark.parametrize("g", [1, 3, 5, 32])
def test_vectors_are_the_mean_of_the_landmarks_states(bert_folder, oracle, g):
    encoder = landmark(bert_folder, g)
    texts = [text for text in TEXTS if oracle("passage: ", text, g)[1] <= 64]
    assert len(texts) >= (1 if g == 1 else 2)
    found = encoder.encode_documents(texts)
    assert np.diff(found.offsets).max() == 1
    for vector, text in zip(found.segments, texts, strict=True):
        np.testing.assert_allclose(vector, oracle("passage: ", text, g)[0], atol=1e-5)
    for vector, text in zip(encoder.encode_queries(texts), texts, strict=True):
        np.testing.assert_allclose(vector, oracle("query: ", text, g)[0], atol=1e-5)


def test_a_query_without_tokens_is_the_state_of_its_one_landmark(bert_folder, oracle):
    np.testing.assert_allclose(landmark(bert_folder, 4).encode_query(""), oracle("query: ", "", 4)[0], atol=1e-5)
    found = landmark(bert_folder, 4).encode_documents([""]).documents
    np.testing.assert_allclose(found[0], oracle("passage: ", "", 4)[0], atol=1e-5)


def test_one_piece_for_everything_is_pooling_of_the_last_token(bert_folder):
    last = load_encoder(bert_folder, device="cpu", pooling="last")
    np.testing.assert_allclose(landmark(bert_folder, 1000).encode(TEXTS[:3]), last.encode(TEXTS[:3]), atol=1e-6)


@pytest.mark.parametrize("g", [1, 2, 3, 7, 32])
def test_the_capacity_is_the_largest_number_of_tokens_that_fits_with_its_landmarks(g):
    frame = Frame(np.array([CLS], np.int32), np.array([SEP], np.int32), g)
    for window in range(3, 90):
        for prompt in (0, 1, 5):
            fitting = [n for n in range(1, window) if 1 + prompt + n + -(-n // g) <= window]
            assert max(0, frame.capacity(window, prompt)) == max(fitting, default=0)


@pytest.mark.parametrize("g", [1, 2, 5, 8])
def test_own_tokens_stand_in_order_around_the_landmarks(g):
    frame = Frame(np.array([CLS], np.int32), np.array([SEP], np.int32), g)
    for count in (0, 1, g - 1, g, g + 1, 4 * g, 4 * g + 1):
        own, prompt = np.arange(100, 100 + count, dtype=np.int32), np.array([7, 8], np.int32)
        ids, places = frame.wrap(prompt, own)
        wanted = [CLS, 7, 8]
        for start in range(0, max(count, 1), g):
            wanted += [*own[start : start + g], SEP]
        assert ids.tolist() == wanted
        assert places.tolist() == [i for i, token in enumerate(wanted) if token == SEP]
        assert len(ids) == frame.lengths(np.array([count]), np.array([2]))[0]


class Watching(TorchBackend):
    def __init__(self, folder):
        super().__init__(folder, device="cpu")
        self.lengths = []

    def hidden(self, ids, offsets):
        self.lengths += np.diff(offsets).tolist()
        return super().hidden(ids, offsets)


@pytest.mark.parametrize("g", [1, 4, 32])
def test_windows_are_filled_to_the_last_position_and_spans_ignore_landmarks(bert_folder, g):
    folder = read_folder(bert_folder, pooling="landmark")
    backend = Watching(folder)
    encoder = TransformerEncoder(folder, [backend], Settings(landmark_tokens=g))
    capacity = {1: 30, 4: 48, 32: 59}[g]  # 64 positions less [CLS] and the prompt's two tokens: 61
    found = encoder.encode_documents([LONG, " ".join(["cat"] * capacity)])
    assert max(backend.lengths) in (63, 64)
    assert max(backend.lengths) <= 64
    wanted = split(LONG, Tokenizer(folder).encode([LONG], "passage: ")[0].characters(), capacity)
    np.testing.assert_array_equal(found.spans[: found.offsets[1]], wanted.spans)
    assert found.offsets[2] - found.offsets[1] == 1
    assert found.coverage.seen.tolist() == found.coverage.total.tolist()
    cut = encoder.encode_documents([LONG], overflow=OverflowPolicy.TRUNCATE)
    assert cut.coverage.seen.tolist() == [capacity]
    np.testing.assert_array_equal(encoder.encode_documents([" ".join(["cat"] * (capacity + 1))]).offsets, [0, 2])


def test_pcw_reads_chunks_with_landmarks_of_their_own(bert_folder):
    folder = read_folder(bert_folder, pooling="landmark")
    encoder = landmark(bert_folder, 8, extend="pcw", target_tokens=200)
    found = encoder.encode_documents([LONG])
    assert len(found.segments) > 1
    assert np.isfinite(found.segments).all()
    short = landmark(bert_folder, 8).encode_documents(TEXTS[:2])
    np.testing.assert_allclose(encoder.encode_documents(TEXTS[:2]).segments, short.segments, atol=1e-6)
    assert folder.landmark_tokens == 32


def test_the_passport_tells_the_distance_of_landmarks_and_rebuilds_it(bert_folder):
    four, default = landmark(bert_folder, 4), load_encoder(bert_folder, device="cpu", pooling="landmark")
    assert default.passport.facts["landmark_tokens"] == 32
    assert four.passport.fingerprint != default.passport.fingerprint
    again = encoder_from_passport(four.passport, device="cpu")
    np.testing.assert_array_equal(again.encode(TEXTS), four.encode(TEXTS))


def test_a_saved_folder_keeps_its_landmarks_and_no_other_library_takes_it_for_mean_pooling(bert_folder, tmp_path):
    encoder = landmark(bert_folder, 6)
    encoder.save(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "1_Pooling" / "config.json").read_text())["landmark_tokens"] == 6
    assert load_encoder(tmp_path / "saved", device="cpu").passport.fingerprint == encoder.passport.fingerprint
    st = pytest.importorskip("sentence_transformers")
    with pytest.raises((TypeError, ValueError), match="landmark"):
        st.SentenceTransformer(str(tmp_path / "saved"), device="cpu", local_files_only=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"landmark_tokens": 8}, "belongs to pooling='landmark'"),
        ({"landmark_tokens": 0, "pooling": "landmark"}, "at least 1"),
    ],
    ids=str,
)
def test_settings_without_sense_are_refused(bert_folder, options, message):
    with pytest.raises(UsageError, match=message):
        load_encoder(bert_folder, device="cpu", **options)


def test_a_tokenizer_without_a_closing_token_has_no_landmark():
    with pytest.raises(UsageError, match="closes a text"):
        Frame.of((np.array([1], np.int32), np.zeros(0, np.int32)), 8)
