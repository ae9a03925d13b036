"""Search settings by measurement: the cheapest that reach a recall target on held-out queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from unabridged.contracts import Floats, Hits
from unabridged.errors import UsageError
from unabridged.index.dense.base import Base
from unabridged.index.dense.index import DenseIndex


@dataclass(frozen=True, slots=True)
class Tuned:
    """Settings with the recall they reached; ``reached`` says whether that is the target."""

    search: Mapping[str, int]
    recall: float
    reached: bool
    queries: int
    k: int


def tune(index: DenseIndex, queries: Floats, target: float = 0.95, *, k: int = 10, truth: Hits | None = None) -> Tuned:
    """The cheapest of a ladder of settings whose recall at ``k`` on ``queries`` (Q, D) reaches ``target``.

    Powers of two of each setting that the index has are tried in the order of their estimated cost.  Where
    none reaches the target, the best of them is returned with ``reached`` False.  Nothing is changed: the
    caller stores the result and passes it as ``params``.  ``truth`` is the exact scan where the caller has it.

    Raises:
        UsageError: no queries, or a target outside (0, 1].
    """
    if not len(queries) or not 0 < target <= 1:
        raise UsageError(f"need at least one query and a target in (0, 1], found {len(queries)} and {target}")
    if index.base is None:
        return Tuned({}, 1.0, True, len(queries), k)
    truth = index.truth(queries, min(k, index.covered)) if truth is None else truth
    best = Tuned({}, -1.0, False, len(queries), k)
    for settings in sorted(_ladder(index.base), key=lambda s: _cost(s, index.base, k)):
        recall = index.measure_recall(queries, k, params=settings, truth=truth)
        if recall > best.recall:
            best = Tuned(settings, recall, recall >= target, len(queries), k)
        if best.reached:
            break
    return best


def _ladder(base: Base) -> Iterator[dict[str, int]]:
    """All combinations of powers of two, up to the limits of the index."""
    limits = base.knobs
    first = "nprobe" if "nprobe" in limits else "efSearch" if "efSearch" in limits else ""
    factors = _powers(1, min(64, limits["k_factor"])) if base.settings.get("k_factor", 1) > 1 else [1]
    for factor in factors:
        for value in _powers(1 if first == "nprobe" else 16, limits[first]) if first else [0]:
            yield {**({first: value} if first else {}), "k_factor": factor}


def _powers(low: int, high: int) -> list[int]:
    """Powers of two from ``low``, and ``high`` itself as the last."""
    found = []
    while low < high:
        found.append(low)
        low *= 2
    return [*found, high]


def _cost(settings: Mapping[str, int], base: Base | None, k: int) -> float:
    """Vectors looked at, about: rows of the visited lists or neighbours in the graph, and rescored candidates.

    A rescored candidate is a random read of a stored vector, taken as 32 codes read in sequence.
    """
    limits = base.knobs if base is not None else {}
    rows = limits.get("k_factor", 0)
    seen = rows * settings["nprobe"] / limits["nprobe"] if "nprobe" in settings else 32.0 * settings.get("efSearch", 0)
    return seen + 32.0 * k * settings["k_factor"]
