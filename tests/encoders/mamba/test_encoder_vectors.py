"""Vectors of documents and segments against transformers' own Mamba, one text at a time."""

import numpy as np
import pytest

from unabridged.contracts import Level, OverflowPolicy
from unabridged.encoders.load import load_encoder

EOS = 0
LONG = "# One\n\nThe cat sat on the mat. It was a long, long sit!\n\n" * 6
TEXTS = [LONG, "", "the cat", "naïve café 🙂 e\u0301", "x" * 90, " \n", LONG[7:] + "mat", "a"]
FEW = ["the cat", "", "naïve café 🙂 e\u0301", "x" * 90, "a"]
PROMPTS = {"query": "query: ", "document": "passage: "}


@pytest.fixture(scope="module", params=[1, 2], ids=["mamba", "mamba2"])
def folder(request, tiny, tmp_path_factory):
    return tiny.mamba(tmp_path_factory.mktemp("mamba") / "m", variant=request.param, prompts=PROMPTS)


@pytest.fixture(scope="module")
def states(folder):
    """Token ids to hidden states ``(T, H)``, by transformers."""
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder).eval()

    def compute(ids):
        with torch.inference_mode():
            return model(input_ids=torch.tensor([[int(i) for i in ids]])).last_hidden_state[0].double().numpy()

    return compute


def unit(vector):
    return vector / np.linalg.norm(vector)


def tokens(encoder, text, prompt):
    found = encoder.tokenizer.encode([text], prompt)[0]
    return list(found.prompt), list(found.ids)


@pytest.mark.parametrize("prompt", ["passage: ", ""], ids=["prompt", "no prompt"])
def test_last_is_the_state_of_the_closing_token_behind_what_was_read(folder, states, prompt):
    encoder = load_encoder(folder, device="cpu", max_tokens=40, document_prompt=prompt, batch_tokens=50)
    encoded = encoder.encode_documents(TEXTS)
    for b, text in enumerate(TEXTS):
        lead, own = tokens(encoder, text, prompt)
        rows = range(encoded.offsets[b], encoded.offsets[b + 1])
        ends = np.cumsum(encoded.tokens[rows.start : rows.stop])
        assert ends[-1] == len(own)
        for row, end in zip(rows, ends, strict=True):
            expected = unit(states([*lead, *own[:end], EOS])[-1])
            np.testing.assert_allclose(encoded.segments[row], expected, atol=1e-5)
        np.testing.assert_array_equal(encoded.documents[b], encoded.segments[rows.stop - 1])


@pytest.mark.parametrize("prompt", ["passage: ", ""], ids=["prompt", "no prompt"])
def test_mean_is_over_the_states_of_each_segment_and_of_the_document(folder, states, prompt):
    encoder = load_encoder(folder, device="cpu", max_tokens=40, document_prompt=prompt, pooling="mean", batch_tokens=50)
    encoded = encoder.encode_documents(TEXTS)
    for b, text in enumerate(TEXTS):
        lead, own = tokens(encoder, text, prompt)
        hidden = states([*lead, *own, EOS])
        rows = range(encoded.offsets[b], encoded.offsets[b + 1])
        ends = np.cumsum(encoded.tokens[rows.start : rows.stop]) + len(lead)
        ends[-1] += 1
        for row, start, end in zip(rows, [0, *ends[:-1]], ends, strict=True):
            np.testing.assert_allclose(encoded.segments[row], unit(hidden[start:end].mean(0)), atol=1e-5)
        np.testing.assert_allclose(encoded.documents[b], unit(hidden.mean(0)), atol=1e-5)


