"""The transformer encoder against sentence-transformers, against itself, and without memory."""

import json
import logging
import random
import shutil

import numpy as np
import pytest

from unabridged.contracts import Level, OverflowPolicy
from unabridged.encoders._hf import read_folder
from unabridged.encoders._torch import TorchBackend
from unabridged.encoders.load import load_encoder
from unabridged.encoders.transformer import Settings, TransformerEncoder
from unabridged.errors import OutOfMemory, Overflow, UsageError

torch = pytest.importorskip("torch")

SHORT = ["cat", "the cat sat on the mat", "", "Query: what? 日本語 🙂", "a. b! c?\n\nd", "documents " * 10]


@pytest.fixture(scope="module")
def oracle():
    """sentence-transformers on the same folder, on the CPU."""
    st = pytest.importorskip("sentence_transformers")
    from transformers.utils import logging as hf

    hf.disable_progress_bar()
    cache = {}

    def load(folder):
        if folder not in cache:
            cache[folder] = st.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        return cache[folder]

    yield load
    hf.enable_progress_bar()


def cosines(a, b):
    return (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)


def variant(folder, to, **pooling):
    shutil.copytree(folder, to)
    (to / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **pooling}))
    return to


def test_the_embedded_model_gives_the_vectors_of_sentence_transformers(minilm, oracle):
    rng = random.Random(0)
    words = ["the", "annex", "was", "signed", "in", "2019", "by", "ministers", ",", "Überprüfung", "東京", "🙂"]
    texts = [" ".join(rng.choices(words, k=n)) for n in (1, 3, 8, 21, 60, 120, 150)]
    theirs = oracle(minilm.folder.path).encode(texts)
    ours = minilm.encode_documents(texts, level=Level.BOTH)
    assert minilm.count_tokens(texts).max() <= 254
    assert cosines(theirs, ours.segments).min() > 1 - 1e-5
    np.testing.assert_allclose(theirs, ours.documents, atol=1e-6)
    np.testing.assert_allclose(theirs, minilm.encode_queries(texts), atol=1e-6)


def test_under_truncate_the_embedded_model_gives_the_truncated_vectors_and_says_what_was_lost(minilm, oracle):
    texts = ["The quick brown fox. " * n for n in (10, 60, 300)]
    encoded = minilm.encode_documents(texts, overflow=OverflowPolicy.TRUNCATE)
    assert cosines(oracle(minilm.folder.path).encode(texts), encoded.segments).min() > 1 - 1e-5
    assert encoded.coverage.total.tolist() == [50, 300, 1500]
    assert encoded.coverage.seen.tolist() == [50, 254, 254]
    assert [texts[i][a:b].count("fox") for i, (a, b) in enumerate(encoded.spans)] == [10, 51, 51]


def test_the_ledger_equals_a_recount_by_the_tokenizer_alone(minilm):
    tokenizers = pytest.importorskip("tokenizers")
    counter = tokenizers.Tokenizer.from_file(str(minilm.folder.path / "tokenizer.json"))
    counter.no_truncation()
    counter.no_padding()
    texts = ["one", "x " * 700, "naïve café 東京 🙂 " * 50, "", "unbelievably-hyphenated " * 99]
    wanted = [len(counter.encode(text, add_special_tokens=False).ids) for text in texts]
    assert minilm.count_tokens(texts).tolist() == wanted
    truncated = minilm.encode_documents(texts, overflow=OverflowPolicy.TRUNCATE, level=Level.DOC).coverage
    assert truncated.total.tolist() == wanted
    assert truncated.seen.tolist() == [min(254, count) for count in wanted]


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode": "mean"},
        {"pooling_mode": "max"},
        {"pooling_mode": "lasttoken"},
        {"pooling_mode": "weightedmean"},
        {"pooling_mode": "mean_sqrt_len_tokens"},
        {"pooling_mode": ["cls", "max"]},
        {"pooling_mode_cls_token": True},
        {"pooling_mode": "mean", "include_prompt": False},
        {"pooling_mode": "weightedmean", "include_prompt": False},
    ],
    ids=str,
)
def test_every_pooling_and_every_prompt_agrees_with_sentence_transformers(bert_folder, tmp_path, oracle, pooling):
    folder = variant(bert_folder, tmp_path / "m", **pooling)
    theirs, ours = oracle(folder), load_encoder(folder, device="cpu")
    np.testing.assert_allclose(theirs.encode_query(SHORT), ours.encode_queries(SHORT), atol=2e-6)
    np.testing.assert_allclose(theirs.encode_document(SHORT), ours.encode_document(SHORT), atol=2e-6)
    np.testing.assert_allclose(theirs.encode(SHORT), ours.encode(SHORT), atol=2e-6)
    np.testing.assert_allclose(theirs.encode(SHORT, prompt="on "), ours.encode(SHORT, prompt="on "), atol=2e-6)


