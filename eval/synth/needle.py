"""Needle retrieval: which of N documents, equal but for one fact, answers a question.

LongEmbed (arXiv 2404.12096, section 3.2) with facts by template and a haystack of ours or of the user.  Unlike the
published set no question occurs twice, so that every length can reach 1.0.  Scores on this wording are not LongEmbed's.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from unabridged.contracts import Document
from unabridged.errors import UsageError
from unabridged.eval.synth.haystack import haystack
from unabridged.eval.synth.records import Record, SynthSet, boundaries, check_counts, generator, insert, nominal_words

TASK = "needle"
VERSION = 1
DECILES = 10

_RELATIONS = (
    ("The bell tower of {e} has {n} stone steps.", "How many stone steps does the bell tower of {e} have?"),
    ("The library of {e} owns {n} hand-drawn maps.", "How many hand-drawn maps does the library of {e} own?"),
    ("The harbour of {e} shelters {n} fishing boats.", "How many fishing boats does the harbour of {e} shelter?"),
    ("The bridge at {e} is {n} feet long.", "How long is the bridge at {e}?"),
    ("The vineyards around {e} count {n} rows of vines.", "How many rows of vines are there around {e}?"),
    ("The museum of {e} shows {n} bronze coins.", "How many bronze coins does the museum of {e} show?"),
    ("The school in {e} teaches {n} pupils.", "How many pupils does the school in {e} teach?"),
    ("The summit above {e} is {n} metres high.", "How high is the summit above {e}?"),
    ("The theatre of {e} seats {n} people.", "How many people does the theatre of {e} seat?"),
    ("The railway to {e} crosses {n} culverts.", "How many culverts does the railway to {e} cross?"),
    ("The orchards of {e} hold {n} pear trees.", "How many pear trees do the orchards of {e} hold?"),
    ("The hospital of {e} employs {n} nurses.", "How many nurses does the hospital of {e} employ?"),
    ("The cave under {e} reaches {n} metres into the rock.", "How far into the rock does the cave under {e} reach?"),
    (
        "The observatory of {e} has catalogued {n} faint stars.",
        "How many faint stars has the observatory of {e} listed?",
    ),
    ("The choir of {e} knows {n} songs by heart.", "How many songs does the choir of {e} know by heart?"),
    ("The power station at {e} serves {n} homes.", "How many homes does the power station at {e} serve?"),
    ("The archive of {e} lost {n} letters in a fire.", "How many letters did the archive of {e} lose in a fire?"),
    ("The glassworks of {e} makes {n} bottles a day.", "How many bottles a day does the glassworks of {e} make?"),
    ("The chess club of {e} has played {n} matches.", "How many matches has the chess club of {e} played?"),
    ("The lake near {e} covers {n} acres.", "How many acres does the lake near {e} cover?"),
)
_STARTS = (
    "Alder Birch Copper Dun Elm Falcon Glass Hazel Iron Juniper "
    "Kings Lark Mill North Otter Pine Raven Silver Thorn Wolf"
)
_ENDINGS = "bridge bury cliff dale field ford gate haven hurst mouth pool stead"
PLACES: tuple[str, ...] = tuple(start + end for start in _STARTS.split() for end in _ENDINGS.split())
"""240 invented places; facts take the first half, distractors the other."""


class Depth(str, Enum):
    """How the places of the facts are spread."""

    UNIFORM = "uniform"
    """Any sentence boundary alike, as published."""
    STRATIFIED = "stratified"
    """Ten tenths of the document, equally often, among the documents and among the questions."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One sentence, the question that it answers, and the answer as it stands in the sentence."""

    text: str
    question: str
    answer: str


def template_facts(count: int, seed: int = 0, *, distractors: bool = False, avoid: Sequence[str] = ()) -> list[Fact]:
    """``count`` facts of different entities and different numbers; a pure function of its arguments.

    Those with ``distractors`` have the same relations, but entities and numbers that no other fact has.  No number
    occurs in the texts to ``avoid``.
    :class:`UsageError` above 120.
    """
    half = len(PLACES) // 2
    if not 1 <= count <= half:
        raise UsageError(f"facts must number 1 to {half}, got {count}.")
    chance = random.Random(f"facts-{seed}")
    places = chance.sample(PLACES, 2 * half)
    taken = {run[at : at + 4] for text in avoid for run in re.findall(r"\d{4,}", text) for at in range(len(run) - 3)}
    numbers = chance.sample([n for n in range(1_100, 10_000) if str(n) not in taken], 2 * half)
    first = half if distractors else 0
    facts = []
    for at in range(first, first + count):
        text, question = _RELATIONS[at % len(_RELATIONS)]
        number = str(numbers[at])
        facts.append(Fact(text.format(e=places[at], n=number), question.format(e=places[at]), number))
    return facts


