"""One streaming pass over a corpus: what a planner and a builder need to know before any encoding."""

from __future__ import annotations

import heapq
import math
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Corpus, Document, Failure, Rows
from unabridged.errors import CorpusError, DuplicateId

Keys: TypeAlias = NDArray[np.uint64]

SAMPLE_DOCUMENTS = 64
SAMPLE_CHARACTERS = 1 << 16
"""Of each sampled text at most; 64 of them are 4 Mi characters."""
FAILURES_KEPT = 1000
STEPS_PER_OCTAVE = 16
"""Resolution of the length histogram: a bucket's ends differ by 4.4 %."""
BUCKETS = 40 * STEPS_PER_OCTAVE
_CANDIDATES = 100_000
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Sampled:
    """The beginning of one document's source; ``characters`` counts the whole source."""

    key: int
    text: str
    characters: int


@dataclass(frozen=True, slots=True)
class Scan:
    """What one pass over a corpus found; B documents, failures not among them."""

    documents: int
    failed: int
    failures: tuple[Failure, ...]  # the first FAILURES_KEPT of them
    reasons: dict[str, int]  # reason of failure -> count
    characters: int  # of all sources
    bytes: int  # of all sources in UTF-8
    longest: int  # characters
    longest_id: str
    keys: Keys  # (B,) uint64, in corpus order: the first 8 bytes of blake3(source in UTF-8), little-endian
    sample: tuple[Sampled, ...]  # the documents of the smallest keys, by key: the same ones in any order of corpus
    lengths: Rows  # (BUCKETS,) int64: documents whose characters n >= 1 have floor(16 * log2(n)) == bucket

    def longer_than(self, characters: float) -> int:
        """About how many documents have more characters than this; exact to 4.4 % of the length."""
        if characters < 1:
            return self.documents
        bucket = min(int(STEPS_PER_OCTAVE * math.log2(characters)), BUCKETS - 1)
        return int(self.lengths[bucket + 1 :].sum())


def scan(corpus: Corpus) -> Scan:
    """Counts, content keys and a deterministic sample of ``corpus``, after a check that no id occurs twice.

    Memory: 16 bytes per document and the sample (4 Mi characters).  A second pass is made only when two
    64-bit hashes of ids agree, to tell a duplicate from a chance.

    Raises:
        DuplicateId: Two documents share an id; names both places.
        CorpusError: There is no document at all; tells what was found instead.
    """
    pass_ = _Pass()
    for item in corpus:
        if isinstance(item, Document):
            pass_.document(item)
        else:
            pass_.failure(item)
    if not pass_.keys:
        raise CorpusError(_nothing(pass_, corpus))
    _check_ids(corpus, pass_.id_hashes)
    return pass_.result()


class _Pass:
    """The running totals of one pass."""

    def __init__(self) -> None:
        from blake3 import blake3
        from xxhash import xxh3_64_intdigest

        self._blake3, self._xxh3 = blake3, xxh3_64_intdigest
        self.keys, self.id_hashes = array("Q"), array("Q")
        self.failed, self.reasons = 0, Counter[str]()
        self.failures: list[Failure] = []
        self.characters = self.bytes = self.longest = 0
        self.longest_id = ""
        self.sample: list[tuple[int, int, str, int]] = []  # a heap with the largest key on top
        self.lengths = [0] * BUCKETS

    def document(self, document: Document) -> None:
        source = document.source
        data, length = source.encode("utf-8"), len(source)
        key = int.from_bytes(self._blake3(data).digest(length=8), "little")
        self.id_hashes.append(self._xxh3(document.id.encode("utf-8")))
        entry = (-key, -len(self.keys), source[:SAMPLE_CHARACTERS], length)
        self.keys.append(key)
        if len(self.sample) < SAMPLE_DOCUMENTS:
            heapq.heappush(self.sample, entry)
        elif entry > self.sample[0]:
            heapq.heapreplace(self.sample, entry)
        self.characters += length
        self.bytes += len(data)
        self.lengths[min(int(STEPS_PER_OCTAVE * math.log2(length or 1)), BUCKETS - 1)] += 1
        if length > self.longest:
            self.longest, self.longest_id = length, document.id

    def failure(self, failure: Failure) -> None:
        self.failed += 1
        self.reasons[failure.reason] += 1
        if len(self.failures) < FAILURES_KEPT:
            self.failures.append(failure)

    def result(self) -> Scan:
        """The totals, with the sample in ascending order of keys."""
        sample = sorted(self.sample, reverse=True)
        return Scan(
            documents=len(self.keys),
            failed=self.failed,
            failures=tuple(self.failures),
            reasons=dict(self.reasons),
            characters=self.characters,
            bytes=self.bytes,
            longest=self.longest,
            longest_id=self.longest_id,
            keys=np.frombuffer(self.keys, dtype=np.uint64),
            sample=tuple(Sampled(-key, text, length) for key, _, text, length in sample),
            lengths=np.array(self.lengths, dtype=np.int64),
        )


def _check_ids(corpus: Corpus, hashes: array[int]) -> None:
    """Raises :class:`DuplicateId` for the first id that occurs twice; sorts ``hashes`` in place."""
    values = np.frombuffer(hashes, dtype=np.uint64)
    values.sort()
    for candidates in _repeated(values):
        seen: dict[str, str] = {}
        for document in _documents_of(corpus, candidates):
            if document.id in seen:
                places = f"{seen[document.id] or 'an unnamed place'} and {document.where or 'an unnamed place'}"
                raise DuplicateId(
                    f"id {document.id!r} is used twice: {places}; ids must be unique in a corpus. Rename one, or "
                    f"leave one out ({len(candidates)} ids occur more than once)"
                )
            seen[document.id] = document.where


def _repeated(values: Keys) -> Iterator[set[int]]:
    """Values that occur twice in sorted ``values``, in bounded sets; nothing for a corpus in order."""
    found: set[int] = set()
    for start in range(0, len(values) - 1, _BLOCK):
        block = values[start : start + _BLOCK + 1]
        found.update(block[1:][block[1:] == block[:-1]].tolist())
        if len(found) >= _CANDIDATES:
            yield found
            found = set()
    if found:
        yield found


def _documents_of(corpus: Corpus, hashes: set[int]) -> Iterator[Document]:
    from xxhash import xxh3_64_intdigest

    for item in corpus:
        if isinstance(item, Document) and xxh3_64_intdigest(item.id.encode("utf-8")) in hashes:
            yield item


def _nothing(pass_: _Pass, corpus: Corpus) -> str:
    """What to say of a corpus without a document."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in pass_.reasons.most_common())
    found = f"{pass_.failed} items that could not be read ({reasons})" if reasons else "no item at all"
    first = f"; the first: {pass_.failures[0].where}: {pass_.failures[0].message}" if pass_.failures else ""
    skipped = getattr(corpus, "skipped", None)
    beside = (
        f"; {skipped.total} files not read: {dict(skipped.counts)}" if skipped is not None and skipped.total else ""
    )
    return f"the corpus has no document: found {found}{first}{beside}"
