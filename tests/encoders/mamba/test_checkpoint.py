"""Configurations and weights: every published layout gives the same shape and the same tensors."""

import json
import math

import numpy as np
import pytest

from unabridged.encoders.mamba.checkpoint import load_tensors
from unabridged.encoders.mamba.config import MambaConfig
from unabridged.encoders.mamba.initial import initial
from unabridged.errors import MissingFile, ValidationError

torch = pytest.importorskip("torch")
SHAPE = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2}


@pytest.fixture(params=[1, 2], ids=["mamba", "mamba2"])
def published(request, tmp_path):
    """A folder as transformers writes it, and its model."""
    import transformers

    torch.manual_seed(0)
    if request.param == 1:
        model = transformers.MambaForCausalLM(transformers.MambaConfig(**SHAPE, state_size=4))
    else:
        shape = {"state_size": 8, "head_dim": 8, "num_heads": 4, "n_groups": 2, "tie_word_embeddings": True}
        model = transformers.Mamba2ForCausalLM(transformers.Mamba2Config(**SHAPE, **shape))
    folder = tmp_path / "hf"
    model.save_pretrained(folder)
    return folder, model


def config_of(folder):
    path = folder / "config.json"
    return MambaConfig.from_json(json.loads(path.read_text()), str(path))


def original(folder, target, model):
    """The same model as mamba_ssm publishes it."""
    variant = config_of(folder).variant
    layer = {} if variant == 1 else {"layer": "Mamba2", "headdim": 8, "ngroups": 2}
    target.mkdir()
    config = {"d_model": 16, "n_layer": 2, "vocab_size": 37, "ssm_cfg": {"d_state": 4 if variant == 1 else 8, **layer}}
    (target / "config.json").write_text(json.dumps({**config, "rms_norm": True, "pad_vocab_size_multiple": 8}))
    tensors = {f"backbone.{name}".replace("embeddings.", "embedding."): tensor for name, tensor in
               model.backbone.state_dict().items()}  # fmt: skip
    torch.save({**tensors, "lm_head.weight": tensors["backbone.embedding.weight"]}, target / "pytorch_model.bin")
    return target


def test_both_layouts_give_one_configuration_and_the_same_tensors(published, tmp_path):
    folder, model = published
    config = config_of(folder)
    other = original(folder, tmp_path / "ssm", model)
    assert config_of(other) == config
    found, again = load_tensors(folder, config), load_tensors(other, config_of(other))
    own = dict(model.backbone.named_parameters())
    assert list(found) == list(again) == list(config.shapes())
    assert set(own) == set(found)
    for name, tensor in own.items():
        assert torch.equal(found[name], tensor)
        assert torch.equal(again[name], tensor)


@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_shards_give_the_tensors_of_one_file(published, tmp_path, kind):
    from safetensors.torch import save_file

    folder, _ = published
    config = config_of(folder)
    whole = load_tensors(folder, config)
    shards = tmp_path / "shards"
    shards.mkdir()
    stem, ending = ("model", "safetensors") if kind == "safetensors" else ("pytorch_model", "bin")
    names, parts = {}, [{}, {}]
    for row, (name, tensor) in enumerate(whole.items()):
        parts[row % 2][f"backbone.{name}"] = tensor
        names[f"backbone.{name}"] = f"{stem}-0000{row % 2 + 1}-of-00002.{ending}"
    for row, part in enumerate(parts):
        path = shards / f"{stem}-0000{row + 1}-of-00002.{ending}"
        save_file(part, path) if kind == "safetensors" else torch.save(part, path)
    index = shards / f"{stem}.{ending}.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    found = load_tensors(shards, config)
    assert all(torch.equal(found[name], tensor) for name, tensor in whole.items())
    (shards / f"{stem}-00002-of-00002.{ending}").unlink()
    with pytest.raises(MissingFile, match=r"00002-of-00002.*not there"):
        load_tensors(shards, config)
    index.write_text(json.dumps({"weight_map": {"a": "../../elsewhere.bin"}}))
    with pytest.raises(ValidationError, match="outside"):
        load_tensors(shards, config)


def test_shapes_that_do_not_fit_are_named_with_both(published):
    folder, _ = published
    content = json.loads((folder / "config.json").read_text())
    wrong = MambaConfig.from_json({**content, "vocab_size": 41}, "config.json")
    with pytest.raises(ValidationError, match=r"embeddings.weight has shape \(40, 16\).*makes it \(41, 16\)"):
        load_tensors(folder, wrong)
    fewer = MambaConfig.from_json({**content, "num_hidden_layers": 1}, "config.json")
    with pytest.raises(ValidationError, match=r"layers\.1\."):
        load_tensors(folder, fewer)
    more = MambaConfig.from_json({**content, "num_hidden_layers": 3}, "config.json")
    with pytest.raises(ValidationError, match=r"lacks \d+ of \d+ tensors, the first is layers\.2\."):
        load_tensors(folder, more)


