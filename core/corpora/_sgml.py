"""TREC-style SGML (``<DOC><DOCNO>..</DOCNO>..<TEXT>..</TEXT></DOC>``) to documents."""

from __future__ import annotations

import re
from collections.abc import Iterator

from unabridged.contracts import Document, Failure
from unabridged.corpora._fields import Item, Options, checked, failed
from unabridged.corpora._html import html_to_text
from unabridged.corpora._jsonl import undecodable
from unabridged.corpora._streams import lines

_START = re.compile(rb"\A\s*<DOC>.*<DOCNO>", re.IGNORECASE | re.DOTALL)
_EDGE = re.compile(rb"(</?DOC>)", re.IGNORECASE)
_DOCNO = re.compile(r"<DOCNO>(.*?)</DOCNO>", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(r"<(TITLE|HEADLINE|HEAD)>(.*?)</\1>", re.IGNORECASE | re.DOTALL)
_TEXT = re.compile(r"<TEXT>(.*?)</TEXT>", re.IGNORECASE | re.DOTALL)
_HEADER = re.compile(r"<(DOCNO|DOCHDR|DOCID)>.*?</\1>", re.IGNORECASE | re.DOTALL)
_PARAGRAPH = re.compile(r"</?P>", re.IGNORECASE)


def looks_like_trec(begin: bytes) -> bool:
    """Whether a file that begins so is of this format, whatever its name is: XML may have a ``<doc>`` too."""
    return _START.match(begin) is not None


def read_trec(item: Item, options: Options) -> Iterator[Document | Failure]:
    """The documents of a TREC-style file.

    The text is what the ``<TEXT>`` elements hold, as it stands, but that ``<P>`` becomes a line end; a
    document without them (web collections) is read as HTML after its header.  The title is ``<TITLE>``,
    ``<HEADLINE>`` or ``<HEAD>``.
    """
    parts: list[bytes] | None = None
    opened, offset, opened_at = 0, 0, 0
    for number, line in enumerate(lines(item.path), 1):
        for piece in _EDGE.split(line):
            edge = piece.upper() if _EDGE.fullmatch(piece) else b""
            if edge == b"</DOC>" and parts is not None:
                yield _document(b"".join(parts), f"{item.shown}:{opened}", opened_at, options)
                parts = None
            elif edge == b"<DOC>":
                if parts is not None:
                    yield _unclosed(parts, f"{item.shown}:{opened}")
                parts, opened, opened_at = [], number, offset + len(piece)
            elif parts is not None:
                parts.append(piece)
            elif piece.strip():
                shown = f"expected <DOC>, found {piece.strip()[:60]!r}"
                yield failed("", f"{item.shown}:{number}", "outside-document", shown)
            offset += len(piece)
    if parts is not None:
        yield _unclosed(parts, f"{item.shown}:{opened}")


def _document(raw: bytes, where: str, offset: int, options: Options) -> Document | Failure:
    try:
        body = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return undecodable(_docno(raw), where, offset + error.start, error)
    name = _DOCNO.search(body)
    if name is None or not name[1].strip():
        return failed("", where, "missing-id", "a <DOC> without <DOCNO>")
    title = _TITLE.search(_TEXT.sub("", body))
    heading = " ".join(_PARAGRAPH.sub(" ", title[2]).split()) if title else ""
    texts = [_PARAGRAPH.sub("\n", text).strip() for text in _TEXT.findall(body)]
    if texts:
        return checked(Document(name[1].strip(), "\n\n".join(texts), heading, {}, where))
    text, heading = html_to_text(_HEADER.sub("", body))
    return checked(Document(name[1].strip(), text, heading, {}, where))


def _unclosed(parts: list[bytes], where: str) -> Failure:
    return failed(_docno(b"".join(parts)), where, "unclosed-document", "expected </DOC>, found <DOC> or the file's end")


def _docno(raw: bytes) -> str:
    name = _DOCNO.search(raw.decode("utf-8", "replace"))
    return name[1].strip() if name else ""
