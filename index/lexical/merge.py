"""Runs to one folder: a k-way merge by term that streams, a block of postings at a time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unabridged.index.lexical import layout
from unabridged.index.lexical.runs import Run
from unabridged.index.npy import ArrayFile, BlobFile

BLOCK = 1 << 14
"""Postings merged at once: a fraction of a MiB in each temporary."""

_TERMS = 4096


def merge_vocabularies(sources: Sequence[Iterable[tuple[bytes, int]]]) -> Iterator[tuple[bytes, list[tuple[int, int]]]]:
    """Every term of ascending vocabularies once, in order, with its (source number, value) pairs."""

    def tagged(number: int) -> Iterator[tuple[bytes, int, int]]:
        for term, value in sources[number]:
            yield term, number, value

    current: bytes | None = None
    pairs: list[tuple[int, int]] = []
    for term, number, value in heapq.merge(*map(tagged, range(len(sources)))):
        if term != current:
            if current is not None:
                yield current, pairs
            current, pairs = term, []
        pairs.append((number, value))
    if current is not None:
        yield current, pairs


class PostingSink:
    """Writes postings that arrive in (term, row) order; equal neighbours are summed.

    Terms are numbered from 0 without gaps.  Beside the postings it writes, per term, the end of its list and
    the number of documents that hold it.  Memory: one block.
    """

    def __init__(self, folder: Path, documents: NDArray[Any]) -> None:
        self._documents = documents  # row -> document
        self._rows = layout.create(folder / layout.ROWS, np.uint32)
        self._tf = layout.create(folder / layout.WIDE_TF, np.uint32)
        self._ends = layout.create(folder / layout.ENDS, np.int64)
        self._df = layout.create(folder / layout.DOCUMENT_DF, np.uint32)
        self._held: tuple[int, int, int] | None = None  # term, row, tf: its tf may still grow
        self._last_document = -1
        self._open = 0  # the term whose counts may still grow
        self._open_rows = 0
        self._open_documents = 0
        self.postings = 0
        self.largest = 0

    def append(self, terms: NDArray[np.int64], rows: NDArray[np.uint32], tf: NDArray[np.int64]) -> None:
        """Adds postings; none may lie before the last one added."""
        if self._held is not None:
            terms = np.concatenate(([self._held[0]], terms))
            rows = np.concatenate((np.array([self._held[1]], np.uint32), rows))
            tf = np.concatenate(([self._held[2]], tf))
        if not len(terms):
            return
        first = np.flatnonzero(np.concatenate(([True], (terms[1:] != terms[:-1]) | (rows[1:] != rows[:-1]))))
        summed = np.add.reduceat(tf, first)
        self._held = int(terms[first[-1]]), int(rows[first[-1]]), int(summed[-1])
        self._emit(terms[first[:-1]], rows[first[:-1]], summed[:-1])

    def _emit(self, terms: NDArray[np.int64], rows: NDArray[np.uint32], tf: NDArray[np.int64]) -> None:
        if not len(terms):
            return
        documents = self._documents[rows].astype(np.int64)
        before = np.concatenate(([self._open if self._open_rows else -1], terms[:-1]))
        fresh = (terms != before) | (documents != np.concatenate(([self._last_document], documents[:-1])))
        held_rows = np.bincount(terms - self._open)
        held_documents = np.bincount(terms - self._open, weights=fresh).astype(np.int64)
        held_rows[0] += self._open_rows
        held_documents[0] += self._open_documents
        self._ends.append(self.postings - self._open_rows + np.cumsum(held_rows[:-1]))
        self._df.append(held_documents[:-1])
        self._open += len(held_rows) - 1
        self._open_rows, self._open_documents = int(held_rows[-1]), int(held_documents[-1])
        self._last_document = int(documents[-1])
        self._rows.append(rows)
        self._tf.append(tf)
        self.postings += len(rows)
        self.largest = max(self.largest, int(tf.max()))

    def close(self) -> None:
        """Writes what is held back and finishes the files."""
        if self._held is not None:
            term, row, tf = self._held
            self._emit(np.array([term]), np.array([row], np.uint32), np.array([tf]))
            self._ends.append(np.array([self.postings]))
            self._df.append(np.array([self._open_documents]))
        for file in (self._rows, self._tf, self._ends, self._df):
            file.close()


class _Block:
    """The postings of neighbouring terms, gathered over all runs until they fill a block."""

    def __init__(self, runs: Sequence[Run], sink: PostingSink) -> None:
        self._runs = runs
        self._sink = sink
        self._at = [0] * len(runs)  # next posting of each run
        self._terms: list[list[int]] = [[] for _ in runs]
        self._counts: list[list[int]] = [[] for _ in runs]
        self._size = 0

    def add(self, term: int, pairs: list[tuple[int, int]]) -> None:
        """Adds one term with its (run, postings) pairs."""
        total = sum(count for _, count in pairs)
        if self._size + total > BLOCK:
            self.flush()
        if total > BLOCK:
            self._stream(term, pairs)
            return
        for run, count in pairs:
            self._terms[run].append(term)
            self._counts[run].append(count)
        self._size += total

    def _take(self, run: int, count: int) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        start = self._at[run]
        self._at[run] = start + count
        return self._runs[run].postings(start, start + count)

    def _stream(self, term: int, pairs: list[tuple[int, int]]) -> None:
        # A term in more rows than a block: rows rise from run to run, so no sorting is needed.
        for run, count in pairs:
            for start in range(0, count, BLOCK):
                rows, tf = self._take(run, min(BLOCK, count - start))
                self._sink.append(np.full(len(rows), term), rows, tf)

    def flush(self) -> None:
        """Hands the block to the sink."""
        parts = []
        for run in range(len(self._runs)):
            if counts := self._counts[run]:
                terms = np.repeat(np.array(self._terms[run], np.int64), counts)
                parts.append((terms, *self._take(run, len(terms))))
                self._terms[run], self._counts[run] = [], []
        self._size = 0
        if len(parts) == 1:
            self._sink.append(*parts[0])
        elif parts:
            terms, rows, tf = (np.concatenate(column) for column in zip(*parts, strict=True))
            order = np.argsort(terms, kind="stable")  # within a term rows already rise, run after run
            self._sink.append(terms[order], rows[order], tf[order])


def merge_runs(folder: Path, runs: Sequence[Run], documents: NDArray[Any]) -> tuple[int, int, str]:
    """Writes vocabulary and postings into ``folder``: the numbers of terms and postings, and the dtype of tf."""
    sink = PostingSink(folder, documents)
    vocabulary = BlobFile(folder / layout.TERMS, folder / layout.TERM_ENDS)
    vocabulary.cut(0)
    terms = iter(_copied(runs[0], sink) if len(runs) == 1 else _merged(runs, sink))
    count = 0
    while chunk := list(itertools.islice(terms, _TERMS)):
        vocabulary.append(chunk)
        count += len(chunk)
    vocabulary.close()
    sink.close()
    return count, sink.postings, _narrow(folder, sink.largest, sink.postings)


def _merged(runs: Sequence[Run], sink: PostingSink) -> Iterator[bytes]:
    block = _Block(runs, sink)
    for number, (term, pairs) in enumerate(merge_vocabularies([run.vocabulary() for run in runs])):
        block.add(number, pairs)
        yield term
    block.flush()


def _copied(run: Run, sink: PostingSink) -> Iterator[bytes]:
    # A single run is already what is wanted: its postings are copied without looking at single terms.
    ends = np.cumsum(run.counts())
    for start in range(0, int(ends[-1]), BLOCK):
        stop = min(start + BLOCK, int(ends[-1]))
        sink.append(np.searchsorted(ends, np.arange(start, stop), "right"), *run.postings(start, stop))
    for term, _ in run.vocabulary():
        yield term


def _narrow(folder: Path, largest: int, postings: int) -> str:
    """Copies the term frequencies into the smallest dtype that holds the largest, and names it."""
    kind = np.min_scalar_type(largest)
    wide = layout.map_file(folder / layout.WIDE_TF, "uint32", (postings,))
    narrow: ArrayFile = layout.create(folder / layout.TF, kind)
    for start in range(0, postings, BLOCK):
        narrow.append(wide[start : start + BLOCK])
    narrow.close()
    del wide  # an open map keeps Windows from removing the file
    (folder / layout.WIDE_TF).unlink()
    return kind.name
