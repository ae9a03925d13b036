"""Single files as documents: text, markdown, source code, HTML."""

from __future__ import annotations

from collections.abc import Iterator

from unabridged.contracts import Document, Failure
from unabridged.corpora._fields import Item, Options, checked
from unabridged.corpora._html import html_to_text
from unabridged.corpora._jsonl import undecodable
from unabridged.corpora._streams import BOM, guarded


def read_text(item: Item, options: Options) -> Iterator[Document | Failure]:
    """The whole file as one document, line ends and all."""
    text = _decoded(item)
    yield text if isinstance(text, Failure) else checked(Document(item.id, text, where=item.shown))


def read_html(item: Item, options: Options) -> Iterator[Document | Failure]:
    """The text of one HTML page, with its title."""
    html = _decoded(item)
    if isinstance(html, Failure):
        yield html
        return
    text, title = html_to_text(html)
    yield checked(Document(item.id, text, title, where=item.shown))


def _decoded(item: Item) -> str | Failure:
    with guarded(item.path) as stream:
        raw = stream.read()
    start = len(BOM) if raw.startswith(BOM) else 0
    try:
        return raw[start:].decode("utf-8") if start else raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return undecodable(item.id, item.shown, start + error.start, error)
