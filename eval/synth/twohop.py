"""Two hops: a person works in a town, and the town lies at a river.  The question names the person, asks for the river.

The question shares no word with any sentence about a town, so that likeness to the question finds the first hop alone.
"""

from __future__ import annotations

from unabridged.errors import UsageError
from unabridged.eval.synth.needle import PLACES
from unabridged.eval.synth.passkey import NAMES
from unabridged.eval.synth.sentences import Chance, Sample, placed

TASK = "twohop"
_ONSETS = "Bre Cal Dor Esk Fen Gla Ith Kel Lun Mor Nev Oru"
_CODAS = "ande bria dove gan lora mund nith sere tava wenn"
RIVERS: tuple[str, ...] = tuple(start + end for start in _ONSETS.split() for end in _CODAS.split())
"""120 invented rivers."""


def twohop(sentences: int, seed: int = 0, *, pairs: int = 18, length: int | None = None) -> Sample:
    """A text with ``pairs`` persons, their towns and the towns' rivers, and a question about one of them.

    Args:
        sentences: Of filler.
        seed: With ``length`` it decides everything else.
        pairs: Persons, each with a town and a river of its own; 1 to 100.
        length: What stands for the size in the seed, where the sentences were found by it [``sentences``].

    :class:`UsageError` for a count of pairs that there is not.
    """
    if not 1 <= pairs <= len(NAMES):
        raise UsageError(f"pairs must number 1 to {len(NAMES)}, got {pairs}.")
    chance = Chance.of(TASK, sentences if length is None else length, seed)
    persons, towns, rivers = (chance.needles.sample(pool, pairs) for pool in (NAMES, PLACES, RIVERS))
    first = [first_hop(person, town) for person, town in zip(persons, towns, strict=True)]
    second = [second_hop(town, river) for town, river in zip(towns, rivers, strict=True)]
    asked = chance.needles.randrange(pairs)
    whole, at = placed([[one] for one in [*first, *second]], sentences, chance)
    return Sample(
        task=TASK,
        sentences=whole,
        question=question(persons[asked]),
        answers=(rivers[asked],),
        evidence=tuple(sorted(at[asked] + at[pairs + asked])),
        seed=seed,
        parameters={"sentences": sentences, "pairs": pairs, "length": length},
    )


def first_hop(person: str, town: str) -> str:
    """Where a person works."""
    return f"{person} works in {town}."


def second_hop(town: str, river: str) -> str:
    """Where a town lies."""
    return f"{town} lies at River {river}."


def question(person: str) -> str:
    """What is asked about a person."""
    return f"Which stream passes wherever {person} works?"