def test_a_roberta_with_dense_layer_agrees_with_sentence_transformers_up_to_its_last_position(roberta_folder, oracle):
    texts = [*SHORT[:5], "x" * 61, "x" * 62]
    theirs, ours = oracle(roberta_folder), load_encoder(roberta_folder, device="cpu")
    assert ours.dim == 12
    np.testing.assert_allclose(theirs.encode(texts), ours.encode(texts), atol=2e-6)
    truncated = ours.encode_documents(["y" * 500], overflow=OverflowPolicy.TRUNCATE)
    np.testing.assert_allclose(theirs.encode(["y" * 62]), truncated.segments, atol=2e-6)


def test_a_plain_folder_agrees_with_sentence_transformers(plain_bert_folder, oracle):
    np.testing.assert_allclose(
        oracle(plain_bert_folder).encode(SHORT), load_encoder(plain_bert_folder, device="cpu").encode(SHORT), atol=1e-5
    )


def test_the_vector_of_a_window_is_that_of_its_tokens_alone(bert_folder, oracle):
    encoder = load_encoder(bert_folder, device="cpu", document_prompt="")
    text = "the cat sat on the mat. " * 30
    encoded = encoder.encode_documents([text])
    pieces = [text[a:b] for a, b in encoded.spans]
    assert "".join(pieces) == text
    np.testing.assert_allclose(oracle(bert_folder).encode(pieces, prompt=""), encoded.segments, atol=2e-6)


def test_every_window_carries_the_prompt_and_leaves_room_for_it(bert_folder, oracle):
    encoder = load_encoder(bert_folder, device="cpu")
    text = "the cat sat on the mat. " * 30
    encoded = encoder.encode_documents([text])
    assert encoded.tokens.max() <= 64 - 2 - 2
    pieces = [text[a:b] for a, b in encoded.spans]
    np.testing.assert_allclose(oracle(bert_folder).encode(pieces, prompt="passage: "), encoded.segments, atol=2e-6)


def test_the_document_vector_of_a_mean_pooling_model_is_the_mean_of_its_windows(bert_folder):
    encoder = load_encoder(bert_folder, device="cpu")
    text = "the cat sat on the mat. " * 30
    both = encoder.encode_documents([text])
    doc = encoder.encode_documents([text], overflow=OverflowPolicy.AGGREGATE)
    assert doc.segments is None
    np.testing.assert_array_equal(doc.documents, both.documents)
    assert cosines(both.documents, both.segments.mean(0, keepdims=True))[0] > 0.99
    np.testing.assert_allclose(encoder.encode_document(text), doc.documents[0], atol=1e-6)


def test_a_query_over_the_window_is_read_to_its_last_word(bert_folder):
    encoder = load_encoder(bert_folder, device="cpu")
    long = "the cat sat " * 60
    a, b = encoder.encode_queries([long + "mat", long + "9"])
    assert not np.allclose(a, b, atol=1e-4)


def test_a_matryoshka_prefix_is_normalised_again(minilm):
    cut = load_encoder(device="cpu", truncate_dim=64)
    full = minilm.encode(["the cat sat"])[:, :64]
    assert cut.dim == 64
    np.testing.assert_allclose(cut.encode(["the cat sat"]), full / np.linalg.norm(full), atol=1e-6)


def test_reduced_precision_stays_close_and_has_another_passport(minilm):
    reduced = load_encoder(device="cpu", dtype="bfloat16")
    texts = ["the cat sat on the mat", "who signed the annex of 2019?"]
    assert cosines(reduced.encode(texts), minilm.encode(texts)).min() > 0.99
    assert reduced.encode(texts).dtype == np.float32
    assert reduced.passport.fingerprint != minilm.passport.fingerprint


def test_several_devices_give_the_vectors_of_one(bert_folder):
    texts = [f"cat {n} " * (n % 40 + 1) for n in range(60)]
    one = load_encoder(bert_folder, device="cpu", batch_tokens=128)
    two = load_encoder(bert_folder, devices=["cpu", "cpu"], batch_tokens=128)
    np.testing.assert_array_equal(one.encode_documents(texts).segments, two.encode_documents(texts).segments)
    assert one.passport.fingerprint == two.passport.fingerprint


def test_a_single_string_gives_a_single_vector(bert_folder):
    encoder = load_encoder(bert_folder, device="cpu")
    assert encoder.encode("the cat").shape == (32,)
    assert encoder.encode(["the cat"]).shape == (1, 32)
    assert encoder.encode([]).shape == (0, 32)
    with pytest.raises(UsageError, match="nonsense"):
        encoder.encode("the cat", prompt_name="nonsense")


class Counting(TorchBackend):
    """Counts sequences; runs out of memory above ``limit`` tokens, padding included, or as ``fail`` says."""

    def __init__(self, folder, limit=10**9, fail=None):
        super().__init__(folder, device="cpu")
        self.limit, self.fail, self.seen, self.refused = limit, fail, [], 0

    def hidden(self, ids, offsets):
        lengths = np.diff(offsets)
        if self.fail is not None:
            raise self.fail
        if lengths.max() * len(lengths) > self.limit:
            self.refused += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 apples")
        self.seen.append(lengths.tolist())
        return super().hidden(ids, offsets)


