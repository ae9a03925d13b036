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
from dataclasses import asdict, dataclass, fields, replace
from enum import Enum
from typing import TypeVar

import numpy as np

from unabridged.contracts import JSON
from unabridged.encoders import positions
from unabridged.encoders.positions import Places
from unabridged.errors import UsageError, ValidationError


class Method(str, Enum):
    """A way to read beyond the trained length."""

    PCW = "pcw"
    GP = "gp"
    RP = "rp"
    PI = "pi"
    NTK = "ntk"
    SELFEXTEND = "selfextend"


class LogN(str, Enum):
    """Whether queries grow with the logarithm of the length."""

    OFF = "off"
    PER_SEQUENCE = "per_sequence"
    PER_POSITION = "per_position"
    """Causal models only: by the number of tokens that a token can see."""


class Weighting(str, Enum):
    """What a chunk counts in the mean of a PCW vector."""

    UNIFORM = "uniform"
    """Every chunk the same, as the authors have it."""
    NEW_TOKENS = "new_tokens"
    """By the tokens that no chunk before it has read: the last one is moved left and reads some twice."""


class Positions(str, Enum):
    """How a model knows where a token stands."""

    ABSOLUTE = "absolute"
    ROTARY = "rotary"
    RELATIVE = "relative"
    UNKNOWN = "unknown"


FITS: Mapping[Positions, tuple[Method, ...]] = {
    Positions.ABSOLUTE: (Method.PCW, Method.GP, Method.RP, Method.PI),
    Positions.ROTARY: (Method.PCW, Method.GP, Method.PI, Method.NTK, Method.SELFEXTEND),
    Positions.RELATIVE: (Method.PCW,),
    Positions.UNKNOWN: (Method.PCW,),
}
"""The methods that each kind of positions can take."""

