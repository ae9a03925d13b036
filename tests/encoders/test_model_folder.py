"""What a model folder says about itself, read without torch."""

import json
import shutil

import numpy as np
import pytest

from unabridged.encoders._hf import read_folder, weight_files
from unabridged.encoders._tokens import Tokenizer
from unabridged.errors import MissingFile, UsageError, ValidationError


@pytest.fixture
def folder(bert_folder, tmp_path):
    return shutil.copytree(bert_folder, tmp_path / "copy")


def change(path, **values):
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps({**content, **values}))


def test_a_sentence_transformers_folder_is_read_whole(folder):
    model = read_folder(folder)
    assert (model.pooling, model.normalize, model.hidden, model.dim) == (("mean",), True, 32, 32)
    assert (model.window, model.limit, model.model_type) == (64, 64, "bert")
    assert model.prompts == {"query": "query: ", "document": "passage: ", "other": "the cat "}
    assert model.default_prompt == "the cat "


def test_a_plain_folder_has_mean_pooling_unless_told_otherwise(plain_bert_folder):
    assert read_folder(plain_bert_folder).pooling == ("mean",)
    assert read_folder(plain_bert_folder, pooling="last").pooling == ("last",)
    assert not read_folder(plain_bert_folder).normalize


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, ("cls",)),
        ({"pooling_mode_max_tokens": True, "pooling_mode_cls_token": True}, ("cls", "max")),
        ({"pooling_mode_lasttoken": True}, ("last",)),
        ({"pooling_mode": "weightedmean"}, ("weighted_mean",)),
        ({"pooling_mode": ["cls", "mean"]}, ("cls", "mean")),
        ({"word_embedding_dimension": 32}, ("mean",)),
    ],
    ids=str,
)
def test_both_styles_of_pooling_configuration_are_understood(folder, config, wanted):
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    model = read_folder(folder)
    assert model.pooling == wanted
    assert model.dim == 32 * len(wanted)


def test_an_unknown_module_is_refused_by_name(folder):
    modules = json.loads((folder / "modules.json").read_text())
    modules.insert(2, {"idx": 2, "name": "2", "path": "2_LSTM", "type": "sentence_transformers.models.LSTM"})
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValidationError, match="LSTM"):
        read_folder(folder)


def test_an_unknown_pooling_is_refused_by_name(folder, plain_bert_folder):
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": "median"}))
    with pytest.raises(ValidationError, match="median"):
        read_folder(folder)
    with pytest.raises(UsageError, match="avg"):
        read_folder(plain_bert_folder, pooling="avg")


