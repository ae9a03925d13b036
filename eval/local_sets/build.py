"""The sets by name, built into folders that appear whole or not at all; and smaller parts of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unabridged.corpora import ListCorpus
from unabridged.errors import CorpusError, UsageError
from unabridged.eval._set import RetrievalSet, WholeCorpus, assembled, facts
from unabridged.eval.evidence import RECORD, read_record, write_set
from unabridged.eval.local_sets.books import books
from unabridged.eval.local_sets.codesearch import codesearch
from unabridged.eval.local_sets.documentation import aafaq, pgdoc, pydoc
from unabridged.eval.local_sets.draft import LocalSet
from unabridged.eval.local_sets.encyclopedia import gensimwiki
from unabridged.eval.local_sets.longcode import longcode
from unabridged.eval.local_sets.manuals import manpages, perldoc
from unabridged.eval.local_sets.pythoncode import stdlibcode, stdlibmod
from unabridged.eval.sets import read_beir

PACKAGES = "packages"
"""The folder of packages beside the sets, where no other is named."""
BUILDERS: dict[str, Callable[[Path], LocalSet]] = {
    built.__name__: built
    for built in (
        *(aafaq, pydoc, stdlibmod, stdlibcode, manpages, gensimwiki, perldoc, pgdoc, books, longcode),
        codesearch,
    )
}


def build(name: str, out: Path, packages: Path | None = None) -> dict[str, Any]:
    """The record of the set ``name`` in ``out/name``, built from ``packages`` unless it is there already.

    What is there is read and must have the content that its record says.

    Raises:
        UsageError: No set has this name, or the folder is there and is no finished set.
        MissingFile: A package is not there and cannot be had, or a tool is not installed; it says which.
        CorpusError: A package or a finished folder is damaged.
        DiskFull: There is no room.
    """
    if name not in BUILDERS:
        raise UsageError(f"there is no local set {name!r}; there are {', '.join(BUILDERS)}.")
    folder = out / name
    if (folder / RECORD).is_file():
        return _checked(folder)
    built = BUILDERS[name](packages or out / PACKAGES)
    record = built.record()
    write_set(folder, built.whole, built.evidence, record)
    return record


def capped(whole: RetrievalSet, words: int, queries: int) -> RetrievalSet:
    """A smaller set of about ``words`` words: judged documents first, then others, in hash order.

    At most ``queries`` queries are kept, and only those all of whose relevant documents are kept.  Hash order is a
    fixed random order that does not depend on the machine.
    """
    sizes = {document.id: len(document.text.split()) for document in whole.corpus}
    judged = {document for grades in whole.qrels.values() for document in grades}
    # Judged documents take at most three quarters, so that distractors stay in, where there are any.
    spare = sum(size for document, size in sizes.items() if document not in judged)
    room = {True: max(words * 3 // 4, words - spare), False: words}
    kept: set[str] = set()
    used = 0
    for document in sorted(sizes, key=lambda name: (name not in judged, _hash(name))):
        if used + sizes[document] <= room[document in judged]:
            kept.add(document)
            used += sizes[document]
    usable = [query for query, grades in whole.qrels.items() if kept.issuperset(grades)]
    asked = sorted(usable, key=_hash)[:queries]
    texts = {query.id: query for query in whole.queries}
    corpus = WholeCorpus(ListCorpus(document for document in whole.corpus if document.id in kept))
    qrels = {query: whole.qrels[query] for query in asked}
    return assembled(whole.name, corpus, [texts[query] for query in asked], qrels)


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _checked(folder: Path) -> dict[str, Any]:
    record = read_record(folder)
    revision = facts(read_beir(folder)).revision
    if record.get("revision") != revision:
        raise CorpusError(
            f"{folder} has the content {revision[:16]}, and its {RECORD} says "
            f"{str(record.get('revision'))[:16]}. Delete the folder and build the set again."
        )
    return record
