"""How an encoder reads more tokens than it was trained for, as settings that are part of what it is.

Methods by the kind of positions that a model has (LongEmbed, arXiv 2404.12096)::

    method      absolute  rotary   what it does                                 cost per token besides the longer window
    pcw         yes       yes      chunks of the trained length, their mean     none: attention stays short
    gp          yes       yes      neighbours share a position                  none
    rp          yes       no       positions start again                        none
    pi          yes       yes      positions between the trained ones           none
    ntk         no        yes      a larger rotary base                         none
    selfextend  no        yes      far tokens share positions, near ones keep   causal 2, both ways 3 times the scores

TempScale (arXiv 2410.24200) divides every attention score by one constant; log-n multiplies queries by
``max(1, log L / log Lo)``, as LongEmbed's own results have it.  Both go with every method and without one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum

from unabridged.contracts import JSON
from unabridged.encoders import positions
from unabridged.encoders.methods import FITS, LogN, Method, Positions, Weighting, ntk_factor
from unabridged.encoders.plan import NO_PLAN, Plan
from unabridged.errors import UsageError, ValidationError

__all__ = ["NO_EXTENSION", "NO_PLAN", "Extension", "LogN", "Method", "Plan", "Positions", "Weighting", "ntk_factor"]


MOST_TOKENS = 2**31 - 1
"""Upper bound of every number of tokens or positions: kernels count them in signed 32-bit integers."""


def check_most(**values: int | None) -> None:
    """:class:`UsageError` for the first of the named numbers that is above :data:`MOST_TOKENS`."""
    for name, value in values.items():
        if value is not None and value > MOST_TOKENS:
            raise UsageError(f"{name} must be at most {MOST_TOKENS:,}, what 32-bit integers can count; got {value:,}.")


@dataclass(frozen=True, slots=True)
class Extension:
    """What a user asks for.  None takes what the method and the model suggest; :meth:`plan` settles everything."""

    method: Method | None = None
    target_tokens: int | None = None
    """Lt, special tokens and prompt included."""
    original_tokens: int | None = None
    """Lo; None is the number of positions that the model has."""
    dynamic: bool = False
    """PI: stretch by this sequence's own ``s(L)`` instead of the one scale for all (a mode of ours)."""
    group: int | None = None
    """SelfExtend's g; None is ``s + 1``."""
    neighbours: int | None = None
    """SelfExtend's w; None is ``Lo / s``."""
    base_factor: float | None = None
    """NTK's multiplier of the rotary base; None is the published one."""
    long_only: bool = False
    """NTK: leave sequences alone that fit the trained length (the authors change all)."""
    logn: LogN = LogN.OFF
    temperature: float = 1.0
    """Attention scores are divided by this; below 1 is sharper."""
    pcw_weights: Weighting = Weighting.UNIFORM
    pcw_normalize: bool = False
    """PCW: give every chunk the norm 1 before the mean (the authors do not)."""
    rows_per_position: int = 1
    """A fact of folders whose positions were tuned: rows of the matrix for each trained position."""

    @classmethod
    def from_json(cls, values: Mapping[str, JSON]) -> Extension:
        """What :meth:`as_json` wrote; :class:`UsageError` for a name or a value that it cannot have written."""
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise UsageError(f"An extension has no {', '.join(unknown)}; it has {', '.join(known)}.")
        return cls(**{name: _read(name, value) for name, value in values.items() if value is not None})

    def changed(self, values: Mapping[str, JSON]) -> Extension:
        """The same with some fields replaced.

        Another method starts from nothing but the trained length and the rows of the matrix.
        :class:`UsageError` as for :meth:`from_json`.
        """
        new = Extension.from_json(values)
        if not values:
            return self
        if "method" in values and new.method is not self.method:
            kept = {"original_tokens": self.original_tokens, "rows_per_position": self.rows_per_position}
            return Extension.from_json({**kept, **values})
        return Extension.from_json({**self.as_json(), **values})

    def as_json(self) -> dict[str, JSON]:
        """The fields that differ from their defaults."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: value.value if isinstance(value, Enum) else value
            for name, value in values.items()
            if value != getattr(NO_EXTENSION, name)
        }

    @property
    def is_none(self) -> bool:
        """Whether nothing changes."""
        plain = self.logn is LogN.OFF and self.temperature == 1.0 and self.rows_per_position == 1
        return self.method is None and plain

    def plan(self, kind: Positions, limit: int | None, *, causal: bool = False, source: str = "the model") -> Plan:
        """The settings in full for a model whose positions are of ``kind`` and number ``limit``.

        Raises:
            UsageError: a method that the positions cannot take, a target that is not above the trained length, a
                temperature that is not a positive finite number, a parameter of another method, or a number of
                tokens above :data:`MOST_TOKENS`.
        """
        _check_temperature(self.temperature)
        check_most(
            target_tokens=self.target_tokens,
            original_tokens=self.original_tokens,
            group=self.group,
            neighbours=self.neighbours,
            rows_per_position=self.rows_per_position,
        )
        changes_attention = self.temperature != 1.0 or self.logn is not LogN.OFF
        if kind is Positions.UNKNOWN and changes_attention:
            raise UsageError(
                f"Unknown attention: temperature and logn need a model whose attention is known here, and {source} is "
                "none. Leave both out; extend='pcw' works with any model."
            )
        if self.logn is LogN.PER_POSITION and not causal:
            raise UsageError(
                f"logn='per_position' is for causal models, and {source} reads both ways; use per_sequence."
            )
        trained = None if limit is None else limit // self.rows_per_position
        original = self.original_tokens if self.original_tokens is not None else trained
        if original is None:
            if self.method is not None or self.logn is not LogN.OFF:
                raise UsageError(f"{source} states no trained length; pass original_tokens.")
            self._refuse_strays(())
            return Plan(None, 0, 0, temperature=self.temperature)
        if original < 2 or (limit is not None and kind is Positions.ABSOLUTE and original > limit):
            raise UsageError(f"original_tokens must be from 2 to the {limit} positions of {source}, got {original}.")
        if limit is not None and original * self.rows_per_position > limit:
            raise ValidationError(
                f"{source} has {limit} positions, and {self.rows_per_position} rows for each of {original} tokens need "
                f"{original * self.rows_per_position}."
            )
        if self.method is None:
            self._refuse_strays(())
            if self.target_tokens is not None:
                raise UsageError("target_tokens needs a method: extend='pi', for example.")
            if self.is_none:
                return NO_PLAN
            return self._common(None, original, original)
        return self._extended(self.method, kind, original, source)

    def _extended(self, method: Method, kind: Positions, original: int, source: str) -> Plan:
        if method not in FITS[kind]:
            fitting = ", ".join(m.value for m in FITS[kind])
            raise UsageError(
                f"extend={method.value!r} does not fit {source}: its positions are {kind.value}, and {fitting} "
                f"{'fit' if len(FITS[kind]) > 1 else 'fits'} those."
            )
        target = self.target_tokens
        if target is None:
            raise UsageError(f"extend={method.value!r} needs target_tokens, more than the trained {original}.")
        if target <= original:
            raise UsageError(f"target_tokens={target} is not above the trained length of {source}, {original} tokens.")
        self._refuse_strays(_PARAMETERS.get(method, ()))
        scale = positions.ratio(target, original)
        plan = self._common(method, original, target).changed(scale=scale)
        if method is Method.SELFEXTEND:
            return plan.changed(**_neighbourhood(self.group, self.neighbours, scale, original, target))
        if method is Method.NTK:
            factor = self.base_factor if self.base_factor is not None else ntk_factor(scale)
            if not (math.isfinite(factor) and factor >= 1):
                raise UsageError(f"base_factor must be a number of at least 1, got {factor}.")
            return plan.changed(base_factor=float(factor), long_only=self.long_only)
        return plan.changed(dynamic=self.dynamic, pcw_weights=self.pcw_weights, pcw_normalize=self.pcw_normalize)

    def _common(self, method: Method | None, original: int, target: int) -> Plan:
        return Plan(
            method,
            original,
            target,
            logn=self.logn,
            temperature=float(self.temperature),
            rows_per_position=self.rows_per_position,
        )

    def _refuse_strays(self, own: tuple[str, ...]) -> None:
        for name, method in _OWNER.items():
            if name not in own and getattr(self, name) != getattr(NO_EXTENSION, name):
                raise UsageError(f"{name} belongs to extend={method.value!r}, and that was not asked for.")


NO_EXTENSION = Extension()
"""The model as it is."""

_PARAMETERS: Mapping[Method, tuple[str, ...]] = {
    Method.PCW: ("pcw_weights", "pcw_normalize"),
    Method.PI: ("dynamic",),
    Method.NTK: ("base_factor", "long_only"),
    Method.SELFEXTEND: ("group", "neighbours"),
}
_OWNER: Mapping[str, Method] = {name: method for method, names in _PARAMETERS.items() for name in names}


_KINDS: Mapping[str, type[Enum]] = {"method": Method, "logn": LogN, "pcw_weights": Weighting}
_SWITCHES = ("dynamic", "long_only", "pcw_normalize")
_FRACTIONS = ("temperature", "base_factor")


def _read(name: str, value: JSON) -> JSON:
    """One field of an extension from JSON, or the value itself where it is one already."""
    if name in _KINDS:
        try:
            return _KINDS[name](value)
        except ValueError:
            known = ", ".join(str(member.value) for member in _KINDS[name])
            raise UsageError(f"Unknown {name} {value!r}; choose one of {known}.") from None
    expected: type | tuple[type, ...] = bool if name in _SWITCHES else (int, float) if name in _FRACTIONS else int
    if not isinstance(value, expected) or isinstance(value, bool) != (name in _SWITCHES):
        kind = "true or false" if name in _SWITCHES else "a number" if name in _FRACTIONS else "a whole number"
        raise UsageError(f"{name} must be {kind}, got {value!r}.")
    return value


def _neighbourhood(
    group: int | None, neighbours: int | None, scale: int, original: int, target: int
) -> Mapping[str, int]:
    """SelfExtend's g and w, checked: the farthest grouped distance must stay within the trained ones."""
    w = neighbours if neighbours is not None else max(1, original // scale)
    g = group if group is not None else scale + 1
    if g < 2 or not 0 < w < original:
        raise UsageError(f"selfextend needs group >= 2 and 0 < neighbours < {original}, got group={g}, neighbours={w}.")
    reach = (original - w) * g + w
    if reach < target:
        raise UsageError(
            f"selfextend with group={g} and neighbours={w} reaches {reach} tokens from {original}, not {target}; "
            "use a larger group or fewer neighbours."
        )
    return {"group": g, "neighbours": w}


def _check_temperature(temperature: float) -> None:
    if not (isinstance(temperature, (int, float)) and math.isfinite(temperature) and temperature > 0):
        raise UsageError(f"temperature must be a number above 0, got {temperature!r}.")