def test_a_foreign_activation_is_refused_and_never_imported(folder, tiny):
    tiny.write_dense(folder / "2_Dense", 32, 8, activation="os.system")
    modules = json.loads((folder / "modules.json").read_text())
    modules[2:] = [{"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValidationError, match=r"os\.system"):
        read_folder(folder)


def test_roberta_positions_in_front_are_not_counted(roberta_folder):
    assert read_folder(roberta_folder).limit == 64


def test_the_window_comes_from_the_tokenizer_where_newer_folders_put_it(folder):
    (folder / "sentence_bert_config.json").write_text("{}")
    change(folder / "tokenizer_config.json", model_max_length=48)
    assert read_folder(folder).window == 48
    change(folder / "tokenizer_config.json", model_max_length=10**30)
    assert read_folder(folder).window == 64


@pytest.mark.parametrize("content", ["", "[]", '{"a": ', "\x00"], ids=repr)
def test_a_broken_configuration_is_a_typed_error_that_names_the_file(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(ValidationError, match="config"):
        read_folder(folder)


def test_a_folder_without_a_model_or_weights_is_a_typed_error(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFile, match=r"config\.json"):
        read_folder(tmp_path / "empty")
    (folder / "model.safetensors").unlink()
    with pytest.raises(MissingFile, match="no weights"):
        _ = read_folder(folder).weights_sha256


def test_shards_are_taken_in_order_and_a_missing_one_is_named(folder):
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"b": "model-2.safetensors", "a": "model-1.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model-1.safetensors").write_bytes(b"1")
    with pytest.raises(MissingFile, match=r"model-2\.safetensors"):
        weight_files(folder)
    (folder / "model-2.safetensors").write_bytes(b"2")
    assert [path.name for path in weight_files(folder)] == ["model-1.safetensors", "model-2.safetensors"]


def test_truncation_settings_of_the_tokenizer_do_not_change_its_hash_and_its_vocabulary_does(folder):
    before = read_folder(folder).tokenizer_sha256
    change(
        folder / "tokenizer.json",
        truncation={"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
    )
    assert read_folder(folder).tokenizer_sha256 == before
    content = json.loads((folder / "tokenizer.json").read_text())
    vocab = content["model"]["vocab"]
    vocab["cat"], vocab["mat"] = vocab["mat"], vocab["cat"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert read_folder(folder).tokenizer_sha256 != before


def test_the_tokenizer_never_truncates_even_if_its_file_says_so(folder):
    change(
        folder / "tokenizer.json",
        truncation={"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
    )
    assert Tokenizer(read_folder(folder)).count(["the cat sat " * 100]).tolist() == [300]


@pytest.mark.parametrize("prompt", ["", "query: ", "query:"], ids=repr)
@pytest.mark.parametrize(
    "text", ["the cat sat", "", "  the\ncat ", "日本 🙂 cats", "\ud800 cat", "QUERY: cat"], ids=ascii
)
def test_offsets_are_characters_of_the_text_without_prompt_and_counts_agree(bert_folder, prompt, text):
    tokenizer = Tokenizer(read_folder(bert_folder))
    (tokens,) = tokenizer.encode([text], prompt)
    offsets = tokens.characters()
    assert len(offsets) == len(tokens.ids) == tokenizer.count([text], prompt)[0] == tokenizer.count([text])[0]
    assert all(text[a:b].strip() == text[a:b] != "" for a, b in offsets)
    assert "".join(text[a:b] for a, b in offsets) == "".join(text.split()).replace("\ud800", "")


def test_specials_are_those_of_the_post_processor(bert_folder, roberta_folder):
    for folder, wanted in ((bert_folder, (2, 3)), (roberta_folder, (0, 2))):
        before, after = Tokenizer(read_folder(folder)).specials
        assert (before.tolist(), after.tolist()) == ([wanted[0]], [wanted[1]])
        assert before.dtype == np.int32


def test_lower_casing_in_front_of_a_cased_tokenizer_is_applied(roberta_folder, tmp_path):
    folder = shutil.copytree(roberta_folder, tmp_path / "copy")
    change(folder / "sentence_bert_config.json", do_lower_case=True)
    tokenizer = Tokenizer(read_folder(folder))
    upper, lower = tokenizer.encode(["THE CAT", "the cat"])
    assert upper.ids.tolist() == lower.ids.tolist()
    assert Tokenizer(read_folder(roberta_folder)).encode(["THE"])[0].ids.tolist() != lower.ids[:3].tolist()


@pytest.mark.parametrize(
    "written",
    [{}, [], {"weight_map": {}}, {"weight_map": {"a": 3}}, {"weight_map": {"a": "../other.safetensors"}}],
    ids=["nothing", "a list", "no tensor", "a number", "another folder"],
)
def test_an_index_of_shards_that_is_none_is_refused(folder, written):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(written))
    with pytest.raises(ValidationError, match=r"model\.safetensors\.index\.json"):
        weight_files(folder)


@pytest.mark.parametrize("width", ["x", 0, True, 3.5])
def test_a_width_that_is_none_is_refused(folder, width):
    change(folder / "config.json", hidden_size=width)
    with pytest.raises(ValidationError, match="hidden_size"):
        _ = read_folder(folder).hidden


def test_a_damaged_tokenizer_is_named(folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ValidationError, match=r"tokenizer\.json"):
        Tokenizer(read_folder(folder)).count(["a"], "")
