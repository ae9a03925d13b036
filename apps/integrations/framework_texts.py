"""Documents of any retriever, as hits with sources: what a pack can be made of.

A document that says where it stands (``doc_id``, ``start``) is part of that source; what other retrievers return says
nothing of the kind, and is a source of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from unabridged.contracts import JSON
from unabridged.errors import UsageError
from unabridged.rankers.context.sources import paragraphs
from unabridged.rankers.contracts import Characters
from unabridged.rankers.select.contracts import Passage

UNKNOWN_CHARACTER = "\ufffd"
"""Stands for what no document shows, where sources are put together out of documents; never in a pack.  It is no white
space, across which spans are joined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A document as its retriever returned it."""

    text: str
    doc_id: str | None = None
    """Of its source; None: unknown."""
    start: int | None = None
    """Where it begins there, in characters; None: unknown."""
    sha256: str | None = None
    """Of the whole source."""
    label: str | None = None
    """What it is called where its source is unknown."""
    score: float | None = None

    @classmethod
    def of(cls, text: str, metadata: Mapping[str, Any], *, label: Any = None, score: Any = None) -> Given:
        """A document by its metadata; its offsets count only if they fit its text."""
        number = isinstance(score, (int, float)) and score == score
        given = cls(text=text, label=str(label) if label else None, score=float(score) if number else None)
        doc_id, start, end, digest = (metadata.get(name) for name in ("doc_id", "start", "end", "sha256"))
        if isinstance(doc_id, str) and _counts(start) and _counts(end) and end - start == len(text):
            return replace(given, doc_id=doc_id, start=start, sha256=digest if isinstance(digest, str) else None)
        return given


class Texts:
    """Places of N documents, and the sources they are places of.

    ``sources`` is an index or a mapping of ids to texts.  Without it, sources are put together out of the documents
    themselves, so that overlapping ones can be joined; one that contradicts an earlier one is a source of its own.
    """

    def __init__(self, given: Sequence[Given], sources: Any = None) -> None:
        self._base = sources
        self._own: dict[str, str] = {}
        parts: dict[str, list[tuple[int, str]]] = {}
        taken = {one.doc_id for one in given if one.doc_id is not None}
        self.passages: list[Passage] = []  # (N,)
        self.foreign: list[bool] = []  # (N,)
        for number, one in enumerate(given, 1):
            known = one.doc_id is not None and one.start is not None
            if known and sources is None:
                known = _agrees(one.start or 0, one.text, parts.setdefault(one.doc_id or "", []))
            if known:
                name, start = one.doc_id or "", one.start or 0
            else:
                name, start = _unused(one.label or one.doc_id or f"document {number}", number, taken), 0
                taken.add(name)
                self._own[name] = one.text
            self.passages.append(Passage(name, start, start + len(one.text), one.text))
            self.foreign.append(not known)
        self.partial = {name: _joined(found) for name, found in parts.items() if found}

    def source(self, doc_id: str) -> str:
        """A source; of one that was put together, what is known of it."""
        if doc_id in self._own:
            return self._own[doc_id]
        if doc_id in self.partial:
            return self.partial[doc_id]
        found = self._base.get(doc_id) if isinstance(self._base, Mapping) else self._base.source(doc_id)
        if not isinstance(found, str):
            raise UsageError(f"The sources have no document with id {doc_id!r}.")
        return found

    def spans(self, doc_id: str) -> Iterable[Characters]:
        """The segments of a source: those of an index, else its paragraphs."""
        if doc_id not in self._own and hasattr(self._base, "spans"):
            found: Iterable[Characters] = self._base.spans(doc_id)
            return found
        return paragraphs(self.source(doc_id))

    def recorded_key(self, doc_id: str) -> bytes:
        """What the index recorded of a source; :class:`UsageError` where nothing is recorded."""
        if doc_id in self._own or not hasattr(self._base, "recorded_key"):
            raise UsageError(f"Nothing is recorded of document {doc_id!r}.")
        key: bytes = self._base.recorded_key(doc_id)
        return key

    def offers(self, given: Sequence[Given], places: Iterable[int]) -> list[dict[str, JSON]]:
        """The documents at ``places`` as :func:`assemble` takes them, without scores: their order is what counts."""
        found = []
        for place in places:
            passage = self.passages[place]
            offer: dict[str, JSON] = {
                "doc_id": passage.doc_id,
                "start": passage.start,
                "end": passage.end,
                "text": passage.text,
            }
            if self._base is not None and not self.foreign[place]:
                offer["sha256"] = given[place].sha256
            found.append(offer)
        return found


def _counts(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _agrees(start: int, text: str, parts: list[tuple[int, str]]) -> bool:
    """Whether a text says the same as the others where they overlap; it is one of them then."""
    for other, known in parts:
        first, last = max(start, other), min(start + len(text), other + len(known))
        if first < last and text[first - start : last - start] != known[first - other : last - other]:
            return False
    parts.append((start, text))
    return True


def _joined(parts: Iterable[tuple[int, str]]) -> str:
    found, length = [], 0
    for start, text in sorted(parts):
        found += [UNKNOWN_CHARACTER * max(0, start - length), text[max(0, length - start) :]]
        length = max(length, start + len(text))
    return "".join(found)


def _unused(label: str, number: int, taken: set[str]) -> str:
    return label if label not in taken else _unused(f"{label} ({number})", number, taken)
