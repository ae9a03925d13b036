"""Training pairs from the formats they come in: a query, its right answers, and wrong ones that look right.

==========================  =============================================================================
JSON lines                  ``{"query" | "anchor": text, "positive": text or texts, "negative": text or texts}``
``.tsv``                    query, right answer and wrong one as texts, by tabs: MS MARCO's triples
BEIR folder                 ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/{split}.tsv``; grades above 0 are right
LoCo V1                     the two sets of :func:`unabridged.eval.sets.read_loco`
==========================  =============================================================================

Everything is read as a stream (of a BEIR folder and of LoCo the judged documents are held), plain or ``.gz`` or
``.zst``.  Any fault is :class:`CorpusError` that names file and line: what cannot be read teaches nothing, in silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from unabridged.corpora._folders import bare_suffix
from unabridged.corpora._streams import BrokenStream, lines
from unabridged.errors import CorpusError, MissingFile
from unabridged.eval import _records
from unabridged.eval.sets import RetrievalSet, read_beir, read_loco
from unabridged.files import sha256_files

QUERY_NAMES = ("query", "anchor")
POSITIVE_NAMES = ("positive", "positives", "pos")
NEGATIVE_NAMES = ("negative", "negatives", "neg")
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True, slots=True)
class Pair:
    """One query; at least one right answer."""

    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...] = ()
    where: str = ""
    """For messages, such as ``pairs.jsonl:12``."""
    right: frozenset[str] = field(default=frozenset())
    """Ids of the right answers, where the source has ids."""


@dataclass(frozen=True, slots=True)
class Source:
    """One place that pairs come from; iterating reads it again."""

    path: Path
    split: str = "train"
    """Of a BEIR folder or of LoCo."""
    documents: Path | None = None
    """LoCo: the documents; ``path`` are the queries."""
    dataset: str = ""
    """LoCo: which of its tasks."""

    def __post_init__(self) -> None:
        if not self.path.exists():
            raise MissingFile(f"There is no training data at {self.path}.")
        if self.documents is not None and not self.documents.exists():
            raise MissingFile(f"There are no documents of LoCo at {self.documents}.")
        if self.documents is None and self.path.is_file() and bare_suffix(self.path) not in (*JSON_SUFFIXES, ".tsv"):
            raise CorpusError(
                f"{self.path} is no training data: expected a .jsonl or .tsv file (also .gz, .zst) or a BEIR folder."
            )

    def __iter__(self) -> Iterator[Pair]:
        if self.documents is not None:
            yield from _of_set(read_loco(self.path, self.documents, self.dataset, self.split), str(self.path))
        elif self.path.is_dir():
            yield from _of_set(read_beir(self.path, self.split), str(self.path))
        elif bare_suffix(self.path) == ".tsv":
            yield from _triples(self.path)
        else:
            yield from _json(self.path)

    def described(self) -> dict[str, Any]:
        """Name, and SHA-256 of every file that is read, for a model card: no path of this machine."""
        if self.documents is not None:
            files = {**sha256_files(self.path), **sha256_files(self.documents)}
        else:
            files = sha256_files(self.path, partial(_of_split, self.split))
        said = {"name": self.path.name, "files": files}
        if self.documents is not None or self.path.is_dir():
            said["split"] = self.split
        return {**said, "dataset": self.dataset} if self.dataset else said


def _of_split(split: str, name: str) -> bool:
    return name.startswith(("corpus.jsonl", "queries.jsonl")) or name == f"qrels/{split}.tsv"


def _json(path: Path) -> Iterator[Pair]:
    for row in _records.rows([path]):
        where, record = row
        query = _one(_records.field(row, QUERY_NAMES), "query", where)
        right = _several(_records.field(row, POSITIVE_NAMES), "positive", where)
        if not right:
            raise CorpusError(f"{where}: expected at least one positive, found none")
        name = next((name for name in NEGATIVE_NAMES if name in record), None)
        wrong = () if name is None or record[name] is None else _several(record[name], "negative", where)
        yield _checked(Pair(query, right, wrong, where))


def _triples(path: Path) -> Iterator[Pair]:
    for where, line in _text_lines(path):
        cells = line.split("\t")
        if len(cells) not in (2, 3):
            raise CorpusError(
                f"{where}: expected query, positive and negative text separated by tabs, found {len(cells)} columns"
            )
        if len(cells) == 3 and all(cell.strip().isdecimal() for cell in cells):
            raise CorpusError(
                f"{where}: expected texts separated by tabs, found three numbers. They look like ids: pass the triples "
                "with the texts, or make a BEIR folder of queries, documents and judgements."
            )
        query, right, *wrong = (_one(cell, "column", where) for cell in cells)
        yield _checked(Pair(query, (right,), tuple(wrong), where))


def _text_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Where each line stands, and the line without its end; blank ones are none."""
    try:
        for number, line in enumerate(lines(path), 1):
            where = f"{path.as_posix()}:{number}"
            try:
                text = line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
            except UnicodeDecodeError as error:
                raise CorpusError(f"{where}: expected UTF-8, found byte {error.start} of the line not to be") from error
            if text.strip():
                yield where, text
    except BrokenStream as error:
        raise CorpusError(str(error)) from error


def _of_set(whole: RetrievalSet, where: str) -> Iterator[Pair]:
    """Queries with their right documents; a grade of 0 is a wrong document that somebody judged."""
    named = {document for grades in whole.qrels.values() for document in grades}
    texts = {document.id: document.source for document in whole.corpus if document.id in named}
    if lost := sorted(named - set(texts)):
        raise CorpusError(f"{where}: expected every judged document in the corpus, found none of id {lost[0]!r}")
    for query in whole.queries:
        grades = whole.qrels[query.id]
        right = _texts(texts, {name: grade for name, grade in grades.items() if grade > 0})
        if not right:
            continue
        wrong = _texts(texts, {name: grade for name, grade in grades.items() if grade <= 0})
        ids = frozenset(name for name, grade in grades.items() if grade > 0)
        yield Pair(query.text, right, wrong, f"{where}: query {query.id!r}", ids)


def _texts(texts: Mapping[str, str], grades: Mapping[str, int]) -> tuple[str, ...]:
    """Those that are not empty; an empty document teaches nothing."""
    return tuple(texts[name] for name in grades if texts[name].strip())


def _one(value: Any, name: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise CorpusError(f"{where}: {name} must be a text and not empty, found {value!r}"[:300])
    return value


def _several(value: Any, name: str, where: str) -> tuple[str, ...]:
    found: Sequence[Any] = value if isinstance(value, list) else [value]
    return tuple(_one(one, name, where) for one in found)


def _checked(pair: Pair) -> Pair:
    both = set(pair.positives) & set(pair.negatives)
    if both:
        raise CorpusError(f"{pair.where}: one text is positive and negative: {min(both)[:80]!r}")
    return pair
