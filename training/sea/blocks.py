"""Block vectors of every text of a training: computed once, kept in a folder, continued after a kill.

::

    blocks-0123456789abcdef.f32     (S, H) float32, norm 1; the number is of texts and encoder
    blocks-0123456789abcdef.i64     (S, 2) int64: whose each block is, and its tokens
    blocks-0123456789abcdef.json    what they are of, and how many texts and blocks are done

A question has one vector, as the encoder reads questions; a document has one for each of its blocks.

Letters::

    N texts     S their blocks, packed     H width of a vector
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from unabridged.contracts import JSON, Floats, Level, Rows
from unabridged.encoders._hashes import canonical_sha256
from unabridged.encoders.sea.encoder import SeaEncoder
from unabridged.errors import ShapeError
from unabridged.files import disk_errors, sync_file, write_atomic
from unabridged.progress import Listener, Meter
from unabridged.training.sea.data import PairTexts
from unabridged.training.shelf import QUERY, blocks

PART = 64
"""Texts between two marks: a kill costs at most this many again."""


@dataclass(frozen=True)
class BlockVectors:
    """The blocks of N texts; text n is rows ``offsets[n]:offsets[n + 1]``."""

    vectors: Floats  # (S, H) float32, mapped
    offsets: Rows  # (N + 1,)
    tokens: Rows  # (S,) content tokens; 0 for questions, which are not counted

    @property
    def counts(self) -> Rows:
        """Blocks of each text, ``(N,)``."""
        found: Rows = np.diff(self.offsets)
        return found

    def rows(self, texts: Rows) -> tuple[Rows, Rows]:
        """The rows of the blocks of ``texts``, and their offsets."""
        lengths = self.counts[texts]
        offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
        rows: Rows = np.repeat(self.offsets[texts] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return rows, offsets


def block_vectors(data: PairTexts, reader: SeaEncoder, folder: Path, listener: Listener | None = None) -> BlockVectors:
    """The blocks of all texts as ``reader`` makes them; what is in ``folder`` already is not computed again.

    :class:`ShapeError` for vectors that are not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key: JSON = {"encoder": reader.base.passport.fingerprint, "texts": data.digest, "dim": reader.dim}
    stem = folder / f"blocks-{canonical_sha256(key)[:16]}"
    names = (stem.with_suffix(".f32"), stem.with_suffix(".i64"))
    mark = stem.with_suffix(".json")
    done, rows = _done(names, mark, key, reader.dim)
    sizes = [len(text) for text in data.texts]
    meter = Meter(len(data), sum(sizes), listener)
    with disk_errors(stem), names[0].open("ab") as vectors, names[1].open("ab") as owners:
        vectors.truncate(rows * 4 * reader.dim)
        owners.truncate(rows * 16)
        for start, end in blocks(len(data), PART):
            todo = end > done
            tokens = 0
            if todo:
                made, tokens = _append(data, reader, start, end, vectors, owners)
                rows += made
                for file in (vectors, owners):
                    file.flush()
                for name in names:
                    sync_file(name)
                write_atomic(mark, json.dumps({"key": key, "done": end, "rows": rows}).encode())
            meter.advance(documents=end - start, characters=sum(sizes[start:end]), tokens=tokens, worked=todo)
            if todo:
                meter.report("encode")
    return _opened(names, len(data), reader.dim)


def _done(names: tuple[Path, Path], mark: Path, key: JSON, dim: int) -> tuple[int, int]:
    """Texts and blocks that are there."""
    if not mark.is_file() or not all(name.is_file() for name in names):
        return 0, 0
    found = json.loads(mark.read_text(encoding="utf-8"))
    rows = int(found["rows"])
    whole = names[0].stat().st_size >= rows * 4 * dim and names[1].stat().st_size >= rows * 16
    return (int(found["done"]), rows) if found["key"] == key and whole else (0, 0)


def _append(
    data: PairTexts, reader: SeaEncoder, start: int, end: int, vectors: IO[bytes], owners: IO[bytes]
) -> tuple[int, int]:
    """Writes texts ``start`` to ``end``; gives blocks and tokens."""
    roles = data.roles[start:end]
    asked, found = (np.flatnonzero(roles == QUERY), np.flatnonzero(roles != QUERY))
    questions = reader.encode_queries([data.texts[start + row] for row in asked.tolist()])
    read = reader.encode_documents([data.texts[start + row] for row in found.tolist()], level=Level.SEGMENT)
    if read.segments is None:
        raise ShapeError("The encoder gave no blocks when asked for them.")
    owner = np.concatenate((asked, np.repeat(found, np.diff(read.offsets))))
    tokens = np.concatenate((np.zeros(len(asked), dtype=np.int64), read.tokens))
    made = np.concatenate((questions, read.segments))
    if not np.isfinite(made).all():
        row = start + int(owner[~np.isfinite(made).all(axis=1)][0])
        raise ShapeError(f"A vector of text {row} is not finite: {data.texts[row][:60]!r}. Use another precision.")
    order = np.argsort(owner, kind="stable")
    vectors.write(np.ascontiguousarray(made[order], dtype=np.float32).tobytes())
    owners.write(np.stack((owner + start, tokens), axis=1)[order].astype(np.int64).tobytes())
    return len(made), int(tokens.sum())


def _opened(names: tuple[Path, Path], count: int, dim: int) -> BlockVectors:
    table = np.fromfile(names[1], dtype=np.int64).reshape(-1, 2)
    offsets = np.searchsorted(table[:, 0], np.arange(count + 1)).astype(np.int64)
    mapped: Floats = np.memmap(names[0], dtype=np.float32, mode="r").reshape(-1, dim)
    return BlockVectors(mapped, offsets, np.ascontiguousarray(table[:, 1]))
