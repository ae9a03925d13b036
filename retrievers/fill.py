"""The second pass over a corpus: decides for each document whether it is known, and encodes what is not."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Document, Encoded, Failure, Mask
from unabridged.corpora import Scan
from unabridged.index.pieces import Piece, join, split
from unabridged.index.shard import Record, content_key
from unabridged.progress import Meter
from unabridged.retrievers.encoding import Encoding
from unabridged.retrievers.failures import FailureLog
from unabridged.retrievers.known import Known
from unabridged.retrievers.staging import Staging
from unabridged.retrievers.units import UNIT_CHARACTERS, UNIT_DOCUMENTS


@dataclass(slots=True)
class Counts:
    """Documents by what happened to them."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    reused: int = 0
    missing_kept: int = 0


@dataclass(frozen=True, slots=True)
class Expected:
    """What the second pass needs of the first: the scan itself, with 8 bytes per document, is let go."""

    documents: int
    characters: int
    key_sum: int
    """Sum of all key heads modulo 2^64."""
    repeated: NDArray[np.uint64]
    """Key heads that occur more than once, sorted."""

    @classmethod
    def of(cls, found: Scan) -> Expected:
        """The totals of a scan."""
        ordered = np.sort(found.keys)
        repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        return cls(found.documents, found.characters, int(found.keys.sum(dtype=np.uint64)), repeated)


@dataclass(slots=True)
class Unit:
    """A run of documents to be encoded together, with what storing it needs to know of each, by id."""

    records: list[Record] = field(default_factory=list)
    where: dict[str, str] = field(default_factory=dict)
    older: dict[str, list[int]] = field(default_factory=dict)
    characters: int = 0

    @property
    def full(self) -> bool:
        """Whether the next document belongs to another unit."""
        return self.characters >= UNIT_CHARACTERS or len(self.records) >= UNIT_DOCUMENTS

    def add(self, record: Record, where: str, older: list[int]) -> None:
        """Takes one document in."""
        self.records.append(record)
        self.where[record.id] = where
        self.older[record.id] = older
        self.characters += len(record.source)


