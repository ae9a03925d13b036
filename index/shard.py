"""A shard: some thousand documents with their texts, spans, ledger and vectors, immutable once it has a name.

Letters: B documents, S segments, D embedding width.  All files are ``.npy`` arrays or plain bytes::

    ids.bin, ids.npy              UTF-8 ids, end offset of each                    (B,)
    sources.bin, sources.npy      UTF-8 source texts, end offset of each           (B,)
    metadata.bin, metadata.npy    JSON object of each document, end offset         (B,)
    keys.npy                      blake3 of the source, 16 bytes                   (B, 16) uint8
    id_hashes.npy                 xxh3 of the id                                   (B,) uint64
    coverage.npy                  tokens total, tokens seen                        (B, 2) int64
    segment_ends.npy              number of segments up to and with this document  (B,) int64
    spans.npy                     start, end in characters; start, end in bytes    (S, 4) uint32
    tokens.npy                    content tokens of each segment                   (S,) uint32
    notes.bin, notes.npy          how each document was cut, from encoders that choose it document by document
    left_out.npy                  tokens left out as asked, from encoders that leave any out (B,) int64
    segments.npy, documents.npy   vectors, where the level keeps them              (S, D), (B, D)
    lexical/                      the BM25 segment of these documents

The name of a shard is the hash of its files' hashes, so equal content has an equal name.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Document, Encoded, Level, Mask, Rows
from unabridged.files import folder_files
from unabridged.index.npy import ArrayFile, BlobFile, map_array, map_bytes
from unabridged.index.pieces import Piece
from unabridged.manifest import file_entry

LEXICAL = "lexical"
NOTES = "notes"
LEFT_OUT = "left_out"
KEY_BYTES = 16
MAX_CHARACTERS = (1 << 32) - 1
"""Spans are unsigned 32-bit: a single document holds at most 4 GiB of UTF-8."""


def content_key(source: str) -> bytes:
    """The identity of a text: 16 bytes of blake3 over its UTF-8."""
    import blake3

    return blake3.blake3(source.encode("utf-8")).digest(KEY_BYTES)


def id_hash(identifier: str) -> int:
    """A 64-bit hash of a document id, for look-up; equality of ids is always checked on the string."""
    import xxhash

    return xxhash.xxh3_64_intdigest(identifier.encode("utf-8"))


def byte_spans(source: str, spans: Rows) -> NDArray[np.uint32]:
    """Character spans (S, 2) with their UTF-8 byte offsets beside them, (S, 4) uint32."""
    if source.isascii() or len(spans) == 0:
        return np.hstack([spans, spans]).astype(np.uint32)
    points = np.frombuffer(source.encode("utf-32-le"), np.uint32)
    widths = 1 + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF)
    offsets = np.concatenate([[0], np.cumsum(widths, dtype=np.int64)])
    return np.hstack([spans, offsets[spans]]).astype(np.uint32)


@dataclass(frozen=True, slots=True)
class Record:
    """What a shard keeps of one document besides vectors: everything a rewrite needs."""

    id: str
    source: str
    metadata: bytes
    key: bytes

    @classmethod
    def of(cls, document: Document, key: bytes) -> Record:
        """The record of a corpus document; its title is kept in the metadata under ``title``."""
        import orjson

        metadata = dict(document.metadata)
        if document.title:
            metadata.setdefault("title", document.title)
        return cls(document.id, document.source, orjson.dumps(metadata, option=orjson.OPT_SORT_KEYS), key)


class ShardWriter:
    """Appends documents to a folder; ``cut`` goes back to any earlier length, so a journal can resume it."""

    def __init__(self, folder: Path, *, level: Level, dim: int, dtype: str = "float32") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.level = level
        self._blobs: dict[str, BlobFile] = {
            name: BlobFile(folder / f"{name}.bin", folder / f"{name}.npy") for name in ("ids", "sources", "metadata")
        }
        if (folder / f"{NOTES}.bin").exists():
            self._add_notes()
        arrays: dict[str, tuple[str, int | None]] = {
            "keys": ("uint8", KEY_BYTES),
            "id_hashes": ("uint64", None),
            "coverage": ("int64", 2),
            "segment_ends": ("int64", None),
            "spans": ("uint32", 4),
            "tokens": ("uint32", None),
        }
        if (folder / f"{LEFT_OUT}.npy").exists():
            arrays[LEFT_OUT] = ("int64", None)
        if level.has_segments:
            arrays["segments"] = (dtype, dim)
        if level.has_documents:
            arrays["documents"] = (dtype, dim)
        self._arrays: dict[str, ArrayFile] = {
            name: ArrayFile(folder / f"{name}.npy", kind, width) for name, (kind, width) in arrays.items()
        }

    def _add_notes(self) -> None:
        self._blobs[NOTES] = BlobFile(self.folder / f"{NOTES}.bin", self.folder / f"{NOTES}.npy")

    @property
    def _parts(self) -> list[ArrayFile | BlobFile]:
        return [*self._blobs.values(), *self._arrays.values()]

    @property
    def documents(self) -> int:
        """Documents written so far."""
        return len(self._arrays["keys"])

    @property
    def segments(self) -> int:
        """Segments written so far."""
        return len(self._arrays["spans"])

    @property
    def source_bytes(self) -> int:
        """Bytes of source text written so far."""
        return self._blobs["sources"].size

    def append(self, records: Sequence[Record], encoded: Encoded) -> None:
        """Adds documents with what one encoder pass gave for them; nothing is durable before ``flush``."""
        self._blobs["ids"].append([r.id.encode("utf-8") for r in records])
        self._blobs["sources"].append([r.source.encode("utf-8") for r in records])
        self._blobs["metadata"].append([r.metadata for r in records])
        notes = encoded.coverage.notes
        if notes is not None and not self.documents and NOTES not in self._blobs:
            self._add_notes()  # an encoder that gives notes gives them from its first document on
        left_out = encoded.coverage.left_out
        if left_out is not None and not self.documents and LEFT_OUT not in self._arrays:
            self._arrays[LEFT_OUT] = ArrayFile(self.folder / f"{LEFT_OUT}.npy", "int64", None)
        if NOTES in self._blobs:
            self._blobs[NOTES].append([note.encode("utf-8") for note in notes or [""] * len(records)])
        keys = np.frombuffer(b"".join(r.key for r in records), np.uint8).reshape(-1, KEY_BYTES)
        offsets = encoded.offsets
        parts = [byte_spans(r.source, encoded.spans[offsets[i] : offsets[i + 1]]) for i, r in enumerate(records)]
        columns: dict[str, NDArray[Any]] = {
            "keys": keys,
            "id_hashes": np.array([id_hash(r.id) for r in records], np.uint64),
            "coverage": np.column_stack([encoded.coverage.total, encoded.coverage.seen]),
            "segment_ends": self.segments + offsets[1:],
            "spans": np.concatenate(parts) if parts else np.zeros((0, 4), np.uint32),
            "tokens": encoded.tokens,
            LEFT_OUT: np.zeros(len(records), np.int64) if left_out is None else left_out,
        }
        if self.level.has_segments and encoded.segments is not None:
            columns["segments"] = encoded.segments
        if self.level.has_documents and encoded.documents is not None:
            columns["documents"] = encoded.documents
        for name, array in self._arrays.items():
            array.append(columns[name])

    def piece(self, row: int) -> Piece:
        """What was written for document ``row``."""
        note = self._blobs[NOTES].read(row).decode("utf-8") if NOTES in self._blobs else None
        return read_piece(
            row, lambda name, start, stop: self._arrays[name].read(start, stop), self._arrays.__contains__, note
        )

    def cut(self, documents: int, segments: int) -> None:
        """Drops everything after the first ``documents`` documents and ``segments`` segments."""
        for blob in self._blobs.values():
            blob.cut(documents)
        for name, array in self._arrays.items():
            array.cut(segments if name in ("spans", "tokens", "segments") else documents)

    def flush(self) -> None:
        """Makes everything that was appended durable."""
        for part in self._parts:
            part.flush()

    def close(self) -> None:
        """Writes the final headers; the folder is then a complete shard without its lexical part."""
        with contextlib.ExitStack() as stack:  # a full disk at one file leaves none open
            for part in self._parts:
                stack.callback(part.close)

    def discard(self) -> None:
        """Closes the files without writing."""
        for part in self._parts:
            part.discard()


def describe(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file of a shard, by relative path."""
    return {name: file_entry(path) for name, path in folder_files(folder).items()}


