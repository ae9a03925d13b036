"""Tiny models with random weights, built from a seed, in the folder layouts that hubs publish."""

import json
import string
from pathlib import Path

import numpy as np

WORDS = ["the", "cat", "sat", "on", "mat", "query", "passage", "##ing", "##s", "long", "document"]


def bert(folder: Path, *, seed: int = 0, pooling: dict | None = None, dense: int | None = None, **extra) -> Path:
    """A BERT of 2 layers, width 32, 64 positions, WordPiece over letters; a sentence-transformers folder."""
    import torch
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    letters = string.ascii_lowercase + string.digits
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.punctuation, *letters]
    vocab += [f"##{letter}" for letter in letters] + WORDS
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(vocab)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocab), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64, pad_token_id=0, initializer_range=0.5,
    )  # fmt: skip
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    return _save(folder, BertModel(config), tokenizer, names, 64, pooling, dense, **extra)


def roberta(folder: Path, *, seed: int = 0, pooling: dict | None = None, dense: int | None = None, **extra) -> Path:
    """A RoBERTa of 2 layers, width 32, 64 usable positions, tokens of one byte."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import RobertaConfig, RobertaModel

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    torch.manual_seed(seed)
    config = RobertaConfig(
        vocab_size=len(vocab), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=66, type_vocab_size=1, pad_token_id=1, initializer_range=0.5,
    )  # fmt: skip
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return _save(folder, RobertaModel(config), tokenizer, names, 64, pooling, dense, **extra)


def mamba(folder: Path, *, variant: int = 1, seed: int = 0, published: bool = False, prompts=None, **extra) -> Path:
    """A Mamba or Mamba-2 of 2 layers, width 32, tokens of one byte; ``published``: a plain ``-hf`` folder."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import Mamba2Config, Mamba2Model, MambaConfig, MambaModel

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(["<|endoftext|>", *alphabet])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    shape = {"vocab_size": 264, "hidden_size": 32, "num_hidden_layers": 2, "expand": 2, "initializer_range": 0.5}
    torch.manual_seed(seed)
    if variant == 1:
        model = MambaModel(MambaConfig(**shape, state_size=8))
    else:
        model = Mamba2Model(Mamba2Config(**shape, state_size=16, head_dim=16, num_heads=4, n_groups=1, chunk_size=8))
    names = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    pooling = {"word_embedding_dimension": 32, "pooling_mode_lasttoken": True}
    return _save(folder, model, tokenizer, names, 10**6, pooling, None, prompts=prompts, plain=published, **extra)


def original_layout(source: Path, target: Path, *, variant: int = 1) -> Path:
    """The model of an ``-hf`` folder as mamba_ssm publishes it, with the tokenizer beside it."""
    import shutil

    import torch
    from safetensors.torch import load_file

    config = json.loads((source / "config.json").read_text())
    keys = {"state_size": "d_state", "conv_kernel": "d_conv", "expand": "expand"}
    inner = {name: config[key] for key, name in keys.items()}
    if variant == 2:
        inner |= {"layer": "Mamba2", "headdim": config["head_dim"], "ngroups": config["n_groups"], "chunk_size": 8}
    _json(
        target / "config.json",
        {
            "d_model": config["hidden_size"], "n_layer": config["num_hidden_layers"],
            "vocab_size": config["vocab_size"] - 3, "ssm_cfg": inner, "rms_norm": True, "residual_in_fp32": True,
            "fused_add_norm": True, "pad_vocab_size_multiple": 8,
        },
    )  # fmt: skip
    state = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        name = name.removeprefix("backbone.")
        state[f"backbone.{name.replace('embeddings.', 'embedding.')}"] = tensor
    state["lm_head.weight"] = state["backbone.embedding.weight"]
    torch.save(state, target / "pytorch_model.bin")
    for path in source.glob("tokenizer*"):
        shutil.copyfile(path, target / path.name)
    return target


def _save(
    folder: Path,
    model,
    tokenizer,
    names,
    length,
    pooling,
    dense,
    *,
    normalize=True,
    prompts=None,
    default=None,
    plain=False,
) -> Path:
    from transformers import PreTrainedTokenizerFast

    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=length, **names).save_pretrained(folder)
    if plain:
        return folder
    types = ["sentence_transformers.models.Transformer", "sentence_transformers.models.Pooling"]
    paths = ["", "1_Pooling"]
    _json(
        folder / "1_Pooling" / "config.json",
        pooling or {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True},
    )
    if dense is not None:
        types.append("sentence_transformers.models.Dense")
        paths.append("2_Dense")
        write_dense(folder / "2_Dense", 32, dense)
    if normalize:
        types.append("sentence_transformers.models.Normalize")
        paths.append(f"{len(paths)}_Normalize")
        (folder / paths[-1]).mkdir(exist_ok=True)
    modules = [
        {"idx": i, "name": str(i), "path": p, "type": t} for i, (p, t) in enumerate(zip(paths, types, strict=True))
    ]
    _json(folder / "modules.json", modules)
    _json(folder / "sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": False})
    if prompts is not None:
        saved = {"prompts": prompts, "default_prompt_name": default, "similarity_fn_name": "cosine"}
        _json(folder / "config_sentence_transformers.json", saved)
    return folder


def write_dense(folder: Path, inputs: int, outputs: int, activation: str = "torch.nn.modules.activation.Tanh") -> None:
    from safetensors.numpy import save_file

    rng = np.random.default_rng(5)
    _json(
        folder / "config.json",
        {"in_features": inputs, "out_features": outputs, "bias": True, "activation_function": activation},
    )
    weight = rng.standard_normal((outputs, inputs)).astype(np.float32)
    save_file({"linear.weight": weight, "linear.bias": weight[:, 0].copy()}, str(folder / "model.safetensors"))


def _json(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
