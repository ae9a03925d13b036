"""One lexical folder, memory-mapped."""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import JSON, Rows
from unabridged.errors import ManifestMismatch
from unabridged.index.lexical import layout
from unabridged.index.lexical.analyzer import Analyzer

_COUNTS = ("documents", "segments", "tokens", "terms", "postings")
_TERMS = 4096


@dataclass(frozen=True, slots=True, eq=False)
class LexicalFolder:
    """The arrays of :mod:`unabridged.index.lexical.layout`, and how to find a term in them."""

    documents: int  # N
    segments: int  # S
    tokens: int
    terms: int  # V
    postings: int  # P
    ends: NDArray[np.int64]  # (V,)
    rows: NDArray[np.uint32]  # (P,)
    tf: NDArray[Any]  # (P,) unsigned
    document_df: NDArray[np.uint32]  # (V,)
    segment_terms: NDArray[np.uint32]  # (S,)
    document_of: NDArray[np.uint32]  # (S,)
    document_terms: NDArray[np.uint32]  # (N,)
    offsets: Rows  # (N + 1,)
    _term_ends: memoryview
    _blob: memoryview
    _ends: memoryview
    _rows: memoryview

    @classmethod
    def open(cls, folder: Path, analyzer: Analyzer) -> LexicalFolder:
        """Maps a finished folder.

        Raises:
            ManifestMismatch: a file is missing or not of the size that the counts demand, or the folder was
                written with another analyzer.
        """
        meta = _read_meta(folder, analyzer)
        documents, segments, tokens, terms, postings = (int(meta[name]) for name in _COUNTS)
        term_ends = layout.map_file(folder / layout.TERM_ENDS, "int64", (terms,))
        ends = layout.map_file(folder / layout.ENDS, "int64", (terms,))
        rows = layout.map_file(folder / layout.ROWS, "uint32", (postings,))
        offsets = layout.map_file(folder / layout.OFFSETS, "int64", (documents + 1,))
        for name, found, expected in (
            (layout.ENDS, int(ends[-1]) if terms else 0, postings),
            (layout.OFFSETS, int(offsets[-1]), segments),
        ):
            if found != expected:
                raise ManifestMismatch(f"{folder / name} ends at {found}, {layout.META} says {expected}")
        return cls(
            documents=documents,
            segments=segments,
            tokens=tokens,
            terms=terms,
            postings=postings,
            ends=ends,
            rows=rows,
            tf=layout.map_file(folder / layout.TF, meta["tf"], (postings,)),
            document_df=layout.map_file(folder / layout.DOCUMENT_DF, "uint32", (terms,)),
            segment_terms=layout.map_file(folder / layout.SEGMENT_TERMS, "uint32", (segments,)),
            document_of=layout.map_file(folder / layout.DOCUMENTS, "uint32", (segments,)),
            document_terms=layout.map_file(folder / layout.DOCUMENT_TERMS, "uint32", (documents,)),
            offsets=offsets,
            _term_ends=term_ends.data,
            _blob=layout.map_blob(folder / layout.TERMS, int(term_ends[-1]) if terms else 0).data,
            _ends=ends.data,
            _rows=rows.data,
        )

    def term(self, number: int) -> bytes:
        """The UTF-8 of a term by its number."""
        start = self._term_ends[number - 1] if number else 0
        return self._blob[start : self._term_ends[number]].tobytes()

    def find(self, term: bytes) -> tuple[int, int]:
        """The range of the term's postings; (0, 0) where it does not occur.  O(log V) pages are read."""
        number = bisect.bisect_left(range(self.terms), term, key=self.term)
        if number == self.terms or self.term(number) != term:
            return 0, 0
        return (self._ends[number - 1] if number else 0), self._ends[number]

    def clip(self, found: tuple[int, int], segments: tuple[int, int]) -> tuple[int, int]:
        """The part of a term's postings that lies in a range of segments.  O(log df)."""
        start = bisect.bisect_left(self._rows, segments[0], *found)
        return start, bisect.bisect_left(self._rows, segments[1], start, found[1])

    def vocabulary(self) -> Iterator[bytes]:
        """All terms in ascending order."""
        last = 0
        for start in range(0, self.terms, _TERMS):
            for end in self._term_ends[start : start + _TERMS].tolist():
                yield self._blob[last:end].tobytes()
                last = end


def _read_meta(folder: Path, analyzer: Analyzer) -> dict[str, JSON]:
    path = folder / layout.META
    try:
        meta = json.loads(path.read_bytes())
    except OSError as error:
        raise ManifestMismatch(f"{folder} is not a finished lexical folder: {path.name}: {error}") from error
    except ValueError as error:
        raise ManifestMismatch(f"{path} is not valid JSON: {error}") from error
    known = meta if isinstance(meta, dict) else {}
    found = known.get("format"), known.get("version")
    if found != (layout.FORMAT, layout.VERSION):
        raise ManifestMismatch(f"{path} is {found}, expected {(layout.FORMAT, layout.VERSION)}")
    for name in _COUNTS:
        if not isinstance(known.get(name), int) or known[name] < 0:
            raise ManifestMismatch(f"{path} has {name}={known.get(name)!r}, expected a count")
    if known.get("tf") not in ("uint8", "uint16", "uint32"):
        raise ManifestMismatch(f"{path} has tf={known.get('tf')!r}, expected uint8, uint16 or uint32")
    if known.get("analyzer") != analyzer.settings:
        raise ManifestMismatch(
            f"{folder} was written with the analyzer {known.get('analyzer')}, it is opened with {analyzer.settings}: "
            "open it with Analyzer.from_settings of the first, or index the texts again"
        )
    return known
