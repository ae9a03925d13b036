"""Late chunking against transformers' own model, macro-windows rebuilt by hand, and what must not change."""

import json
import shutil

import numpy as np
import pytest

from unabridged.contracts import OverflowPolicy
from unabridged.encoders._hf import read_folder
from unabridged.encoders._torch import TorchBackend
from unabridged.encoders.late import macro_windows
from unabridged.encoders.load import encoder_from_passport, load_encoder
from unabridged.encoders.transformer import Settings, TransformerEncoder
from unabridged.errors import Overflow, UsageError

torch = pytest.importorskip("torch")

FITS = {
    "prose": "The cat sat on the mat. The long document sat on the cat. A mat is long! The cat ate.",
    "emoji and lines": "naïve café 🙂 👩‍👩‍👧\r\ncat 日本語\r\n\r\n🙂🙂 the mat. e\u0301 the cat 🙂 sat",
    "one token": "cat",
}
LONG = "The cat sat on the mat.\r\nThe long document 🙂 sat on the cat. A mat is long! " * 15


def variant(folder, to, **pooling):
    shutil.copytree(folder, to)
    (to / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **pooling}))
    return to


class Oracle:
    """A folder's tokenizer and model in transformers' own hands."""

    def __init__(self, folder):
        from transformers import AutoModel, AutoTokenizer

        self.model = AutoModel.from_pretrained(folder).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def states(self, ids):
        with torch.inference_mode():
            return self.model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()

    def tokens(self, text, special=True):
        found = self.tokenizer(text, return_offsets_mapping=True, add_special_tokens=special)
        return found["input_ids"], np.array(found["offset_mapping"]).reshape(-1, 2)


@pytest.fixture(scope="module")
def oracle():
    cache = {}

    def load(folder):
        return cache.setdefault(folder, Oracle(folder))

    return load


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def by_hand(oracle, text, spans, prompt=""):
    """The mean of the whole text's states by character spans; the ends take what stands around the text."""
    ids, offsets = oracle.tokens(prompt + text)
    states = oracle.states(ids)
    starts = offsets[:, 0] - len(prompt)
    content = np.arange(len(ids))
    content = content[(content > 0) & (content < len(ids) - 1) & (offsets[:, 1] > len(prompt))]
    vectors = []
    for number, (start, end) in enumerate(spans):
        taken = [t for t in content if start <= starts[t] < end]
        taken += [t for t in range(len(ids)) if t < content[0]] if number == 0 else []
        taken += [len(ids) - 1] if number == len(spans) - 1 else []
        vectors.append(states[taken].mean(0))
    return np.array(vectors)


@pytest.mark.parametrize("text", FITS.values(), ids=FITS)
@pytest.mark.parametrize("size", [7, 16])
def test_segments_are_means_of_the_states_that_saw_the_whole_text(bert_folder, oracle, text, size):
    encoder = load_encoder(bert_folder, device="cpu", late_tokens=size)
    found = encoder.encode_documents([text])
    assert encoder.count_tokens([text])[0] <= 60
    wanted = by_hand(oracle(bert_folder), text, found.spans, "passage: ")
    np.testing.assert_allclose(found.segments, unit(wanted), atol=1e-5)
    if text is not FITS["one token"]:
        assert len(found.segments) >= 2
        alone = load_encoder(bert_folder, device="cpu", max_tokens=size + 4).encode_documents([text])
        assert not np.allclose(alone.segments[0], found.segments[0], atol=1e-2)


def test_without_prompt_in_the_pooling_the_first_segment_takes_its_own_states_alone(bert_folder, tmp_path, oracle):
    folder = variant(bert_folder, tmp_path / "m", pooling_mode="mean", include_prompt=False)
    text = FITS["prose"]
    found = load_encoder(folder, device="cpu", late_tokens=9).encode_documents([text])
    one = oracle(bert_folder)
    ids, offsets = one.tokens("passage: " + text)
    own = [t for t in range(1, len(ids) - 1) if 9 <= offsets[t, 0] < 9 + found.spans[0, 1]]
    np.testing.assert_allclose(found.segments[0], unit(one.states(ids)[own].mean(0)), atol=1e-5)
    plain = load_encoder(folder, device="cpu").encode_documents([text])
    np.testing.assert_allclose(found.documents, plain.documents, atol=1e-6)


