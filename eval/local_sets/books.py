"""books: passages cut out of chapters of novels, which ask for their chapter."""

from __future__ import annotations

import random
from pathlib import Path

from unabridged.eval.local_sets.cloze import cut
from unabridged.eval.local_sets.draft import Draft, LocalSet
from unabridged.eval.local_sets.novels import AUSTEN, MELVILLE, austen, melville

LEAST = 750
"""Words of a chapter that is asked for, about 1,000 tokens; shorter ones are distractors."""


def books(packages: Path) -> LocalSet:
    """A passage of 25 to 45 words of each long chapter; the document is the chapter without it (mean 2.3k words).

    The answer stands where the passage was cut out: the sentences on both sides of the cut.
    """
    version, chapters = austen(packages)
    chapters |= melville(packages)
    draft = Draft("books", f"Debian {AUSTEN} {version}, npm {MELVILLE}", "public domain (packages: MIT, PDDL)")
    for name, paragraphs in chapters.items():
        long = sum(len(one.split()) for one in paragraphs) >= LEAST
        made = cut(paragraphs, random.Random(f"books-{name}")) if long else None
        draft.documents[name] = "\n".join(paragraphs) if made is None else made.rest
        if made is not None:
            draft.judge(name, made.passage, name)
            draft.show(name, name, made.start, made.end)
    return draft.done()
