"""Which position a token gets when a text is longer than the model was trained for: the formulas, in numpy.

Zhu et al., LongEmbed, EMNLP 2024, arXiv 2404.12096, section 4.  Every function is pure and looks at one sequence:
its true length, special tokens and prompt included, never the batch it stands in.  (The authors' code uses the length
of the padded batch, so that a vector depends on its neighbours.)

Letters::

    L tokens of one sequence     Lo trained length     Lt target length     s = ceil(Lt / Lo)
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Rows

Places = NDArray[np.float64]
"""Positions in units of the trained ones; PI gives fractions."""


def ratio(length: int, original: int) -> int:
    """``s(L) = max(1, ceil(L / Lo))``: how often the trained range has to be stretched for this sequence."""
    return max(1, -(-length // original))


def plain(length: int) -> Places:
    """0, 1, ..., L - 1."""
    return np.arange(length, dtype=np.float64)


def grouped(length: int, original: int) -> Places:
    """GP: ``floor(p / s(L))``, so that neighbours share a position."""
    return np.floor(plain(length) / ratio(length, original))


def recurrent(length: int, original: int) -> Places:
    """RP: ``p mod Lo``, so that positions start again."""
    return plain(length) % original


def interpolated(length: int, original: int, scale: int) -> Places:
    """PI: ``p`` up to the trained length, ``p / s`` beyond.

    With absolute positions ``p / s`` between two rows is their weighted mean, which is the published matrix
    ``E_t[i s + r] = (1 - r/s) E_o[i] + (r/s) E_o[i + 1]``.  Its last ``s - 1`` rows are not published: whoever reads
    rows takes the last trained one for positions above ``Lo - 1``.
    """
    return plain(length) if length <= original else plain(length) / scale


def log_scale(length: int, original: int) -> float:
    """``max(1, log L / log Lo)``: the factor on queries that keeps attention as sharp as at the trained length."""
    return max(1.0, math.log(length) / math.log(original)) if length > 1 else 1.0


def log_scales(length: int, original: int) -> Places:
    """The factor by position, ``max(1, log(p + 1) / log Lo)``, ``(L,)``: for causal models, which see only the past."""
    return np.maximum(1.0, np.log(plain(length) + 1.0) / math.log(original))


def self_extended(length: int, group: int, neighbours: int) -> tuple[Rows, Rows]:
    """SelfExtend's grouped positions: ``(far, near)``, both ``(L,)`` int64, for tokens at a distance of ``w`` or more.

    ``near = floor(p / g)`` and ``far = floor(p / g) + w - floor(w / g)``.  Where the key comes first (j <= i) the
    query takes ``far`` and the key ``near``; where it comes after, the other way round.  Nearer tokens keep their
    ordinary distance.
    """
    near: Rows = np.arange(length, dtype=np.int64) // group
    return near + neighbours - neighbours // group, near


def chunks(tokens: int, capacity: int) -> Rows:
    """PCW: token ranges ``(m, 2)`` of ``capacity`` tokens side by side; the last is moved left to be full too.

    A text without tokens is one empty chunk, so that its vector is that of the special tokens and never the mean of
    nothing.
    """
    count = max(1, -(-tokens // capacity))
    starts = np.arange(count, dtype=np.int64) * capacity
    starts[-1] = max(0, tokens - capacity)
    return np.stack((starts, np.minimum(starts + capacity, tokens)), axis=1)
