"""Work in progress of a build: shards being written, with a journal that says how far they are good.

::

    INDEX/work/identity.json    encoder and settings the work belongs to, generation of the index it starts from
    INDEX/work/journal.jsonl    {"unit": ...} after each durable unit, {"shard": ...} when a shard is complete
    INDEX/work/shard/           the shard being appended to
    INDEX/shards/NAME/          complete shards; they count once the manifest names them

The unit of work is a run of documents that depends on nothing but the documents that are still to be
done, so a run that continues after a kill forms the same units as one that was never interrupted, and
the bytes are the same.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unabridged.contracts import Encoded, Failure
from unabridged.errors import ManifestMismatch, PassportMismatch
from unabridged.files import disk_errors, sync_folder, write_atomic
from unabridged.index.pieces import Piece
from unabridged.index.shard import Record, Shard, ShardWriter, describe, shard_name
from unabridged.memory import give_back
from unabridged.retrievers.journal import Journal

SHARD_DOCUMENTS = 65_536
SHARD_SEGMENTS = 1 << 20
SHARD_BYTES = 1 << 30
"""A shard is closed at the first unit that brings it to one of these: documents, segments, bytes of text."""

COMPACTION = "compact"
"""First word of the identity of a compaction: work that can be thrown away, since it can be derived again."""

Finisher = Callable[[Path], None]
"""Adds derived files (the lexical segment) to a closed shard folder before it is named."""


class Staging:
    """The work folder of one index; opening it resumes what an earlier process left."""

    def __init__(
        self, index: Path, identity: str, generation: int, writer: Callable[[Path], ShardWriter], finish: Finisher
    ) -> None:
        self.index = index
        self.work = index / "work"
        self._make_writer = writer
        self._finish = finish
        self._drop_committed(identity, generation)
        self.work.mkdir(parents=True, exist_ok=True)
        (index / "shards").mkdir(exist_ok=True)
        self._check_identity(identity, generation)
        self.journal = Journal(self.work / "journal.jsonl")
        self.finished: list[dict[str, Any]] = []
        self.failures: list[tuple[Failure, str]] = []
        self._done = (0, 0)
        self._writer: ShardWriter | None = None
        self._replay()

    def _drop_committed(self, identity: str, generation: int) -> None:
        """Deletes work that a commit took in just before its process was killed, or a compaction that was given up."""
        shutil.rmtree(self.index / "work.old", ignore_errors=True)
        path = self.work / "identity.json"
        if not path.exists():
            return
        found = json.loads(path.read_bytes())
        given_up = str(found.get("identity")).startswith(COMPACTION) and found.get("identity") != identity
        if found.get("generation") != generation or given_up:
            self._delete_work()

    def _check_identity(self, identity: str, generation: int) -> None:
        path = self.work / "identity.json"
        if not path.exists():
            write_atomic(path, json.dumps({"identity": identity, "generation": generation}).encode())
            return
        found = json.loads(path.read_bytes()).get("identity")
        if found != identity:
            raise PassportMismatch(
                f"An unfinished build in {self.work} belongs to encoder and settings {found[:16]}, this run has "
                f"{identity[:16]}. Run it with the same encoder and options to continue, or delete {self.work} to "
                "give up that work."
            )

    def _replay(self) -> None:
        """Brings files and memory to what the journal says."""
        for entry in self.journal.entries:
            if "shard" in entry:
                self.finished.append(entry)
                self._done = (0, 0)
            else:
                self._done = (entry["documents"], entry["segments"])
                self.failures.extend((Failure(**failure), key) for failure, key in entry["failed"])
        current = self.work / "shard"
        last = self.journal.entries[-1] if self.journal.entries else {}
        if "shard" in last:
            self._publish(last)
        if self._done == (0, 0):
            shutil.rmtree(current, ignore_errors=True)
            return
        if not current.is_dir():
            raise ManifestMismatch(f"{current} is missing but {self.journal.path} counts on it: delete {self.work}")
        shutil.rmtree(current / "lexical", ignore_errors=True)
        writer = self._open_writer()
        writer.cut(*self._done)
        self.close_if_full()  # the kill came between the last unit of a shard and its end

    def _open_writer(self) -> ShardWriter:
        if self._writer is None:
            self._writer = self._make_writer(self.work / "shard")
        return self._writer

    @property
    def shards(self) -> list[Shard]:
        """All staged shards; the last one may still grow, and shows what it held when this was called."""
        shards = [Shard(self.index / "shards" / entry["shard"]) for entry in self.finished]
        if self._done[0]:
            writer = self._open_writer()
            writer.cut(*self._done)
            writer.flush()
            shards.append(Shard(self.work / "shard").map_all())
        return shards

    def place(self) -> tuple[int, int]:
        """Where the next document goes: number of finished shards, row in the current one."""
        return len(self.finished), self._done[0]

    def piece(self, place: tuple[int, int]) -> Piece:
        """The stored result of a document this run (or the run it continues) has written."""
        number, row = place
        if number < len(self.finished):
            return Shard(self.index / "shards" / self.finished[number]["shard"]).piece(row)
        return self._open_writer().piece(row)

    def add_unit(
        self, records: Sequence[Record], encoded: Encoded | None, failed: Sequence[tuple[Failure, str]]
    ) -> None:
        """Writes one unit; when this returns it survives a kill.  ``failed`` has the content key of each text.

        :meth:`close_if_full` belongs behind it, once the caller has let the unit go: closing needs that memory.
        """
        writer = self._open_writer()
        with disk_errors(writer.folder):
            if encoded is not None:
                writer.append(records, encoded)
            writer.flush()
        self._done = (writer.documents, writer.segments)
        self.failures.extend(failed)
        self.journal.add(
            {"documents": self._done[0], "segments": self._done[1], "failed": [[asdict(f), key] for f, key in failed]}
        )

    def close_if_full(self) -> None:
        """Completes the current shard if it holds what a shard may hold."""
        if self._done[0] == 0:
            return
        writer = self._open_writer()
        full = writer.documents >= SHARD_DOCUMENTS or writer.segments >= SHARD_SEGMENTS
        if full or writer.source_bytes >= SHARD_BYTES:
            self.close_shard()

    def close_shard(self) -> None:
        """Completes the current shard and gives it its name; nothing happens when it is empty."""
        if self._done[0] == 0:
            return
        folder = self.work / "shard"
        writer = self._open_writer()
        with disk_errors(folder):
            self._writer = None
            writer.close()
            self._finish(folder)
            shard = Shard(folder)
            files = describe(folder)
            entry = {
                "shard": shard_name(files),
                "documents": self._done[0],
                "segments": self._done[1],
                **shard.counts(),
                "files": files,
            }
        self.journal.add(entry)
        self._done = (0, 0)
        self.finished.append(entry)
        self._publish(entry)
        give_back()

    def _publish(self, entry: dict[str, Any]) -> None:
        """Moves a complete shard to its name; equal content may be there already."""
        source, target = self.work / "shard", self.index / "shards" / entry["shard"]
        if target.exists():
            shutil.rmtree(source, ignore_errors=True)
        elif source.exists():
            source.rename(target)
            sync_folder(target.parent)
            sync_folder(self.work)

    def abandon(self) -> None:
        """Closes files and leaves the work for the next run."""
        if self._writer is not None:
            self._writer.discard()
            self._writer = None
        self.journal.close()

    def remove(self) -> None:
        """Deletes the work folder, after its shards were committed."""
        self.abandon()
        self._delete_work()

    def _delete_work(self) -> None:
        trash = self.index / "work.old"
        shutil.rmtree(trash, ignore_errors=True)
        self.work.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)
