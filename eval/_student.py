"""The two-sided p of Student's t, so that no statistics package is needed."""

from __future__ import annotations

import math

STEPS = 300
"""Of the continued fraction; it converges in O(sqrt(max(a, b))) steps, and in about 10 for most of its domain."""
PRECISION = 1e-15


def two_sided_p(t: float, degrees: float) -> float:
    """P(|T| >= |t|) for ``degrees`` of freedom: I_x(degrees / 2, 1 / 2) with x = degrees / (degrees + t^2).

    Source: Abramowitz and Stegun (1964), 26.5.27.
    """
    if math.isinf(t):
        return 0.0
    square = t * t
    return _incomplete_beta(degrees / 2, 0.5, degrees / (degrees + square), square / (degrees + square))


def _incomplete_beta(a: float, b: float, x: float, rest: float) -> float:
    """The regularised I_x(a, b); ``rest`` is 1 - x, given apart so that it loses no digits."""
    if x <= 0 or rest <= 0:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # there the fraction of the complement converges fast
        return 1 - _incomplete_beta(b, a, rest, x)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    return math.exp(front) * _fraction(a, b, x) / a


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of I_x(a, b), by Lentz's algorithm as of Thompson and Barnett (1986)."""
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, STEPS + 1):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d, c = 1 / (1 + term * d), 1 + term / c
            value *= c * d
        if abs(c * d - 1) < PRECISION:
            break
    return value
