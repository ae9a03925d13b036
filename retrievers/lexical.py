"""The BM25 part of a shard: written when the shard is closed, opened with the index."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from unabridged.index.lexical.analyzer import Analyzer
from unabridged.index.lexical.writer import LexicalWriter
from unabridged.index.shard import LEXICAL, Shard
from unabridged.retrievers.settings import BuildSettings

LEXICAL_TOKENS = 1 << 20
"""Tokens inverted in memory at a time (about 30 MB with their dictionary): the same for a small and a large corpus."""


def analyzer_of(settings: BuildSettings) -> Analyzer:
    """The analyzer of an index."""
    return Analyzer(stopwords=settings.stopwords, stemmer=settings.stemmer)


def write_lexical(folder: Path, settings: BuildSettings) -> None:
    """Adds ``lexical/`` to a shard folder: postings over its segments, in bounded memory."""
    target = folder / LEXICAL
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    shard = Shard(folder)
    writer = LexicalWriter(target, analyzer_of(settings), max_postings=LEXICAL_TOKENS)
    spans = shard.array("spans")
    for row in range(len(shard.array("keys"))):
        start, stop = shard.segment_range(row)
        starts = np.asarray(spans[start:stop, 0], np.int64)
        starts[0] = 0
        writer.add(shard.source(row), starts)
    writer.finish()
