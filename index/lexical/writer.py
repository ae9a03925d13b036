"""Texts to one immutable lexical folder, in memory that does not grow with the corpus."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import JSON
from unabridged.errors import ShapeError, UsageError
from unabridged.files import disk_errors
from unabridged.index.lexical import layout
from unabridged.index.lexical.analyzer import Analyzer
from unabridged.index.lexical.merge import merge_runs
from unabridged.index.lexical.runs import Inverter

_FLUSH = 4096


class LexicalWriter:
    """Writes the documents that are added, in order, into ``folder``.

    The caller gives a temporary folder and renames it: until :meth:`finish` returns it cannot be opened.
    The bytes depend on the documents and the analyzer alone.

    Args:
        folder: Created where it is missing; files of an unfinished attempt in it are replaced.
        analyzer: Decides the terms.
        max_postings: Tokens held in memory, 8 bytes each plus their dictionary; beyond it a run is spilled.
    """

    def __init__(self, folder: Path, analyzer: Analyzer, *, max_postings: int = 8_000_000) -> None:
        if max_postings < 1:
            raise UsageError(f"max_postings must be 1 or more, got {max_postings}")
        self._folder = folder
        self._analyzer = analyzer
        self._runs = folder / layout.RUNS
        shutil.rmtree(self._runs, ignore_errors=True)
        self._runs.mkdir(parents=True)
        (folder / layout.META).unlink(missing_ok=True)
        self._inverter = Inverter(self._runs, analyzer, max_postings)
        self._files = {
            layout.SEGMENT_TERMS: layout.create(folder / layout.SEGMENT_TERMS, np.uint32),
            layout.DOCUMENTS: layout.create(folder / layout.DOCUMENTS, np.uint32),
            layout.DOCUMENT_TERMS: layout.create(folder / layout.DOCUMENT_TERMS, np.uint32),
            layout.OFFSETS: layout.create(folder / layout.OFFSETS, np.int64),
        }
        self._waiting: dict[str, list[int]] = {name: [] for name in self._files}
        self._waiting[layout.OFFSETS].append(0)
        self._documents = 0
        self._segments = 0
        self._tokens = 0
        self._open = True

    def add(self, text: str, starts: Sequence[int] | NDArray[Any]) -> None:
        """Adds one document with the start characters of its segments, ascending.

        A token belongs to the last segment that starts at or before its first character, and to the first
        segment where there is none, so the segments partition the tokens.

        Raises:
            ShapeError: starts that fall, or none at all for a text that has tokens.
        """
        if not self._open:
            raise UsageError(f"the writer of {self._folder} is finished; write a new folder")
        cuts = [int(start) for start in starts]
        if any(after < before for before, after in itertools.pairwise(cuts)):
            raise ShapeError(f"segment starts must not fall, got {cuts[:20]} for document {self._documents}")
        if not cuts and self._analyzer.analyze(text):
            raise ShapeError(f"document {self._documents} has terms but no segment; give it the start 0")
        if self._segments + len(cuts) > layout.MOST_ROWS:
            raise ShapeError(f"one lexical folder holds {layout.MOST_ROWS} segments; start another folder")
        with disk_errors(self._folder):
            lengths = [
                self._inverter.add(self._segments + number, tokens)
                for number, tokens in enumerate(self._analyzer.split(text, cuts))
            ]
            self._record(lengths)

    def _record(self, lengths: list[int]) -> None:
        total = sum(lengths)
        self._segments += len(lengths)
        self._tokens += total
        self._waiting[layout.SEGMENT_TERMS] += lengths
        self._waiting[layout.DOCUMENTS] += [self._documents] * len(lengths)
        self._waiting[layout.DOCUMENT_TERMS].append(total)
        self._waiting[layout.OFFSETS].append(self._segments)
        self._documents += 1
        if len(self._waiting[layout.SEGMENT_TERMS]) >= _FLUSH or self._documents % _FLUSH == 0:
            self._flush()

    def _flush(self) -> None:
        for name, values in self._waiting.items():
            self._files[name].append(np.array(values, self._files[name].dtype))
            values.clear()

    def finish(self) -> dict[str, JSON]:
        """Merges the runs, writes everything durably and returns what ``meta.json`` holds."""
        if not self._open:
            raise UsageError(f"the writer of {self._folder} is already finished")
        with disk_errors(self._folder):
            self._flush()
            runs = self._inverter.finish()
            self.discard()
            documents = layout.map_file(self._folder / layout.DOCUMENTS, "uint32", (self._segments,))
            terms, postings, kind = merge_runs(self._folder, runs, documents)
            meta: dict[str, JSON] = {
                "format": layout.FORMAT,
                "version": layout.VERSION,
                "documents": self._documents,
                "segments": self._segments,
                "tokens": self._tokens,
                "terms": terms,
                "postings": postings,
                "tf": kind,
                "analyzer": self._analyzer.settings,
            }
            shutil.rmtree(self._runs)
            text = json.dumps(meta, sort_keys=True, indent=1, ensure_ascii=True)
            (self._folder / layout.META).write_text(text + "\n", encoding="utf-8")
        return meta

    def discard(self) -> None:
        """Closes the files; what was added is lost unless :meth:`finish` did it."""
        if self._open:
            self._open = False
            with contextlib.ExitStack() as stack:  # a full disk at one file leaves none open
                for file in self._files.values():
                    stack.callback(file.close)