def test_a_mean_that_leaves_the_prompt_out_leaves_only_its_states_out(tiny, tmp_path, states, folder):
    import json
    import shutil

    own_folder = shutil.copytree(folder, tmp_path / "m")
    config = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True, "include_prompt": False}
    (own_folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    encoder = load_encoder(own_folder, device="cpu", max_tokens=40)
    for text in (LONG, "the cat", ""):
        lead, own = tokens(encoder, text, "passage: ")
        expected = unit(states([*lead, *own, EOS])[len(lead) :].mean(0))
        np.testing.assert_allclose(encoder.encode_document(text), expected, atol=1e-5)


def test_without_carry_every_segment_is_a_text_by_itself(folder, states):
    encoder = load_encoder(folder, device="cpu", max_tokens=40, carry=False, overlap=5)
    encoded = encoder.encode_documents([LONG])
    lead, own = tokens(encoder, LONG, "passage: ")
    raw, start = [], 0
    for row, count in enumerate(encoded.tokens.tolist()):
        start = tokens_before(encoder, encoded.spans[row, 0])
        raw.append(states([*lead, *own[start : start + count], EOS])[-1])
        np.testing.assert_allclose(encoded.segments[row], unit(raw[-1]), atol=1e-5)
    weights = encoded.tokens / encoded.tokens.sum()
    np.testing.assert_allclose(encoded.documents[0], unit(weights @ np.array(raw)), atol=1e-5)
    assert encoded.tokens.sum() > len(own)


def tokens_before(encoder, character):
    """A token is a byte, and LONG has no others."""
    return int(character)


def test_queries_have_their_prompt_and_are_read_whole(folder, states):
    encoder = load_encoder(folder, device="cpu", max_tokens=16)
    found = encoder.encode_queries([LONG, "the cat"])
    for vector, text in zip(found, [LONG, "the cat"], strict=True):
        lead, own = tokens(encoder, text, "query: ")
        np.testing.assert_allclose(vector, unit(states([*lead, *own, EOS])[-1]), atol=1e-5)


@pytest.mark.parametrize("pooling", ["last", "mean"])
@pytest.mark.parametrize("block", [1, 7, 64, 100_000], ids=str)
def test_blocks_of_any_size_give_the_vectors_of_one_pass(folder, pooling, block):
    once = load_encoder(folder, device="cpu", max_tokens=40, pooling=pooling).encode_documents(FEW)
    found = load_encoder(folder, device="cpu", max_tokens=40, pooling=pooling, batch_tokens=block)
    found = found.encode_documents(FEW)
    np.testing.assert_allclose(found.segments, once.segments, atol=1e-5)
    np.testing.assert_allclose(found.documents, once.documents, atol=1e-5)


def test_the_size_of_segments_changes_no_document_vector(folder):
    whole = load_encoder(folder, device="cpu", max_tokens=10_000).encode_documents(FEW)
    for size in (1, 3, 64):
        found = load_encoder(folder, device="cpu", max_tokens=size).encode_documents(FEW)
        np.testing.assert_allclose(found.documents, whole.documents, atol=1e-5)
        assert len(found.segments) > len(whole.segments)


def test_a_cut_text_has_the_vector_of_its_beginning(folder):
    encoder = load_encoder(folder, device="cpu", max_tokens=40)
    cut = encoder.encode_documents([LONG], overflow=OverflowPolicy.TRUNCATE)
    assert (cut.coverage.seen[0], cut.coverage.total[0]) == (40, len(LONG))
    np.testing.assert_allclose(cut.documents[0], encoder.encode_document(LONG[:40]), atol=1e-6)
    np.testing.assert_array_equal(cut.documents, cut.segments)


def test_aggregate_gives_the_document_vectors_of_a_pass(folder):
    encoder = load_encoder(folder, device="cpu", max_tokens=40)
    found = encoder.encode_documents(TEXTS, level=Level.DOC, overflow=OverflowPolicy.AGGREGATE)
    assert found.segments is None
    np.testing.assert_array_equal(found.documents, encoder.encode_documents(TEXTS).documents)


def test_bfloat16_is_near_float32(folder):
    exact = load_encoder(folder, device="cpu", max_tokens=40).encode_documents(TEXTS).documents
    found = load_encoder(folder, device="cpu", max_tokens=40, dtype="bfloat16").encode_documents(TEXTS).documents
    assert not np.array_equal(found, exact)
    assert (found * exact).sum(1).min() > 0.99


def test_several_devices_share_the_work(folder):
    one = load_encoder(folder, device="cpu", max_tokens=40).encode_documents(TEXTS)
    two = load_encoder(folder, devices=["cpu", "cpu"], max_tokens=40).encode_documents(TEXTS)
    np.testing.assert_allclose(two.segments, one.segments, atol=1e-6)
    np.testing.assert_allclose(two.documents, one.documents, atol=1e-6)


def test_a_prefix_is_cut_before_normalisation_and_norms_are_kept_on_request(folder):
    full = load_encoder(folder, device="cpu", normalize=False).encode_documents(TEXTS).documents
    assert np.abs(np.linalg.norm(full, axis=1) - 1).max() > 0.1
    cut = load_encoder(folder, device="cpu", truncate_dim=9).encode_documents(TEXTS).documents
    np.testing.assert_allclose(cut, full[:, :9] / np.linalg.norm(full[:, :9], axis=1, keepdims=True), atol=1e-6)


def limited(encoder, tokens):
    """``encoder`` on a device whose memory holds blocks of so many tokens."""
    import torch

    placed = encoder._models[0]
    real = placed.model.hidden
    blocks = []

    def hidden(ids, offsets, state=None, *, scratch=None):
        if len(ids) > tokens:
            raise torch.OutOfMemoryError("CUDA out of memory")
        blocks.append(len(ids))
        return real(ids, offsets, state, scratch=scratch)

    placed.model.hidden = hidden
    return blocks


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_a_block_that_does_not_fit_into_memory_is_halved_and_the_next_call_knows(folder, pooling):
    whole = load_encoder(folder, device="cpu", max_tokens=40, pooling=pooling).encode_documents(TEXTS)
    encoder = load_encoder(folder, device="cpu", max_tokens=40, pooling=pooling)
    blocks = limited(encoder, 130)
    found = encoder.encode_documents(TEXTS)
    np.testing.assert_allclose(found.segments, whole.segments, atol=1e-5)
    np.testing.assert_allclose(found.documents, whole.documents, atol=1e-5)
    assert 64 < max(blocks) <= 128
    assert encoder._models[0].streaming(encoder.frame[1], pooling).block == 128
    (use,) = encoder.memory_report()
    assert (use.planned, use.cap, use.alone) == (2048, 128, 0)
    assert use.halved == 4


def test_a_text_that_does_not_fit_in_any_block_is_named(folder):
    from unabridged.errors import OutOfMemory

    encoder = load_encoder(folder, device="cpu", max_tokens=40)
    limited(encoder, 20)
    with pytest.raises(OutOfMemory, match=r"Text 1, characters 0 to \d+, does not fit"):
        encoder.encode_documents(["the cat", LONG])
