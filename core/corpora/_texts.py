"""Single files as documents: text, markdown, source code, HTML."""

from __future__ import annotations

from collections.abc import Iterator

from unabridged.contracts import Document, Failure
from unabridged.corpora._code import code_title, is_code, not_by_hand
from unabridged.corpora._fields import Item, Options, checked, failed
from unabridged.corpora._html import html_to_text
from unabridged.corpora._jsonl import undecodable
from unabridged.corpora._streams import BOM, guarded

MIB = 1 << 20
HEAD = 8192
"""Bytes in which a file shows that it is binary."""


def read_text(item: Item, options: Options) -> Iterator[Document | Failure]:
    """The whole file as one document, line ends and all; source code has its path as the title."""
    text = _decoded(item, options)
    if isinstance(text, Failure):
        yield text
        return
    why = not_by_hand(item.path, text) if options.skip_generated else None
    if why is not None:
        yield failed(item.id, item.shown, *why)
        return
    yield checked(Document(item.id, text, code_title(item.path, item.id), where=item.shown))


def read_html(item: Item, options: Options) -> Iterator[Document | Failure]:
    """The text of one HTML page, with its title."""
    html = _decoded(item, options)
    if isinstance(html, Failure):
        yield html
        return
    text, title = html_to_text(html)
    yield checked(Document(item.id, text, title, where=item.shown))


def _decoded(item: Item, options: Options) -> str | Failure:
    most = None if options.max_file_mb is None else int(options.max_file_mb * MIB)
    with guarded(item.path) as stream:
        raw = stream.read(-1 if most is None else most + 1)
    if most is not None and len(raw) > most:
        message = f"more than {options.max_file_mb:g} MiB, the limit that was asked for"
        return failed(item.id, item.shown, "huge", message)
    if b"\0" in raw[:HEAD] and is_code(item.path) and not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return failed(item.id, item.shown, "binary", "it is called as source code is, and holds bytes of value 0")
    start = len(BOM) if raw.startswith(BOM) else 0
    try:
        return raw[start:].decode("utf-8") if start else raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return undecodable(item.id, item.shown, start + error.start, error)
