"""Model folders of Hugging Face and sentence-transformers, read without torch and without transformers.

::

    config.json  tokenizer.json  model.safetensors        the transformer (in the root, or where modules.json says)
    modules.json                                          the chain: Transformer, Pooling, Dense..., Normalize
    sentence_bert_config.json                             window, lower-casing
    1_Pooling/config.json                                 pooling: one flag per mode, or ``pooling_mode``
    config_sentence_transformers.json                     prompts

Everything that is not understood is refused by name: a module left out would give other vectors without an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from unabridged.contracts import JSON
from unabridged.encoders._extension_file import SavedExtension, read_extension, read_json
from unabridged.encoders._hashes import canonical_sha256, files_sha256
from unabridged.encoders.extension import Extension, Plan, Positions
from unabridged.errors import MissingFile, UsageError, ValidationError

POOLING_NAMES = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weighted_mean",
    "lasttoken": "last",
    "landmark": "landmark",
}
POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""In the order in which several modes are put side by side."""

_OFFSET_MODELS = {
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "roberta-prelayernorm",
    "mpnet",
    "longformer",
}
"""Model types whose position matrix has ``padding_idx + 1`` rows in front that no token uses."""

_ABSOLUTE_MODELS = {
    "albert",
    "bert",
    "camembert",
    "distilbert",
    "electra",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
}
"""Model types with one learned vector per position, in a module called ``position_embeddings``."""
_ROTARY_MODELS = {
    "eurobert",
    "gemma",
    "gemma2",
    "gemma3_text",
    "gte",
    "jina_embeddings_v3",
    "llama",
    "mistral",
    "modernbert",
    "new",
    "nomic_bert",
    "qwen2",
    "qwen3",
}
"""Model types that turn queries and keys by their position; others are known by what config.json says of it."""
_ROTARY_KEYS = ("rope_parameters", "rope_theta", "global_rope_theta", "rotary_emb_base", "rotary_emb_fraction")
_RELATIVE_MODELS = {"t5", "mt5", "umt5", "longt5"}
_CAUSAL_MODELS = {"gemma", "gemma2", "gemma3_text", "llama", "mistral", "phi3", "qwen2", "qwen3"}

_MAMBA_KEYS = {"d_model", "n_layer", "ssm_cfg"}
"""In config.json as mamba_ssm writes it, which names no model type."""

_VOLATILE = {
    "_name_or_path",
    "transformers_version",
    "torch_dtype",
    "dtype",
    "use_cache",
    "architectures",
    "_commit_hash",
}
"""Keys of config.json that do not change a vector."""

LANDMARK_TOKENS = 32
"""Tokens between landmarks where nothing else is said: what the authors of landmark pooling evaluate with."""
UNBOUNDED = 1_000_000
"""Tokenizers write ``model_max_length = 1e30`` for "not known": anything above this is no limit."""
DEFAULT_WINDOW = 512
"""Tokens: the window of a model that states no limit (relative positions)."""


@dataclass(frozen=True, slots=True)
class DenseSpec:
    """A linear layer after pooling: ``activation(weight @ x + bias)``."""

    folder: Path
    inputs: int
    outputs: int
    bias: bool
    activation: str
    """Class name of the activation, such as ``Tanh``."""

    @property
    def weights(self) -> Path:
        """The file with ``linear.weight`` and ``linear.bias``."""
        return weight_files(self.folder)[0]


