"""Writes an inverted file whose lists never were in memory at once, in the very bytes FAISS would write.

Rows are added to a trained index until a piece is full; the piece goes to disk list by list, the index is
emptied, and at the end the pieces are joined list by list behind the header of the empty index.  Unlike
FAISS's own on-disk lists the result is one file that holds no path, so that equal builds in two folders have
equal bytes and a moved folder opens.  The layout (``ilar``) follows ``write_InvertedLists`` of FAISS 1.15.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from unabridged.contracts import Floats, Rows
from unabridged.errors import RuntimeFailure
from unabridged.index.dense._faiss import load_faiss

_EMPTY_LISTS = 4 + 8 + 8 + 4 + 8
"""Bytes of the lists of an empty index: tag, lists, code size, kind, length of the (empty) size table."""


PIECES = "piece-*"
"""Names of the pieces in the folder of the file."""


class PieceWriter:
    """Collects rows of a trained IVF ``index`` in pieces under ``folder``; ``finish`` joins them."""

    def __init__(self, index: Any, folder: Path, piece_bytes: int) -> None:
        faiss = load_faiss()
        self._index = index
        self._ivf = faiss.extract_index_ivf(index)
        self._folder = folder
        self._limit = piece_bytes
        self._code = int(self._ivf.invlists.code_size)
        self._sizes: list[Rows] = []
        self._paths: list[Path] = []
        self._rows = 0

    def add(self, block: Floats, ids: Rows) -> None:
        """Adds a block (n, D) under its row numbers (n,)."""
        self._add(block, ids)
        self._rows += len(ids)
        if self._held * (self._code + 8) >= self._limit:
            self._flush()

    def finish(self, target: Path) -> None:
        """Writes the index file and removes the pieces."""
        self._flush()
        header = self._header()
        sizes: Rows = np.add.reduce(np.stack(self._sizes), axis=0)
        with contextlib.ExitStack() as stack:
            pieces = [stack.enter_context(path.open("rb")) for path in self._paths]
            out = stack.enter_context(target.open("wb"))
            out.write(header)
            out.write(self._table(sizes))
            _join(out, pieces, self._sizes, self._code)
        for path in self._paths:
            path.unlink()

    def _flush(self) -> None:
        """One piece to disk: for each list its codes, then its row numbers."""
        if not self._held:
            return
        faiss = load_faiss()
        whole = self._whole()
        lists = whole.invlists
        sizes = np.array([lists.list_size(number) for number in range(int(self._ivf.nlist))], dtype=np.int64)
        path = self._folder / f"{PIECES.rstrip('*')}{len(self._paths):06d}"
        with path.open("wb") as out:
            for number in np.flatnonzero(sizes).tolist():
                count = int(sizes[number])
                out.write(faiss.rev_swig_ptr(lists.get_codes(number), count * self._code).tobytes())
                out.write(faiss.rev_swig_ptr(lists.get_ids(number), count).tobytes())
        self._paths.append(path)
        self._sizes.append(sizes)
        self._empty()

    @property
    def _held(self) -> int:
        """Rows since the last piece."""
        return int(self._index.ntotal)

    def _add(self, block: Floats, ids: Rows) -> None:
        self._index.add_with_ids(block, ids)

    def _whole(self) -> Any:
        """The inverted file with the rows since the last piece."""
        return self._ivf

    def _empty(self) -> None:
        """An index without rows, and without the memory that its lists had grown to."""
        faiss = load_faiss()
        self._index.reset()
        fresh = faiss.ArrayInvertedLists(int(self._ivf.nlist), self._code)
        self._ivf.replace_invlists(fresh, True)
        fresh.this.disown()

    def _header(self) -> bytes:
        """The empty index as bytes, with the final number of rows and without its lists."""
        faiss = load_faiss()
        self._index.ntotal = self._ivf.ntotal = self._rows
        try:
            whole: bytes = faiss.serialize_index(self._index).tobytes()
        finally:
            self._index.ntotal = self._ivf.ntotal = 0
        head, tail = whole[:-_EMPTY_LISTS], whole[-_EMPTY_LISTS:]
        if tail[:4] != b"ilar":
            raise RuntimeFailure(f"this FAISS writes lists as {tail[:4]!r}, expected b'ilar'; use another recipe")
        return head + tail[:20]

    def _table(self, sizes: Rows) -> bytes:
        """Kind and sizes of the lists: all of them, or number and size where most are empty."""
        filled = np.flatnonzero(sizes)
        if len(filled) > len(sizes) // 2:
            return b"full" + np.array([len(sizes), *sizes], dtype="<u8").tobytes()
        table = np.stack([filled, sizes[filled]], axis=1).ravel()
        return b"sprs" + np.array([len(table), *table], dtype="<u8").tobytes()


def _join(out: BinaryIO, pieces: Sequence[BinaryIO], sizes: list[Rows], code: int) -> None:
    """Copies each list of all pieces, in the order of the pieces: all its codes, then all its row numbers."""
    for number in range(len(sizes[0]) if sizes else 0):
        ids: list[bytes] = []
        for which, piece in enumerate(pieces):
            count = int(sizes[which][number])
            out.write(piece.read(count * code))
            ids.append(piece.read(count * 8))
        out.write(b"".join(ids))
