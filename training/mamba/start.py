"""Where a Mamba retriever starts: fresh parameters of a chosen shape, or a checkpoint; and whose words it reads.

A small model has too few texts to learn words from: it may start with another encoder's word vectors, whose tokenizer
it then has too (``embeddings_from``).  The token that closes a text is the tokenizer's own end-of-sequence token, or
else its separator, which is then named as such in tokenizer_config.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unabridged._extras import require
from unabridged.contracts import JSON
from unabridged.encoders._extension_file import read_json
from unabridged.encoders._hf import TOKENIZER_FILES, ModelFolder, weight_files
from unabridged.encoders.mamba.config import MambaConfig
from unabridged.encoders.mamba.folder import POOLINGS, named_token, tokenizer_folder
from unabridged.errors import MissingFile, UsageError, ValidationError

if TYPE_CHECKING:
    import torch

WORD_VECTORS = (
    "embeddings.word_embeddings.weight",
    "embeddings.tok_embeddings.weight",
    "embed_tokens.weight",
    "wte.weight",
    "shared.weight",
)
"""Ends of the names that BERT's relatives, ModernBERT, decoders, GPT-2 and T5 give their word vectors."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a fresh model is."""

    variant: int = 2
    width: int = 384
    layers: int = 6
    state: int = 64
    head_dim: int = 64
    """Variant 2."""
    expand: int = 2
    conv: int = 4

    def config(self, vocab: int) -> MambaConfig:
        """With a vocabulary; :class:`ValidationError` for what does not fit together."""
        inner = self.expand * self.width
        common: dict[str, Any] = {
            "variant": self.variant, "width": self.width, "layers": self.layers, "vocab": vocab, "inner": inner,
            "state": self.state, "conv": self.conv,
        }  # fmt: skip
        if self.variant == 1:
            return MambaConfig(**common, dt_rank=-(-self.width // 16))
        return MambaConfig(**common, heads=inner // max(1, self.head_dim), head_dim=self.head_dim, groups=1)


@dataclass(frozen=True)
class Start:
    """Shape, parameters and words that a training starts with."""

    config: MambaConfig
    tensors: Mapping[str, torch.Tensor]
    """Canonical names, float32, on the CPU."""
    words: ModelFolder
    """Where the tokenizer lies."""
    eos: str
    pooling: str
    described: Mapping[str, JSON]
    """For settings that must stay and for the model card."""

    def write(self, folder: Path, tensors: Mapping[str, torch.Tensor] | None = None) -> None:
        """A plain model folder: config.json, tokenizer, and the weights ``tensors`` where there are any."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in TOKENIZER_FILES:
            if (self.words.path / name).is_file():
                (folder / name).write_bytes((self.words.path / name).read_bytes())
        path = folder / "tokenizer_config.json"
        settings = read_json(path) if path.is_file() else {}
        _write(path, {**settings, "eos_token": self.eos})
        _write(folder / "sentence_bert_config.json", {"do_lower_case": self.words.lower})
        _write(folder / "config.json", as_config(self.config, self._eos_id()))
        if tensors is not None:
            from safetensors.torch import save_file

            plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
            save_file(plain, folder / "model.safetensors", {"format": "pt"})

    def _eos_id(self) -> int | None:
        from unabridged.encoders._tokens import Tokenizer

        return Tokenizer(self.words).id_of(self.eos)


def fresh(shape: Shape, words: ModelFolder, pooling: str, seed: int, *, embeddings: bool) -> Start:
    """New parameters by transformers' rules, over the tokenizer of ``words``, with its word vectors if ``embeddings``.

    Raises:
        UsageError: word vectors of another width than the shape's, or a pooling that a Mamba has not.
        ValidationError: no word vectors, no closing token, or a shape that does not fit together.
    """
    from unabridged.encoders.mamba.initial import initial

    _check_pooling(pooling)
    if not 0 <= seed < 1 << 63:
        raise UsageError(f"A seed is a number of 0 to 63 bits, got seed={seed}.")
    if embeddings:
        vectors = word_vectors(words)
        if vectors.shape[1] != shape.width:
            raise UsageError(
                f"The word vectors of {words.source} are {vectors.shape[1]} wide, and the model is to be "
                f"{shape.width}: pass --width {vectors.shape[1]}, or leave the word vectors out."
            )
        vocab = len(vectors)
    else:
        vocab = _vocabulary(words)
    config = shape.config(vocab)
    tensors = initial(config, seed)
    if embeddings:
        tensors["embeddings.weight"] = vectors
    described = {**asdict(shape), "vocab": vocab, "pooling": pooling, "tokenizer": words.tokenizer_sha256}
    if embeddings:
        described["word_vectors"] = {"source": words.source, "weights": words.weights_sha256}
    return Start(config, tensors, words, closing_token(words), pooling, described)


def from_checkpoint(folder: ModelFolder, pooling: str | None, *, network: bool = False) -> Start:
    """A Mamba checkpoint of either layout, and its own words."""
    from unabridged.encoders.mamba.checkpoint import load_tensors

    if not folder.is_mamba:
        raise UsageError(
            f"{folder.source} is no Mamba. Name one, or start fresh and take its words: --embeddings-from."
        )
    config = MambaConfig.from_json(folder.config, str(folder.path / "config.json"))
    tensors = {name: value.float() for name, value in load_tensors(folder.path, config).items()}
    words = tokenizer_folder(folder, network=network)
    chosen = pooling or folder.pooling[0]
    _check_pooling(chosen)
    described = {"checkpoint": folder.source, "weights": folder.weights_sha256, "pooling": chosen}
    return Start(config, tensors, words, closing_token(words), chosen, described)


def word_vectors(folder: ModelFolder) -> torch.Tensor:
    """The matrix of an encoder's word vectors ``(vocab, width)`` float32.

    :class:`ValidationError` if it is not there by any known name, or for a damaged file.
    """
    from unabridged.encoders.mamba.checkpoint import stored_tensors

    for path in weight_files(folder.path):
        for name, shape, load in stored_tensors(path):
            if name.endswith(WORD_VECTORS) and len(shape) == 2:
                return load().float().clone()
    raise ValidationError(
        f"{folder.source} has no word vectors by a name that is known here ({', '.join(WORD_VECTORS)}). Name another "
        "encoder, or start without them."
    )


def closing_token(folder: ModelFolder) -> str:
    """The tokenizer's end-of-sequence token, or else its separator; :class:`ValidationError` if it has neither."""
    token = named_token(folder, "eos_token", "sep_token")
    if token is None:
        raise ValidationError(
            f"The tokenizer of {folder.source} names neither an end-of-sequence token nor a separator, and a Mamba's "
            'vector is read behind it. Add "eos_token" to its tokenizer_config.json.'
        )
    return token


def as_config(config: MambaConfig, eos: int | None) -> dict[str, JSON]:
    """config.json as transformers writes it for ``mamba`` and ``mamba2``."""
    named: dict[str, JSON] = {
        "architectures": ["MambaModel" if config.variant == 1 else "Mamba2Model"],
        "model_type": "mamba" if config.variant == 1 else "mamba2",
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "vocab_size": config.vocab,
        "state_size": config.state,
        "conv_kernel": config.conv,
        "expand": config.inner / config.width if config.inner % config.width else config.inner // config.width,
        "layer_norm_epsilon": config.eps,
        "use_bias": config.bias,
        "use_conv_bias": config.conv_bias,
        "hidden_act": "silu",
        "residual_in_fp32": True,
        "tie_word_embeddings": True,
        "eos_token_id": eos,
        "bos_token_id": eos,
        "pad_token_id": eos,
    }
    if config.variant == 1:
        return {**named, "time_step_rank": config.dt_rank, "intermediate_size": config.inner}
    low, high = config.time_step_limit
    limit = [low, {"__float__": "Infinity"} if high == float("inf") else high]
    return {
        **named,
        "num_heads": config.heads,
        "head_dim": config.head_dim,
        "n_groups": config.groups,
        "chunk_size": config.chunk,
        "time_step_limit": limit,
        "rms_norm": True,
    }


def _vocabulary(words: ModelFolder) -> int:
    path = words.path / "tokenizer.json"
    if not path.is_file():
        raise MissingFile(f"{words.source} has no tokenizer.json. Name an encoder that has one.")
    known = require("tokenizers", extra="torch").Tokenizer.from_file(str(path)).get_vocab()
    return max(known.values(), default=-1) + 1  # a vocabulary can have holes


def _check_pooling(name: str) -> None:
    if name not in POOLINGS:
        raise UsageError(f"A Mamba is pooled by {' or '.join(POOLINGS)}, got {name!r}.")


def _write(path: Path, content: JSON) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
