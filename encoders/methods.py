"""The ways to read beyond a trained length, by the kind of positions that they fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum


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


def ntk_factor(scale: int) -> float:
    """The multiplier of the rotary base for ``scale``: published for 2, 4 and 8, between and beyond them log-log."""
    if scale in NTK_FACTORS:
        return NTK_FACTORS[scale]
    known = sorted(NTK_FACTORS)
    low = max((k for k in known[:-1] if k <= scale), default=known[0])
    high = known[known.index(low) + 1]
    slope = math.log(NTK_FACTORS[high] / NTK_FACTORS[low]) / math.log(high / low)
    return float(NTK_FACTORS[low] * (scale / low) ** slope)