@pytest.mark.parametrize("text", ["", " \n\t "], ids=["nothing", "white space"])
def test_the_vector_of_an_empty_text_is_the_models_own_for_its_special_tokens(bert_folder, text):
    from transformers import AutoModel, AutoTokenizer

    found = load_encoder(bert_folder, device="cpu", document_prompt="").encode_documents([text])
    ids = AutoTokenizer.from_pretrained(str(bert_folder))("", return_tensors="pt")
    assert ids["input_ids"].shape == (1, 2)
    with torch.no_grad():
        mean = AutoModel.from_pretrained(str(bert_folder)).eval()(**ids).last_hidden_state[0].mean(0).numpy()
    np.testing.assert_allclose(found.documents[0], mean / np.linalg.norm(mean), atol=1e-6)
    assert (found.coverage.total[0], found.coverage.seen[0], found.coverage.reasons) == (0, 0, ("empty input",))


def test_identical_texts_in_a_call_are_encoded_once(bert_folder):
    folder = read_folder(bert_folder)
    backend = Counting(folder)
    encoded = TransformerEncoder(folder, [backend]).encode_documents(["cat", "mat", "cat", "", "cat"])
    assert sum(map(len, backend.seen)) == 3  # cat, mat, and nothing
    np.testing.assert_array_equal(encoded.documents[0], encoded.documents[4])
    assert encoded.offsets.tolist() == [0, 1, 2, 3, 4, 5]


def test_running_out_of_memory_halves_the_batch_and_is_remembered(bert_folder):
    folder = read_folder(bert_folder)
    texts = [f"cat {n} " * (n % 20 + 1) for n in range(60)]
    wanted = TransformerEncoder(folder, [Counting(folder)]).encode_documents(texts)
    backend = Counting(folder, limit=150)
    encoder = TransformerEncoder(folder, [backend])
    np.testing.assert_allclose(encoder.encode_documents(texts).segments, wanted.segments, atol=1e-6)
    refused = backend.refused
    assert 0 < refused < 10
    encoder.encode_documents([text + "mat" for text in texts])
    assert backend.refused <= refused + 1


def test_one_window_that_does_not_fit_alone_is_named(bert_folder):
    folder = read_folder(bert_folder)
    encoder = TransformerEncoder(folder, [Counting(folder, limit=30)])
    with pytest.raises(OutOfMemory, match=r"Text 2, characters 0 to \d+"):
        encoder.encode_documents(["cat", "mat", "the cat sat on the mat " * 20])


def test_the_message_of_the_cpu_allocator_is_out_of_memory_too(bert_folder):
    folder = read_folder(bert_folder)
    error = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    with pytest.raises(OutOfMemory):
        TransformerEncoder(folder, [Counting(folder, fail=error)]).encode(["cat", "mat"])


def test_any_other_runtime_error_passes_unchanged(bert_folder):
    folder = read_folder(bert_folder)
    error = RuntimeError("shapes do not match")
    with pytest.raises(RuntimeError, match="shapes do not match") as caught:
        TransformerEncoder(folder, [Counting(folder, fail=error)]).encode(["cat", "mat"])
    assert caught.value is error


def test_overflow_is_refused_before_any_forward_pass_and_names_the_text(bert_folder):
    folder = read_folder(bert_folder)
    backend = Counting(folder, fail=RuntimeError("a forward pass"))
    with pytest.raises(Overflow, match=r"Text 2 .*has 600 tokens .* holds 60"):
        TransformerEncoder(folder, [backend]).encode_documents(
            ["cat", "cat", "the cat sat " * 200], overflow=OverflowPolicy.ERROR
        )


def test_the_policy_warn_logs_once_and_reads_what_truncate_reads(bert_folder, caplog):
    encoder = load_encoder(bert_folder, device="cpu")
    texts = ["cat", "the cat sat " * 40, "the mat " * 50]
    with caplog.at_level(logging.WARNING, logger="unabridged"):
        warned = encoder.encode_documents(texts, overflow=OverflowPolicy.WARN)
    assert len(caplog.records) == 1
    cut = encoder.encode_documents(texts, overflow=OverflowPolicy.TRUNCATE)
    assert len(caplog.records) == 1
    np.testing.assert_array_equal(warned.segments, cut.segments)
    assert warned.coverage.truncated == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_tokens": 65}, "64 positions"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"truncate_dim": 33}, "from 1 to 32"),
    ],
    ids=str,
)
def test_settings_beyond_the_model_are_refused_with_its_limit(bert_folder, settings, message):
    folder = read_folder(bert_folder)
    with pytest.raises(UsageError, match=message):
        TransformerEncoder(folder, [TorchBackend(folder)], Settings(**settings))


def test_a_prompt_that_fills_the_window_is_refused(bert_folder):
    encoder = load_encoder(bert_folder, device="cpu", document_prompt="the cat " * 40)
    with pytest.raises(UsageError, match="prompt"):
        encoder.encode_documents(["cat"])


def test_segments_cannot_be_asked_of_aggregate(bert_folder):
    encoder = load_encoder(bert_folder, device="cpu")
    with pytest.raises(UsageError, match="aggregate"):
        encoder.encode_documents(["cat"], level=Level.SEGMENT, overflow=OverflowPolicy.AGGREGATE)
