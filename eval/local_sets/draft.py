"""A retrieval set while it is being built, and what it is when it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unabridged.contracts import JSON, Document
from unabridged.corpora import ListCorpus, Query
from unabridged.eval._set import RetrievalSet, WholeCorpus, assembled, facts
from unabridged.eval.evidence import Evidence

VERSION = 1
"""Of the recipes: it rises when one of them makes another set of the same package."""


@dataclass(frozen=True, slots=True)
class LocalSet:
    """A set, where its answers stand as far as the recipe knows, and where its texts come from."""

    whole: RetrievalSet
    evidence: tuple[Evidence, ...]
    origin: str
    """The package and its version."""
    licence: str
    more: Mapping[str, JSON] = field(default_factory=dict)
    """What else the record is to say."""

    def record(self) -> dict[str, Any]:
        """What ``set.json`` says: counts, lengths in white-space words, origin, licence and content hash."""
        found = facts(self.whole)
        words = np.array([len(document.text.split()) for document in self.whole.corpus])
        return {
            "name": self.whole.name,
            "documents": found.documents,
            "queries": found.queries,
            "judgements": found.judgements,
            "evidence": len(self.evidence),
            "characters": found.characters,
            "words_mean": int(words.mean()),
            "words_median": int(np.median(words)),
            "words_max": int(words.max()),
            "origin": self.origin,
            "licence": self.licence,
            "recipes": VERSION,
            "revision": found.revision,
            **self.more,
        }


@dataclass(slots=True)
class Draft:
    """Documents, queries, judgements and evidence, in the order in which they come."""

    name: str
    origin: str = ""
    licence: str = ""
    documents: dict[str, str] = field(default_factory=dict)
    queries: dict[str, str] = field(default_factory=dict)
    qrels: dict[str, dict[str, int]] = field(default_factory=dict)
    evidence: list[Evidence] = field(default_factory=list)

    def judge(self, query_id: str, text: str, *document_ids: str) -> None:
        """Adds a query whose relevant documents are ``document_ids``."""
        self.queries[query_id] = text
        self.qrels[query_id] = dict.fromkeys(document_ids, 1)

    def show(self, query_id: str, document_id: str, start: int, end: int) -> None:
        """Says where the answer stands; a stretch without a character is none."""
        if start < end:
            self.evidence.append(Evidence(query_id, document_id, start, end))

    def done(self) -> LocalSet:
        """The set; :class:`CorpusError` when nothing was asked."""
        corpus = WholeCorpus(ListCorpus(Document(name, text) for name, text in self.documents.items()))
        queries = [Query(name, text) for name, text in self.queries.items()]
        whole = assembled(self.name, corpus, queries, self.qrels)
        return LocalSet(whole, tuple(self.evidence), self.origin, self.licence)
