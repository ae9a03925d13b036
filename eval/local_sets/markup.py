"""HTML to text, with the headings taken out and listed with the stretch of text that each stood above."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser

_SKIP = {"script", "style", "nav", "head", "footer"}
_VOID = {"br", "img", "hr", "meta", "link", "input", "col", "wbr"}
_BLOCK = {"p", "div", "li", "dt", "dd", "tr", "table", "ul", "ol", "dl", "pre", "blockquote", "section", "br"}
_HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}
_PILCROW = "\u00b6"  # the text of a link to a heading


@dataclass(frozen=True, slots=True)
class Mark:
    """A heading while its text is being read."""

    text: str
    level: int
    """1 is the highest."""
    ink: int
    """Characters before it that are not white space: they alone are never changed by :func:`squeeze`."""


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading that was taken out of a text."""

    text: str
    level: int
    start: int
    """The first character of the text below it."""
    end: int
    """One past the last character before the next heading that is not below it; ``start`` where there is none."""


def squeeze(text: str) -> str:
    """``text`` with runs of blanks and of empty lines made one."""
    text = re.sub(r"[ \t\r\f\v\u00a0]+", " ", text.replace(_PILCROW, ""))
    return re.sub(r" ?\n[\s]*", "\n", text).strip()


def one_line(text: str) -> str:
    """``text`` squeezed, without line ends."""
    return squeeze(text).replace("\n", " ")


def ink(text: str) -> int:
    """Characters that are still there when the text is squeezed and has no white space."""
    return sum(map(len, text.replace(_PILCROW, "").split()))


def headings(text: str, marks: Sequence[Mark]) -> tuple[Heading, ...]:
    """The stretches of the squeezed ``text`` that the headings at ``marks`` stood above."""
    places = [at for at, character in enumerate(text) if not character.isspace()]
    found = []
    for at, mark in enumerate(marks):
        last = next((later.ink for later in marks[at + 1 :] if later.level <= mark.level), len(places))
        start = places[mark.ink] if mark.ink < len(places) else len(text)
        end = places[last - 1] + 1 if last > mark.ink else start
        found.append(Heading(mark.text, mark.level, start, end))
    return tuple(found)


def read_html(
    html: str, *, skip: frozenset[str] = frozenset(), root: str | None = None
) -> tuple[str, tuple[Heading, ...]]:
    """The text of a page without its headings, and its headings.

    ``skip`` names classes whose elements are left out; ``root`` is the class, role or id of the element that holds
    the page proper.
    """
    reader = _Reader(skip, root)
    reader.feed(html)
    text = squeeze("".join(reader.text))
    return text, headings(text, reader.marks)


class _Reader(HTMLParser):
    def __init__(self, skip_classes: frozenset[str], root: str | None) -> None:
        super().__init__(convert_charrefs=True)
        self.text: list[str] = []
        self.marks: list[Mark] = []
        self._skip_classes = skip_classes
        self._root = root  # only text inside the element of this class or role counts
        self._stack: list[tuple[str, bool, bool]] = []  # (tag, skipped, inside the root)
        self._heading: list[str] | None = None
        self._ink = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _BLOCK:
            self.text.append("\n")
        if tag in _VOID:
            return
        names = {word for key, value in attrs if key in ("class", "role", "id") for word in (value or "").split()}
        skipped, inside = self._stack[-1][1:] if self._stack else (False, self._root is None)
        skipped = skipped or tag in _SKIP or bool(names & self._skip_classes)
        self._stack.append((tag, skipped, inside or self._root in names))
        if tag in _HEADINGS:
            self._heading = []

    def handle_endtag(self, tag: str) -> None:
        if tag in _BLOCK:
            self.text.append("\n")
        if tag in _HEADINGS and self._heading is not None:
            self.marks.append(Mark(one_line("".join(self._heading)), int(tag[1]), self._ink))
            self._heading = None
            self.text.append("\n")
        if any(open_tag == tag for open_tag, *_ in self._stack):
            while self._stack and self._stack.pop()[0] != tag:
                pass

    def handle_data(self, data: str) -> None:
        skipped, inside = self._stack[-1][1:] if self._stack else (False, self._root is None)
        if skipped or not inside:
            return
        if self._heading is not None:
            self._heading.append(data)
        else:
            self.text.append(data)
            self._ink += ink(data)
