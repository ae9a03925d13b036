"""Folders and living documents seen as one collection of documents, or of segments.

All statistics of BM25 come from here: N, the average length and the document frequency of a term count the
living rows of all folders.  Nothing is computed before it is asked for; without deletions nothing is ever
computed for more than the postings of one term.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Level, Mask, Rows
from unabridged.errors import UsageError
from unabridged.index.lexical.folder import LexicalFolder
from unabridged.index.lexical.merge import merge_vocabularies
from unabridged.index.lexical.runs import BLOCK, term_bytes
from unabridged.index.lexical.variants import Doubles

PLACES = 1 << 16
"""Terms whose place in the vocabularies is kept: about 10 MB."""


@dataclass(frozen=True, slots=True)
class Postings:
    """The living rows that hold a term, ascending, with term frequencies and row lengths."""

    rows: Rows  # (P,) int64
    tf: Doubles  # (P,)
    lengths: Doubles  # (P,) terms in each row


class Collection:
    """Rows of one granularity, numbered through the folders in order; the dead keep their numbers.

    Args:
        folders: In order.
        level: DOC or SEGMENT: what a row is.
        alive: Per document, or None where all are.
    """

    def __init__(self, folders: Sequence[LexicalFolder], level: Level, alive: Mask | None) -> None:
        if level is Level.BOTH:
            raise UsageError("lexical search ranks documents or segments: level must be doc or segment")
        self.by_document = level is Level.DOC
        self.alive = alive
        self._folders = folders
        self._document_base = _bases([folder.documents for folder in folders])
        self._segment_base = _bases([folder.segments for folder in folders])
        self._base = self._document_base if self.by_document else self._segment_base
        self._places: dict[str, list[tuple[int, int]]] = {}

    @property
    def rows(self) -> int:
        """All rows, the dead included."""
        return self._base[-1]

    @cached_property
    def n(self) -> int:
        """Living rows."""
        if self.alive is None:
            return self.rows
        if self.by_document:
            return int(np.count_nonzero(self.alive))
        return sum(int(np.diff(folder.offsets)[part].sum()) for folder, part in self._living())

    @cached_property
    def average(self) -> float:
        """Average length of a living row, in terms; 1.0 where there is no term at all."""
        if self.alive is None:
            tokens = sum(folder.tokens for folder in self._folders)
        else:
            tokens = sum(int(folder.document_terms[part].sum(dtype=np.int64)) for folder, part in self._living())
        return tokens / self.n if tokens else 1.0

    def _living(self) -> list[tuple[LexicalFolder, Any]]:
        if self.alive is None:
            return [(folder, slice(None)) for folder in self._folders]
        base = self._document_base
        return [(folder, self.alive[base[i] : base[i + 1]]) for i, folder in enumerate(self._folders)]

    def postings(self, term: str) -> Postings:
        """The living postings of a term."""
        return _joined([self._load(number, slice(*place)) for number, place in enumerate(self._find(term))])

    def _find(self, term: str) -> list[tuple[int, int]]:
        """The range of a term's postings in every folder; kept for the terms of recent queries."""
        found = self._places.get(term)
        if found is None:
            key = term_bytes(term)
            found = [folder.find(key) for folder in self._folders]
            if len(self._places) >= PLACES:
                self._places.clear()
            self._places[term] = found
        return found

    def _load(self, number: int, part: slice | Rows) -> Postings:
        folder = self._folders[number]
        local = folder.rows[part]
        tf = folder.tf[part].astype(np.float64)
        documents = folder.document_of[local]
        if self.by_document and len(local):
            first = np.flatnonzero(np.concatenate(([True], documents[1:] != documents[:-1])))
            local = documents = documents[first]
            tf = np.add.reduceat(tf, first)  # counts below 2 ** 53: exact in any order
        if self.alive is not None:
            keep = self.alive[self._document_base[number] + documents.astype(np.int64)]
            local, tf = local[keep], tf[keep]
        lengths = (folder.document_terms if self.by_document else folder.segment_terms)[local]
        return Postings(local.astype(np.int64) + self._base[number], tf, lengths.astype(np.float64))

    def document_segments(self, document: int) -> tuple[int, int]:
        """The range of segment rows of a document row."""
        number = self._folder_of(document)
        folder, local = self._folders[number], document - self._document_base[number]
        base = self._segment_base[number]
        return base + int(folder.offsets[local]), base + int(folder.offsets[local + 1])

    def segment_postings(self, term: str, documents: Sequence[int]) -> tuple[int, Postings]:
        """The df of a term among all segments, and its postings inside some documents, in their order.

        Only for segments without deletions: df is then the number of postings, and O(log df) are read for
        each document.
        """
        found = self._find(term)
        parts = []
        for document in documents:
            number = self._folder_of(document)
            if found[number][0] == found[number][1]:
                continue
            folder, local = self._folders[number], document - self._document_base[number]
            inside = folder.clip(found[number], (int(folder.offsets[local]), int(folder.offsets[local + 1])))
            if inside[0] < inside[1]:
                parts.append((number, np.arange(*inside, dtype=np.int64)))
        loaded = [
            self._load(number, np.concatenate([rows for _, rows in group]))
            for number, group in itertools.groupby(parts, key=lambda part: part[0])
        ]
        return sum(stop - start for start, stop in found), _joined(loaded)

    def _folder_of(self, document: int) -> int:
        return int(np.searchsorted(self._document_base, document, "right")) - 1

    @cached_property
    def _document_of(self) -> NDArray[Any]:
        if len(self._folders) == 1:
            return self._folders[0].document_of
        parts = [
            f.document_of.astype(np.int64) + base for f, base in zip(self._folders, self._document_base, strict=False)
        ]
        return np.concatenate([np.zeros(0, np.int64), *parts])

    def documents_of(self, rows: Rows) -> NDArray[Any]:
        """The document row of each row."""
        return rows if self.by_document else self._document_of[rows]

    def frequencies(self) -> Rows:
        """The df of every term that a living row holds, in the order of terms.  O(V), with deletions O(P)."""
        parts = [self._folder_frequencies(number) for number in range(len(self._folders))]
        if len(parts) == 1:
            total = parts[0]
        else:
            merged = merge_vocabularies(
                [zip(f.vocabulary(), part.tolist(), strict=True) for f, part in zip(self._folders, parts, strict=True)]
            )
            total = np.array([sum(value for _, value in pairs) for _, pairs in merged], np.int64)
        return total[total > 0]

    def _folder_frequencies(self, number: int) -> Rows:
        folder = self._folders[number]
        if self.alive is None:
            return folder.document_df.astype(np.int64) if self.by_document else np.diff(folder.ends, prepend=0)
        alive = self.alive[self._document_base[number] : self._document_base[number + 1]]
        counts = np.zeros(folder.terms, np.int64)
        for start in range(0, folder.postings, BLOCK):
            stop = min(start + BLOCK, folder.postings)
            before = max(start - 1, 0)
            documents = folder.document_of[folder.rows[before:stop]]
            terms = np.searchsorted(folder.ends, np.arange(before, stop), "right")
            counted = alive[documents]
            if self.by_document:  # only the first posting of a document counts
                counted[1:] &= (documents[1:] != documents[:-1]) | (terms[1:] != terms[:-1])
            skip = start - before
            seen = np.bincount(terms[skip:] - terms[skip], weights=counted[skip:]).astype(np.int64)
            counts[terms[skip] : terms[skip] + len(seen)] += seen
        return counts

    def vocabulary(self) -> int:
        """Distinct terms of the folders.  O(V) for more than one folder."""
        if len(self._folders) == 1:
            return self._folders[0].terms
        sources = [((term, 0) for term in folder.vocabulary()) for folder in self._folders]
        return sum(1 for _ in merge_vocabularies(sources))


def _bases(counts: list[int]) -> list[int]:
    bases = [0]
    for count in counts:
        bases.append(bases[-1] + count)
    return bases


def _joined(parts: list[Postings]) -> Postings:
    parts = [part for part in parts if len(part.rows)] or parts[:1]
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return Postings(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    return Postings(
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.tf for part in parts]),
        np.concatenate([part.lengths for part in parts]),
    )
