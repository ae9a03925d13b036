"""Rotary positions of an extended model: our own angles in place of the model's.

Letters::

    B sequences     L tokens of the longest     R rotary dimensions     K kinds of layers with angles of their own

A rotary module of transformers gives cosines and sines for all layers, ``(B or 1, L, R)``, from frequencies
``theta^(-2j/R)``, ``j = 0..R/2-1``.  :class:`Rotary` stands in its place and gives

* GP and PI: those of each sequence's own places (PI: fractions);
* NTK: those of the base ``theta * lambda``, which multiplies frequency ``j`` by ``lambda^(-2j/R)``;
* SelfExtend: no turn at all (cosine 1, sine 0, times the model's own scaling); attention turns by itself.

Angles are computed in float32 whatever the model's precision is: at position 4,000 bfloat16 knows no neighbours.
A batch in which nothing differs goes to the model's own module, untouched.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from unabridged.contracts import JSON
from unabridged.encoders._context import Context, Turns
from unabridged.encoders.methods import Method
from unabridged.encoders.positions import self_extended
from unabridged.errors import UsageError, ValidationError

ROTARY = (Method.GP, Method.PI, Method.NTK, Method.SELFEXTEND)
"""The methods that change angles."""
SUFFIX = "inv_freq"
MOVING = ("dynamic", "longrope")
"""Kinds of frequencies that change with the length of the padded batch, so that a vector depends on its neighbours."""
_TOLERANCE = 1e-5


class Rotary(nn.Module):
    """A model's rotary module and, for a batch that is extended, our angles instead."""

    def __init__(self, inner: nn.Module, context: Context) -> None:
        super().__init__()
        self.inner = inner
        self.context = context

    def forward(
        self, x: torch.Tensor, position_ids: torch.Tensor, layer_type: str | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines ``(B or 1, L, R)`` in the precision of ``x``; ``position_ids`` are the model's own."""
        self.context.note(self)
        batch = self.context.batch
        if batch is None or (batch.places is None and batch.bases is None and batch.neighbourhood is None):
            own: tuple[torch.Tensor, torch.Tensor] = self.inner(
                x, position_ids, **({} if layer_type is None else {"layer_type": layer_type})
            )
            return own
        frequencies, scaling = self.frequencies(layer_type)
        frequencies = frequencies.to(x.device)
        length = x.shape[1]
        if batch.neighbourhood is not None:
            batch.turns[layer_type or ""] = turns(frequencies, length, *batch.neighbourhood)
            width = 2 * len(frequencies)
            still = torch.full((1, length, width), scaling, dtype=x.dtype, device=x.device)
            return still, torch.zeros_like(still)
        if batch.bases is not None:
            frequencies = stretched(frequencies, batch.bases.to(x.device))
        places = batch.places
        if places is None:
            places = torch.arange(length, dtype=torch.float32)[None]
        cos, sin = angles(places.to(x.device), frequencies)
        return (cos * scaling).to(x.dtype), (sin * scaling).to(x.dtype)

    def frequencies(self, layer_type: str | None) -> tuple[torch.Tensor, float]:
        """What the module turns by, ``(R/2,)`` float32, and what it multiplies cosines and sines by."""
        prefix = "" if layer_type is None else f"{layer_type}_"
        values = getattr(self.inner, f"{prefix}{SUFFIX}").to(torch.float32)
        return values, float(getattr(self.inner, f"{prefix}attention_scaling", 1.0))

    @property
    def kinds(self) -> list[str | None]:
        """``[None]``, or the kinds of layers that have frequencies of their own (ModernBERT, Gemma 3)."""
        names = _frequency_names(self.inner)
        return [None if name == SUFFIX else name.removesuffix(f"_{SUFFIX}") for name in names]


def angles(places: torch.Tensor, frequencies: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines ``(..., L, R)`` float32 of places ``(..., L)`` times frequencies ``(..., 1, R/2)``.

    Both halves of ``R`` hold the same angles, as models expect that turn one half against the other.
    """
    half = places[..., None].float() * frequencies
    whole = torch.cat((half, half), dim=-1)
    return whole.cos(), whole.sin()


def stretched(frequencies: torch.Tensor, bases: torch.Tensor) -> torch.Tensor:
    """NTK: frequencies ``(B, 1, R/2)`` float32 for bases that are ``bases`` ``(B,)`` times as large."""
    exponents = torch.arange(len(frequencies), dtype=torch.float64, device=frequencies.device) / len(frequencies)
    return (frequencies.double() * bases.double()[:, None, None] ** -exponents).float()


def turns(frequencies: torch.Tensor, length: int, group: int, neighbours: int) -> Turns:
    """SelfExtend's three turns of ``length`` tokens: ordinary, far and near grouped positions."""
    far, near = self_extended(length, group, neighbours)
    tables = [
        angles(torch.from_numpy(places.astype(np.float32)).to(frequencies.device), frequencies)
        for places in (np.arange(length), far, near)
    ]
    return Turns(plain=tables[0], far=tables[1], near=tables[2], neighbours=neighbours)


def find_rotary(model: nn.Module) -> Mapping[str, nn.Module]:
    """The rotary modules of ``model`` by name: those that hold frequencies themselves."""
    return {name: module for name, module in model.named_modules() if _frequency_names(module)}


def install_rotary(model: nn.Module, context: Context, config: Mapping[str, JSON], source: str) -> list[Rotary]:
    """Puts :class:`Rotary` around every rotary module of ``model``.

    ``config`` is the model folder's own, against which the frequencies in memory are checked.

    Raises:
        UsageError: a module of unknown form, or frequencies that depend on the batch.
        ValidationError: the frequencies in memory are not the configured ones.
    """
    wrapped = []
    for name, inner in find_rotary(model).items():
        _check_form(inner, source)
        ours = Rotary(inner, context)
        for kind in ours.kinds:
            _check_frequencies(ours, kind, config, source)
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, ours)
        wrapped.append(ours)
    return wrapped


def _frequency_names(module: nn.Module) -> list[str]:
    own = [name for name, _ in module.named_buffers(recurse=False)]
    return [name for name in own if name == SUFFIX or (name.endswith(f"_{SUFFIX}") and "original" not in name)]


def _check_form(inner: nn.Module, source: str) -> None:
    if "position_ids" not in inspect.signature(inner.forward).parameters:
        raise UsageError(
            f"The rotary positions of {source} ({type(inner).__name__}) are computed in a way that is not known here; "
            "extend='pcw' works with every model, the others with models that transformers itself implements."
        )
    found = sorted(_rope_types(inner).intersection(MOVING))
    if found:
        raise UsageError(
            f"The rotary positions of {source} are of type {found[0]!r}: they stretch with the longest text of a "
            "batch already. Use extend='pcw', or remove the type from the model's rope_parameters."
        )


def _check_frequencies(ours: Rotary, kind: str | None, config: Mapping[str, JSON], source: str) -> None:
    """A loader can drop what a config says; what counts is what the module turns by."""
    found, scaling = ours.frequencies(kind)
    stated = _stated(config, kind)
    asked = str(stated.get("rope_type", stated.get("type", "default")))
    if asked != "default" and asked not in _rope_types(ours.inner):
        raise ValidationError(
            f"{source} states rotary positions of type {asked!r}, and they were loaded as "
            f"{', '.join(sorted(_rope_types(ours.inner)))}: vectors would not be the model's own. "
            "Try another version of transformers."
        )
    base = stated.get("rope_theta")
    if base is not None and _rope_types(ours.inner) == {"default"}:
        expected = float(base) ** -(np.arange(len(found), dtype=np.float64) / len(found))
        if not np.allclose(found.double().cpu().numpy(), expected, rtol=_TOLERANCE, atol=0):
            raise ValidationError(
                f"{source} states a rotary base of {base}, and the loaded frequencies are of another: the slowest is "
                f"{float(found[-1]):.6g} and should be {expected[-1]:.6g}. Try another version of transformers."
            )
    x = torch.zeros(1, 3, 1, device=found.device)
    places = torch.arange(3, device=found.device)
    own = ours.inner(x, places[None], **({} if kind is None else {"layer_type": kind}))
    mine = [table * scaling for table in angles(places, found)]
    if any(
        a.shape[1:] != b.shape or not torch.allclose(a[0], b, atol=_TOLERANCE) for a, b in zip(own, mine, strict=True)
    ):
        raise UsageError(
            f"The rotary angles of {source} ({type(ours.inner).__name__}) are arranged in a way that is not known "
            "here; extend='pcw' works with every model."
        )


def _stated(config: Mapping[str, JSON], kind: str | None) -> dict[str, Any]:
    """What config.json says of the rotary positions of one kind of layer, in any of its spellings."""
    nested = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if kind is not None:
        typed = nested.get(kind)
        return dict(typed) if isinstance(typed, Mapping) else {}
    found = {key: value for key, value in nested.items() if not isinstance(value, Mapping)}
    for key in ("rope_theta", "rotary_emb_base"):
        if config.get(key) is not None:
            found.setdefault("rope_theta", config[key])
    return found


def _rope_types(inner: nn.Module) -> set[str]:
    types = getattr(inner, "rope_type", "default")
    return set(types.values()) if isinstance(types, Mapping) else {str(types)}


def layer_kind(module: nn.Module) -> Iterator[str]:
    """Names under which an attention module's turns may be kept: none for all layers, else its own kind."""
    yield ""
    config: Any = getattr(module, "config", None)
    kinds, row = getattr(config, "layer_types", None), getattr(module, "layer_idx", None)
    if kinds is not None and row is not None:
        yield str(kinds[row])
