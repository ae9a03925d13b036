"""One retrieval set in memory, and its BEIR folder on disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class RetrievalSet:
    """Documents ``{id: (title, text)}``, queries ``{id: text}`` and judgements ``{query: {document: grade}}``."""

    name: str
    documents: dict[str, tuple[str, str]] = field(default_factory=dict)
    queries: dict[str, str] = field(default_factory=dict)
    qrels: dict[str, dict[str, int]] = field(default_factory=dict)
    origin: str = ""

    def judge(self, query_id: str, text: str, *document_ids: str) -> None:
        """Add a query whose relevant documents are ``document_ids``."""
        self.queries[query_id] = text
        self.qrels[query_id] = dict.fromkeys(document_ids, 1)

    def digest(self) -> str:
        """SHA-256 over documents, queries and judgements in sorted order: the identity of the set."""
        parts = [sorted(self.documents.items()), sorted(self.queries.items())]
        judged = [(q, sorted(d.items())) for q, d in sorted(self.qrels.items())]
        return hashlib.sha256(json.dumps([*parts, judged]).encode()).hexdigest()

    def facts(self) -> dict[str, Any]:
        """Counts, lengths in white-space words, origin and content hash."""
        words = np.array([len(text.split()) for _, text in self.documents.values()] or [0])
        return {
            "name": self.name,
            "documents": len(self.documents),
            "queries": len(self.queries),
            "words_mean": int(words.mean()),
            "words_median": int(np.median(words)),
            "words_max": int(words.max()),
            "origin": self.origin,
            "sha256": self.digest(),
        }

    def write(self, folder: Path) -> None:
        """Write the BEIR folder; ``set.json`` comes last and marks it complete."""
        (folder / "qrels").mkdir(parents=True, exist_ok=True)
        with (folder / "corpus.jsonl").open("w", encoding="utf-8") as out:
            for key, (title, text) in self.documents.items():
                out.write(json.dumps({"_id": key, "title": title, "text": text}) + "\n")
        with (folder / "queries.jsonl").open("w", encoding="utf-8") as out:
            for key, text in self.queries.items():
                out.write(json.dumps({"_id": key, "text": text}) + "\n")
        with (folder / "qrels" / "test.tsv").open("w", encoding="utf-8") as out:
            out.write("query-id\tcorpus-id\tscore\n")
            out.writelines(f"{q}\t{d}\t{g}\n" for q, judged in self.qrels.items() for d, g in judged.items())
        (folder / "set.json").write_text(json.dumps(self.facts(), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> RetrievalSet:
        """The set of a BEIR folder; ``name`` is the folder's."""
        found = cls(folder.name)
        for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            found.documents[row["_id"]] = (row.get("title", ""), row["text"])
        for line in (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            found.queries[row["_id"]] = row["text"]
        for line in (folder / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]:
            query, document, grade = line.split("\t")
            found.qrels.setdefault(query, {})[document] = int(grade)
        facts = folder / "set.json"
        found.origin = json.loads(facts.read_text())["origin"] if facts.exists() else ""
        return found

    def capped(self, words: int, queries: int) -> RetrievalSet:
        """A smaller set of about ``words`` words: judged documents first, then others, in hash order.

        At most ``queries`` queries are kept, and only those all of whose relevant documents are kept.
        Hash order is a fixed random order that does not depend on the machine.
        """
        judged = {d for documents in self.qrels.values() for d in documents}
        order = sorted(self.documents, key=lambda d: (d not in judged, hashlib.sha256(d.encode()).digest()))
        sizes = {d: len(self.documents[d][1].split()) for d in order}
        # Judged documents take at most three quarters, so that distractors stay in, where there are any.
        spare = sum(size for document, size in sizes.items() if document not in judged)
        room = {True: max(words * 3 // 4, words - spare), False: words}
        kept: set[str] = set()
        used = 0
        for document in order:
            if used + sizes[document] <= room[document in judged]:
                kept.add(document)
                used += sizes[document]
        small = RetrievalSet(self.name, origin=self.origin)
        small.documents = {d: v for d, v in self.documents.items() if d in kept}
        usable = [q for q, documents in self.qrels.items() if kept.issuperset(documents)]
        for query in sorted(usable, key=lambda q: hashlib.sha256(q.encode()).digest())[:queries]:
            small.queries[query] = self.queries[query]
            small.qrels[query] = self.qrels[query]
        return small