def test_a_dense_layer_comes_after_the_segment(roberta_folder, tmp_path, oracle):
    folder = variant(roberta_folder, tmp_path / "m", pooling_mode="mean")
    encoder = load_encoder(folder, device="cpu", late_tokens=20)
    text = "the cat 🙂 sat on the mat. a dog"
    found = encoder.encode_documents([text])
    raw = by_hand(oracle(roberta_folder), text, found.spans)
    from safetensors.numpy import load_file

    dense = load_file(str(folder / "2_Dense" / "model.safetensors"))
    wanted = np.tanh(raw @ dense["linear.weight"].T + dense["linear.bias"])
    assert len(raw) == 2
    np.testing.assert_allclose(found.segments, unit(wanted), atol=1e-5)


@pytest.mark.parametrize("mode", ["max", "mean_sqrt_len", "weighted_mean"])
def test_other_poolings_are_taken_over_the_states_of_each_segment(plain_bert_folder, oracle, mode):
    encoder = load_encoder(plain_bert_folder, device="cpu", late_tokens=11, pooling=mode)
    text = FITS["prose"]
    found = encoder.encode_documents([text])
    one = oracle(plain_bert_folder)
    states = one.states(one.tokens(text)[0])
    start = 1 + int(found.tokens[0])
    middle = states[start : start + found.tokens[1]]
    places = np.arange(1, len(middle) + 1)[:, None]
    naive = {
        "max": lambda: middle.max(0),
        "mean_sqrt_len": lambda: middle.sum(0) / np.sqrt(len(middle)),
        "weighted_mean": lambda: (middle * places).sum(0) / places.sum(),
    }
    np.testing.assert_allclose(found.segments[1], naive[mode](), atol=1e-5)


def greedy(sizes, room, overlap):
    """Macro-windows of segments of these sizes, one segment at a time: (segments, context tokens)."""
    windows, start = [], 0
    for number, size in enumerate(sizes):
        if not windows or sum(sizes[n] for n in windows[-1][0]) + windows[-1][1] + size > room:
            windows.append(([], min(overlap, start)))
        windows[-1][0].append(number)
        start += size
    return windows


@pytest.mark.parametrize("overlap", [0, 5, 20])
def test_beyond_the_window_macro_windows_are_encoded_with_what_comes_before_as_context(bert_folder, oracle, overlap):
    encoder = load_encoder(bert_folder, device="cpu", late_tokens=18, late_overlap=overlap)
    found = encoder.encode_documents([LONG])
    one = oracle(bert_folder)
    prompt, _ = one.tokens("passage: ", special=False)
    own, _ = one.tokens(LONG, special=False)
    assert found.tokens.sum() == len(own) > 4 * 60
    windows = greedy(found.tokens.tolist(), 60, overlap)
    assert len(windows) > 3
    first, wanted = 0, []
    for number, (members, context) in enumerate(windows):
        size = sum(found.tokens[n] for n in members)
        states = one.states([2, *prompt, *own[first - context : first + size], 3])
        at = 1 + len(prompt) + context
        for n in members:
            lead = at if n == 0 else 0
            tail = 1 if n == len(found.tokens) - 1 else 0
            wanted.append(states[at - lead : at + found.tokens[n] + tail].mean(0))
            at += found.tokens[n]
        assert at + 1 == len(states) <= 64
        assert context == (overlap if number else 0)
        first += size
    np.testing.assert_allclose(found.segments, unit(np.array(wanted)), atol=1e-5)
    weights = found.tokens + 0.0
    weights[0] += 1 + len(prompt)
    weights[-1] += 1
    np.testing.assert_allclose(found.documents[0], unit(weights @ np.array(wanted)), atol=1e-5)


@pytest.mark.parametrize("room", [20, 21, 33, 64])
@pytest.mark.parametrize("overlap", [0, 3, 8])
def test_macro_windows_hold_each_segment_once_and_never_more_than_the_room(room, overlap):
    rng = np.random.default_rng(room + overlap)
    for count in (0, 1, 2, 17):
        sizes = rng.integers(1, 13, count)
        ends = np.cumsum(sizes)
        ranges = np.stack((ends - sizes, ends), axis=1)
        found = macro_windows(ranges, room, overlap)
        assert [n for first, last, _ in found for n in range(first, last)] == list(range(count))
        assert all(ranges[last - 1, 1] - read <= room for _, last, read in found)
        assert [(list(range(f, last)), ranges[f, 0] - read) for f, last, read in found] == greedy(sizes, room, overlap)