NTK_FACTORS: Mapping[int, float] = {2: 3.0, 4: 5.0, 8: 10.0}
"""Published multipliers of the rotary base by scale (LongEmbed, table 6); others are interpolated in log space."""


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
        """What :meth:`as_json` wrote; :class:`ValidationError` for a name or a value that it cannot have written."""
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ValidationError(f"An extension has no {', '.join(unknown)}.")
        read: dict[str, JSON] = dict(values)
        for name, kind in (("method", Method), ("logn", LogN), ("pcw_weights", Weighting)):
            if read.get(name) is not None:
                read[name] = choice(kind, read[name], name)
        return cls(**read)

    def as_json(self) -> dict[str, JSON]:
        """The fields that differ from their defaults."""
        default = Extension()
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: value.value if isinstance(value, Enum) else value
            for name, value in values.items()
            if value != getattr(default, name)
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
                temperature that is not a positive finite number, or a parameter of another method.
        """
        _check_temperature(self.temperature)
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
        original = self.original_tokens if self.original_tokens is not None else limit
        if original is None:
            if self.method is not None or self.logn is not LogN.OFF:
                raise UsageError(f"{source} states no trained length; pass original_tokens.")
            self._refuse_strays(())
            return Plan(None, 0, 0, temperature=self.temperature)
        if original < 2 or (limit is not None and kind is Positions.ABSOLUTE and original > limit):
            raise UsageError(f"original_tokens must be from 2 to the {limit} positions of {source}, got {original}.")
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
        settings = {"logn": self.logn, "temperature": float(self.temperature)}
        return Plan(method, original, target, rows_per_position=self.rows_per_position, **settings)

    def _refuse_strays(self, own: tuple[str, ...]) -> None:
        default = Extension()
        for name, method in _OWNER.items():
            if name not in own and getattr(self, name) != getattr(default, name):
                raise UsageError(f"{name} belongs to extend={method.value!r}, and that was not asked for.")


_PARAMETERS: Mapping[Method, tuple[str, ...]] = {
    Method.PCW: ("pcw_weights", "pcw_normalize"),
    Method.PI: ("dynamic",),
    Method.NTK: ("base_factor", "long_only"),
    Method.SELFEXTEND: ("group", "neighbours"),
}
_OWNER: Mapping[str, Method] = {name: method for method, names in _PARAMETERS.items() for name in names}


@dataclass(frozen=True, slots=True)
class Plan:
    """An extension with every number settled: what backends compute with and what the passport records.

    ``method`` None with ``original`` 0 is no extension; temperature and log-n may still differ from nothing.
    """

    method: Method | None
    original: int
    """Lo."""
    target: int
    """Lt."""
    scale: int = 1
    """s."""
    dynamic: bool = False
    group: int = 1
    neighbours: int = 0
    base_factor: float = 1.0
    long_only: bool = False
    logn: LogN = LogN.OFF
    temperature: float = 1.0
    pcw_weights: Weighting = Weighting.UNIFORM
    pcw_normalize: bool = False
    rows_per_position: int = 1
    """Absolute positions: rows that the folder's matrix has for each trained position; s where they were tuned."""

    def changed(self, **values: JSON) -> Plan:
        """The same with some fields replaced."""
        return replace(self, **values)

    @property
    def is_none(self) -> bool:
        """Whether the model computes as it always did."""
        return self.method is None and not self.changes_model

    @property
    def changes_model(self) -> bool:
        """Whether a forward pass differs; PCW alone is a matter of windows and their mean."""
        return self.changes_attention or self.changes_positions or self.method in (Method.NTK, Method.SELFEXTEND)

    @property
    def changes_attention(self) -> bool:
        """Whether queries are scaled."""
        return self.logn is not LogN.OFF or self.temperature != 1.0

    @property
    def changes_positions(self) -> bool:
        """Whether some tokens take another row of a position matrix, or another whole angle."""
        return self.rows_per_position != 1 or self.method in (Method.GP, Method.RP, Method.PI)

    def is_long(self, length: int) -> bool:
        """Whether a sequence of ``length`` tokens is beyond the trained length."""
        return length > self.original

    def places(self, length: int) -> Places:
        """The position of each token, ``(L,)`` float64, in units of trained positions.

        SelfExtend and NTK keep ordinary positions here; what they change is in :meth:`neighbourhood` and
        :meth:`base`.
        """
        if self.method is Method.GP:
            return positions.grouped(length, self.original)
        if self.method is Method.RP:
            return positions.recurrent(length, self.original)
        if self.method is Method.PI:
            scale = positions.ratio(length, self.original) if self.dynamic else self.scale
            return positions.interpolated(length, self.original, scale)
        return positions.plain(length)

    def rows(self, length: int) -> Places:
        """Absolute positions: the matrix row of each token, ``(L,)`` float64, a fraction between two rows.

        Without the rows that belong to padding.  Positions beyond the last trained one take its row; where rows
        were tuned they take the last row.
        """
        places = self.places(length)
        if self.method is None or self.method is Method.PCW:
            return places * self.rows_per_position
        # 1/3 of a position times 3 rows is one row, also where the product is not exact.
        rows = places * self.rows_per_position
        whole = np.rint(rows)
        rows = np.where(np.abs(rows - whole) < 1e-6, whole, rows)
        return np.minimum(rows, self.original * self.rows_per_position - 1)

    def base(self, length: int) -> float:
        """What the rotary base is multiplied by for a sequence of ``length`` tokens."""
        if self.method is not Method.NTK or (self.long_only and not self.is_long(length)):
            return 1.0
        return self.base_factor

    def neighbourhood(self, length: int) -> tuple[int, int] | None:
        """SelfExtend's ``(g, w)`` for a sequence of ``length`` tokens; None where attention is the ordinary one."""
        if self.method is not Method.SELFEXTEND or not self.is_long(length):
            return None
        return self.group, self.neighbours

    def query_factor(self, length: int) -> float | Places:
        """What queries are multiplied by: log-n over temperature; a number, or ``(L,)`` under ``per_position``."""
        if self.logn is LogN.PER_SEQUENCE:
            return positions.log_scale(length, self.original) / self.temperature
        if self.logn is LogN.PER_POSITION:
            return positions.log_scales(length, self.original) / self.temperature
        return 1.0 / self.temperature

    def factors(self, lengths: np.ndarray) -> Places:
        """:meth:`query_factor` of several sequences, ``(B,)``; for ``off`` and ``per_sequence``."""
        return np.array([self.query_factor(int(length)) for length in lengths], dtype=np.float64)

    @property
    def facts(self) -> Mapping[str, JSON]:
        """All that changes a vector, as JSON, for the passport."""
        return {name: value.value if isinstance(value, Enum) else value for name, value in asdict(self).items()}


C = TypeVar("C", bound=Enum)


def choice(kind: type[C], value: JSON, name: str) -> C:
    """The member of ``kind`` with this value; :class:`ValidationError` that lists all of them."""
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(str(member.value) for member in kind)
        raise ValidationError(f"Unknown {name} {value!r}; choose one of {known}.") from None


NO_PLAN = Plan(None, 0, 0)
"""The model as it is."""


def ntk_factor(scale: int) -> float:
    """The multiplier of the rotary base for ``scale``: published for 2, 4 and 8, between and beyond them log-log."""
    if scale in NTK_FACTORS:
        return NTK_FACTORS[scale]
    known = sorted(NTK_FACTORS)
    low = max((k for k in known[:-1] if k <= scale), default=known[0])
    high = known[known.index(low) + 1]
    slope = math.log(NTK_FACTORS[high] / NTK_FACTORS[low]) / math.log(high / low)
    return float(NTK_FACTORS[low] * (scale / low) ** slope)


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
