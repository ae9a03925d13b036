"""Inversion in bounded memory: tokens are gathered as 64-bit keys, sorted, and spilled as runs.

A key is ``term << 32 | row``.  A run is a sorted list of (term, row, tf) with its own sorted vocabulary, so
neither the keys nor the dictionary outlive a spill (single-pass in-memory indexing: Heinz and Zobel,
JASIST 54(8), 2003).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from unabridged.index.lexical.analyzer import Analyzer

BLOCK = 1 << 16
"""Postings handled at once: 512 KiB of keys, so the temporaries stay small beside the buffer itself."""

_PIECE = 1 << 16
_TERMS = 4096
_ROW_BITS = np.uint64(32)
_ROW_MASK = np.uint64(0xFFFFFFFF)


def term_bytes(term: str) -> bytes:
    """UTF-8 of a term, whose byte order is the code-point order of strings; lone surrogates pass."""
    return term.encode("utf-8", "surrogatepass")


def read_array(path: Path, dtype: DTypeLike, start: int, stop: int) -> NDArray[Any]:
    """Items ``[start, stop)`` of a headerless file."""
    kind = np.dtype(dtype)
    return np.fromfile(path, kind, stop - start, offset=start * kind.itemsize)


@dataclass(frozen=True, slots=True)
class Run:
    """One spilled run: headerless files named ``stem.terms``, ``.ends``, ``.counts``, ``.rows``, ``.tf``."""

    stem: Path
    terms: int

    def path(self, part: str) -> Path:
        """The file of one part."""
        return self.stem.with_name(f"{self.stem.name}.{part}")

    def vocabulary(self) -> Iterator[tuple[bytes, int]]:
        """Its terms in ascending order, each with its number of postings."""
        last = 0
        for start in range(0, self.terms, _TERMS):
            stop = min(start + _TERMS, self.terms)
            ends = read_array(self.path("ends"), np.int64, start, stop).tolist()
            counts = read_array(self.path("counts"), np.int64, start, stop).tolist()
            # Opened per block: a merge of thousands of runs must not hold thousands of files open.
            blob = read_array(self.path("terms"), np.uint8, last, ends[-1]).tobytes()
            base = last
            for end, count in zip(ends, counts, strict=True):
                yield blob[last - base : end - base], count
                last = end

    def counts(self) -> NDArray[np.int64]:
        """The number of postings of every term."""
        return read_array(self.path("counts"), np.int64, 0, self.terms)

    def postings(self, start: int, stop: int) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Rows and term frequencies ``[start, stop)``."""
        rows = read_array(self.path("rows"), np.uint32, start, stop)
        return rows, read_array(self.path("tf"), np.uint32, start, stop).astype(np.int64)


class _Ids(dict[str, int]):
    """Raw token to the term's number within the run, -1 for what is dropped."""

    def __init__(self, analyzer: Analyzer) -> None:
        super().__init__()
        self.terms: dict[str, int] = {}
        self._analyzer = analyzer

    def __missing__(self, raw: str) -> int:
        term = self._analyzer.term(raw)
        number = -1 if term is None else self.terms.setdefault(term, len(self.terms))
        self[raw] = number
        return number


class Inverter:
    """Collects the tokens of ascending rows and spills a run whenever ``capacity`` tokens are held."""

    def __init__(self, folder: Path, analyzer: Analyzer, capacity: int) -> None:
        self.runs: list[Run] = []
        self._folder = folder
        self._analyzer = analyzer
        self._keys = np.empty(capacity, np.uint64)
        self._size = 0
        self._ids = _Ids(analyzer)

    def add(self, row: int, tokens: list[str]) -> int:
        """Adds the raw tokens of a row and returns how many are terms."""
        added = 0
        piece = min(_PIECE, len(self._keys))
        for start in range(0, len(tokens), piece):
            part = tokens[start : start + piece]
            if self._size + len(part) > len(self._keys):
                self.spill()
            ids = [number for number in map(self._ids.__getitem__, part) if number >= 0]
            end = self._size + len(ids)
            self._keys[self._size : end] = ids
            self._keys[self._size : end] <<= _ROW_BITS
            self._keys[self._size : end] |= np.uint64(row)
            self._size = end
            added += len(ids)
        return added

    def finish(self) -> list[Run]:
        """All runs; what is held is spilled and its memory given back, so that a merge can have it."""
        self.spill()
        self._keys = np.empty(0, np.uint64)
        return self.runs

    def spill(self) -> None:
        """Writes what is held as one run and forgets it."""
        if not self._size:
            return
        words = self._ids.terms
        order = sorted(words)
        rank = np.empty(len(order), np.uint64)
        rank[[words[word] for word in order]] = np.arange(len(order), dtype=np.uint64)
        keys = self._keys[: self._size]
        for start in range(0, len(keys), BLOCK):
            part = keys[start : start + BLOCK]
            part[:] = rank[part >> _ROW_BITS] << _ROW_BITS | part & _ROW_MASK
        keys.sort()
        run = Run(self._folder / f"run-{len(self.runs):06d}", len(order))
        self._write(run, order, keys)
        self.runs.append(run)
        self._size = 0
        self._ids = _Ids(self._analyzer)

    def _write(self, run: Run, order: list[str], keys: NDArray[np.uint64]) -> None:
        counts = np.zeros(len(order), np.int64)
        with run.path("rows").open("wb") as rows, run.path("tf").open("wb") as tf:
            start = 0
            while start < len(keys):
                stop = min(start + BLOCK, len(keys))
                stop = int(np.searchsorted(keys, keys[stop - 1], "right"))  # equal keys stay together
                part = keys[start:stop]
                first = np.flatnonzero(np.concatenate(([True], part[1:] != part[:-1])))
                unique = part[first]
                np.diff(first, append=len(part)).astype(np.uint32).tofile(tf)
                (unique & _ROW_MASK).astype(np.uint32).tofile(rows)
                numbers = (unique >> _ROW_BITS).astype(np.int64)
                base = int(numbers[0])
                seen = np.bincount(numbers - base)
                counts[base : base + len(seen)] += seen
                start = stop
        counts.tofile(run.path("counts"))
        with run.path("terms").open("wb") as blob, run.path("ends").open("wb") as ends:
            end = 0
            for start in range(0, len(order), _TERMS):
                encoded = [term_bytes(word) for word in order[start : start + _TERMS]]
                offsets = end + np.cumsum([len(item) for item in encoded], dtype=np.int64)
                end = int(offsets[-1])
                offsets.tofile(ends)
                blob.write(b"".join(encoded))
