"""Which language a text is in: a function of the text and of one setting, and of nothing else.

An encoder gets texts without names, and a text is known by its content everywhere.  So the name of a file has to be
part of the text: a reader of code files gives the path as the title, and title and text are joined by one space.  What
is looked at, first answer wins:

1. a first word with the suffix of a language, as in ``src/main.py import sys``: the code begins behind the space;
2. an interpreter in a first line ``#!``, or ``<?php``;
3. the language that was asked for;
4. a guess: the languages whose cues occur are parsed, and the tree with the smallest share of errors wins.

A guess gives the simplest language that a text is right in: TypeScript without a type is JavaScript, and a component
without markup is TypeScript.  A short text may be right in several languages and can be guessed wrong; a path in front
of it, or a language that is asked for, is never overruled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from unabridged.encoders.code.cues import likely
from unabridged.encoders.code.languages import LANGUAGES, SUFFIXES, Language
from unabridged.encoders.code.syntax import MAX_BYTES, Syntax, TooLong, parse

MOST_ERRORS = 1 / 4
"""Share of a text whose language is said that may be in errors: trees are built around them."""
MOST_ERRORS_OF_A_GUESS = 1 / 10
CANDIDATES = 3
"""Languages that a guess tries, those with most cues."""
WIDER: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"javascript": ("typescript",), "typescript": ("tsx",), "c": ("cpp",)}
)
"""What a guess tries next where a language has errors: what it has besides may be rare in a file."""
_PHP = "<?php"
_TITLE = re.compile(r"(?P<path>\S{1,1000}(?P<suffix>\.[A-Za-z0-9+]{1,8}))(?= )")
_SHEBANG = re.compile(r"#![ \t]*(?:\S*/)?(?:env[ \t]+(?:-\S+[ \t]+)*(?:\S*/)?)?(?P<name>[A-Za-z-]+)")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the code begins and what is said about its language before anything is parsed."""

    start: int
    """Characters of the title and the space behind it, 0 without a title."""
    path: str
    language: Language | None


@dataclass(frozen=True, slots=True)
class Found:
    """The tree of a text, or the reason for which there is none."""

    origin: Origin
    syntax: Syntax | None
    reason: str
    """Empty where there is a tree."""


def origin(text: str, asked: Language | None = None) -> Origin:
    """What title, first line and setting say."""
    title = _TITLE.match(text)
    said = SUFFIXES.get(title["suffix"].lower()) if title is not None else None
    if title is not None and said is not None:
        return Origin(title.end() + 1, title["path"], said)
    if text.startswith(_PHP):
        return Origin(0, "", LANGUAGES["php"])
    shebang = _SHEBANG.match(text)
    return Origin(0, "", (None if shebang is None else _interpreted(shebang["name"])) or asked)


def syntax_of(text: str, asked: Language | None = None, *, remarked: bool = False) -> Found:
    """The syntax tree of ``text`` under the language that it is in, with its comments if ``remarked``.

    Raises:
        MissingExtra: a grammar that has to be tried is not installed.
    """
    of = origin(text, asked)
    try:
        if of.language is not None:
            return _said(text, of, of.language, remarked=remarked)
        return _guessed(text, of, remarked=remarked)
    except TooLong as error:
        return Found(of, None, str(error))


def _said(text: str, of: Origin, language: Language, *, remarked: bool) -> Found:
    syntax = parse(text, language, of.start, remarked=remarked)
    if language.name == "c" and syntax.errors > 0 and of.path.lower().endswith(".h"):
        other = parse(text, LANGUAGES["cpp"], of.start, remarked=remarked)
        syntax = min(syntax, other, key=lambda tree: tree.errors)
    if syntax.errors > MOST_ERRORS:
        return Found(of, None, f"{syntax.errors:.0%} of the text does not parse as {language.name}")
    return Found(of, syntax, "")


def _guessed(text: str, of: Origin, *, remarked: bool) -> Found:
    if len(text) > MAX_BYTES:
        raise TooLong.by_size(len(text))
    trees: list[Syntax] = []
    names = likely(text, CANDIDATES)
    for name in names:
        trees.append(parse(text, LANGUAGES[name], remarked=remarked))
        if trees[-1].errors > 0:
            names.extend(wider for wider in WIDER.get(name, ()) if wider not in names)
    order = list(LANGUAGES)  # C is C++ and JavaScript is TypeScript too: the simpler one of equals comes first there
    best = min(trees, key=lambda tree: (tree.errors, order.index(tree.language)), default=None)
    if best is None or best.errors > MOST_ERRORS_OF_A_GUESS:
        return Found(of, None, "unknown language")
    return Found(of, best, "")


def _interpreted(name: str) -> Language | None:
    plain = name.rstrip("-").lower()
    return next((language for language in LANGUAGES.values() if plain in language.interpreters), None)
