"""Needles with keys and values: what belongs to one key, among needles of other keys."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from enum import Enum

from unabridged.errors import UsageError
from unabridged.eval.synth.sentences import FILLER, Chance, Sample, distinct, placed, vocabulary

TASK = "niah"
_ADJECTIVES = (
    "amber brisk crimson dapper eager fabled gentle hollow ivory jolly keen lively mellow nimble opal placid "
    "quaint rustic silent tawny upbeat velvet wistful zesty"
)
_NOUNS = (
    "anchor badger canyon dragon ember falcon glacier harbor island jaguar kernel lantern meadow nectar orchid "
    "pepper quartz raven saddle thicket urchin violin walnut zephyr"
)


class Kind(str, Enum):
    """What keys and values look like."""

    WORDS = "words"
    """An adjective and a noun, such as ``amber-anchor``; 576 of them."""
    NUMBERS = "numbers"
    """Seven digits."""
    UUIDS = "uuids"
    """Version 4, of seeded bits."""


def niah(
    sentences: int,
    seed: int = 0,
    *,
    keys: int = 4,
    values: int = 1,
    key_kind: Kind = Kind.WORDS,
    value_kind: Kind = Kind.NUMBERS,
    length: int | None = None,
) -> Sample:
    """A text that says the values of several keys, one a sentence, and asks for all values of one key.

    Args:
        sentences: Of filler.
        seed: With ``length`` it decides everything else.
        keys: How many have values; the others than the one that is asked for are distractors.
        values: Of each key.
        key_kind: What keys look like.
        value_kind: What values look like.
        length: What stands for the size in the seed, where the sentences were found by it [``sentences``].

    :class:`UsageError` for counts below one, or for more words than there are.
    """
    if min(keys, values) < 1:
        raise UsageError(f"keys and values must number 1 or more, got {keys} and {values}.")
    chance = Chance.of(TASK, sentences if length is None else length, seed)
    taken = vocabulary(*FILLER)
    names = distinct(_DRAW[key_kind](chance.needles), keys, taken)
    held = distinct(_DRAW[value_kind](chance.needles), keys * values, taken)
    asked = chance.needles.randrange(keys)
    own = [held[at * values : (at + 1) * values] for at in range(keys)]
    said = [[needle(key, value) for value in group] for key, group in zip(names, own, strict=True)]
    whole, at = placed(said, sentences, chance)
    return Sample(
        task=TASK,
        sentences=whole,
        question=question(names[asked], values),
        answers=tuple(own[asked]),
        evidence=tuple(at[asked]),
        seed=seed,
        parameters={
            "sentences": sentences,
            "keys": keys,
            "values": values,
            "key_kind": key_kind.value,
            "value_kind": value_kind.value,
            "length": length,
        },
    )


def needle(key: str, value: str) -> str:
    """The sentence that gives a key one value."""
    return f"A special code registered under {key} reads {value}."


def question(key: str, values: int) -> str:
    """What is asked about a key."""
    codes = "Which special code is" if values == 1 else f"Which {values} special codes are"
    return f"{codes} registered under {key}?"


def _words(chance: random.Random) -> Callable[[], str]:
    return lambda: f"{chance.choice(_ADJECTIVES.split())}-{chance.choice(_NOUNS.split())}"


def _numbers(chance: random.Random) -> Callable[[], str]:
    return lambda: str(chance.randrange(1_000_000, 10_000_000))


def _uuids(chance: random.Random) -> Callable[[], str]:
    return lambda: str(uuid.UUID(int=chance.getrandbits(128), version=4))


_DRAW = {Kind.WORDS: _words, Kind.NUMBERS: _numbers, Kind.UUIDS: _uuids}
