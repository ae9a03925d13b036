"""Whether two runs differ by more than chance: paired tests over the same queries.

``a`` and ``b`` are the values (Q,) of two systems for the same queries in the same order; a difference is a - b.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unabridged.errors import ShapeError, UsageError
from unabridged.eval._resample import LEVEL, RESAMPLES, bootstrap_interval, check_seed
from unabridged.eval._student import two_sided_p
from unabridged.eval.measures import Evaluation, Measure

Values = NDArray[np.float64]
FLIPS = 20_000
ENUMERATED = 16
"""Up to this many differences all 2^16 patterns of signs are tried, so that p is exact."""
TOLERANCE = 1e-12
"""Two mean differences this close are equal: sums in another order differ by rounding."""
BLOCK = 1 << 20
"""Signs at once: 24 MiB with what is computed on the way."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """System ``a`` against ``b`` on one measure."""

    a: str
    b: str
    measure: Measure
    queries: int
    difference: float
    """Mean of a - b; above 0, ``a`` is better."""
    low: float
    high: float
    """The bootstrap percentile interval of ``difference``."""
    p_randomization: float
    p_t: float
    p_holm: float
    """``p_randomization`` after Holm's correction for all pairs and measures that were compared together."""


def randomization_p(a: Values, b: Values, *, flips: int = FLIPS, seed: int = 0) -> float:
    """The two-sided p of Fisher's paired randomisation test; its statistic is the mean difference.

    The sign of each difference is flipped at random ``flips`` times; p = (hits + 1) / (flips + 1), so it is never 0.
    With at most 16 differences other than 0 all patterns are tried and p is exact; then no seed matters.
    Source: Fisher (1935); Smucker, Allan and Carterette (2007).

    Raises:
        ShapeError: ``a`` and ``b`` differ in shape, are empty, or hold NaN or infinity.
        UsageError: ``flips`` is below 1, or ``seed`` below 0.
    """
    if flips < 1:
        raise UsageError(f"flips must be at least 1, got {flips}")
    check_seed(seed)
    paired = _differences(a, b)
    differences, queries = paired[paired != 0], len(paired)  # the sign of 0 changes nothing
    observed = abs(float(differences.sum()))
    exact = len(differences) <= ENUMERATED
    hits = total = 0
    for signs in _patterns(len(differences)) if exact else _drawn(len(differences), flips, seed):
        hits += int(np.count_nonzero(np.abs(signs @ differences) >= observed - TOLERANCE * queries))
        total += len(signs)
    return hits / total if exact else (hits + 1) / (total + 1)


def t_test_p(a: Values, b: Values) -> float:
    """The two-sided p of the paired t-test; 1 where no query differs, 0 where all differ by the same amount.

    Raises :class:`ShapeError` as :func:`randomization_p` does, and for fewer than two queries.
    """
    differences = _differences(a, b)
    if len(differences) < 2:
        raise ShapeError(f"a t-test needs at least 2 queries, found {len(differences)}")
    mean = float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    if error <= TOLERANCE:
        return 0.0 if abs(mean) > TOLERANCE else 1.0
    return two_sided_p(mean / error, len(differences) - 1)


def holm(p: Sequence[float]) -> list[float]:
    """``p`` corrected for their number, in the order given: the family-wise error stays below the level.

    The i-th smallest of m is multiplied by m - i + 1, no corrected one is below a smaller one's, none above 1.
    Source: Holm (1979).  Raises :class:`ShapeError` for a p outside [0, 1].
    """
    bad = [one for one in p if not 0 <= one <= 1]
    if bad:
        raise ShapeError(f"p must be in [0, 1], found {bad[0]}")
    corrected = [0.0] * len(p)
    least = 0.0
    for rank, at in enumerate(sorted(range(len(p)), key=lambda at: p[at])):
        least = max(least, min(1.0, p[at] * (len(p) - rank)))
        corrected[at] = least
    return corrected


def compare(
    systems: Mapping[str, Evaluation],
    *,
    flips: int = FLIPS,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[Comparison, ...]:
    """Every pair of ``systems`` on every measure, in the order given; the same seed gives the same numbers.

    Raises:
        UsageError: Fewer than two systems.
        ShapeError: The systems were not evaluated with the same measures and queries, or with only one query.
    """
    names = list(systems)
    if len(names) < 2:
        raise UsageError(f"a comparison needs at least two runs, got {len(names)}")
    first = systems[names[0]]
    for name in names[1:]:
        other = systems[name]
        if (other.measures, other.queries) != (first.measures, first.queries):
            raise ShapeError(f"{names[0]!r} and {name!r} were evaluated on other queries or measures; use the same")
    found = []
    for (a, b), measure in itertools.product(itertools.combinations(names, 2), first.measures):
        one, two = systems[a].row(measure), systems[b].row(measure)
        low, high = bootstrap_interval(one - two, level=level, resamples=resamples, seed=seed)
        p = randomization_p(one, two, flips=flips, seed=seed), t_test_p(one, two)
        found.append((a, b, measure, len(one), float((one - two).mean()), low, high, *p))
    corrected = holm([row[7] for row in found])
    return tuple(Comparison(*row, p_holm) for row, p_holm in zip(found, corrected, strict=True))


def _differences(a: Values, b: Values) -> Values:
    if a.ndim != 1 or a.shape != b.shape or not a.size:
        raise ShapeError(f"paired values must have one shape (Q,), Q >= 1; found {a.shape} and {b.shape}")
    found: Values = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    if not bool(np.isfinite(found).all()):
        raise ShapeError("paired values must be finite, found NaN or infinity")
    return found


def _patterns(size: int) -> Iterator[Values]:
    """All 2^size rows of signs."""
    bits = np.arange(1 << size)[:, np.newaxis] >> np.arange(size) & 1
    yield (1 - 2 * bits).astype(np.float64)


def _drawn(size: int, flips: int, seed: int) -> Iterator[Values]:
    """``flips`` rows of random signs, in blocks; one random bit is one sign."""
    draw = np.random.default_rng(seed)
    block, width = max(1, BLOCK // size), -(-size // 8)
    for start in range(0, flips, block):
        rows = min(block, flips - start)
        packed = np.frombuffer(draw.bytes(rows * width), np.uint8).reshape(rows, width)
        yield 1.0 - 2.0 * np.unpackbits(packed, axis=1, count=size).astype(np.float64)
