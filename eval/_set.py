"""A retrieval set: what is searched, what is asked, what is right, and the hash of all three."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

import orjson

from unabridged.contracts import Corpus, Document, Failure
from unabridged.corpora import Query
from unabridged.errors import CorpusError
from unabridged.eval import _records
from unabridged.eval.duplicates import text_key
from unabridged.eval.trec import Qrels

SHOWN = 3
_MODULUS = 1 << 256


class WholeCorpus:
    """A corpus of which nothing may be lost: an item that cannot be read is :class:`CorpusError`, not a record.

    With ``column`` and ``value`` only documents with that field are of the set; ids in ``without`` are not of it.
    """

    def __init__(self, items: Corpus, column: str = "", value: str = "", without: Set[str] = frozenset()) -> None:
        self._items, self._column, self._value, self._without = items, column, value, without

    def __iter__(self) -> Iterator[Document]:
        for item in self._items:
            if item.id in self._without:
                continue
            if isinstance(item, Failure):
                raise CorpusError(f"{item.where}: {item.message}; an evaluation needs every document of its corpus")
            if not self._column or _records.matches(item.metadata, self._column, self._value):
                yield item


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """Documents, the queries that have judgements, and the judgements."""

    name: str
    corpus: WholeCorpus
    queries: tuple[Query, ...]
    qrels: Qrels
    unjudged: int = 0
    """Queries of the source that have no judgement; they are left out."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What one pass over a set found."""

    documents: int
    characters: int  # of the sources: title, separator, text
    queries: int
    judgements: int
    unknown: tuple[str, ...]
    """Judged documents that the corpus does not have, sorted; no run can find them."""
    duplicate_share: float
    """Documents whose source an earlier one has already / all documents."""
    revision: str
    """SHA-256 in hexadecimal of ids, titles, texts and grades; no order, no layout and no metadata changes it."""


def facts(whole: RetrievalSet) -> Facts:
    """Counts and the content hash of a set; memory is one hash per document.

    :class:`CorpusError` for a document that cannot be read.
    """
    documents = characters = total = 0
    texts: set[bytes] = set()
    unknown = {document for grades in whole.qrels.values() for document in grades}
    for document in whole.corpus:
        documents += 1
        characters += len(document.source)
        texts.add(text_key(document.source))
        unknown.discard(document.id)
        total += _hashed("document", document.id, document.title, document.text)
    total += sum(_hashed("query", query.id, query.text) for query in whole.queries)
    judged = [(query, document, grade) for query, grades in whole.qrels.items() for document, grade in grades.items()]
    total += sum(_hashed("judgement", *one) for one in judged)
    share = 1 - len(texts) / documents if documents else 0.0
    revision = f"{total % _MODULUS:064x}"
    return Facts(documents, characters, len(whole.queries), len(judged), tuple(sorted(unknown)), share, revision)


def assembled(name: str, corpus: WholeCorpus, queries: Sequence[Query], qrels: Qrels) -> RetrievalSet:
    """A set of the queries that have judgements.

    :class:`CorpusError` when judgements name a query that has no text, or when there is none.
    """
    texts = {query.id for query in queries}
    lost = [query for query in qrels if query not in texts]
    if lost or not qrels:
        shown = ", ".join(map(repr, lost[:SHOWN]))
        found = f"{len(lost):,} judged queries without a text ({shown})" if lost else "no judgement"
        raise CorpusError(f"{name}: expected a text for every judged query, found {found}")
    asked = tuple(query for query in queries if query.id in qrels)
    return RetrievalSet(name, corpus, asked, qrels, len(queries) - len(asked))


def _hashed(*fields: str | int) -> int:
    """A number below 2^256; sums of them depend on no order."""
    return int.from_bytes(hashlib.sha256(orjson.dumps(fields)).digest())
