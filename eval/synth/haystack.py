"""Prose without facts, for needles to be placed in: templates of ours, or texts of the user."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from unabridged.errors import UsageError

_SUBJECTS = (
    "a patient teacher, the old gardener, my neighbour, the night clerk, a young painter, the ferry pilot, our cook, "
    "the quiet student, a travelling doctor, the baker, some friend of mine, the tired editor, a curious child, "
    "the owner of the shop, an honest lawyer, the last visitor"
)
_VERBS = (
    "thinks about, writes down, talks about, forgets, looks for, remembers, draws, explains, asks for, keeps, "
    "misses, describes, doubts, admires, puts away, waits for"
)
_OBJECTS = (
    "the weather, a good plan, the long road, an open window, a simple idea, the evening news, a warm coat, "
    "the wrong answer, some music, a broken chair, the first draft, a small garden, the morning train, "
    "an unusual letter, the shape of the hills, a better question"
)
_ENDS = (
    "before dinner, in the early morning, without much hurry, when nobody is around, after a long walk, "
    "because it matters, while the rain goes on, for no clear reason, every other week, as people often do, "
    "in a low voice, and that is enough, although it is late, with some care, more than once, at the kitchen table"
)


def template_haystack(seed: int = 0) -> Iterator[str]:
    """Endless sentences of 8 to 14 words, without digits and without names; a pure function of ``seed``."""
    chance = random.Random(f"haystack-{seed}")
    parts = [[item.strip() for item in text.split(",")] for text in (_SUBJECTS, _VERBS, _OBJECTS, _ENDS)]
    while True:
        sentence = " ".join(chance.choice(part) for part in parts)
        yield f"{sentence[0].upper()}{sentence[1:]}."


def haystack(words: int, texts: Sequence[str] | None = None, seed: int = 0) -> str:
    """The first ``words`` words of the joined ``texts``, or of the template, with single spaces.

    :class:`UsageError` where the texts have fewer words, with what they have.
    """
    found: list[str] = []
    for piece in template_haystack(seed) if texts is None else texts:
        found += piece.split()
        if len(found) >= words:
            return " ".join(found[:words])
    raise UsageError(f"the texts have {len(found):,} words, and a haystack of this length needs {words:,}.")
