"""A teacher's vectors of every text on a shelf: computed once, kept in the work folder, continued after a kill.

::

    teacher-0123456789abcdef.npy     (N, E) float32, norm 1; the number is of the teacher's fingerprint
    teacher-0123456789abcdef.json    whose they are, and how many rows are done
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from unabridged.contracts import JSON, Encoder, Floats, Level, OverflowPolicy, Rows
from unabridged.encoders.pooling import finish
from unabridged.errors import ShapeError
from unabridged.files import disk_errors, write_atomic
from unabridged.progress import Listener, Meter
from unabridged.training.shelf import QUERY, Shelf, blocks

BLOCK = 2048
"""Texts between two marks: a kill costs at most this many again."""


def teacher_vectors(shelf: Shelf, encoder: Encoder, work: Path, listener: Listener | None = None) -> Floats:
    """``(N, E)`` float32 of norm 1, mapped from ``work``: queries by the teacher's rule for queries, as it has one.

    A text longer than the teacher's window is read whole, in windows whose mean is its vector.
    :class:`ShapeError` for vectors that are not finite.
    """
    name = f"teacher-{encoder.passport.fingerprint[:16]}"
    path, mark = work / f"{name}.npy", work / f"{name}.json"
    key: JSON = {"teacher": encoder.passport.fingerprint, "texts": shelf.digest, "dim": encoder.dim}
    shape = (len(shelf), encoder.dim)
    done = _done(path, mark, key, shape)
    with disk_errors(path):
        kept = np.lib.format.open_memmap(path, mode="r+" if done else "w+", dtype=np.float32, shape=shape)
        meter = Meter(len(shelf), int(shelf.offsets[-1]), listener)
        for start, end in blocks(len(shelf), BLOCK):
            tokens = int(shelf.offsets[end] - shelf.offsets[start])
            todo = end > done
            if todo:
                kept[start:end] = _encode(shelf, encoder, start, end)
                kept.flush()
                write_atomic(mark, json.dumps({"key": key, "done": end}).encode())
            meter.advance(documents=end - start, characters=tokens, tokens=tokens if todo else 0, worked=todo)
            if todo:
                meter.report("teach")
    del kept
    vectors: Floats = np.load(path, mmap_mode="r")
    return vectors


def _done(path: Path, mark: Path, key: JSON, shape: tuple[int, int]) -> int:
    """Rows of the file that are ``key``'s vectors; 0 for a file that is damaged."""
    if not mark.is_file() or not path.is_file():
        return 0
    try:
        found = json.loads(mark.read_text(encoding="utf-8"))
        kept = np.load(path, mmap_mode="r")
        return int(found["done"]) if found["key"] == key and kept.shape == shape else 0
    except (ValueError, LookupError, TypeError, EOFError):
        return 0


def _encode(shelf: Shelf, encoder: Encoder, start: int, end: int) -> Floats:
    texts, roles = shelf.texts(start, end), shelf.roles[start:end]
    found = np.zeros((end - start, encoder.dim), dtype=np.float32)
    asked: Rows = np.flatnonzero(roles == QUERY)
    other: Rows = np.flatnonzero(roles != QUERY)
    if len(asked):
        found[asked] = encoder.encode_queries([texts[row] for row in asked.tolist()])
    if len(other):
        made = encoder.encode_documents(
            [texts[row] for row in other.tolist()], level=Level.DOC, overflow=OverflowPolicy.AGGREGATE
        )
        found[other] = made.documents
    if not np.isfinite(found).all():
        row = start + int(np.flatnonzero(~np.isfinite(found).all(axis=1))[0])
        raise ShapeError(f"The teacher's vector of text {row} is not finite. Use another teacher or precision.")
    return finish(found, truncate_dim=None, normalize=True)
