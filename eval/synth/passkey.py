"""Passkey retrieval: which of N documents, equal but for one line, holds the pass key of a named person.

LongEmbed (arXiv 2404.12096, section 3.2) with a wording of ours and the published character statistics at every
length.  A bag of words solves it, so it measures one thing: whether an encoder sees the position of the line.  Scores
on this wording are not LongEmbed's.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import cycle, islice

from unabridged.contracts import Document
from unabridged.errors import UsageError
from unabridged.eval.synth.records import Record, SynthSet, boundaries, check_counts, generator, insert, nominal_words

TASK = "passkey"
VERSION = 1
LENGTHS = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
"""The published lengths."""
RESERVED_WORDS = 25
"""Filler has ``0.75 * L - 25`` words; the needle has 16 with a name of two parts."""
FILLER = "The plate is round. The cup is full. The tea is steamy. Look at it. Spoon and fork clink."
"""19 words whose lengths are those of the published filler."""

_NAMES = """
    Aaron Zeller, Ada Fisher, Alexander Turner, Alice Weber, Amy Frost, Andrew Ulrich, Angelica North, Anna
    Ingram, Antonia Meyer, Astrid Vance, Beatrix Bellamy, Ben Joyce, Benedict Novak, Bernadette Pike, Bruno
    Zimmer, Camilla Norton, Carmen Wheeler, Charles Miller, Christina Lewis, Clara Keller, Clement Stone,
    Daphne Marsh, David Owens, Edmund Thorne, Elena Emerson, Eli Crosby, Emil Silva, Esther Upton, Felix
    Spencer, Florian Sawyer, Frederick Carver, Gabriella Kensington, Gordon Hudson, Gregory Nelson, Greta
    Page, Harriet Hollister, Helen Young, Henry Walsh, Hugo Price, Ida Dalton, Ingrid Whitfield, Iris Hayes,
    Ivo Ritter, Jon Hale, Jonas Kramer, Josephine Fox, Julia Goodwin, Julian Becker, Kai Dawson, Karl
    Okafor, Laura Vaughn, Lea Foster, Lena Jarvis, Leon Sato, Leonard Lawson, Leopold Vargas, Margaret
    Irving, Marina Grant, Martin Vanderbilt, Matilda Olsen, Max Carlisle, Maya Gibson, Mia Palmer, Monica
    Garner, Nathaniel Warner, Nina Harte, Noa Klein, Ole Osborne, Oscar Quinn, Otto Holmes, Patrick Everett,
    Paula Archer, Peter Lindqvist, Philip Fairfax, Pia Parker, Rachel Donovan, Raymond Yates, Rebecca
    Coleman, Robert Tanner, Rosa Irwin, Rosalind Ellis, Ruben Bergstrom, Sabine Yarborough, Sam Quigley,
    Samuel Rossi, Sebastian Mercer, Simon Jansen, Sofia Lambert, Stefan Brook, Teresa Barton, Theo Abbott,
    Tom Ramsey, Una Doyle, Valerie Hammond, Vera Delacroix, Victor Lopez, Vincent Montgomery, Walter
    Ashford, Yvonne Northrop, Zoe Kumar
"""
NAMES: tuple[str, ...] = tuple(" ".join(_NAMES.split()).split(", "))
"""100 invented names of 8 to 20 characters, 1,258 in all; no part of a name occurs in another."""


def passkey(
    length: int,
    seed: int = 0,
    *,
    documents: int = 100,
    queries: int = 50,
    names: Sequence[str] = NAMES,
    filler: str = FILLER,
    edges: int | None = None,
) -> SynthSet:
    """N documents of ``length`` nominal tokens and Q questions; a pure function of its arguments.

    Ids are ``ctx{L}_doc{i}`` and ``ctx{L}_query{i}``: they differ, because evaluators drop a document that has the
    id of its query.

    Args:
        length: Nominal tokens L; the filler has ``0.75 * L - 25`` words.
        seed: Chooses names, keys, places and the documents that are asked for.
        documents: N, at most the number of names.
        queries: Q, at most N.
        names: One unique name per document.
        filler: Repeated word by word; the published wording may be given here.
        edges: Needles at the very start or end, where a document is one character longer; none of them is about a
            shortest or a longest name.  None leaves it to chance, every sentence boundary alike.

    Raises:
        UsageError: Counts that do not fit, a length without room for filler, names that repeat, a filler without a
            sentence end, more edges than names for them.
    """
    check_counts(documents, queries, len(names))
    _check_names(names)
    chance = generator(TASK, length, seed)
    hay = filled(nominal_words(length, RESERVED_WORDS), filler)
    places = boundaries(hay)
    persons = chance.sample(list(names), documents)
    keys = chance.sample(range(10_000, 100_000), documents)
    free = _places(chance, places, len(hay), persons, edges)
    built = [
        _document(f"ctx{length}_doc{row}", hay, chance.choice(own), person, str(key))
        for row, (own, person, key) in enumerate(zip(free, persons, keys, strict=True))
    ]
    asked = _asked(chance, documents, queries)
    return SynthSet(
        task=TASK,
        length=length,
        seed=seed,
        version=VERSION,
        parameters={
            "documents": documents,
            "queries": queries,
            "words": len(hay.split(" ")),
            "filler": filler,
            **({} if edges is None else {"edges": edges}),
        },
        documents=tuple(document for document, _ in built),
        queries=tuple((f"ctx{length}_query{at}", question(persons[row])) for at, row in enumerate(asked)),
        relevant=tuple(asked),
        records=tuple(record for _, record in built),
    )


def filled(words: int, filler: str = FILLER) -> str:
    """The first ``words`` words of the endlessly repeated ``filler``, joined by single spaces."""
    unit = filler.split()
    if not any(word[-1] in ".!?" for word in unit):
        raise UsageError("The filler needs at least one word that ends a sentence with '.', '!' or '?'.")
    return " ".join(islice(cycle(unit), words))


def needle(name: str, key: str) -> str:
    """The line that answers the question: 62 characters and twice the name."""
    return f"{name}'s pass key is {key}. Remember it. {key} is the pass key for {name}."


def question(name: str) -> str:
    """The question: 25 characters and the name; "passkey" is one word here and two in the needle, as published."""
    return f"what is the passkey for {name}?"


def _document(name: str, hay: str, at: int, person: str, key: str) -> tuple[Document, Record]:
    line = needle(person, key)
    text, start = insert(hay, at, line)
    edge = at in (0, len(hay))
    return Document(name, text), Record(name, start, start + len(line), at / len(hay), key, edge)


def _places(
    chance: random.Random, places: Sequence[int], size: int, persons: Sequence[str], edges: int | None
) -> list[list[int]]:
    """For each document the boundaries at which its needle may stand."""
    if edges is None:
        return [list(places)] * len(persons)
    lengths = [len(person) for person in persons]
    usual = [row for row, length in enumerate(lengths) if min(lengths) < length < max(lengths)]
    inner = [at for at in places if 0 < at < size]
    if not 0 <= edges <= len(usual) or not inner:
        raise UsageError(f"edges must number 0 to {len(usual) if inner else 0} here, got {edges}.")
    outer = [at for at in places if at in (0, size)]
    chosen = set(chance.sample(usual, edges))
    return [outer if row in chosen else inner for row in range(len(persons))]


def _asked(chance: random.Random, documents: int, queries: int) -> list[int]:
    return sorted(chance.sample(range(documents), queries))


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        holders = sum(name in other for other in names)
        if holders != 1:
            raise UsageError(f"the name {name!r} occurs {holders} times among the names; each must be there once.")
