"""Tiny models of several positions and attentions, built from a seed, and the same models in transformers' own hands.

Width 32, 4 heads, 32 trained positions (Lo), weights large enough that positions matter.
"""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np

LO = 32
LENGTHS = [1, LO - 1, LO, LO + 1, 2 * LO, 8 * LO]
BIDIRECTIONAL = ["nomic_bert", "modernbert"]
CAUSAL = ["llama", "mistral"]
ROTARY = [*BIDIRECTIONAL, *CAUSAL, "qwen2"]


def config(kind: str):
    import transformers as t

    wide = {
        "vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "initializer_range": 0.2, "pad_token_id": 0,
    }  # fmt: skip
    few = {**wide, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": LO}
    modern = {"local_attention": 16, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
    kinds = {
        "nomic_bert": lambda: t.NomicBertConfig(**wide, max_position_embeddings=LO),
        "modernbert": lambda: t.ModernBertConfig(
            **{**wide, "num_hidden_layers": 3}, **modern, max_position_embeddings=LO
        ),
        "llama": lambda: t.LlamaConfig(**few),
        "mistral": lambda: t.MistralConfig(**few, sliding_window=LO),
        "qwen2": lambda: t.Qwen2Config(**few, use_sliding_window=True, sliding_window=LO, max_window_layers=1),
        "bert": lambda: t.BertConfig(**wide, max_position_embeddings=8 * LO),
        "roberta": lambda: t.RobertaConfig(**{**wide, "pad_token_id": 1}, max_position_embeddings=8 * LO + 2),
        "mpnet": lambda: t.MPNetConfig(**{**wide, "pad_token_id": 1}, max_position_embeddings=8 * LO + 2),
        "t5": lambda: t.T5Config(vocab_size=99, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4),
        "deberta-v2": lambda: t.DebertaV2Config(**wide, max_position_embeddings=LO),
    }
    return kinds[kind]()


def save(kind: str, folder: Path, **changes) -> Path:
    """A model of ``kind`` from seed 0 in ``folder``; ``changes`` are made to its config.json afterwards."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config(kind))
    for name, values in model.named_parameters():
        if name.endswith("bias") or "relative_attention_bias" in name:
            torch.nn.init.normal_(values, std=0.5)
    model.save_pretrained(folder)
    return changed(folder, folder, **changes) if changes else folder


def changed(source: Path, target: Path, **changes) -> Path:
    """``source`` copied to ``target`` with other values in config.json."""
    if source != target:
        shutil.copytree(source, target)
    path = target / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}), encoding="utf-8")
    return target


def hotter(folder: Path, factor: float) -> dict[str, object]:
    """The rotary settings of ``folder`` with every base ``factor`` times as large, as a change of its config.json."""
    settings = json.loads((folder / "config.json").read_text())["rope_parameters"]
    if "rope_theta" in settings:
        return {"rope_parameters": {**settings, "rope_theta": settings["rope_theta"] * factor}}
    larger = {kind: {**one, "rope_theta": one["rope_theta"] * factor} for kind, one in settings.items()}
    return {"rope_parameters": larger}


def batch(lengths: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    ids = np.random.default_rng(seed).integers(3, 99, sum(lengths)).astype(np.int32)
    return ids, np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)


def sequences(ids: np.ndarray, offsets: np.ndarray) -> list[np.ndarray]:
    return [ids[a:b] for a, b in itertools.pairwise(offsets.tolist())]


def eager(folder: Path, **settings):
    """The model in transformers' own hands, with plain attention and no window that cuts."""
    import transformers

    found = transformers.AutoConfig.from_pretrained(folder)
    if found.model_type in ("mistral", "qwen2"):
        found.sliding_window = None
        if getattr(found, "layer_types", None):
            found.layer_types = ["full_attention"] * len(found.layer_types)
    found.use_cache = False
    kind = transformers.T5EncoderModel if found.model_type == "t5" else transformers.AutoModel
    model = kind.from_pretrained(folder, config=found, attn_implementation="eager", **settings).eval()
    return model


def states(model, ids: np.ndarray, places=None):
    """Hidden states of one sequence ``(L, H)``; ``places`` may be fractions.

    The mask is passed so that transformers does not take positions with gaps for several packed sequences.
    """
    import torch

    tokens = torch.from_numpy(ids.astype(np.int64))[None]
    extra = {} if places is None else {"position_ids": torch.from_numpy(np.asarray(places))[None]}
    with torch.inference_mode():
        return model(input_ids=tokens, attention_mask=torch.ones_like(tokens), **extra).last_hidden_state[0]
