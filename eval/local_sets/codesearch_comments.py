"""What a comment or docstring asks: its first paragraph as plain words, without marks, tags and markup."""

from __future__ import annotations

import re
from collections.abc import Iterator

LEAST, MOST = 5, 60
"""Words of a query.  A longer first paragraph is an essay with several subjects."""
_OPEN = re.compile(r"^\s*(?:/\*[*!]*|//[/!]?|\*+(?![\w/]))?\s?")
_CLOSE = re.compile(r"\s*\**\*/\s*$")
_RULE = re.compile(r"^[\W_]*$")
"""A blank line, or one of dashes."""
_STOP = re.compile(r"^\s*(?:[@\\][a-z]|\{@inherit|#+\s|```|Examples?:?\s*$|(?:Parameters|Returns|Args)\s*:?\s*$)", re.I)
_LINK = re.compile(r"\{@\w+\s+(?:[^}|]*\|)?([^}|]*)\}|\[([^\]]+)\]\([^)]*\)|\b[A-Z]\{([^}]*)\}")
"""Javadoc's and JSDoc's (behind a bar stands what is shown), Markdown's and Epytext's."""
_MARKUP = re.compile(r"</?[A-Za-z][^>]*>|:[a-z:]+:(?=`)|%%?\(\w+\)s|[`\[\]]|\*{2}")
_NOTHING = re.compile(r"^(?:TODO|FIXME|XXX|HACK|See\b|Same as\b|Copyright|eslint-|@|Deprecated|For internal)", re.I)


def query(comment: str, text: str) -> str:
    """What ``comment`` says about the function ``text``; empty where it says too little, or what the code says too.

    A first word that is the function's own name, as Go's comments begin, would find it by that name; it is left out.
    """
    linked = _LINK.sub(lambda found: found[1] or found[2] or found[3] or "", " ".join(_paragraph(comment)))
    words = " ".join(_MARKUP.sub(" ", linked).split())
    first, _, rest = words.partition(" ")
    called = first.rstrip("():,.")
    if called and re.search(rf"(?<!\w){re.escape(called)}\s*[(<]", text.partition("{")[0]):
        words = rest
    said = words.lower() in " ".join(text.split()).lower()
    fits = LEAST <= len(words.split()) <= MOST and words.isascii()
    return words if fits and not said and not _NOTHING.match(words) else ""


def _paragraph(comment: str) -> Iterator[str]:
    """The lines of the first paragraph, without marks."""
    begun = False
    for line in comment.splitlines():
        plain = _CLOSE.sub("", _OPEN.sub("", line, count=1))
        if _STOP.match(plain) or (begun and _RULE.match(plain)):
            return
        if not _RULE.match(plain):
            begun = True
            yield plain.strip()
