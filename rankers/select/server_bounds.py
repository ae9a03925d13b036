"""Between which bounds an entropy lies, where a server tells only the likeliest tokens.

Letters::

    n tokens with their probabilities p, of a vocabulary of V     r = 1 - sum(p), of the V - n others

``-sum(p log p)`` is what the known tokens add.  The others add most where they share r evenly, ``-r log(r / (V - n))``,
and least where each has as much as one of them may have, which is the smallest p: ``-r log(min p)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from unabridged.errors import UsageError

VOCABULARY = 262_144
"""Tokens of the largest vocabularies in use: a bound with fewer could be too low."""


def entropy_bounds(logprobs: Iterable[float], vocabulary: int = VOCABULARY) -> tuple[float, float]:
    """The lowest and the highest entropy, in nats, of which the likeliest tokens have these natural log-probabilities.

    They are those of the model itself, at temperature 1.  Their sum may exceed 1 by rounding: r is then 0.
    :class:`UsageError` without any, or where one is no number.
    """
    known = [float(one) for one in logprobs]
    if not known or any(math.isnan(one) or one == math.inf for one in known):
        raise UsageError(f"{len(known)} log-probabilities, or one that is no number: no entropy follows from them.")
    # Servers write a number such as -9999 or -inf for what has no probability.
    positive = [one for one in known if one > -700.0]
    probabilities = [math.exp(min(0.0, one)) for one in positive]
    base = sum(-p * min(0.0, one) for p, one in zip(probabilities, positive, strict=True))
    rest = max(0.0, 1.0 - math.fsum(probabilities))
    if rest == 0.0 or not positive:
        return base, base if positive else math.log(vocabulary)
    others = max(1, vocabulary - len(known))
    low = base - rest * min(0.0, min(positive))
    # Too small a vocabulary would give each of the others more than the smallest of the likeliest.
    return low, max(low, base - rest * math.log(rest / others))