@pytest.mark.parametrize("name", FITS)
def test_the_document_vector_of_a_text_that_fits_is_the_models_own(bert_folder, name):
    plain, late = load_encoder(bert_folder, device="cpu"), load_encoder(bert_folder, device="cpu", late_tokens=8)
    a, b = plain.encode_documents([FITS[name]]), late.encode_documents([FITS[name]])
    np.testing.assert_allclose(b.documents, a.documents, atol=1e-6)
    np.testing.assert_allclose(late.encode_document(FITS[name]), a.documents[0], atol=1e-6)
    np.testing.assert_array_equal(late.encode_queries([FITS[name]]), plain.encode_queries([FITS[name]]))


@pytest.mark.parametrize("options", [{"extend": "pi"}, {"extend": "rp"}, {"extend": "gp", "temperature": 0.8}], ids=str)
def test_an_extended_window_holds_more_of_a_document_at_once(bert_folder, options):
    plain = load_encoder(bert_folder, device="cpu", target_tokens=512, **options)
    late = load_encoder(bert_folder, device="cpu", target_tokens=512, late_tokens=32, **options)
    assert 240 < plain.count_tokens([LONG])[0] < 500
    a, b = plain.encode_documents([LONG]), late.encode_documents([LONG])
    assert len(a.segments) == 1
    assert len(b.segments) > 8
    np.testing.assert_allclose(b.documents, a.documents, atol=1e-6)


class Watching(TorchBackend):
    """Notes the sequences it gets; runs out of memory above ``limit`` tokens, padding included."""

    def __init__(self, folder, limit=10**9):
        super().__init__(folder, device="cpu")
        self.limit, self.lengths = limit, []

    def hidden(self, ids, offsets):
        lengths = np.diff(offsets)
        if lengths.max() * len(lengths) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 apples")
        self.lengths += lengths.tolist()
        return super().hidden(ids, offsets)


@pytest.mark.parametrize(("words", "passes"), [(61, 1), (62, 1), (63, 2)])
def test_one_token_more_than_the_window_takes_a_second_pass(plain_bert_folder, words, passes):
    folder = read_folder(plain_bert_folder)
    backend = Watching(folder)
    encoder = TransformerEncoder(folder, [backend], Settings(late_tokens=16, late_overlap=4))
    text = " ".join(["cat"] * words)
    found = encoder.encode_documents([text])
    assert found.tokens.sum() == words
    first = int(found.tokens[np.cumsum(found.tokens) <= 62].sum())
    assert sorted(backend.lengths) == sorted([words + 2] if passes == 1 else [first + 2, words - first + 4 + 2])


def test_less_memory_gives_the_same_segments(bert_folder):
    folder = read_folder(bert_folder)
    texts = [LONG[: 97 * n] for n in range(1, 9)]
    settings = Settings(late_tokens=18, late_overlap=6)
    wanted = TransformerEncoder(folder, [TorchBackend(folder, device="cpu")], settings).encode_documents(texts)
    small = Watching(folder, limit=130)
    found = TransformerEncoder(folder, [small], settings).encode_documents(texts)
    np.testing.assert_allclose(found.segments, wanted.segments, atol=1e-6)
    two = load_encoder(bert_folder, devices=["cpu", "cpu"], batch_tokens=128, late_tokens=18, late_overlap=6)
    np.testing.assert_allclose(two.encode_documents(texts).segments, wanted.segments, atol=1e-6)


@pytest.mark.parametrize("text", [*FITS.values(), LONG], ids=[*FITS, "long"])
def test_spans_are_a_partition_and_every_segment_holds_a_token(bert_folder, text):
    found = load_encoder(bert_folder, device="cpu", late_tokens=10).encode_documents([text])
    assert "".join(text[a:b] for a, b in found.spans) == text
    assert found.tokens.min() >= 1
    assert found.tokens.max() <= 10
    assert found.tokens.sum() == found.coverage.total[0] == found.coverage.seen[0]


