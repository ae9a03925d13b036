"""Settings and files that cannot be meant: each is refused by its name, before anything is read with it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from unabridged.encoders._extension_file import EXTENSION_NAME, read_extension
from unabridged.encoders.extension import MOST_TOKENS, Extension, Method, Positions
from unabridged.encoders.load import check_passport, encoder_from_passport, load_encoder
from unabridged.errors import PassportMismatch, UsageError, ValidationError

HUGE = 99999999999999999999
PI = {"extend": "pi", "target_tokens": 128}


@pytest.mark.parametrize("name", ["target_tokens", "original_tokens", "group", "neighbours", "rows_per_position"])
def test_a_number_that_32_bits_cannot_count_is_refused_by_its_name(name):
    asked = Extension(Method.SELFEXTEND, **{"target_tokens": 2048, "original_tokens": 1024, name: MOST_TOKENS + 1})
    with pytest.raises(UsageError, match=f"{name} must be at most 2,147,483,647.*got 2,147,483,648"):
        asked.plan(Positions.ROTARY, None)


@pytest.mark.parametrize("method", ["pi", "gp", "rp", "pcw"])
def test_the_largest_target_that_is_allowed_leaves_short_texts_what_they_are(bert_folder, method):
    plain = load_encoder(bert_folder, device="cpu").encode_documents(["the cat sat"])
    extended = load_encoder(bert_folder, device="cpu", extend=method, target_tokens=MOST_TOKENS)
    np.testing.assert_array_equal(extended.encode_documents(["the cat sat"]).documents, plain.documents)


@pytest.mark.parametrize("name", ["max_tokens", "batch_tokens", "late_tokens", "late_overlap", "landmark_tokens"])
def test_other_numbers_of_tokens_have_the_same_bound(bert_folder, name):
    with pytest.raises(UsageError, match=f"{name} must be at most"):
        load_encoder(bert_folder, device="cpu", **{name: HUGE})


def test_the_window_of_the_hashing_encoder_has_it_too():
    with pytest.raises(UsageError, match="max_tokens must be at most"):
        load_encoder("hashing", max_tokens=HUGE)


@pytest.mark.parametrize(
    "options",
    [
        {"original_tokens": 32},
        {"original_tokens": 32, "temperature": 0.8},
        {"original_tokens": 32, "logn": "off"},
        {"extension": Extension(original_tokens=32)},
        {"extension": {"original_tokens": 32}},
    ],
    ids=["alone", "temperature", "logn off", "extension", "mapping"],
)
def test_a_trained_length_that_nothing_starts_from_is_refused(bert_folder, options):
    with pytest.raises(UsageError, match="original_tokens=32 changes nothing by itself"):
        load_encoder(bert_folder, device="cpu", **options)


@pytest.mark.parametrize("options", [PI, {"logn": "per_sequence"}], ids=["method", "logn"])
def test_a_trained_length_that_is_started_from_is_taken(bert_folder, options):
    encoder = load_encoder(bert_folder, device="cpu", original_tokens=32, **options)
    assert encoder.plan.original == 32
    again = encoder_from_passport(encoder.passport, device="cpu")
    assert again.passport.fingerprint == encoder.passport.fingerprint


DAMAGED = {
    "a word for a window": ({"max_tokens": "abc"}, "max_tokens should hold a whole number"),
    "half a token": ({"max_tokens": 1.5}, "max_tokens should hold a whole number"),
    "true for a window": ({"max_tokens": True}, "max_tokens should hold a whole number"),
    "no token": ({"max_tokens": 0}, "max_tokens should hold a whole number"),
    "a list for an extension": ({"extension": [1]}, "extension should hold an object"),
    "false for an extension": ({"extension": False}, "extension should hold an object"),
    "a word for modules": ({"modules": "abc"}, "modules should hold objects"),
    "numbers for modules": ({"modules": [1]}, "modules should hold objects"),
    "a word for a target": ({"extension": {"target_tokens": "abc"}}, "target_tokens must be a whole number"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_of_an_extended_folder_is_named_with_what_it_holds(bert_folder, tmp_path, damage, message):
    folder = shutil.copytree(bert_folder, tmp_path / "model")
    whole = {"format": 1, "extension": {"method": "pi", "target_tokens": 128}}
    (folder / EXTENSION_NAME).write_text(json.dumps(whole))
    assert read_extension(folder).extension == Extension(Method.PI, 128)
    (folder / EXTENSION_NAME).write_text(json.dumps({**whole, **damage}))
    with pytest.raises(ValidationError, match=message) as found:
        load_encoder(folder, device="cpu")
    assert found.value.exit_code == 5
    assert EXTENSION_NAME in str(found.value)


MISMATCHES = {
    "target": (PI, {"extend": "pi", "target_tokens": 256}, "target_tokens was 128 and is 256"),
    "method": (PI, {"extend": "gp", "target_tokens": 256}, "extend was 'pi' and is 'gp'"),
    "none": ({}, PI, "extend was None and is 'pi'"),
    "no longer": (PI, {}, "extend was 'pi' and is None"),
    "temperature": (PI, {**PI, "temperature": 0.8}, "temperature was 1.0 and is 0.8"),
    "temperature alone": ({}, {"temperature": 0.8}, "temperature was 1.0 and is 0.8"),
    "logn": ({}, {"logn": "per_sequence"}, "logn was 'off' and is 'per_sequence'"),
    "original": (PI, {**PI, "original_tokens": 32}, "original_tokens was 64 and is 32"),
    "dynamic": (PI, {**PI, "dynamic": True}, "dynamic was False and is True"),
    "window": ({}, {"max_tokens": 32}, "max_tokens was 64 and is 32"),
    "prompt": ({}, {"document_prompt": "x"}, "document_prompt was 'passage: ' and is 'x'"),
}


@pytest.mark.parametrize(("built", "asked", "message"), MISMATCHES.values(), ids=MISMATCHES)
def test_another_encoder_is_named_by_the_setting_that_the_user_knows(bert_folder, built, asked, message):
    expected, found = (load_encoder(bert_folder, device="cpu", **options).passport for options in (built, asked))
    with pytest.raises(PassportMismatch, match=f"First difference: {message}"):
        check_passport(expected, found)