def shard_name(files: Mapping[str, Mapping[str, Any]]) -> str:
    """The content address of a shard: 32 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{files[name]['sha256']}\n".encode())
    return digest.hexdigest()[:32]


class Shard:
    """A finished shard, opened by memory map; every array is mapped at its first use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._maps: dict[str, NDArray[Any]] = {}

    def array(self, name: str) -> NDArray[Any]:
        """The array ``name`` of the module's table."""
        if name not in self._maps:
            self._maps[name] = map_array(self.folder / f"{name}.npy")
        return self._maps[name]

    def map_all(self) -> Shard:
        """Maps every file now, so that the shard stays readable when its folder gets another name."""
        _ = self.noted, self.left_out
        for path in sorted(self.folder.glob("*.npy")):
            self.array(path.stem)
        for path in sorted(self.folder.glob("*.bin")):
            self._bytes(path.stem)
        return self

    def _item(self, name: str, row: int) -> bytes:
        ends = self.array(name)
        start = int(ends[row - 1]) if row else 0
        return self._bytes(name)[start : int(ends[row])].tobytes()

    def _bytes(self, name: str) -> NDArray[np.uint8]:
        if name + ".bin" not in self._maps:
            self._maps[name + ".bin"] = map_bytes(self.folder / f"{name}.bin")
        return self._maps[name + ".bin"]

    def id(self, row: int) -> str:
        """The id of document ``row``."""
        return self._item("ids", row).decode("utf-8")

    def source(self, row: int) -> str:
        """The whole source text of document ``row``."""
        return self._item("sources", row).decode("utf-8")

    def key(self, row: int) -> bytes:
        """The identity of that text when it was written, see :func:`content_key`."""
        return bytes(self.array("keys")[row])

    def metadata(self, row: int) -> bytes:
        """The JSON object of document ``row``."""
        return self._item("metadata", row)

    @cached_property
    def noted(self) -> bool:
        """Whether the encoder said how each document was cut."""
        return (self.folder / f"{NOTES}.npy").exists()

    @cached_property
    def left_out(self) -> Rows | None:
        """Tokens of each document that were left out as asked, ``(B,)``; None where the encoder leaves out none."""
        return np.asarray(self.array(LEFT_OUT)) if (self.folder / f"{LEFT_OUT}.npy").exists() else None

    @property
    def empty(self) -> Mask:
        """Documents of which there was nothing to read, ``(B,)``: without tokens, or all of these left out as asked."""
        total, seen = np.asarray(self.array("coverage")).T
        left = self.left_out
        nothing: Mask = (seen == 0) & (total == (0 if left is None else left))
        return nothing

    def counts(self, rows: Rows | None = None) -> dict[str, int]:
        """Tokens and documents of the ledger, of all or ``rows``; what few indexes have stands here if it is not 0."""
        every = slice(None) if rows is None else rows
        total, seen = np.asarray(self.array("coverage"))[every].T
        left = self.left_out
        left_out = np.zeros(len(total), np.int64) if left is None else left[every]
        few = {
            "empty": int(self.empty[every].sum()),
            "left_out": int((left_out > 0).sum()),
            "tokens_left_out": int(left_out.sum()),
        }
        return {
            "tokens_total": int(total.sum()),
            "tokens_seen": int(seen.sum()),
            "truncated": int((seen + left_out < total).sum()),
            **{name: count for name, count in few.items() if count},
        }

    def note(self, row: int) -> str | None:
        """How document ``row`` was cut; None where the encoder did not say."""
        return self._item(NOTES, row).decode("utf-8") if self.noted else None

    def record(self, row: int) -> Record:
        """Everything but the vectors of document ``row``."""
        return Record(self.id(row), self.source(row), self.metadata(row), self.key(row))

    def segment_range(self, row: int) -> tuple[int, int]:
        """The rows ``[start, stop)`` of the segments of document ``row``."""
        ends = self.array("segment_ends")
        return (int(ends[row - 1]) if row else 0), int(ends[row])

    def span_text(self, row: int, segment: int) -> tuple[int, int, str]:
        """Start and end in characters, and the text, of ``segment`` (a row of this shard) of document ``row``."""
        start, end, first, last = (int(x) for x in self.array("spans")[segment])
        ends = self.array("sources")
        base = int(ends[row - 1]) if row else 0
        return start, end, self._bytes("sources")[base + first : base + last].tobytes().decode("utf-8")

    def piece(self, row: int) -> Piece:
        """Spans, tokens, coverage and vectors of document ``row``, to be written again elsewhere."""
        has = lambda name: name in self._maps or (self.folder / f"{name}.npy").exists()  # noqa: E731
        return read_piece(row, self._rows, has, self.note(row))

    def _rows(self, name: str, start: int, stop: int) -> NDArray[Any]:
        return self.array(name)[start:stop]


def read_piece(
    row: int, rows: Callable[[str, int, int], NDArray[Any]], has: Callable[[str], bool], note: str | None
) -> Piece:
    """The :class:`Piece` of document ``row``, from a reader of array rows."""
    ends = rows("segment_ends", max(row - 1, 0), row + 1)
    start, stop = (int(ends[0]) if row else 0), int(ends[-1])
    segments = np.array(rows("segments", start, stop), np.float32) if has("segments") else None
    document = np.array(rows("documents", row, row + 1)[0], np.float32) if has("documents") else None
    total, seen = (int(x) for x in rows("coverage", row, row + 1)[0])
    left_out = int(rows(LEFT_OUT, row, row + 1)[0]) if has(LEFT_OUT) else None
    return Piece(
        np.array(rows("spans", start, stop)[:, :2], np.int64),
        np.array(rows("tokens", start, stop), np.int64),
        total,
        seen,
        segments,
        document,
        note,
        left_out,
    )
