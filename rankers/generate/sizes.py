"""How a model is asked where nobody said how: by its size."""

from __future__ import annotations

from unabridged.rankers.lm.contracts import LanguageModel
from unabridged.rankers.lm.wrapped import unwrapped

SMALL = 1_000_000_000
"""Parameters below which a model is asked for one sentence and for no numbers, over a short context."""
SMALL_BUDGET = 1_000
"""Tokens of passages for such a model.  A choice: ``benchmarks/bench_answers.py --budget`` measures others."""
BUDGET = 8_000


def is_small(model: LanguageModel) -> bool:
    """Whether the model is known to have less than a billion parameters."""
    count = getattr(getattr(unwrapped(model), "model", None), "num_parameters", None)
    return callable(count) and int(count()) < SMALL


def budget_for(model: LanguageModel) -> int:
    """Most tokens of passages that such a model is shown unless more are asked for."""
    return SMALL_BUDGET if is_small(model) else BUDGET
