"""Judges for plans: perfect, noisy and hostile."""

import random
from collections.abc import Callable

from unabridged.rankers.listwise.plans import Ask


def oracle(worth: list[float]) -> Callable[[Ask], tuple[int, ...]]:
    """Orders each group by worth, highest first."""
    return lambda ask: tuple(sorted(ask.items, key=lambda one: -worth[one]))


def noisy(worth: list[float], sigma: float, seed: int) -> Callable[[Ask], tuple[int, ...]]:
    """Orders by worth with Gaussian noise that is drawn anew for each group."""
    rng = random.Random(seed)
    return lambda ask: tuple(sorted(ask.items, key=lambda one: -(worth[one] + rng.gauss(0, sigma))))


def hostile(seed: int) -> Callable[[Ask], tuple[int, ...]]:
    """Any permutation."""
    rng = random.Random(seed)
    return lambda ask: tuple(rng.sample(ask.items, len(ask.items)))


def reversing(ask: Ask) -> tuple[int, ...]:
    """Always the last first."""
    return ask.items[::-1]
