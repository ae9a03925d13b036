"""Segments of a Mamba that are cut as source code."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from tests_code import SOURCES

from unabridged.encoders.load import encoder_from_passport, load_encoder
from unabridged.errors import UsageError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = Path(__file__).parents[1] / "tiny_models.py"
    spec = importlib.util.spec_from_file_location("tiny_models_for_code", path)
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    return tiny.mamba(tmp_path_factory.mktemp("mamba") / "m", variant=2, prompts={})


@pytest.mark.parametrize("carry", [True, False], ids=["carried", "apart"])
def test_segments_are_cut_by_syntax_and_rebuild_the_text(folder, carry):
    encoder = load_encoder(folder, device="cpu", split="syntax", max_tokens=60, carry=carry)
    text = SOURCES["go"]
    found = encoder.encode_documents([text, "x"])
    first, last = found.offsets[:2]
    assert "".join(text[a:b] for a, b in found.spans[first:last]) == text
    assert found.tokens.max() <= 60
    assert found.coverage.notes == ("syntax: go", "whole")
    assert np.allclose(encoder.encode_document([text, "x"]), found.documents, atol=1e-6)


def test_the_passport_loads_the_same_encoder_and_prose_leaves_no_trace(folder):
    encoder = load_encoder(folder, device="cpu", split="syntax", language="go")
    assert encoder_from_passport(encoder.passport, device="cpu").passport.fingerprint == encoder.passport.fingerprint
    plain = load_encoder(folder, device="cpu")
    assert plain.passport.fingerprint == load_encoder(folder, device="cpu", split="prose").passport.fingerprint
    assert "split" not in plain.passport.facts
    assert encoder.passport.fingerprint != plain.passport.fingerprint


def test_a_header_is_refused(folder):
    with pytest.raises(UsageError, match="is a Mamba, whose segments follow each other without headers"):
        load_encoder(folder, device="cpu", split="syntax", header=True)
