"""Extended models with absolute positions against Hugging Face models that were patched by hand."""

import copy
import importlib.util
import math

import numpy as np
import pytest

from unabridged.contracts import Level, OverflowPolicy
from unabridged.encoders._choose import choose
from unabridged.encoders._hashes import canonical_sha256
from unabridged.encoders._hf import read_folder
from unabridged.encoders._packed import PackedBackend
from unabridged.encoders._torch import TorchBackend
from unabridged.encoders.extension import Extension, LogN, Method
from unabridged.encoders.load import encoder_from_passport, load_encoder
from unabridged.errors import Overflow, UsageError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

LO, LT, SCALE = 64, 512, 8
LENGTHS = [1, LO - 1, LO, LO + 1, 2 * LO, LT, 3]
HAS_ONNX = all(map(importlib.util.find_spec, ("onnx", "onnxruntime")))
NEEDS_ONNX = pytest.mark.skipif(not HAS_ONNX, reason="onnxruntime is not installed")
COMPUTED = [
    *(("packed", family) for family in ("bert", "roberta", "mpnet", "distilbert")),
    *(("torch", family) for family in ("bert", "roberta", "mpnet", "distilbert", "electra")),
    *(pytest.param("onnx", family, marks=NEEDS_ONNX) for family in ("bert", "roberta", "distilbert")),
]
SHORT = [{"method": "pi"}, {"method": "gp"}, {"method": "rp"}, {"logn": LogN.PER_SEQUENCE}]
SAME_BITS = [
    *(("packed", options) for options in SHORT),
    *(("torch", options) for options in SHORT),
    *(pytest.param("onnx", options, marks=NEEDS_ONNX) for options in SHORT[:3]),
]
TEXT = "the cat sat on the mat, and then a long document. "


@pytest.fixture(scope="module")
def folders(tmp_path_factory, bert_folder, roberta_folder):
    """Folders by family, all with 64 trained positions."""
    found = {"bert": bert_folder, "roberta": roberta_folder}
    sizes = {"vocab_size": 99, "initializer_range": 0.5}
    wide = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    torch.manual_seed(1)
    models = {
        "mpnet": transformers.MPNetModel(transformers.MPNetConfig(max_position_embeddings=LO + 2, **sizes, **wide)),
        "distilbert": transformers.DistilBertModel(
            transformers.DistilBertConfig(
                dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=LO, **sizes
            )
        ),
        "electra": transformers.ElectraModel(
            transformers.ElectraConfig(embedding_size=16, max_position_embeddings=LO, **sizes, **wide)
        ),
    }
    for name, model in models.items():
        found[name] = tmp_path_factory.mktemp(name) / "model"
        model.save_pretrained(found[name])
    return {name: read_folder(path) for name, path in found.items()}


def plan_of(folder, method=None, **options):
    asked = Extension(Method(method) if method else None, LT if method else None, **options)
    return folder.plan(asked)


def backend_of(name, folder, plan):
    if name == "packed":
        return PackedBackend(folder, plan=plan)
    if name == "torch":
        return TorchBackend(folder, device="cpu", plan=plan)
    from unabridged.encoders._onnx import OnnxBackend

    return OnnxBackend(folder, plan=plan)


def batch(lengths, seed=0):
    # From 4 on, so that no token is a family's padding.
    ids = np.random.default_rng(seed).integers(4, 95, sum(lengths)).astype(np.int32)
    return ids, np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)


class Patched:
    """A model of transformers with a stretched matrix, explicit position ids and eager attention."""

    def __init__(self, folder, method):
        self.method = method
        self.model = transformers.AutoModel.from_pretrained(folder.path, attn_implementation="eager").eval()
        self.offset = 2 if folder.model_type in ("roberta", "mpnet") else 0
        if method == "pi":
            self._stretch()
        # The class itself refuses nothing, but looks types up in a buffer of the trained length.
        self.types = {"token_type_ids": None} if folder.model_type in ("bert", "roberta", "electra") else {}

    def _stretch(self):
        embeddings = self.model.embeddings
        old = embeddings.position_embeddings.weight.detach()
        new = torch.zeros(self.offset + LT, old.shape[1])
        new[: self.offset] = old[: self.offset]
        trained = old[self.offset :]
        for i in range(LO - 1):
            for r in range(SCALE):
                new[self.offset + i * SCALE + r] = (1 - r / SCALE) * trained[i] + (r / SCALE) * trained[i + 1]
        new[self.offset + (LO - 1) * SCALE :] = trained[-1]
        embeddings.position_embeddings = torch.nn.Embedding.from_pretrained(new)

    def places(self, length):
        p = torch.arange(length)
        if self.method == "pi":
            p = p * SCALE if length <= LO else p
        elif self.method == "gp":
            p = p // math.ceil(length / LO)
        elif self.method == "rp":
            p = p % LO
        return (p + self.offset)[None]

    def hidden(self, ids, temperature=1.0, logn=False):
        factor = max(1.0, math.log(max(len(ids), 2)) / math.log(LO)) if logn else 1.0
        model = self.model
        if factor != 1.0 or temperature != 1.0:
            model = copy.deepcopy(model)
            for name, module in model.named_modules():
                if name.rpartition(".")[2] in ("query", "q_lin", "q"):
                    module.weight.data *= factor / temperature
                    module.bias.data *= factor / temperature
                if name.endswith("relative_attention_bias"):
                    module.weight.data /= temperature
        tokens = torch.from_numpy(ids.astype(np.int64))[None]
        types = {name: torch.zeros_like(tokens) for name in self.types}
        with torch.inference_mode():
            return model(input_ids=tokens, position_ids=self.places(len(ids)), **types).last_hidden_state[0]