@dataclass(slots=True)
class Filler:
    """Takes corpus items one by one; ``flush`` ends the last unit and stores all that wait.

    Units are stored in their order, and each is formed of what is still to be done: neither depends on who encodes
    them, nor on how many are wanted ahead.

    ``known`` numbers committed documents first, then what was staged before this run began.  Texts that
    occur more than once (``repeated``, sorted key heads) are encoded once: their place is remembered.
    """

    encoding: Encoding
    known: Known
    staging: Staging
    failures: FailureLog
    meter: Meter
    repeated: NDArray[np.uint64]
    committed: int
    counts: Counts = field(default_factory=Counts)
    documents: int = 0
    """Documents taken so far."""
    key_sum: int = 0
    """Sum of their key heads modulo 2^64: what the scan of the same corpus adds up to."""
    _unit: Unit = field(default_factory=Unit)
    _waiting: deque[Unit] = field(default_factory=deque)
    _places: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    _failed_before: dict[tuple[str, str], Failure] = field(default_factory=dict)
    _unnamed: int = 0
    _seen: Mask = field(init=False)
    _replaced: Mask = field(init=False)

    def __post_init__(self) -> None:
        self._seen = np.zeros(len(self.known), bool)
        self._replaced = np.zeros(len(self.known), bool)
        self._failed_before = {(failure.id, key): failure for failure, key in self.staging.failures}

    def take(self, item: Document | Failure) -> None:
        """Handles one item of the corpus."""
        self.failures.cover(item.id, item.where)
        if isinstance(item, Failure):
            self._unread(item)
            return
        key = content_key(item.source)
        self.documents += 1
        self.key_sum = (self.key_sum + _head(key)) % 2**64
        try:
            record = Record.of(item, key)
        except TypeError as error:  # metadata that JSON cannot hold
            self._unread(Failure(item.id, item.where, "read", "metadata", f"the metadata cannot be stored: {error}"))
            return
        rows = self.known.find_ids(item.id)
        before = self._failed_before.get((item.id, record.key.hex()))
        if before is not None:
            self._seen[rows] = True
            self.failures.add(before)
            self.meter.advance(documents=1, characters=len(record.source), failed=1, worked=False)
            return
        same = next((row for row in reversed(rows) if self.known.same(row, record)), None)
        if same is not None:
            self._keep(same, [row for row in rows if row != same])
            self.meter.advance(documents=1, characters=len(record.source), worked=False)
            return
        self._unit.add(record, item.where, rows)
        if self._unit.full:
            self._end_unit()

    def _unread(self, failure: Failure) -> None:
        """An item that could not be read: the version of it that the index may hold stays."""
        rows = self.known.find_ids(failure.id) if failure.id else []
        self._seen[rows] = True
        self._unnamed += not failure.id
        self.failures.add(failure)
        self.meter.advance(failed=1)

    def _keep(self, row: int, older: list[int]) -> None:
        """A document that is there already, committed or staged by the run that this one continues."""
        self._seen[row] = True
        self._replaced[older] = True
        if row < self.committed:
            self.counts.unchanged += 1
        elif any(old < self.committed for old in older):
            self.counts.updated += 1
        else:
            self.counts.added += 1

    def flush(self) -> None:
        """Encodes and stores the documents that have gathered."""
        self._end_unit()
        while self._waiting:
            self._store_first()

    def _end_unit(self) -> None:
        """Wants the unit that has gathered; stores those for which others need not wait any longer."""
        if not self._unit.records:
            return
        if self.encoding.ahead:
            self._want()
        self._waiting.append(self._unit)
        self._unit = Unit()
        while len(self._waiting) > self.encoding.ahead:
            self._store_first()

    def _want(self) -> None:
        coming = {record.key for unit in self._waiting for record in unit.records}
        fresh = [r for r in self._unit.records if r.key not in coming and self._stored(r) is None]
        if fresh:
            self.encoding.want(fresh)

    def _store_first(self) -> None:
        self._store(self._waiting.popleft())
        self.staging.close_if_full()

    def _store(self, unit: Unit) -> None:
        """Takes a unit, which is not the one that was wanted if a text that an earlier one has failed there."""
        records = unit.records
        stored = {row: piece for row, record in enumerate(records) if (piece := self._stored(record)) is not None}
        fresh = [record for row, record in enumerate(records) if row not in stored]
        kept, encoded, failed = self.encoding.take(fresh, lambda r: unit.where[r.id]) if fresh else ([], None, [])
        if stored:
            kept, encoded = self._merge(records, kept, encoded, stored)
        self._remember(kept)
        keys = {record.id: record.key.hex() for record in fresh}
        self.staging.add_unit(kept, encoded, [(failure, keys[failure.id]) for failure in failed])
        if fresh:
            self.encoding.stored(fresh)
        for record in kept:
            older = unit.older[record.id]
            self._replaced[older] = True
            updated = any(old < self.committed for old in older)
            self.counts.updated += updated
            self.counts.added += not updated
        for failure in failed:  # the version that the index holds, if any, stays
            self._seen[[row for row in unit.older[failure.id] if row < self.committed]] = True
            self.failures.add(failure)
        self.counts.reused += len(stored)
        tokens = 0 if encoded is None else int(encoded.coverage.seen.sum())
        self.meter.advance(documents=len(records), characters=unit.characters, tokens=tokens, failed=len(failed))
        self.meter.report("encode")

    def _stored(self, record: Record) -> Piece | None:
        """The result for an equal text that is stored already, or None."""
        place = self._places.get(record.key)
        if place is not None:
            return self.staging.piece(place)
        row = self.known.find_key(record.key)
        return None if row is None else self.known.piece(row)

    def _remember(self, kept: list[Record]) -> None:
        if not len(self.repeated):
            return
        number, first = self.staging.place()
        for row, record in enumerate(kept):
            head = np.uint64(_head(record.key))
            at = int(np.searchsorted(self.repeated, head))
            if at < len(self.repeated) and self.repeated[at] == head:
                self._places.setdefault(record.key, (number, first + row))

    @staticmethod
    def _merge(
        records: list[Record], fresh: list[Record], encoded: Encoded | None, stored: dict[int, Piece]
    ) -> tuple[list[Record], Encoded | None]:
        """Fresh and stored results in the order of the unit."""
        by_id = dict(zip((r.id for r in fresh), split(encoded), strict=True)) if encoded is not None else {}
        kept, pieces = [], []
        for row, record in enumerate(records):
            piece = stored.get(row) or by_id.get(record.id)
            if piece is not None:
                kept.append(record)
                pieces.append(piece)
        return kept, join(pieces) if pieces else None

    def alive(self, staged: int, *, delete_missing: bool) -> Mask:
        """Which documents live on, (committed + ``staged``,) bool.

        Staged documents that the corpus no longer names were never committed and are dropped.  Committed ones
        that it does not name are deleted only when that was asked for, and only when everything could be
        read: behind an item that lost its name any of them may stand (``counts.missing_kept``).
        """
        alive = np.concatenate([self.known.alive, np.ones(self.committed + staged - len(self.known), bool)])
        missing = self.known.alive & ~self._seen & ~self._replaced
        if delete_missing and self._unnamed:
            self.counts.missing_kept = int(missing[: self.committed].sum())
        missing[: self.committed] &= delete_missing and not self._unnamed
        alive[: len(missing)][missing | self._replaced] = False
        self.counts.deleted = int(missing[: self.committed].sum())
        return alive


def _head(key: bytes) -> int:
    """The first eight bytes of a content key as a number."""
    return int.from_bytes(key[:8], "little")