@dataclass(frozen=True)
class ModelFolder:
    """What a model folder says about itself; hashes are computed when they are first asked for."""

    path: Path
    """Where config.json, the tokenizer and the weights lie."""
    source: str
    """How to load it again: a folder, a hub id, or ``embedded``."""
    config: Mapping[str, JSON]
    pooling: tuple[str, ...]
    """Pooling modes, put side by side."""
    include_prompt: bool = True
    """Whether prompt tokens take part in pooling."""
    landmark_tokens: int = LANDMARK_TOKENS
    """Landmark pooling: tokens between landmarks."""
    dense: tuple[DenseSpec, ...] = ()
    normalize: bool = False
    lower: bool = False
    """Whether the text is lower-cased before the tokenizer's own normaliser."""
    stated_window: int | None = None
    """The window the folder asks for, specials included."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str = ""
    saved: SavedExtension | None = None
    """The context extension that the folder was saved with."""

    @property
    def model_type(self) -> str:
        """Such as ``bert``."""
        return str(self.config.get("model_type", ""))

    @property
    def is_mamba(self) -> bool:
        """Whether it is a state-space model, in either of the two published layouts."""
        return _is_mamba(self.config)

    @property
    def hidden(self) -> int:
        """Width of the hidden states."""
        for key in ("hidden_size", "d_model", "n_embd", "dim"):
            if key in self.config:
                width = self.config[key]
                if not isinstance(width, int) or isinstance(width, bool) or width < 1:
                    raise ValidationError(f"{self.path / 'config.json'} says {key}={width!r}, expected a whole number.")
                return width
        raise ValidationError(f"{self.path / 'config.json'} names no hidden_size, so the width of vectors is unknown.")

    @property
    def dim(self) -> int:
        """Width of vectors before ``truncate_dim``."""
        return self.dense[-1].outputs if self.dense else self.hidden * len(self.pooling)

    @property
    def limit(self) -> int | None:
        """Most tokens the model has positions for, specials included; None if its positions are relative."""
        if self.config.get("position_embedding_type") == "relative" or self.model_type in ("t5", "xlnet"):
            return None
        for key in ("max_position_embeddings", "n_positions", "max_sequence_length"):
            value = self.config.get(key)
            if isinstance(value, int) and value > 0:
                return value - self.first_position
        return None

    @property
    def positions(self) -> Positions:
        """How the model knows where a token stands."""
        stated = self.config.get("position_embedding_type", "absolute")
        if stated in ("rope", "rotary"):
            return Positions.ROTARY
        if self.model_type in _RELATIVE_MODELS:
            return Positions.RELATIVE
        if self.model_type in _ABSOLUTE_MODELS:
            return Positions.ABSOLUTE if stated == "absolute" else Positions.UNKNOWN
        if self.model_type in _ROTARY_MODELS or any(self.config.get(key) for key in _ROTARY_KEYS):
            return Positions.ROTARY
        return Positions.UNKNOWN

    @property
    def causal(self) -> bool:
        """Whether a token sees only those before it."""
        if self.config.get("is_causal") is False or self.config.get("use_bidirectional_attention"):
            return False
        return self.model_type in _CAUSAL_MODELS

    def plan(self, extension: Extension) -> Plan:
        """``extension`` in full for this model; :class:`UsageError` where the two do not fit."""
        source = f"{self.source} (a model of type {self.model_type!r})"
        return extension.plan(self.positions, self.limit, causal=self.causal, source=source)

    @property
    def first_position(self) -> int:
        """The row of the position matrix that the first token takes; rows before it belong to padding."""
        return int(self.config.get("pad_token_id", 1)) + 1 if self.model_type in _OFFSET_MODELS else 0

    @property
    def window(self) -> int:
        """The default window in tokens, specials and prompt included."""
        limit = self.limit
        stated = self.stated_window if self.stated_window is not None else limit
        if stated is None:
            return DEFAULT_WINDOW
        return stated if limit is None else min(stated, limit)

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 of the weight file, or of the shards joined in order."""
        return files_sha256(weight_files(self.path))

    @cached_property
    def tokenizer_sha256(self) -> str:
        """SHA-256 of the canonical tokenizer: its truncation and padding settings are ours and do not count."""
        path = self.path / "tokenizer.json"
        if path.is_file():
            content = read_json(path)
            content.pop("truncation", None)
            content.pop("padding", None)
            return canonical_sha256({"tokenizer": content, "lower": self.lower})
        files = [p for name in _SLOW_TOKENIZER_FILES if (p := self.path / name).is_file()]
        if not files:
            raise MissingFile(
                f"{self.path} has no tokenizer: neither tokenizer.json nor {', '.join(_SLOW_TOKENIZER_FILES)}."
            )
        return canonical_sha256({"files": files_sha256(files), "lower": self.lower})

    @cached_property
    def config_sha256(self) -> str:
        """SHA-256 of what config.json says about the computation."""
        return canonical_sha256({key: value for key, value in self.config.items() if key not in _VOLATILE})

    @cached_property
    def dense_facts(self) -> list[JSON]:
        """One entry per dense layer: hash, activation, shape."""
        return [
            {"weights": files_sha256([d.weights]), "activation": d.activation, "shape": [d.outputs, d.inputs]}
            for d in self.dense
        ]