def test_damaged_and_missing_files_are_named(published):
    folder, _ = published
    config = config_of(folder)
    (folder / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValidationError, match=r"model\.safetensors is not a file of safetensors"):
        load_tensors(folder, config)
    (folder / "model.safetensors").unlink()
    with pytest.raises(MissingFile, match=r"has no model\.safetensors"):
        load_tensors(folder, config)
    (folder / "pytorch_model.bin").write_bytes(b"no tensors")
    with pytest.raises(ValidationError, match=r"pytorch_model\.bin does not load"):
        load_tensors(folder, config)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_nothing_in_a_torch_file_is_executed(published, capsys):
    folder, _ = published
    config = config_of(folder)
    (folder / "model.safetensors").unlink()
    torch.save({"backbone.norm_f.weight": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(ValidationError, match="tensors alone"):
        load_tensors(folder, config)
    assert "executed" not in capsys.readouterr().out


@pytest.fixture
def stored(tmp_path):
    """A folder with a torch file of fresh parameters, what is in it, and its configuration."""
    config = MambaConfig.from_json({**SHAPE, "model_type": "mamba", "state_size": 4}, "config.json")
    torch.save(initial(config, 0), tmp_path / "pytorch_model.bin")
    return tmp_path, initial(config, 0), config


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_torch_file_with_any_damage_is_read_or_refused_and_never_fails_otherwise(stored, zipped):
    folder, tensors, config = stored
    path = folder / "pytorch_model.bin"
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for number in range(60):
        damaged = bytearray(whole)
        # The names and the ways of reading lie in front; half of the damage is there.
        for place in rng.integers(0, len(whole) if number % 2 else 2000, 5):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged if number % 3 else damaged[: rng.integers(0, len(whole))])
        try:
            load_tensors(folder, config)
        except ValidationError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda own: {"model": own}, "holds a dict under 'model'"),
        (lambda own: {**own, "step": 3}, "holds a int under 'step'"),
        (lambda own: {name: (value * 100).to(torch.int8) for name, value in own.items()}, r"torch\.int8"),
        (lambda own: {name: value > 0 for name, value in own.items()}, r"torch\.bool"),
        (lambda own: {name: value.to(torch.complex64) for name, value in own.items()}, r"torch\.complex64"),
        (lambda own: {name: value.to_sparse() for name, value in own.items()}, r"torch\.sparse_coo"),
        (lambda own: {name: value.to("meta") for name, value in own.items()}, "on meta"),
    ],
    ids=["nested", "a number", "int8", "bool", "complex", "sparse", "meta"],
)
def test_what_is_no_tensor_of_plain_numbers_is_refused_by_name(stored, change, words):
    folder, tensors, config = stored
    torch.save(change(tensors), folder / "pytorch_model.bin")
    with pytest.raises(ValidationError, match=words):
        load_tensors(folder, config)


HF = {**SHAPE, "model_type": "mamba"}
HF2 = {**SHAPE, "model_type": "mamba2", "num_heads": 4, "head_dim": 8, "n_groups": 1}
SSM = {"d_model": 16, "n_layer": 2, "vocab_size": 40}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "falcon_mamba"}, "'falcon_mamba' is not supported; supported are mamba and mamba2"),
        ({}, "None is not supported"),
        ({**HF, "hidden_act": "gelu"}, "hidden_act='gelu' is not supported"),
        ({**HF, "state_size": 0}, "state_size should be a whole number above 0 and is 0"),
        ({**HF, "hidden_size": None}, "hidden_size should be"),
        ({**HF, "layer_norm_epsilon": True}, "layer_norm_epsilon should be a number"),
        ({**HF2, "num_heads": 3}, "3 heads of 8 in 1 groups"),
        ({**HF2, "n_groups": 3}, "4 heads of 8 in 3 groups"),
        ({**HF2, "time_step_limit": "wide"}, "time_step_limit should hold two numbers"),
        ({**HF2, "time_step_limit": [2, 1]}, "time_step_limit should rise"),
        ({**SSM, "rms_norm": False}, "rms_norm=False is not supported"),
        ({**SSM, "attn_layer_idx": [1]}, "attn_layer_idx"),
        ({**SSM, "ssm_cfg": {"layer": "Mamba3"}}, "layer='Mamba3' is not supported, only 'Mamba1' or 'Mamba2'"),
        ({**SSM, "ssm_cfg": {"layer": "Mamba2", "norm_before_gate": True}}, "norm_before_gate"),
        ({**SSM, "ssm_cfg": [1]}, "ssm_cfg should hold an object"),
    ],
    ids=str,
)
def test_configurations_that_are_not_understood_are_refused_by_field(config, words):
    with pytest.raises(ValidationError, match=words) as caught:
        MambaConfig.from_json(config, "here/config.json")
    assert "here/config.json" in str(caught.value)


def test_the_published_sizes_are_read():
    small = MambaConfig.from_json({"d_model": 768, "n_layer": 24, "vocab_size": 50277, "ssm_cfg": {}}, "a")
    assert (small.inner, small.state, small.dt_rank, small.vocab) == (1536, 16, 48, 50280)
    second = {"d_model": 768, "n_layer": 24, "vocab_size": 50277, "pad_vocab_size_multiple": 16}
    found = MambaConfig.from_json({**second, "ssm_cfg": {"layer": "Mamba2"}}, "a")
    assert (found.heads, found.head_dim, found.state, found.groups, found.vocab) == (24, 64, 128, 1, 50288)
    assert found.shapes()["layers.0.mixer.in_proj.weight"] == (3352, 768)
    assert sum(math.prod(shape) for shape in small.shapes().values()) == 129_135_360


def test_limits_of_the_time_step_are_read_as_transformers_writes_infinity():
    limits = [0.0, {"__float__": "Infinity"}]
    assert MambaConfig.from_json({**HF2, "time_step_limit": limits}, "a").time_step_limit == (0.0, math.inf)
