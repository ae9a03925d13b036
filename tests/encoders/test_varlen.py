"""The backend without padding against the reference; a naive twin stands for FlashAttention where there is none."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from unabridged.encoders import _varlen
from unabridged.encoders._hf import read_folder
from unabridged.encoders._torch import TorchBackend
from unabridged.encoders._varlen import VarlenBackend, flash_fits
from unabridged.encoders.load import load_encoder
from unabridged.errors import UsageError

torch = pytest.importorskip("torch")

TEXTS = ["cat", "the cat sat on the mat " * 9, "", "Query: what? 日本語", "documents " * 10, "mat mat"]


@pytest.fixture(params=["bert_folder", "roberta_folder", "plain_bert_folder"])
def folder(request):
    return request.getfixturevalue(request.param)


def packed(folder, lengths):
    rng = np.random.default_rng(0)
    ids = rng.integers(5, int(read_folder(folder).config["vocab_size"]), sum(lengths)).astype(np.int32)
    return ids, np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)


@pytest.mark.parametrize("lengths", [[1], [5, 5, 5], [40, 1, 17, 3], [2, 62]], ids=str)
def test_hidden_states_are_the_reference_backends(folder, lengths):
    ids, offsets = packed(folder, lengths)
    ours = VarlenBackend(read_folder(folder), device="cpu").hidden(ids, offsets)
    theirs = TorchBackend(read_folder(folder), device="cpu").hidden(ids, offsets)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_in_half_precision_vectors_stay_close_and_share_the_space_of_the_reference(minilm, precision):
    texts = ["the cat sat on the mat", "who signed the annex of 2019? " * 20, "a"]
    exact = minilm.encode(texts)
    ours = load_encoder(device="cpu", backend="varlen", precision=precision)
    theirs = load_encoder(device="cpu", backend="torch", precision=precision)
    assert (ours.encode(texts) * exact).sum(1).min() > 0.999
    assert ours.passport.fingerprint == theirs.passport.fingerprint != minilm.passport.fingerprint


def naive_varlen(query, key, value, cu_q, cu_k, max_q, max_k, *, num_splits=None):
    """What torch's documentation says of varlen_attn, one sequence after another, in float32."""
    assert num_splits == 1
    assert cu_q.dtype == torch.int32
    assert max_q == max_k == int((cu_q[1:] - cu_q[:-1]).max())
    out = torch.empty_like(query)
    edges = cu_q.tolist()
    for a, b in itertools.pairwise(edges):
        q, k, v = (x[a:b].float().transpose(0, 1) for x in (query, key, value))
        scores = q @ k.transpose(1, 2) / query.shape[-1] ** 0.5
        out[a:b] = (scores.softmax(-1) @ v).transpose(0, 1).to(query.dtype)
    return out


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_around_packed_attention_the_model_is_the_same(folder, precision, monkeypatch):
    monkeypatch.setattr(pytest.importorskip("torch.nn.attention.varlen"), "varlen_attn", naive_varlen)
    monkeypatch.setattr(_varlen, "flash_fits", lambda *facts: True)
    ids, offsets = packed(folder, [40, 1, 17, 3])
    backend = VarlenBackend(read_folder(folder), device="cpu", precision=precision)
    found = backend.hidden(ids, offsets)
    exact = TorchBackend(read_folder(folder), device="cpu").hidden(ids, offsets)
    if precision == "float32":
        torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)
    similar = torch.nn.functional.cosine_similarity(found, exact)
    assert similar.min() > 0.98  # random weights are large; a single token
    assert similar.median() > 0.999
    alone = backend.hidden(ids[41:58], np.array([0, 17]))
    torch.testing.assert_close(alone, found[41:58], rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("facts", "fits"),
    [
        (("cuda", "bfloat16", (9, 0), 64), True),
        (("cuda", "float16", (8, 0), 256), True),
        (("cuda", "float32", (9, 0), 64), False),
        (("cuda", "float16", (7, 5), 64), False),
        (("cuda", "float16", (9, 0), 12), False),
        (("cuda", "float16", (9, 0), 264), False),
        (("cpu", "bfloat16", (0, 0), 64), False),
    ],
    ids=str,
)
def test_flash_attention_is_used_where_its_documentation_allows_it(facts, fits):
    assert flash_fits(*facts) is fits


def test_encoders_with_it_give_the_reference_vectors_for_texts_and_extensions(bert_folder):
    for options in ({}, {"extend": "pi", "target_tokens": 256}, {"temperature": 0.8}):
        ours = load_encoder(bert_folder, device="cpu", backend="varlen", **options)
        theirs = load_encoder(bert_folder, device="cpu", backend="torch", **options)
        np.testing.assert_allclose(ours.encode(TEXTS), theirs.encode(TEXTS), atol=2e-6)
        assert ours.passport.fingerprint == theirs.passport.fingerprint


def test_what_it_cannot_compute_is_refused_with_the_reason(bert_folder):
    folder = read_folder(bert_folder)
    with pytest.raises(UsageError, match="relative position"):
        VarlenBackend(replace(folder, config={**folder.config, "model_type": "mpnet"}))
    with pytest.raises(UsageError, match="logn"):
        load_encoder(bert_folder, device="cpu", backend="varlen", logn="per_sequence", original_tokens=32)
    with pytest.raises(UsageError, match="int8"):
        load_encoder(bert_folder, device="cpu", backend="varlen", precision="int8")