_SLOW_TOKENIZER_FILES = (
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
)
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    *_SLOW_TOKENIZER_FILES,
)


def read_folder(root: Path, *, source: str | None = None, pooling: str | None = None) -> ModelFolder:
    """The :class:`ModelFolder` at ``root``; ``pooling`` overrides what the folder says (mean where it says nothing).

    :class:`MissingFile` if there is no model; :class:`ValidationError` for a module that is not understood.
    """
    saved_extension = read_extension(root)
    modules = _modules(root) if saved_extension is None or not saved_extension.modules else saved_extension.modules
    path = root / modules[0]["path"] if modules else root
    if not (path / "config.json").is_file():
        raise MissingFile(
            f"{path} is no model folder: it has no config.json. Name a folder that save_pretrained wrote."
        )
    config = read_json(path / "config.json")
    chain = _Chain.read(root, modules) if modules else _Chain.plain(config)
    settings = _optional(path / "sentence_bert_config.json")
    task = settings.get("transformer_task", "feature-extraction")
    if task != "feature-extraction":
        raise ValidationError(
            f"{path / 'sentence_bert_config.json'}: transformer_task {task!r} is not supported here, "
            "only 'feature-extraction' gives text vectors."
        )
    saved = _optional(root / "config_sentence_transformers.json")
    prompts = {str(k): str(v) for k, v in (saved.get("prompts") or {}).items() if v}
    default = saved.get("default_prompt_name")
    return ModelFolder(
        path=path,
        source=source or str(root),
        config=config,
        pooling=(check_pooling(pooling),) if pooling else chain.pooling,
        include_prompt=chain.include_prompt,
        landmark_tokens=chain.landmark_tokens,
        dense=chain.dense,
        normalize=chain.normalize,
        lower=bool(settings.get("do_lower_case", False)),
        stated_window=_stated_window(path, settings),
        prompts=prompts,
        default_prompt=prompts.get(default, "") if default else "",
        saved=saved_extension,
    )


def check_pooling(name: str) -> str:
    """``name`` if it is a pooling mode, else :class:`UsageError`."""
    known = sorted(POOLING_NAMES.values())
    if name not in known:
        raise UsageError(f"Unknown pooling {name!r}; choose one of {', '.join(known)}.")
    return name


