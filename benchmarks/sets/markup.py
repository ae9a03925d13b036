"""HTML to text, with the headings taken out and listed."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_SKIP = {"script", "style", "nav", "head", "footer"}
_VOID = {"br", "img", "hr", "meta", "link", "input", "col", "wbr"}
_BLOCK = {"p", "div", "li", "dt", "dd", "tr", "table", "ul", "ol", "dl", "pre", "blockquote", "section", "br"}
_HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}


class _Reader(HTMLParser):
    def __init__(self, skip_classes: frozenset[str], root: str | None) -> None:
        super().__init__(convert_charrefs=True)
        self.text: list[str] = []
        self.headings: list[str] = []
        self._skip_classes = skip_classes
        self._root = root  # only text inside the element of this class or role counts
        self._stack: list[tuple[str, bool, bool]] = []  # (tag, skipped, inside the root)
        self._heading: list[str] | None = None

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
            self.headings.append(squeeze("".join(self._heading)).replace("\n", " "))
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


def squeeze(text: str) -> str:
    """``text`` with runs of blanks and of empty lines made one."""
    text = re.sub(r"[ \t\r\f\v\u00a0]+", " ", text.replace("\u00b6", ""))
    return re.sub(r" ?\n[\s]*", "\n", text).strip()


def read_html(html: str, *, skip: frozenset[str] = frozenset(), root: str | None = None) -> tuple[str, list[str]]:
    """The text of a page without its headings, and its headings.

    ``skip`` names classes whose elements are left out; ``root`` is the class, role or id of the element
    that holds the page proper.
    """
    reader = _Reader(skip, root)
    reader.feed(html)
    return squeeze("".join(reader.text)), reader.headings