def needle(
    length: int,
    seed: int = 0,
    *,
    documents: int = 100,
    queries: int = 50,
    facts: Sequence[Fact] | None = None,
    texts: Sequence[str] | None = None,
    depth: Depth = Depth.STRATIFIED,
    distractors: int = 0,
) -> SynthSet:
    """N documents of ``length`` nominal tokens and Q questions; a pure function of its arguments.

    All documents of one length share one haystack of ``0.75 * L`` words less those of the longest fact; document
    ``i`` has fact ``i`` on a line of its own, at a sentence boundary.

    Args:
        length: Nominal tokens L.
        seed: Chooses facts, places, distractors and the documents that are asked for.
        documents: N, at most the number of facts (120 by template).
        queries: Q, at most N.
        facts: One per document, instead of those by template.
        texts: The haystack's texts, instead of the template; each length takes a prefix of them.
        depth: How the places are spread.
        distractors: How many facts about places that nobody asks for each document holds besides; then documents
            differ in these too.

    Raises:
        UsageError: Questions that occur twice, a fact or an answer that the haystack has already, counts that do not
            fit, texts that are too short.
    """
    avoid = texts if texts is not None else ()
    most = len(PLACES) // 2
    if not 0 <= distractors <= most:
        raise UsageError(f"distractors must number 0 to {most}, got {distractors}.")
    own = list(facts) if facts is not None else template_facts(max(1, min(documents, most)), seed, avoid=avoid)
    check_counts(documents, queries, len(own))
    own = own[:documents]
    hay = haystack(nominal_words(length, max(len(fact.text.split()) for fact in own)), texts, seed)
    _check_facts(own, hay)
    chance = generator(TASK, length, seed)
    places = boundaries(hay)
    tenths = _tenths(chance, documents, depth)
    strays = template_facts(most, seed, distractors=True, avoid=avoid)
    built = []
    for row, (fact, tenth) in enumerate(zip(own, tenths, strict=True)):
        at = _place(chance, places, len(hay), tenth)
        free = [place for place in places if place != at]
        spots = chance.sample(free, min(distractors, len(free)))
        others = list(zip(spots, (stray.text for stray in chance.sample(strays, len(spots))), strict=True))
        built.append(_document(f"ctx{length}_doc{row}", hay, fact, at, others))
    asked = _asked(chance, tenths, queries)
    return SynthSet(
        task=TASK,
        length=length,
        seed=seed,
        version=VERSION,
        parameters={
            "documents": documents,
            "queries": queries,
            "words": hay.count(" ") + 1,
            "depth": depth.value,
            "distractors": distractors,
            "haystack": "template" if texts is None else "texts",
        },
        documents=tuple(document for document, _ in built),
        queries=tuple((f"ctx{length}_query{at}", own[row].question) for at, row in enumerate(asked)),
        relevant=tuple(asked),
        records=tuple(record for _, record in built),
    )


def _document(name: str, hay: str, fact: Fact, at: int, others: Sequence[tuple[int, str]]) -> tuple[Document, Record]:
    """Lines are set in from the last to the first, so that the places of the earlier ones hold."""
    text = hay
    for place, line in sorted([(at, fact.text), *others], reverse=True):
        text, _ = insert(text, place, line)
    start = text.index(f"\n{fact.text}\n") + 1
    edge = at in (0, len(hay))
    return Document(name, text), Record(name, start, start + len(fact.text), at / len(hay), fact.answer, edge)


def _tenths(chance: random.Random, documents: int, depth: Depth) -> list[int | None]:
    """The tenth in which each document's fact stands; None is anywhere."""
    if depth is Depth.UNIFORM:
        return [None] * documents
    tenths: list[int | None] = [at % DECILES for at in range(documents)]
    chance.shuffle(tenths)
    return tenths


def _place(chance: random.Random, places: Sequence[int], size: int, tenth: int | None) -> int:
    """A sentence boundary, in ``tenth`` where it has one, else the one nearest to its middle."""
    if tenth is None:
        return chance.choice(places)
    inside = [at for at in places if tenth <= DECILES * at / size < tenth + 1]
    return chance.choice(inside) if inside else min(places, key=lambda at: abs(at / size - (tenth + 0.5) / DECILES))


def _asked(chance: random.Random, tenths: Sequence[int | None], queries: int) -> list[int]:
    """Rows that are asked for, in order; the tenths take turns."""
    rows = list(range(len(tenths)))
    chance.shuffle(rows)
    seen: dict[int | None, int] = {}
    turn = []
    for row in rows:
        turn.append(seen.setdefault(tenths[row], 0))
        seen[tenths[row]] += 1
    order = sorted(range(len(rows)), key=turn.__getitem__)
    return sorted(rows[at] for at in order[:queries])


def _check_facts(facts: Sequence[Fact], hay: str) -> None:
    questions: set[str] = set()
    for fact in facts:
        if fact.question in questions:
            raise UsageError(f"the question {fact.question!r} occurs twice; only one of its documents could win.")
        questions.add(fact.question)
        if fact.text in hay or fact.answer in hay:
            raise UsageError(
                f"the haystack holds {fact.text!r} or its answer already; use another seed or other texts."
            )