def weight_files(folder: Path) -> list[Path]:
    """The weight file of ``folder``, or its shards in order; safetensors before torch's own format."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            shards = _shard_names(index)
            missing = [shard for shard in shards if not (folder / shard).is_file()]
            if missing:
                raise MissingFile(
                    f"{index} names {len(shards)} shards, {len(missing)} are missing, first {missing[0]}."
                )
            return [folder / shard for shard in shards]
    raise MissingFile(f"{folder} has no weights: neither model.safetensors nor pytorch_model.bin, whole or in shards.")


def _shard_names(index: Path) -> list[str]:
    """The files that an index of shards names, in order; :class:`ValidationError` unless they lie beside it."""
    written = read_json(index)
    named = written.get("weight_map") if isinstance(written, Mapping) else None
    if not isinstance(named, Mapping) or not named:
        raise ValidationError(f"{index} has no weight_map of tensors to files. Restore the file.")
    for shard in named.values():
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise ValidationError(
                f"{index} names the file {shard!r}, and shards lie in its own folder. Restore the file."
            )
    return sorted(set(named.values()))


@dataclass(frozen=True, slots=True)
class _Chain:
    """The modules after the transformer."""

    pooling: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    landmark_tokens: int = LANDMARK_TOKENS
    dense: tuple[DenseSpec, ...] = ()
    normalize: bool = False

    @classmethod
    def plain(cls, config: Mapping[str, JSON]) -> _Chain:
        """For a folder without modules.json: mean pooling, as sentence-transformers has it.

        A Mamba's vector is the state of the closing token, compared by cosine (Mamba Retriever, arXiv 2408.08066).
        """
        return cls(pooling=("last",), normalize=True) if _is_mamba(config) else cls()

    @classmethod
    def read(cls, root: Path, modules: Sequence[Mapping[str, str]]) -> _Chain:
        """The chain that modules.json lists."""
        kinds = [module["type"].rpartition(".")[2] for module in modules]
        expected = ["Transformer", "Pooling", *["Dense"] * kinds.count("Dense")]
        normalize = kinds[-1] == "Normalize"
        if kinds != [*expected, *["Normalize"] * normalize]:
            raise ValidationError(
                f"{root / 'modules.json'} chains {' -> '.join(kinds)}; supported is Transformer -> Pooling -> Dense "
                "(any number) -> Normalize (optional). Load the model with sentence-transformers and wrap it, or "
                "export it without the other modules."
            )
        config = _optional(root / modules[1]["path"] / "config.json")
        dense = tuple(_dense(root / module["path"]) for module in modules[2:] if module["type"].endswith("Dense"))
        include_prompt = bool(config.get("include_prompt", True))
        landmark_tokens = int(config.get("landmark_tokens", LANDMARK_TOKENS))
        return cls(_pooling(root, config), include_prompt, landmark_tokens, dense, normalize)


def _is_mamba(config: Mapping[str, JSON]) -> bool:
    named = config.get("model_type")
    # Variants that are not supported too: what reads the configuration refuses them by name.
    return set(config) >= _MAMBA_KEYS if named is None else "mamba" in str(named)


def _modules(root: Path) -> list[dict[str, str]]:
    path = root / "modules.json"
    if not path.is_file():
        return []
    modules = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(modules, list) or not all(isinstance(m, dict) and {"type", "path"} <= set(m) for m in modules):
        raise ValidationError(f"{path} should hold a list of modules, each with 'type' and 'path'.")
    return sorted(modules, key=lambda module: int(module.get("idx", 0)))


def _pooling(root: Path, config: Mapping[str, JSON]) -> tuple[str, ...]:
    named = config.get("pooling_mode")
    if named is None:
        modes = [mode for flag, mode in POOLING_FLAGS.items() if config.get(flag)] or ["mean"]
    else:
        modes = [named] if isinstance(named, str) else list(named)
    unknown = [mode for mode in modes if mode not in POOLING_NAMES]
    if unknown:
        raise ValidationError(f"{root}: unknown pooling {unknown}; known are {sorted(POOLING_NAMES)}.")
    return tuple(POOLING_NAMES[mode] for mode in modes)


ACTIVATIONS = ("GELU", "Identity", "ReLU", "SiLU", "Sigmoid", "Tanh")
"""Classes of ``torch.nn`` that a dense layer may name; each takes no argument."""


def _dense(folder: Path) -> DenseSpec:
    config = read_json(folder / "config.json")
    module, _, activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")
    if not module.startswith("torch.nn.") or activation not in ACTIVATIONS:
        raise ValidationError(
            f"{folder}: activation {module}.{activation} is not supported, only {', '.join(ACTIVATIONS)}."
        )
    places = {
        config.get("module_input_name", "sentence_embedding"),
        config.get("module_output_name") or "sentence_embedding",
    }
    if config.get("use_residual") or places != {"sentence_embedding"}:
        raise ValidationError(f"{folder}: a dense layer with a residual, or on {sorted(places)}, is not supported.")
    return DenseSpec(
        folder, int(config["in_features"]), int(config["out_features"]), bool(config.get("bias", True)), activation
    )


def _stated_window(path: Path, settings: Mapping[str, JSON]) -> int | None:
    """From sentence_bert_config.json, or the tokenizer's maximum, which newer folders use for the same purpose."""
    for value in (settings.get("max_seq_length"), _optional(path / "tokenizer_config.json").get("model_max_length")):
        if isinstance(value, (int, float)) and 0 < value < UNBOUNDED:
            return int(value)
    return None


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
