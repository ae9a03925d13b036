"""What a span stands under: headings of prose, signatures of code, each a span of the source itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from unabridged.encoders.code.detect import origin, syntax_of
from unabridged.rankers.contracts import Characters

_ATX = re.compile(r"^ {0,3}(?P<marks>#{1,6})[ \t]+(?P<title>\S[^\r\n]*)", re.MULTILINE)
_SETEXT = re.compile(r"^ {0,3}(?P<title>\S[^\r\n]{0,120})\r?\n {0,3}(?P<marks>={3,}|-{3,})[ \t]*\r?$", re.MULTILINE)
_FENCE = re.compile(r"^ {0,3}(?P<mark>```+|~~~+)", re.MULTILINE)
_CHAPTER = re.compile(
    r"(?:(?<=\A)|(?<=\n\n)|(?<=\n\r\n))[ \t]*(?P<title>(?:(?P<part>part|book|volume)|(?P<chapter>chapter|appendix)|"
    r"section|article|act|scene)[ \t]+(?:[0-9]{1,4}|[IVXLCDM]{1,8}|[A-Z]|one|two|three|four|five|six|seven|eight|nine|"
    r"ten)"
    r"(?:[.:\u2014 \t-][^\r\n]{0,80})?)(?=\r?\n|\Z)",
    re.IGNORECASE,
)
_NUMBERED = re.compile(
    r"(?:^|(?<=\n\n)|(?<=\n\r\n))(?P<title>(?P<number>[0-9]{1,3}(?:\.[0-9]{1,3}){0,4})\.?[ \t]+[A-Z][^\r\n]{0,80}"
    r"[^\r\n.,;:!?])(?=\r?\n\r?\n)"
)
_PART, _OF_CHAPTER, _OF_SECTION, _OF_NUMBER = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class _Heading:
    level: int
    start: int
    end: int


def headings_above(text: str, start: int) -> list[Characters]:
    """The headings of ``text`` under which the character ``start`` stands, the outermost first.

    In prose: Markdown headings outside of fenced code, underlined ones, chapters and numbered sections that stand alone
    on their line.  In source code, which tells its language: the signatures of the definitions around it.

    Raises:
        MissingExtra: the grammar of the text's language is not installed.
    """
    if origin(text).language is not None:
        return _signatures(text, start)
    path: list[_Heading] = []
    for heading in _outline(text):
        if heading.end > start:
            break
        path = [one for one in path if one.level < heading.level]
        path.append(heading)
    return [(one.start, one.end) for one in path]


@lru_cache(maxsize=64)
def _outline(text: str) -> tuple[_Heading, ...]:
    """All headings of a text of prose, in its order."""
    fences = fenced(text)
    found: dict[int, _Heading] = {}
    for match in _ATX.finditer(text):
        found[match.start("title")] = _heading(match, len(match["marks"]))
    for match in _SETEXT.finditer(text):
        found.setdefault(match.start("title"), _heading(match, 1 if match["marks"][0] == "=" else 2))
    marked = bool(found)
    for match in () if marked else _CHAPTER.finditer(text):
        level = _PART if match["part"] else _OF_CHAPTER if match["chapter"] else _OF_SECTION
        found.setdefault(match.start("title"), _heading(match, level))
    for match in () if marked else _NUMBERED.finditer(text):
        found.setdefault(match.start("title"), _heading(match, _OF_NUMBER + match["number"].count(".")))
    inside = [one for one in found.values() if not any(first <= one.start < last for first, last in fences)]
    return tuple(sorted(inside, key=lambda one: one.start))


def _heading(match: re.Match[str], level: int) -> _Heading:
    title = match["title"].rstrip().rstrip("#").rstrip() or match["title"].rstrip()
    return _Heading(level, match.start("title"), match.start("title") + len(title))


def fenced(text: str) -> list[Characters]:
    """Where code stands in a text of Markdown: a fence closes with a mark of its kind that is as long."""
    fences: list[Characters] = []
    opened: re.Match[str] | None = None
    for match in _FENCE.finditer(text):
        if opened is None:
            opened = match
        elif match["mark"].startswith(opened["mark"]):
            fences.append((opened.start(), match.end()))
            opened = None
    return fences if opened is None else [*fences, (opened.start(), len(text))]


@lru_cache(maxsize=16)
def _tree(text: str) -> tuple[tuple[Characters, Characters], ...]:
    syntax = syntax_of(text).syntax
    if syntax is None:
        return ()
    signatures, definitions = np.asarray(syntax.signatures).tolist(), np.asarray(syntax.definitions).tolist()
    return tuple(
        (_visible(text, start, end), (first, last))
        for (start, end), (first, last) in zip(signatures, definitions, strict=True)
    )


def _visible(text: str, start: int, end: int) -> Characters:
    """The span without the white space at its edges."""
    part = text[start:end]
    return end - len(part.lstrip()), start + len(part.rstrip())


def _signatures(text: str, start: int) -> list[Characters]:
    around = [signature for signature, body in _tree(text) if signature[1] <= start < body[1]]
    return sorted(around)
