"""Where the text of a pack is read from, and whether it still is what was found."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from unabridged.errors import SourceChanged, UnabridgedError, UsageError
from unabridged.rankers.context.contracts import CHANGED, OUTSIDE, UNKNOWN
from unabridged.rankers.context.offered import Offer
from unabridged.rankers.contracts import Characters

_GAP = re.compile(r"\s*\n[^\S\n]*\n\s*")


class Sources(Protocol):
    """Documents by their ids, as an index has them."""

    def source(self, doc_id: str) -> str:
        """The whole source text."""
        ...


@dataclass(frozen=True, slots=True)
class Text:
    """A source that was read."""

    text: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an offer cannot be verified."""

    reason: str
    error: UnabridgedError


class Reader:
    """Each source read and hashed once.

    ``sources`` is an index, a mapping of ids to texts, or a function of an id; ``origin`` is the index that the hits
    come from, whose record of a source must then be that of the text that is read.  ``recorded`` has SHA-256 by id.
    """

    def __init__(self, sources: Any, origin: Any = None, recorded: Mapping[str, str] | None = None) -> None:
        self._given = origin if sources is None else sources
        if self._given is None:
            raise UsageError(
                "The hits do not say where their texts are read from. Pass sources=: an index, a mapping of ids to "
                "texts, or a function from an id to a text."
            )
        self._read = _reading(self._given)
        self._origin = self._given if origin is None else origin
        self._recorded = recorded or {}
        self._texts: dict[str, Text] = {}
        self._segments: dict[str, list[Characters]] = {}

    def text(self, doc_id: str) -> Text:
        """The source of a document; :class:`UsageError` where there is none."""
        if doc_id not in self._texts:
            text = self._read(doc_id)
            digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
            self._texts[doc_id] = Text(text, digest)
        return self._texts[doc_id]

    def segments(self, doc_id: str) -> list[Characters]:
        """The document's segments as they stand: those of its index, else its paragraphs."""
        if doc_id not in self._segments:
            index = next((known for known in (self._given, self._origin) if hasattr(known, "spans")), None)
            found = paragraphs(self.text(doc_id).text) if index is None else index.spans(doc_id)
            self._segments[doc_id] = sorted((int(start), int(end)) for start, end in found)
        return self._segments[doc_id]

    def checked(self, offer: Offer) -> Characters | Fault:
        """The span of an offer in its source, or why it is none."""
        try:
            read = self.text(offer.doc_id)
        except UsageError as error:
            return Fault(UNKNOWN, error)
        if (changed := self._changed(offer, read)) is not None:
            return Fault(CHANGED, changed)
        end = len(read.text) if offer.end is None else offer.end
        if end > len(read.text):
            return Fault(
                OUTSIDE,
                UsageError(
                    f"Hit {offer.hit + 1} is [{offer.start}, {end}) of document {offer.doc_id!r}, whose source has "
                    f"{len(read.text):,} characters. Search again, or leave it out with faults='drop'."
                ),
            )
        if offer.text is not None and read.text[offer.start : end] != offer.text:
            return Fault(
                CHANGED,
                _changed(
                    offer.doc_id,
                    f"the text of hit {offer.hit + 1}, SHA-256 {_sha256(offer.text)}",
                    f"at [{offer.start}, {end}) text with SHA-256 {_sha256(read.text[offer.start : end])}",
                ),
            )
        return offer.start, end

    def _changed(self, offer: Offer, read: Text) -> SourceChanged | None:
        for recorded in (self._recorded.get(offer.doc_id), offer.recorded):
            if recorded is not None and recorded.lower() != read.sha256:
                return _changed(offer.doc_id, f"SHA-256 {recorded}", f"a source with SHA-256 {read.sha256}")
        if not hasattr(self._origin, "recorded_key"):
            return None
        try:
            key = self._origin.recorded_key(offer.doc_id)
        except UsageError:
            return None  # hits of several indexes: this one knows nothing of the document
        from unabridged.index.shard import content_key

        found = content_key(read.text)
        return None if found == key else _changed(offer.doc_id, f"blake3 {key.hex()}", f"blake3 {found.hex()}")


def paragraphs(text: str) -> Iterator[Characters]:
    """What stands between blank lines, without the white space around it."""
    start = len(text) - len(text.lstrip())
    stop = len(text.rstrip())
    for gap in _GAP.finditer(text, start, stop):
        yield start, gap.start()
        start = gap.end()
    if start < stop:
        yield start, stop


def _changed(doc_id: str, expected: str, found: str) -> SourceChanged:
    return SourceChanged(
        f"Document {doc_id!r} is not what was indexed: recorded is {expected}, found {found}. Index the corpus again "
        "and search again, give sources= the texts that were indexed, or leave it out with faults='drop'."
    )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _reading(sources: Any) -> Callable[[str], str]:
    """One way to read all kinds of sources; :class:`UsageError` for a document that is not there."""
    ask: Callable[[str], Any]
    if isinstance(sources, Mapping):
        ask = sources.get
    elif callable(getattr(sources, "source", None)):
        ask = sources.source
    elif callable(getattr(sources, "text", None)):
        ask = sources.text
    elif callable(sources):
        ask = sources
    else:
        raise UsageError(
            f"sources is {type(sources).__name__}; expected an index, a mapping of ids to texts, or a function."
        )

    def read(doc_id: str) -> str:
        try:
            text = ask(doc_id)
        except KeyError:
            text = None
        if text is None:
            raise UsageError(f"The sources have no document with id {doc_id!r}.")
        if not isinstance(text, str):
            raise UsageError(f"The source of document {doc_id!r} is {type(text).__name__}; expected a string.")
        return text

    return read
