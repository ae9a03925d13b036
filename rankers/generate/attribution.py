"""Citations of an answer: those that the model wrote, checked, and for sentences without any, those that we find."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from unabridged.rankers.context.contracts import ContextPack, SourceSpan
from unabridged.rankers.context.spans import sentence_ends
from unabridged.rankers.contracts import Characters
from unabridged.rankers.generate.contracts import BY_CHOICE, BY_MODEL, BY_WORDS, Citation
from unabridged.rankers.generate.support import SHARE, Supporter, words

Chooser: TypeAlias = Callable[[str], "int | None"]
"""The text of the answer up to the end of a sentence -> the number that the model chooses for it."""
CITED = re.compile(r"\s*\[\s*[0-9]{1,9}(?:\s*[,;\u2013-]\s*[0-9]{1,9})*\s*\]")


def attributed(
    text: str, pack: ContextPack, choose: Chooser | None = None, *, by_words: bool = True
) -> tuple[tuple[Citation, ...], tuple[Characters, ...]]:
    """The citations of ``text`` in its order, and its sentences without any.

    A sentence has the sources whose numbers stand in it or right behind it, as far as the pack has them.  One without
    a number has, with ``by_words``, the passage that supports it most, from a share of :data:`~.support.SHARE`; failing
    that the source that ``choose`` names.  Sentences without a word are left out.
    """
    supporter = Supporter(pack.sources, pack.question)
    known = {source.number: source for source in pack.sources}
    citations: list[Citation] = []
    without: list[Characters] = []
    for start, end in sentences(text):
        claim = CITED.sub("", text[start:end])
        if not words(claim):
            continue
        written = [number for number in pack.check_citations(text[start:end]).cited if number in known]
        if written:
            citations += [_cited(supporter, known[number], claim, (start, end), BY_MODEL) for number in written]
            continue
        found = supporter.best(claim) if by_words else None
        if found is not None and found.share >= SHARE:
            citations.append(_cited(supporter, known[found.number], claim, (start, end), BY_WORDS))
        elif choose is not None and (number := choose(text[:end])) is not None:
            citations.append(_cited(supporter, known[number], claim, (start, end), BY_CHOICE))
        else:
            without.append((start, end))
    return tuple(citations), tuple(without)


def sentences(text: str) -> list[Characters]:
    """The sentences of an answer; numbers in brackets behind a full stop belong to the sentence before it."""
    # Numbers do not end a sentence and do not begin one.
    blank = CITED.sub(lambda match: " " * len(match.group()), text)
    found: list[Characters] = []
    at = 0
    for stop in sentence_ends(blank, 0, len(blank)):
        end = stop
        while (match := CITED.match(text, end)) is not None:
            end = match.end()
        start = max(at, stop - len(text[at:stop].lstrip()))
        if start < stop:
            found.append((start, end))
        at = max(at, end)
    return found


def _cited(supporter: Supporter, source: SourceSpan, claim: str, sentence: Characters, by: str) -> Citation:
    best = supporter.best(claim, [source.number])
    start, end = (source.start, source.end) if best is None else (best.start, best.end)
    return Citation(
        sentence=sentence,
        number=source.number,
        doc_id=source.doc_id,
        start=start,
        end=end,
        text=source.text[start - source.start : end - source.start],
        by=by,
        share=0.0 if best is None else best.share,
    )
