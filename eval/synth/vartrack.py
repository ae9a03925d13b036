"""Variable tracking: which names hold a value that was handed on from name to name.

Only the first sentence of a chain has the value of the question; each other one is reached through the one before.
"""

from __future__ import annotations

import string

from unabridged.errors import UsageError
from unabridged.eval.synth.sentences import FILLER, Chance, Sample, distinct, placed, vocabulary

TASK = "vartrack"
LETTERS = 5
"""Of a name."""


def vartrack(sentences: int, seed: int = 0, *, chains: int = 2, hops: int = 4, length: int | None = None) -> Sample:
    """A text with ``chains`` of one assignment and ``hops`` copies each, mixed at random, and a question about one.

    Args:
        sentences: Of filler.
        seed: With ``length`` it decides everything else.
        chains: Of which one is asked for.
        hops: Copies in each; the order inside a chain is kept.
        length: What stands for the size in the seed, where the sentences were found by it [``sentences``].

    :class:`UsageError` for counts that make no chain.
    """
    if chains < 1 or hops < 0:
        raise UsageError(f"chains must number 1 or more and hops 0 or more, got {chains} and {hops}.")
    chance = Chance.of(TASK, sentences if length is None else length, seed)
    draw = chance.needles
    taken = vocabulary(*FILLER)
    names = distinct(lambda: "".join(draw.choices(string.ascii_uppercase, k=LETTERS)), chains * (hops + 1), taken)
    values = distinct(lambda: str(draw.randrange(10_000, 100_000)), chains, taken)
    own = [names[at * (hops + 1) : (at + 1) * (hops + 1)] for at in range(chains)]
    said = [assignments(group, value) for group, value in zip(own, values, strict=True)]
    asked = draw.randrange(chains)
    whole, at = placed(said, sentences, chance)
    return Sample(
        task=TASK,
        sentences=whole,
        question=question(values[asked]),
        answers=tuple(own[asked]),
        evidence=tuple(at[asked]),
        seed=seed,
        parameters={"sentences": sentences, "chains": chains, "hops": hops, "length": length},
    )


def assignments(names: list[str], value: str) -> list[str]:
    """The sentences of one chain, in the order in which they must be read."""
    sources = [value, *names[:-1]]
    return [f"VAR {name} = {source}." for name, source in zip(names, sources, strict=True)]


def question(value: str) -> str:
    """What is asked about a value."""
    return f"List every variable whose content becomes {value} eventually."