def pooled(states):
    return torch.nn.functional.normalize(states.mean(0), dim=0)


def check(folder, backend, method, **attention):
    ids, offsets = batch(LENGTHS)
    logn = LogN.PER_SEQUENCE if attention.get("logn") else LogN.OFF
    plan = plan_of(folder, method, logn=logn, temperature=attention.get("temperature", 1.0))
    found = backend_of(backend, folder, plan).hidden(ids, offsets)
    patched = Patched(folder, method)
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        expected = patched.hidden(ids[start:end], **attention)
        torch.testing.assert_close(found[start:end], expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(pooled(found[start:end]), pooled(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["pi", "gp", "rp"])
@pytest.mark.parametrize(("backend", "family"), COMPUTED)
def test_hidden_states_equal_a_model_patched_by_hand(folders, backend, family, method):
    check(folders[family], backend, method)


@pytest.mark.parametrize("method", ["pi", "gp"])
@pytest.mark.parametrize(
    "attention", [{"temperature": 0.7}, {"logn": True}, {"temperature": 0.8, "logn": True}], ids=str
)
@pytest.mark.parametrize("family", ["bert", "roberta", "mpnet"])
def test_temperature_and_logn_equal_divided_queries_and_bias(folders, family, attention, method):
    check(folders[family], "packed", method, **attention)


@NEEDS_ONNX
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_temperature_in_onnx_equals_divided_queries(folders, family):
    check(folders[family], "onnx", "pi", temperature=0.7)


def test_a_text_that_contains_padding_tokens_has_the_same_rows_in_packed_and_torch(folders):
    ids, offsets = batch(LENGTHS)
    ids[::7] = 1  # RoBERTa's padding
    plan = plan_of(folders["roberta"], "pi")
    one, other = (backend_of(name, folders["roberta"], plan).hidden(ids, offsets) for name in ("packed", "torch"))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("backend", "options"), SAME_BITS, ids=str)
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_short_inputs_are_bit_identical_to_the_model_without_extension(folders, family, options, backend):
    folder = folders[family]
    short = [length for length in LENGTHS if length <= LO]
    ids, offsets = batch(short)
    plain = backend_of(backend, folder, folder.plan(Extension())).hidden(ids, offsets)
    assert torch.equal(backend_of(backend, folder, plan_of(folder, **options)).hidden(ids, offsets), plain)


@pytest.mark.parametrize("backend", ["packed", "torch"])
@pytest.mark.parametrize(
    "options", [{"method": "pi", "logn": LogN.PER_SEQUENCE, "temperature": 0.8}, {"method": "rp"}], ids=str
)
@pytest.mark.parametrize("family", ["bert", "roberta", "mpnet"])
def test_a_mixed_batch_equals_one_by_one(folders, family, options, backend):
    folder = folders[family]
    computer = backend_of(backend, folder, plan_of(folder, **options))
    ids, offsets = batch([LT, 1, LO, LO + 1, 5, 200])
    together = computer.hidden(ids, offsets)
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        alone = computer.hidden(ids[start:end], np.array([0, end - start]))
        torch.testing.assert_close(together[start:end], alone, atol=5e-5, rtol=0)


@pytest.mark.parametrize("method", ["pi", "gp", "rp", "pcw"])
def test_encoders_give_short_texts_the_same_bytes_and_read_long_ones_in_one_window(bert_folder, method):
    plain = load_encoder(bert_folder, device="cpu")
    encoder = load_encoder(bert_folder, device="cpu", extend=method, target_tokens=LT)
    assert (plain.window, encoder.window) == (LO, LT)
    long, short = TEXT * 8, ["the cat", "", TEXT]
    encoded = encoder.encode_documents([*short, long])
    alone = encoder.encode_documents(short).documents
    assert encoded.offsets.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(alone, plain.encode_documents(short).documents)
    np.testing.assert_allclose(encoded.documents[:3], alone, atol=2e-6)
    assert not np.allclose(encoded.documents[3], plain.encode_documents([long]).documents[0], atol=1e-3)


def test_temperature_one_and_logn_off_are_the_model_as_it_is(bert_folder):
    plain = load_encoder(bert_folder, device="cpu")
    same = load_encoder(bert_folder, device="cpu", temperature=1.0, logn="off")
    assert same.passport == plain.passport
    texts = ["the cat", TEXT * 8]
    np.testing.assert_array_equal(same.encode_documents(texts).segments, plain.encode_documents(texts).segments)
    sharper = load_encoder(bert_folder, device="cpu", temperature=0.5)
    assert sharper.passport.fingerprint != plain.passport.fingerprint
    assert not np.allclose(sharper.encode_queries(["the cat"]), plain.encode_queries(["the cat"]), atol=1e-4)


def windows_of(folder, encoder, text, capacity):
    """Raw mean-pooled vectors of PCW's chunks, by transformers; slices of ids, written out anew."""
    tokens = encoder.tokenizer.encode([text], "")[0].ids.astype(np.int64)
    before, after = encoder.tokenizer.specials
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    count = max(1, math.ceil(len(tokens) / capacity))
    starts = [k * capacity for k in range(count - 1)] + [max(0, len(tokens) - capacity)]
    vectors = []
    for start in starts:
        ids = np.concatenate((before, tokens[start : start + capacity], after))
        with torch.inference_mode():
            vectors.append(model(torch.from_numpy(ids.astype(np.int64))[None]).last_hidden_state[0].mean(0).numpy())
    return np.array(vectors), len(tokens)


@pytest.mark.parametrize("words", [1, 62, 63, 124, 130, 300])
@pytest.mark.parametrize("asked", [{}, {"pcw_weights": "new_tokens"}, {"pcw_normalize": True}], ids=str)
def test_pcw_is_the_mean_of_chunks_of_the_trained_length(plain_bert_folder, words, asked):
    capacity = LO - 2
    encoder = load_encoder(plain_bert_folder, device="cpu", extension={"method": "pcw", "target_tokens": LT, **asked})
    text = " ".join(["cat", "sat", "mat", "the"][n % 3 + n % 2] for n in range(words))
    vectors, tokens = windows_of(plain_bert_folder, encoder, text, capacity)
    assert tokens == words
    weights = np.ones(len(vectors))
    if "pcw_weights" in asked:
        weights = np.array([capacity] * (len(vectors) - 1) + [tokens - capacity * (len(vectors) - 1)])
    if "pcw_normalize" in asked:
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = weights @ vectors / weights.sum()
    found = encoder.encode_documents([text])
    np.testing.assert_allclose(found.documents[0], expected, atol=1e-5)
    np.testing.assert_allclose(found.segments[0], expected, atol=1e-5)
    assert found.spans.tolist() == [[0, len(text)]]


@pytest.mark.parametrize("method", ["pi", "pcw"])
@pytest.mark.parametrize("prompt", ["", "passage: "])
def test_beyond_the_target_every_policy_keeps_its_promise(bert_folder, method, prompt):
    encoder = load_encoder(bert_folder, device="cpu", extend=method, target_tokens=2 * LO, document_prompt=prompt)
    texts = ["the cat", TEXT * 30, ""]
    total = encoder.count_tokens(texts)
    capacity = 2 * LO - 2 - (0 if not prompt else 2)
    split = encoder.encode_documents(texts)
    assert split.coverage.seen.tolist() == split.coverage.total.tolist() == total.tolist()
    assert split.tokens[1:].sum() == total[1]
    assert split.tokens.max() <= capacity
    assert len(split.tokens) > 3
    for policy in (OverflowPolicy.TRUNCATE, OverflowPolicy.WARN):
        cut = encoder.encode_documents(texts, overflow=policy)
        assert cut.coverage.seen.tolist() == np.minimum(total, capacity).tolist()
        assert cut.offsets.tolist() == [0, 1, 2, 3]
    whole = encoder.encode_documents(texts, overflow=OverflowPolicy.AGGREGATE, level=Level.DOC)
    np.testing.assert_allclose(whole.documents, split.documents, atol=2e-6)
    assert whole.coverage.seen.tolist() == total.tolist()
    with pytest.raises(Overflow, match="Text 1"):
        encoder.encode_documents(texts, overflow=OverflowPolicy.ERROR)
    assert np.isfinite(encoder.encode_queries(texts)).all()
    assert np.linalg.norm(encoder.encode_queries([""])[0]) == pytest.approx(1, abs=1e-5)


def test_exactly_the_target_is_one_window_and_one_token_more_is_two(plain_bert_folder):
    encoder = load_encoder(plain_bert_folder, device="cpu", extend="pi", target_tokens=LT)
    exact, more = (" ".join(["cat"] * count) for count in (LT - 2, LT - 1))
    found = encoder.encode_documents([exact, more])
    assert np.diff(found.offsets).tolist() == [1, 2]
    assert np.isfinite(found.segments).all()


def test_max_tokens_lowers_the_window_but_not_the_scale(bert_folder):
    encoder = load_encoder(bert_folder, device="cpu", extend="pi", target_tokens=LT, max_tokens=100)
    assert encoder.window == 100
    assert encoder.plan.scale == SCALE


def test_an_unextended_encoder_keeps_the_fingerprint_it_always_had(bert_folder, minilm):
    assert minilm.passport.fingerprint == "05f6ae951894a204d2c3be8c38c381bf901c51bc3542a0f1f67b5cd8ddaf4034"
    passport = load_encoder(bert_folder, device="cpu").passport
    assert set(passport.facts) == {
        "kind", "weights", "tokenizer", "config", "pooling", "pooling_includes_prompt", "dense", "normalize",
        "truncate_dim", "prompts", "window", "overlap", "windows_version", "backend", "settings",
    }  # fmt: skip
    assert set(passport.facts["settings"]) == {
        "backend", "precision", "max_tokens", "overlap", "pooling", "query_prompt", "document_prompt", "truncate_dim",
    }  # fmt: skip
    assert passport.fingerprint == canonical_sha256(passport.facts)


@pytest.mark.parametrize(
    "options",
    [
        {"extend": "pi", "target_tokens": LT, "dynamic": True},
        {"extend": "pcw", "target_tokens": LT, "original_tokens": 32, "max_tokens": 200},
        {"extension": Extension(Method.GP, LT, logn=LogN.PER_SEQUENCE, temperature=0.75)},
        {"temperature": 0.9},
    ],
    ids=str,
)
def test_a_passport_brings_the_extended_encoder_back(bert_folder, options):
    encoder = load_encoder(bert_folder, device="cpu", **options)
    again = encoder_from_passport(encoder.passport, device="cpu")
    assert again.passport == encoder.passport
    assert again.plan == encoder.plan
    assert encoder.passport.facts["extension"] == dict(encoder.plan.facts)
    texts = ["the cat", TEXT * 8]
    np.testing.assert_array_equal(again.encode_documents(texts).documents, encoder.encode_documents(texts).documents)


def test_one_number_of_an_extension_is_another_fingerprint(bert_folder):
    asked = [
        {"extend": "pi", "target_tokens": 512}, {"extend": "pi", "target_tokens": 256},
        {"extend": "gp", "target_tokens": 512}, {"extend": "pi", "target_tokens": 512, "temperature": 0.9},
        {"extend": "pi", "target_tokens": 512, "logn": "per_sequence"},
        {"extend": "pi", "target_tokens": 512, "dynamic": True},
        {"extend": "pi", "target_tokens": 512, "original_tokens": 32}, {},
    ]  # fmt: skip
    assert len({load_encoder(bert_folder, device="cpu", **options).passport.fingerprint for options in asked}) == 8


def test_logn_is_computed_by_packed_and_int8_refuses_it(folders):
    folder = folders["bert"]
    plan = plan_of(folder, "pi", logn=LogN.PER_SEQUENCE)
    assert choose(folder, "cpu", plan=plan).name == "packed"
    assert choose(folder, "cpu", "bfloat16", plan).name == "torch"
    if HAS_ONNX:
        encoder = load_encoder(folder.path, device="cpu", precision="int8", logn="per_sequence")
        with pytest.raises(UsageError, match="logn"):
            encoder.encode_queries(["the cat"])


@NEEDS_ONNX
def test_int8_extended_is_near_float32_extended(bert_folder):
    options = {"device": "cpu", "extend": "pi", "target_tokens": LT, "temperature": 0.8}
    exact = load_encoder(bert_folder, **options).encode_documents([TEXT * 8]).documents
    rough = load_encoder(bert_folder, precision="int8", **options).encode_documents([TEXT * 8]).documents
    assert (exact * rough).sum() > 0.97
