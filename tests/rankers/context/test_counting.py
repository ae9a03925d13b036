"""Tokenizers by name and by object: each count is the tokenizer's own, nothing is guessed and nothing downloaded."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from unabridged.contracts import Rows
from unabridged.encoders.hashing import HashingEncoder
from unabridged.errors import MissingExtra, MissingFile, RuntimeFailure, UsageError, ValidationError
from unabridged.rankers.context import _tiktoken
from unabridged.rankers.context.counting import TIKTOKEN, token_counter

TEXT = "One two three, vier. " * 200


@pytest.fixture
def saved(tmp_path):
    """A tokenizer that splits at white space and would cut to four and fill up to nine."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "one": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_a_saved_tokenizer_neither_cuts_nor_fills_up(saved):
    for name in (saved, str(saved), saved / "tokenizer.json"):
        counter = token_counter(name)
        assert counter(TEXT) == len(TEXT.split())
        assert counter("one") == 1
        assert counter("") == 0
        assert counter.label == str(name)


def test_a_file_that_is_no_tokenizer_is_refused(saved):
    (saved / "tokenizer.json").write_text("{}")
    with pytest.raises(ValidationError, match="Restore"):
        token_counter(saved)
    (saved / "tokenizer.json").unlink()
    (saved / "config.json").write_text(json.dumps({"model_type": "none of them"}))
    with pytest.raises(MissingFile, match="no tokenizer"):
        token_counter(saved)


def test_objects_that_count_are_asked_in_their_own_way(saved):
    tokenizer = Tokenizer.from_file(str(saved / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    assert token_counter(tokenizer)(TEXT) == len(TEXT.split())
    encoder = HashingEncoder(window=16)
    assert token_counter(encoder)(TEXT) == int(encoder.count_tokens([TEXT])[0])
    model = SimpleNamespace(name="m", count_texts=lambda texts: [len(one) for one in texts])
    assert (token_counter(model).label, token_counter(model)("abc")) == ("m", 3)
    server = SimpleNamespace(**vars(model), capabilities=SimpleNamespace(exact_tokens=False))
    assert "estimate" in token_counter(server).label
    counts: Rows = np.array([4, 5])
    assert token_counter(lambda text: counts[0])("a") == 4
    assert token_counter(token_counter(len)).label == "len"


def test_two_arguments_of_encode_are_not_needed():
    class Plain:
        def encode(self, text):
            return text.split()

    assert token_counter(Plain())("a b c") == 3


@pytest.mark.parametrize("answer", [-1, 1.5, True, None, "3"])
def test_an_answer_that_is_no_count_is_refused(answer):
    with pytest.raises(UsageError, match="number of tokens"):
        token_counter(lambda text: answer)("a")


def test_a_lone_surrogate_counts_as_a_character(saved):
    assert token_counter(saved)("a \ud800 b") == 3
    assert token_counter("embedded")("a \ud800 b") >= 2


@pytest.mark.parametrize("name", TIKTOKEN)
def test_an_encoding_without_tiktoken_names_the_pip_command(name, monkeypatch):
    monkeypatch.setattr(_tiktoken.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match="pip install tiktoken"):
        token_counter(name)


def test_a_vocabulary_that_is_not_in_the_cache_is_not_downloaded_unless_that_is_allowed(tmp_path, monkeypatch):
    fake = ModuleType("tiktoken")
    fake.__spec__ = importlib.util.spec_from_loader("tiktoken", None)
    asked = []
    encoding = type("Encoding", (), {"__module__": "tiktoken.core", "encode": lambda _, text, **more: text.split()})
    fake.get_encoding = lambda name: asked.append(name) or encoding()
    monkeypatch.setitem(sys.modules, "tiktoken", fake)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    with pytest.raises(MissingFile, match="network"):
        token_counter("cl100k_base")
    assert not asked
    assert token_counter("cl100k_base", network=True)("a b <|endoftext|>") == 3
    name = hashlib.sha1(b"https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken").hexdigest()
    (tmp_path / name).write_bytes(b"broken: the package would delete it and download another")
    with pytest.raises(MissingFile, match="network"):
        token_counter("cl100k_base")
    sha256 = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    monkeypatch.setattr(_tiktoken, "_SHA256", {"encodings/cl100k_base.tiktoken": sha256})
    token_counter("cl100k_base")
    assert asked == ["cl100k_base", "cl100k_base"]
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    with pytest.raises(MissingFile, match="switched off"):
        token_counter("cl100k_base")
    fake.get_encoding = lambda name: (_ for _ in ()).throw(ValueError("hash mismatch"))
    with pytest.raises(RuntimeFailure, match="hash mismatch"):
        token_counter("cl100k_base", network=True)


def test_an_encoding_of_tiktoken_counts_control_strings_as_text():
    tiktoken = pytest.importorskip("tiktoken")
    ranks = {bytes([value]): value for value in range(256)}
    encoding = tiktoken.Encoding("bytes", pat_str=r"(?s).", mergeable_ranks=ranks, special_tokens={"<|end|>": 256})
    counter = token_counter(encoding)
    assert (counter.label, counter("a<|end|>\u20ac")) == ("bytes", 1 + 7 + 3)


def test_every_known_encoding_has_its_files():
    assert set(_tiktoken._FILES) == set(TIKTOKEN)
    assert {part for parts in _tiktoken._FILES.values() for part in parts} == set(_tiktoken._SHA256)


@pytest.mark.parametrize("name", ["", "nothing here", "/gone/away", ".hidden/x", "a/b/c"])
def test_an_unknown_name_is_refused_with_those_that_are_known(name):
    with pytest.raises(UsageError, match="embedded-lm"):
        token_counter(name)


def test_a_hub_id_that_is_not_cached_is_not_downloaded():
    with pytest.raises(MissingFile, match="network"):
        token_counter("nobody/no-such-model")