def test_a_text_without_tokens_has_one_segment_and_the_plain_encoders_vectors(bert_folder):
    plain, late = load_encoder(bert_folder, device="cpu"), load_encoder(bert_folder, device="cpu", late_tokens=8)
    found = late.encode_documents(["", " \n\t "])
    assert found.offsets.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(found.documents, plain.encode_documents(["", " \n\t "]).documents)
    np.testing.assert_array_equal(found.segments, found.documents)
    assert found.coverage.total.tolist() == [0, 0]
    np.testing.assert_array_equal(late.encode_document(""), plain.encode_document(""))


@pytest.mark.parametrize("policy", [OverflowPolicy.TRUNCATE, OverflowPolicy.WARN], ids=str)
def test_cutting_policies_read_the_first_macro_window_and_say_so(bert_folder, policy):
    encoder = load_encoder(bert_folder, device="cpu", late_tokens=18)
    cut = encoder.encode_documents([LONG, "cat"], overflow=policy)
    assert cut.coverage.seen.tolist() == [60, 1]
    assert cut.coverage.total.tolist() == encoder.count_tokens([LONG, "cat"]).tolist()
    assert cut.tokens.sum() == 61
    assert len(cut.segments) > 3
    read = LONG[: cut.spans[cut.offsets[1] - 1, 1]]
    alone = encoder.encode_documents([read])
    np.testing.assert_allclose(alone.segments, cut.segments[: cut.offsets[1]], atol=1e-6)


def test_the_policy_error_lets_what_fits_one_window_pass(bert_folder):
    encoder = load_encoder(bert_folder, device="cpu", late_tokens=18)
    assert len(encoder.encode_documents([FITS["prose"]], overflow=OverflowPolicy.ERROR).segments) > 1
    with pytest.raises(Overflow, match="the window holds 60"):
        encoder.encode_documents([LONG], overflow=OverflowPolicy.ERROR)


def test_the_passport_tells_late_chunking_and_rebuilds_it(bert_folder):
    plain = load_encoder(bert_folder, device="cpu").passport
    assert not [key for key in {**plain.facts, **plain.facts["settings"]} if "late" in key or "landmark" in key]
    late = load_encoder(bert_folder, device="cpu", late_tokens=18)
    assert late.passport.facts["late_overlap"] == 64 // 16
    others = [load_encoder(bert_folder, device="cpu", late_tokens=t, late_overlap=o) for t, o in [(17, 4), (18, 5)]]
    prints = {plain.fingerprint, late.passport.fingerprint, *(other.passport.fingerprint for other in others)}
    assert len(prints) == 4
    again = encoder_from_passport(json_again(others[1].passport), device="cpu")
    np.testing.assert_array_equal(again.encode_documents([LONG]).segments, others[1].encode_documents([LONG]).segments)


def json_again(passport):
    return type(passport)(passport.source, passport.dim, json.loads(json.dumps(passport.facts)), passport.fingerprint)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"late_tokens": 0}, "at least 1"),
        ({"late_tokens": 8, "late_overlap": -1}, "at least 0"),
        ({"late_overlap": 8}, "needs late_tokens"),
        ({"late_tokens": 65}, "room for 64"),
        ({"late_tokens": 40, "late_overlap": 30}, "need 70 tokens"),
        ({"late_tokens": 8, "overlap": 2}, "late_overlap"),
        ({"late_tokens": 8, "pooling": "cls"}, "'cls' pooling"),
        ({"late_tokens": 8, "pooling": "last"}, "'last' pooling"),
        ({"late_tokens": 8, "pooling": "landmark"}, "'landmark' pooling"),
        ({"late_tokens": 8, "extend": "pcw", "target_tokens": 256}, "pcw"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused_with_the_way_out(bert_folder, options, message):
    with pytest.raises(UsageError, match=message):
        load_encoder(bert_folder, device="cpu", **options)


def test_a_prompt_that_leaves_no_room_for_a_segment_is_refused(bert_folder):
    encoder = load_encoder(bert_folder, device="cpu", late_tokens=50, late_overlap=4, document_prompt="the cat " * 8)
    with pytest.raises(UsageError, match="late_tokens=50"):
        encoder.encode_documents(["cat"])


def test_the_hashing_encoder_has_no_states_to_pool():
    with pytest.raises(UsageError, match="hashing"):
        load_encoder("hashing", late_tokens=8)
