"""What a user may ask for, what a model can take of it, and what folders say about themselves."""

import json

import pytest

from unabridged.encoders._extension_file import SavedExtension, read_extension, write_extension
from unabridged.encoders._hf import ModelFolder, read_folder
from unabridged.encoders.extension import NO_EXTENSION, NO_PLAN, Extension, LogN, Method, Positions, Weighting
from unabridged.encoders.load import load_encoder
from unabridged.errors import UsageError, ValidationError


def folder_of(tmp_path, **config):
    return ModelFolder(tmp_path, "model", {"max_position_embeddings": 512, **config}, ("mean",))


@pytest.mark.parametrize(
    ("kind", "positions"),
    [
        ("bert", "absolute"), ("roberta", "absolute"), ("xlm-roberta", "absolute"), ("camembert", "absolute"),
        ("distilbert", "absolute"), ("mpnet", "absolute"), ("electra", "absolute"),
        ("nomic_bert", "rotary"), ("modernbert", "rotary"), ("gte", "rotary"), ("eurobert", "rotary"),
        ("jina_embeddings_v3", "rotary"), ("llama", "rotary"), ("mistral", "rotary"), ("qwen2", "rotary"),
        ("qwen3", "rotary"), ("gemma", "rotary"), ("t5", "relative"), ("mt5", "relative"), ("deberta", "unknown"),
    ],
)  # fmt: skip
def test_model_types_have_known_positions(tmp_path, kind, positions):
    assert folder_of(tmp_path, model_type=kind).positions.value == positions


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ({"model_type": "xlm-roberta", "position_embedding_type": "rotary"}, Positions.ROTARY),
        ({"model_type": "new", "position_embedding_type": "rope"}, Positions.ROTARY),
        ({"model_type": "brand-new", "rope_theta": 10000.0}, Positions.ROTARY),
        ({"model_type": "brand-new", "rope_parameters": {"rope_theta": 1e4}}, Positions.ROTARY),
        ({"model_type": "bert", "position_embedding_type": "alibi"}, Positions.UNKNOWN),
        ({"model_type": "bert", "position_embedding_type": "relative_key"}, Positions.UNKNOWN),
        ({}, Positions.UNKNOWN),
    ],
)
def test_what_config_says_of_positions_goes_before_the_model_type(tmp_path, config, positions):
    assert folder_of(tmp_path, **config).positions is positions


