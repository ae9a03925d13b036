"""HTML to text with the parser of the standard library."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import groupby

_DROPPED = frozenset({"script", "style"})
_BLOCK_NAMES = (
    "address article aside blockquote br caption center dd details dialog dir div dl dt fieldset figcaption figure "
    "footer form h1 h2 h3 h4 h5 h6 header hgroup hr legend li main menu nav ol option p pre section select summary "
    "table tbody td tfoot th thead tr ul body html head title"
)
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_SPACES = re.compile(r"[ \t\r\n\f]+")
_LINE_ENDS = re.compile(r" *\n *")
_GAPS = re.compile(r"\n{3,}")


def html_to_text(html: str) -> tuple[str, str]:
    """``(text, title)`` of an HTML page.

    Scripts and styles are dropped and nothing else is.  Block elements start a new line; white space is
    collapsed as a browser does, and kept inside ``<pre>``.  Broken markup never raises.
    """
    reader = _Reader()
    reader.feed(html)
    reader.close()
    runs = []
    for verbatim, parts in groupby(reader.parts, key=lambda part: part[0]):
        run = "".join(text for _, text in parts)
        runs.append(run if verbatim else _collapsed(run))
    return "".join(runs).strip(), _SPACES.sub(" ", "".join(reader.title)).strip()


def _collapsed(run: str) -> str:
    return _GAPS.sub("\n\n", _LINE_ENDS.sub("\n", re.sub(" +", " ", run)))


class _Reader(HTMLParser):
    """``parts`` are ``(verbatim, text)`` in order; outside of verbatim parts a line end is a block's edge."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[tuple[bool, str]] = []
        self.title: list[str] = []
        self._dropped = self._pre = 0
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._edge(tag, 1)
        if tag == "title" and not self.title:  # a later one belongs to a drawing and is text
            self._in_title = True

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._edge(tag, 0)

    def handle_endtag(self, tag: str) -> None:
        self._edge(tag, -1)
        if tag == "title":
            self._in_title = False

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)
        elif not self._dropped:
            self.parts.append((True, data) if self._pre else (False, _SPACES.sub(" ", data)))

    def _edge(self, tag: str, depth: int) -> None:
        """Notes that an element opens (1), closes (-1) or stands alone (0)."""
        if tag in _DROPPED:
            self._dropped = max(self._dropped + depth, 0)
        elif tag == "pre":
            self._pre = max(self._pre + depth, 0)
        if tag in _BLOCKS:
            self.parts.append((False, "\n"))
