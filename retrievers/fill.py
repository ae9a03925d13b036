"""The second pass over a corpus: decides for each document whether it is known, and encodes what is not."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Document, Encoded, Failure, Mask
from unabridged.index.pieces import Piece, join, split
from unabridged.index.shard import Record, content_key
from unabridged.progress import Meter
from unabridged.retrievers.failures import FailureLog
from unabridged.retrievers.known import Known
from unabridged.retrievers.staging import Staging
from unabridged.retrievers.units import UNIT_CHARACTERS, UNIT_DOCUMENTS, Encode, encode_unit


@dataclass(slots=True)
class Counts:
    """Documents by what happened to them."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    reused: int = 0


def repeated_keys(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The values that occur more than once, sorted."""
    ordered = np.sort(keys)
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


@dataclass(slots=True)
class Filler:
    """Takes corpus items one by one; ``flush`` ends the last unit.

    ``known`` numbers committed documents first, then what was staged before this run began.  Texts that
    occur more than once (``repeated``, sorted key heads) are encoded once: their place is remembered.
    """

    encode: Encode
    known: Known
    staging: Staging
    failures: FailureLog
    meter: Meter
    repeated: NDArray[np.uint64]
    committed: int
    counts: Counts = field(default_factory=Counts)
    _unit: list[Record] = field(default_factory=list)
    _where: dict[str, str] = field(default_factory=dict)
    _characters: int = 0
    _places: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    _failed_before: dict[tuple[str, str], Failure] = field(default_factory=dict)
    _seen: Mask = field(init=False)

    def __post_init__(self) -> None:
        self._seen = np.zeros(len(self.known), bool)
        self._failed_before = {(f.id, f.where): f for f in self.staging.failures}

    def take(self, item: Document | Failure) -> None:
        """Handles one item of the corpus."""
        if isinstance(item, Failure):
            self.failures.add(item)
            self.meter.advance(failed=1)
            return
        before = self._failed_before.get((item.id, item.where))
        if before is not None:
            self.failures.add(before)
            self.meter.advance(documents=1, characters=len(item.source), failed=1, worked=False)
            return
        record = Record.of(item, content_key(item.source))
        row = self.known.find_id(item.id)
        if row is not None and self.known.same(row, record):
            self._seen[row] = True
            self.counts.unchanged += row < self.committed
            self.counts.added += row >= self.committed
            self.meter.advance(documents=1, characters=len(record.source), worked=False)
            return
        if row is not None:
            self.known.alive[row] = False
            self.counts.updated += 1
        else:
            self.counts.added += 1
        self._unit.append(record)
        self._where[record.id] = item.where
        self._characters += len(record.source)
        if self._characters >= UNIT_CHARACTERS or len(self._unit) >= UNIT_DOCUMENTS:
            self.flush()

    def flush(self) -> None:
        """Encodes and stores the documents that have gathered."""
        if not self._unit:
            return
        records, self._unit = self._unit, []
        stored = {row: piece for row, record in enumerate(records) if (piece := self._stored(record)) is not None}
        fresh = [record for row, record in enumerate(records) if row not in stored]
        kept, encoded, failed = (
            encode_unit(fresh, self.encode, lambda r: self._where[r.id]) if fresh else ([], None, [])
        )
        if stored:
            kept, encoded = self._merge(records, kept, encoded, stored)
        self._remember(kept)
        self.staging.add_unit(kept, encoded, failed)
        for failure in failed:
            self.failures.add(failure)
        self.counts.reused += len(stored)
        self.counts.added -= len(failed)
        tokens = 0 if encoded is None else int(encoded.coverage.seen.sum())
        self.meter.advance(documents=len(records), characters=self._characters, tokens=tokens, failed=len(failed))
        self.meter.report("encode")
        self._characters = 0
        self._where.clear()

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
            head = np.uint64(int.from_bytes(record.key[:8], "little"))
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

        Staged documents that the corpus no longer names were never committed and are dropped.
        """
        alive = np.concatenate([self.known.alive, np.ones(self.committed + staged - len(self.known), bool)])
        missing = ~self._seen & self.known.alive
        missing[: self.committed] &= delete_missing
        alive[: len(missing)][missing] = False
        self.counts.deleted += int(missing[: self.committed].sum())
        return alive