def test_causal_models_are_known_and_may_be_told_to_read_both_ways(tmp_path):
    assert folder_of(tmp_path, model_type="mistral").causal
    assert not folder_of(tmp_path, model_type="qwen2", is_causal=False).causal
    assert not folder_of(tmp_path, model_type="bert").causal


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"extend": "ntk", "target_tokens": 512}, r"positions are absolute, and pcw, gp, rp, pi fit"),
        ({"extend": "selfextend", "target_tokens": 512}, r"absolute"),
        ({"extend": "abacus", "target_tokens": 512}, r"pcw, gp, rp, pi, ntk, selfextend"),
        ({"extend": "pi"}, r"needs target_tokens"),
        ({"extend": "pi", "target_tokens": 64}, r"not above the trained length .*64"),
        ({"extend": "pi", "target_tokens": 63}, r"not above"),
        ({"extend": "pi", "target_tokens": 512, "original_tokens": 65}, r"64 positions"),
        ({"extend": "pi", "target_tokens": 512, "original_tokens": 1}, r"from 2"),
        ({"extend": "pi", "target_tokens": 512, "group": 3}, r"group belongs to extend='selfextend'"),
        ({"extend": "gp", "target_tokens": 512, "dynamic": True}, r"dynamic belongs"),
        ({"target_tokens": 512}, r"needs a method"),
        ({"temperature": 0}, r"above 0"),
        ({"temperature": -1.0}, r"above 0"),
        ({"temperature": float("nan")}, r"above 0"),
        ({"temperature": float("inf")}, r"above 0"),
        ({"logn": "sometimes"}, r"off, per_sequence, per_position"),
        ({"logn": "per_position"}, r"reads both ways"),
        ({"extension": {"extend": "pi"}}, r"has no extend"),
        ({"extension": {"target_tokens": "many"}}, r"whole number"),
        ({"extension": {"target_tokens": True}}, r"whole number"),
        ({"extension": {"dynamic": 1}}, r"true or false"),
        ({"extension": {"temperature": 0.5}, "extend": "pi"}, r"not both"),
        ({"extend": "pi", "target_tokens": 512, "max_tokens": 513}, r"target of 512"),
        ({"extend": "pi", "target_tokens": 512, "max_tokens": 0}, r"at least 1"),
        ({"extend": "pi", "target_tokens": 512, "backend": "openvino"}, r"'packed' or 'torch'"),
        ({"logn": "per_sequence", "backend": "onnx"}, r"logn has one for each"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(bert_folder, options, message):
    with pytest.raises(UsageError, match=message):
        load_encoder(bert_folder, device="cpu", **options)


@pytest.mark.parametrize("options", [{"temperature": 0.9}, {"logn": "per_sequence"}])
def test_an_attention_that_is_not_known_is_refused(tmp_path, options):
    with pytest.raises(UsageError, match=r"[Uu]nknown attention.*'deberta'.*pcw"):
        folder_of(tmp_path, model_type="deberta").plan(Extension.from_json(options))


def test_the_hashing_encoder_has_nothing_to_extend():
    with pytest.raises(UsageError, match="neither positions nor attention"):
        load_encoder("hashing", extend="pi", target_tokens=512)
    with pytest.raises(UsageError, match="neither positions nor attention"):
        load_encoder("hashing", extension=Extension(temperature=0.5))


def test_pcw_needs_room_for_text_besides_the_prompt(bert_folder):
    encoder = load_encoder(
        bert_folder, device="cpu", extend="pcw", target_tokens=40, original_tokens=8, document_prompt="a long prompt: "
    )
    with pytest.raises(UsageError, match="leaves room for"):
        encoder.encode_documents(["the cat"])


@pytest.mark.parametrize(
    "asked",
    [
        NO_EXTENSION,
        Extension(Method.PI, 4096, 512, dynamic=True),
        Extension(Method.SELFEXTEND, 4096, group=9, neighbours=64, logn=LogN.PER_SEQUENCE, temperature=0.8),
        Extension(Method.NTK, 4096, base_factor=7.5, long_only=True),
        Extension(Method.PCW, 4096, pcw_weights=Weighting.NEW_TOKENS, pcw_normalize=True),
        Extension(Method.PI, 4096, 512, rows_per_position=8),
    ],
)
def test_an_extension_survives_json_and_its_file(tmp_path, asked):
    assert Extension.from_json(json.loads(json.dumps(asked.as_json()))) == asked
    write_extension(tmp_path, SavedExtension(asked, max_tokens=77))
    assert read_extension(tmp_path) == SavedExtension(asked, max_tokens=77)


def test_nothing_asked_is_no_plan_whatever_the_model(tmp_path):
    for kind in ("bert", "t5", "deberta", "mistral"):
        assert folder_of(tmp_path, model_type=kind).plan(NO_EXTENSION) == NO_PLAN
    assert NO_PLAN.is_none
    assert NO_EXTENSION.as_json() == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"format": 2}, "format 2"),
        ({"format": 1, "more": 1}, "more"),
        ({"format": 1, "extension": {"method": "abacus"}}, "abacus"),
        ({"format": 1, "extension": {"speed": 3}}, "speed"),
        ({"format": 1, "extension": {"group": 1.5}}, "whole number"),
    ],
)
def test_a_file_that_is_not_understood_is_refused_by_name(tmp_path, content, message):
    (tmp_path / "unabridged_extension.json").write_text(json.dumps(content))
    with pytest.raises(ValidationError, match=message) as caught:
        read_extension(tmp_path)
    assert "unabridged_extension.json" in str(caught.value)


def test_a_matrix_with_too_few_rows_for_tuned_positions_is_refused(bert_folder):
    tuned = Extension(Method.PI, 512, original_tokens=64, rows_per_position=8)
    with pytest.raises(ValidationError, match=r"64 positions.*need 512"):
        read_folder(bert_folder).plan(tuned)
