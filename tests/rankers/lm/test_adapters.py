"""Low-rank additions: the same numbers as the library that made them, all of them used, and known by their bytes."""

import json
import shutil
import warnings

import pytest
from safetensors.torch import load_file, save_file

from tests_support import one_thread  # noqa: F401  a fixture for all that is here
from unabridged.errors import MissingFile, ValidationError
from unabridged.rankers.lm.adapters import CONFIG, WEIGHTS, read_adapter
from unabridged.rankers.lm.contracts import Message
from unabridged.rankers.lm.load import LocalOptions, load_model

PROMPT = [Message("user", "the capital of Peru")]
OPTIONS = LocalOptions(device="cpu", precision="float32")


@pytest.fixture(scope="module")
def made(llama_folder, tmp_path_factory):
    """The adapter of a tiny model, by peft, with what the library computes of the prompt."""
    import peft
    import torch

    local = load_model(llama_folder, local=OPTIONS)
    torch.manual_seed(3)
    config = peft.LoraConfig(r=3, lora_alpha=7, target_modules="all-linear", task_type="CAUSAL_LM")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        tuned = peft.get_peft_model(local.model, config)
    for name, value in tuned.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(value, std=0.2)
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    tuned.save_pretrained(str(folder), save_embedding_layers=False)
    with torch.no_grad():
        right = tuned.eval()(torch.tensor([local.ids(PROMPT)])).logits
    named(folder, base_model_name_or_path=str(llama_folder))
    return folder, right


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made[0], tmp_path / "copy")


def named(folder, **keys):
    config = folder / CONFIG
    config.write_text(json.dumps({**json.loads(config.read_text()), **keys}))


def test_an_adapter_computes_what_the_library_that_made_it_does(made, llama_folder):
    import torch

    local, plain = (load_model(one, local=OPTIONS) for one in (made[0], llama_folder))
    with torch.no_grad():
        found, before = (one.model(torch.tensor([one.ids(PROMPT)])).logits for one in (local, plain))
    assert torch.allclose(found, made[1], atol=1e-4)
    assert not torch.allclose(found, before, atol=1e-2)
    assert local.name == str(made[0])


def test_it_is_known_by_its_bytes(folder, llama_folder):
    fingerprints = [load_model(llama_folder, local=OPTIONS).fingerprint, load_model(folder, local=OPTIONS).fingerprint]
    weights = load_file(folder / WEIGHTS)
    save_file({name: value * 2 for name, value in weights.items()}, folder / WEIGHTS)
    fingerprints.append(load_model(folder, local=OPTIONS).fingerprint)
    assert len(set(fingerprints)) == 3


def test_a_base_may_lie_beside_the_adapter(folder, llama_folder):
    shutil.copytree(llama_folder, folder.parent / "base")
    named(folder, base_model_name_or_path="../base")
    load_model(folder, local=OPTIONS)
    named(folder, base_model_name_or_path="../nowhere")
    with pytest.raises(MissingFile):
        load_model(folder, local=OPTIONS)
    named(folder, base_model_name_or_path=".")
    with pytest.raises(ValidationError, match="an adapter too"):
        load_model(folder, local=OPTIONS)


@pytest.mark.parametrize(
    "keys",
    [{"peft_type": "LOHA"}, {"use_dora": True}, {"use_rslora": True}, {"bias": "all"}, {"r": 0}, {"r": "x"},
     {"rank_pattern": {"q_proj": 2}}, {"modules_to_save": ["lm_head"]}, {"base_model_name_or_path": ""}],
    ids=lambda keys: next(iter(keys)),
)  # fmt: skip
def test_an_adapter_of_another_kind_is_refused(folder, keys):
    named(folder, **keys)
    with pytest.raises(ValidationError):
        read_adapter(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"r": 1}'])
def test_a_config_that_is_none_is_refused(folder, text):
    (folder / CONFIG).write_text(text)
    with pytest.raises(ValidationError):
        read_adapter(folder)


def test_weights_that_are_missing_stray_misshapen_or_infinite_are_refused(folder):
    weights = load_file(folder / WEIGHTS)
    first = min(weights)
    for changed in (
        {name: value for name, value in weights.items() if name != first},
        {**weights, "stray": weights[first].clone()},
        {**weights, first: weights[first][:, :-1].contiguous()},
        {**weights, first: weights[first] * float("nan")},
        {name.replace("q_proj", "z_proj"): value for name, value in weights.items()},
        {},
    ):
        save_file(changed, folder / WEIGHTS)
        with pytest.raises(ValidationError):
            load_model(folder, local=OPTIONS)
    (folder / WEIGHTS).unlink()
    with pytest.raises(MissingFile):
        load_model(folder, local=OPTIONS)
