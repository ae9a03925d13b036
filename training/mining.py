"""Hard negatives: what an index finds for a query and nobody calls right.

What a search ranks high and was not judged is the most useful wrong answer, and the most often a right one that nobody
saw.  So three kinds of documents are left out:

* the right answers: by id where the data have ids, and by text, whatever white space and case;
* near-duplicates of a right answer: most of the five-word runs of one of the two are in the other;
* those too like the query: a cosine above ``margin`` times that of the right answer (Moreira et al. 2024, NV-Retriever,
  arXiv 2407.15831: TopK-PercPos, 0.95).  This needs an encoder; with several right answers the lowest one counts.

Letters::

    D embedding width
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from unabridged.contracts import JSON, Encoder, Floats, Level, OverflowPolicy
from unabridged.encoders.pooling import finish
from unabridged.errors import UsageError
from unabridged.files import disk_errors, sync_folder
from unabridged.retrievers.opened import Index
from unabridged.training.pairs import Pair

QUERIES = 64
"""Searched at a time."""
RUN_WORDS = 5
DUPLICATE = 0.5
"""Share of the shorter one's runs of words from which two texts are near-duplicates."""


@dataclass(frozen=True, slots=True)
class Mining:
    """How deep, how many, how strict."""

    k: int = 50
    """Documents that are looked at."""
    keep: int = 8
    """Wrong answers of a query, at most: the best ranked."""
    mode: str = "hybrid"
    """dense, bm25 or hybrid."""
    skip: int = 0
    """The best so many are not taken, whatever they are."""
    margin: float | None = 0.95
    """Of the right answer's cosine; None: no such test."""

    def __post_init__(self) -> None:
        if self.k < 1 or self.keep < 1 or not 0 <= self.skip < self.k:
            raise UsageError(
                f"Mining needs k and keep of at least 1 and a skip below k, got k={self.k}, keep={self.keep}, "
                f"skip={self.skip}."
            )
        if self.margin is not None and not 0 < self.margin <= 1:
            raise UsageError(f"margin is a share of the right answer's cosine, above 0 up to 1; got {self.margin}.")


@dataclass
class Mined:
    """What was found, and why the others were left out."""

    queries: int = 0
    negatives: int = 0
    without: int = 0
    """Queries for which nothing was left."""
    judged: int = 0
    duplicates: int = 0
    too_similar: int = 0

    def as_json(self) -> dict[str, JSON]:
        """The fields as JSON."""
        return asdict(self)


class Miner:
    """One index, and what was asked of it; vectors of documents are kept, for many queries find the same ones."""

    def __init__(self, index: Index, mining: Mining, encoder: Encoder | None) -> None:
        """``encoder`` judges likeness; :class:`UsageError` if there is a margin and none."""
        if mining.margin is not None and encoder is None:
            raise UsageError("A margin is measured by an encoder: pass one, or margin=None.")
        self._index = index
        self._mining = mining
        self._encoder = encoder if mining.margin is not None else None
        self._vectors: dict[str, Floats] = {}
        self.found = Mined()

    def mine(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """The pairs with wrong answers behind those that they have already."""
        stream = iter(pairs)
        while block := list(itertools.islice(stream, QUERIES)):
            ranked = self._index.rank([pair.query for pair in block], self._mining.k, mode=self._mining.mode)
            asked = (
                None if self._encoder is None else _unit(self._encoder.encode_queries([pair.query for pair in block]))
            )
            for number, (pair, result) in enumerate(zip(block, ranked, strict=True)):
                vector = None if asked is None else asked[number]
                yield self._one(pair, list(result.doc_ids), vector)

    def _one(self, pair: Pair, ids: list[str], query: Floats | None) -> Pair:
        right = [_plain(text) for text in pair.positives]
        known = {*right, _plain(pair.query), *map(_plain, pair.negatives)}
        runs = [_runs(text) for text in right]
        most = None if query is None else self._most(pair, query)
        wrong: list[str] = []
        for name in ids[self._mining.skip :]:
            if len(wrong) == self._mining.keep:
                break
            text = self._index.source(name)
            plain = _plain(text)
            if not plain:
                continue
            if name in pair.right or plain in known:
                self.found.judged += 1
            elif any(_alike(_runs(plain), run) for run in runs):
                self.found.duplicates += 1
            elif query is not None and most is not None and float(query @ self._vector(name, text)) > most:
                self.found.too_similar += 1
            else:
                wrong.append(text)
                known.add(plain)
        self.found.queries += 1
        self.found.negatives += len(wrong)
        self.found.without += not wrong
        return Pair(pair.query, pair.positives, (*pair.negatives, *wrong), pair.where, pair.right)

    def _most(self, pair: Pair, query: Floats) -> float:
        """The cosine above which a document may be right."""
        margin = self._mining.margin or 1.0
        return margin * min(float(query @ vector) for vector in self._encode(list(pair.positives)))

    def _vector(self, name: str, text: str) -> Floats:
        if name not in self._vectors:
            self._vectors[name] = self._encode([text])[0]
        return self._vectors[name]

    def _encode(self, texts: list[str]) -> Floats:
        """``(n, D)`` of norm 1."""
        if self._encoder is None:
            raise UsageError("There is no encoder.")
        made = self._encoder.encode_documents(texts, level=Level.DOC, overflow=OverflowPolicy.AGGREGATE)
        if made.documents is None:
            raise UsageError("The encoder gives no vector for a document.")
        return _unit(made.documents)


def _unit(vectors: Floats) -> Floats:
    """Of norm 1: not every encoder's are, and a margin is of cosines."""
    return finish(vectors, truncate_dim=None, normalize=True)


def write_mined(path: Path, pairs: Iterable[Pair]) -> int:
    """Pairs as JSON lines that :mod:`unabridged.training.pairs` reads; the file appears whole or not at all.

    :class:`UsageError` if there is something at ``path`` already.
    """
    if path.exists():
        raise UsageError(f"{path} exists already. Name a file that does not.")
    part = path.with_name(path.name + ".part")
    count = 0
    with disk_errors(path), part.open("w", encoding="utf-8") as file:
        for pair in pairs:
            record = {"query": pair.query, "positive": list(pair.positives), "negative": list(pair.negatives)}
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
        file.flush()
        os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path.parent)
    return count


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def _runs(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[at : at + RUN_WORDS]) for at in range(max(1, len(words) - RUN_WORDS + 1))}


def _alike(one: set[tuple[str, ...]], other: set[tuple[str, ...]]) -> bool:
    return len(one & other) >= DUPLICATE * min(len(one), len(other))
