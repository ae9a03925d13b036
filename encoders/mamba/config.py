"""The shape of a Mamba or Mamba-2, from either published layout of config.json.  Needs no torch.

==================  =======================================  ============================================
field               mamba_ssm (``state-spaces/mamba-130m``)  transformers (``state-spaces/mamba-130m-hf``)
==================  =======================================  ============================================
variant             ``ssm_cfg.layer``: Mamba1, Mamba2        ``model_type``: mamba, mamba2
width, layers       ``d_model``, ``n_layer``                 ``hidden_size``, ``num_hidden_layers``
vocab               ``vocab_size``, rounded up to a          ``vocab_size``
                    ``pad_vocab_size_multiple``
inner               ``ssm_cfg.expand * d_model``             ``expand * hidden_size``
state, conv         ``ssm_cfg.d_state``, ``.d_conv``         ``state_size``, ``conv_kernel``
heads, head_dim     ``ssm_cfg.headdim``                      ``num_heads``, ``head_dim``
groups, chunk       ``ssm_cfg.ngroups``, ``.chunk_size``     ``n_groups``, ``chunk_size``
==================  =======================================  ============================================

What would compute something else than :mod:`unabridged.encoders.mamba.model` does is refused by name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from unabridged.contracts import JSON
from unabridged.errors import ValidationError

EPS = 1e-5
"""Of the normalisations of mamba_ssm, which has no field for it."""
_NO_LIMIT = (0.0, math.inf)


@dataclass(frozen=True, slots=True)
class MambaConfig:
    """Every number that the arithmetic depends on; lengths in tokens, widths in components."""

    variant: int
    """1 (Gu and Dao 2023, arXiv 2312.00752) or 2 (Dao and Gu 2024, arXiv 2405.21060)."""
    width: int
    layers: int
    vocab: int
    inner: int
    """Channels inside a block: ``expand * width``."""
    state: int
    """Of the recurrence, per channel: N."""
    conv: int = 4
    """Tokens that the causal convolution sees."""
    eps: float = EPS
    bias: bool = False
    """In in_proj and out_proj."""
    conv_bias: bool = True
    dt_rank: int = 0
    """Variant 1: width of the time step before its projection."""
    heads: int = 0
    head_dim: int = 0
    groups: int = 1
    """Variant 2: of heads that share B and C."""
    chunk: int = 256
    """Variant 2: as published.  The arithmetic is exact for every size, and ours chooses its own."""
    time_step_limit: tuple[float, float] = _NO_LIMIT
    """Variant 2: what time steps are clamped to."""

    def __post_init__(self) -> None:
        for name in ("width", "layers", "vocab", "inner", "state", "conv"):
            _positive("MambaConfig", name, getattr(self, name))
        if self.variant not in (1, 2):
            raise ValidationError(f"MambaConfig: variant should be 1 or 2, got {self.variant!r}.")
        if self.variant == 1:
            _positive("MambaConfig", "dt_rank", self.dt_rank)
            return
        for name in ("heads", "head_dim", "groups"):
            _positive("MambaConfig", name, getattr(self, name))
        if self.heads * self.head_dim != self.inner or self.heads % self.groups or self.inner % self.groups:
            raise ValidationError(
                f"MambaConfig: {self.heads} heads of {self.head_dim} in {self.groups} groups do not make up the inner "
                f"width {self.inner}. heads * head_dim should be that width, and groups should divide heads."
            )

    @classmethod
    def from_json(cls, config: Mapping[str, JSON], where: str) -> MambaConfig:
        """Of the content of a config.json; ``where`` is its name in :class:`ValidationError`."""
        named = config.get("model_type")
        if named in ("mamba", "mamba2"):
            return _from_transformers(config, where)
        if named is None and "d_model" in config and "n_layer" in config:
            return _from_mamba_ssm(config, where)
        raise ValidationError(
            f"{where}: model_type {named!r} is not supported; supported are mamba and mamba2 (as transformers writes "
            "them), and the layout of mamba_ssm, which has d_model, n_layer and ssm_cfg. Load another checkpoint."
        )

    @property
    def convolved(self) -> int:
        """Channels that the convolution sees: x, and in variant 2 B and C too."""
        return self.inner if self.variant == 1 else self.inner + 2 * self.groups * self.state

    @property
    def scan_shape(self) -> tuple[int, ...]:
        """Of the state of one layer and sequence."""
        if self.variant == 1:
            return (self.inner, self.state)
        return (self.heads, self.head_dim, self.state)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Canonical name to shape of every parameter: transformers' names without ``backbone.``."""
        own = {"embeddings.weight": (self.vocab, self.width), "norm_f.weight": (self.width,)}
        for layer in range(self.layers):
            own |= {f"layers.{layer}.{name}": shape for name, shape in self._layer()}
        return own

    def _layer(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield "norm.weight", (self.width,)
        if self.variant == 1:
            projected = 2 * self.inner
            yield "mixer.x_proj.weight", (self.dt_rank + 2 * self.state, self.inner)
            yield "mixer.dt_proj.weight", (self.inner, self.dt_rank)
            yield "mixer.dt_proj.bias", (self.inner,)
            yield "mixer.A_log", (self.inner, self.state)
            yield "mixer.D", (self.inner,)
        else:
            projected = self.inner + self.convolved + self.heads
            for name in ("dt_bias", "A_log", "D"):
                yield f"mixer.{name}", (self.heads,)
            yield "mixer.norm.weight", (self.inner,)
        yield "mixer.in_proj.weight", (projected, self.width)
        yield "mixer.conv1d.weight", (self.convolved, 1, self.conv)
        yield "mixer.out_proj.weight", (self.width, self.inner)
        if self.conv_bias:
            yield "mixer.conv1d.bias", (self.convolved,)
        if self.bias:
            yield "mixer.in_proj.bias", (projected,)
            yield "mixer.out_proj.bias", (self.width,)


def _from_transformers(config: Mapping[str, JSON], where: str) -> MambaConfig:
    read = _Reader(config, where)
    read.only("hidden_act", ("silu", "swish"))
    variant = 1 if config["model_type"] == "mamba" else 2
    width = read.count("hidden_size")
    inner = int(read.number("expand", 2) * width)
    common: dict[str, Any] = {
        "variant": variant,
        "width": width,
        "layers": read.count("num_hidden_layers"),
        "vocab": read.count("vocab_size"),
        "inner": inner,
        "state": read.count("state_size", 16 if variant == 1 else 128),
        "conv": read.count("conv_kernel", 4),
        "eps": read.number("layer_norm_epsilon", EPS),
        "bias": bool(config.get("use_bias", False)),
        "conv_bias": bool(config.get("use_conv_bias", True)),
    }
    if variant == 1:
        return read.made(**common, dt_rank=read.rank("time_step_rank", width))
    return read.made(
        **common,
        heads=read.count("num_heads", 128),
        head_dim=read.count("head_dim", 64),
        groups=read.count("n_groups", 8),
        chunk=read.count("chunk_size", 256),
        time_step_limit=read.limits("time_step_limit"),
    )


def _from_mamba_ssm(config: Mapping[str, JSON], where: str) -> MambaConfig:
    read = _Reader(config, where)
    for name in ("d_intermediate", "attn_layer_idx"):
        read.only(name, (0, [], None))
    read.only("rms_norm", (True,))
    inner_config = config.get("ssm_cfg") or {}
    if not isinstance(inner_config, Mapping):
        raise ValidationError(f"{where}: ssm_cfg should hold an object and holds {inner_config!r}. Restore the file.")
    own = _Reader(inner_config, f"{where}: ssm_cfg")
    own.only("layer", ("Mamba1", "Mamba2"))
    own.only("D_has_hdim", (False,))
    own.only("norm_before_gate", (False,))
    own.only("rmsnorm", (True,))
    own.only("d_ssm", (None,))
    width = read.count("d_model")
    multiple = read.count("pad_vocab_size_multiple", 8)
    variant = 2 if inner_config.get("layer") == "Mamba2" else 1
    inner = int(own.number("expand", 2) * width)
    common: dict[str, Any] = {
        "variant": variant,
        "width": width,
        "layers": read.count("n_layer"),
        "vocab": -(-read.count("vocab_size") // multiple) * multiple,
        "inner": inner,
        "state": own.count("d_state", 16 if variant == 1 else 128),
        "conv": own.count("d_conv", 4),
        "bias": bool(inner_config.get("bias", False)),
        "conv_bias": bool(inner_config.get("conv_bias", True)),
    }
    if variant == 1:
        return own.made(**common, dt_rank=own.rank("dt_rank", width))
    head_dim = own.count("headdim", 64)
    return own.made(
        **common,
        heads=inner // head_dim,
        head_dim=head_dim,
        groups=own.count("ngroups", 1),
        chunk=own.count("chunk_size", 256),
        time_step_limit=own.limits("dt_limit"),
    )


@dataclass(frozen=True, slots=True)
class _Reader:
    """Typed reading of one JSON object; every refusal names the file, the field and what was found."""

    config: Mapping[str, JSON]
    where: str

    def count(self, name: str, default: int | None = None) -> int:
        found = self.config.get(name, default)
        _positive(self.where, name, found)
        return int(found)

    def number(self, name: str, default: float) -> float:
        found = self.config.get(name, default)
        if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 < found < math.inf:
            raise ValidationError(f"{self.where}: {name} should be a number above 0 and is {found!r}.")
        return float(found)

    def rank(self, name: str, width: int) -> int:
        return math.ceil(width / 16) if self.config.get(name, "auto") == "auto" else self.count(name)

    def limits(self, name: str) -> tuple[float, float]:
        """A pair of JSON numbers; infinity may be written as transformers 5 does, ``{"__float__": "Infinity"}``."""
        found = self.config.get(name) or list(_NO_LIMIT)
        try:
            low, high = (float(item["__float__"] if isinstance(item, Mapping) else item) for item in found)
        except (TypeError, ValueError, KeyError) as error:
            raise ValidationError(f"{self.where}: {name} should hold two numbers and holds {found!r}.") from error
        if not low <= high:
            raise ValidationError(f"{self.where}: {name} should rise and is {found!r}.")
        return low, high

    def only(self, name: str, supported: tuple[JSON, ...]) -> None:
        if name in self.config and self.config[name] not in supported:
            expected = " or ".join(repr(value) for value in supported)
            raise ValidationError(
                f"{self.where}: {name}={self.config[name]!r} is not supported, only {expected}. Load another model."
            )

    def made(self, **values: Any) -> MambaConfig:
        try:
            return MambaConfig(**values)
        except ValidationError as error:
            raise ValidationError(f"{self.where}: {error}") from error


def _positive(where: str, name: str, value: JSON) -> None:
    if type(value) is not int or value < 1:
        raise ValidationError(f"{where}: {name} should be a whole number above 0 and is {value!r}.")
