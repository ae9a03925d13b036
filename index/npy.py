"""Arrays that grow at the end of a file and are valid ``.npy`` files once they are closed.

The header is reserved at a fixed size and written when the length is known, so appending is one ``write``
and cutting back to a recorded length is one ``truncate``.
"""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

HEADER = 128
"""Bytes of the header: what numpy writes for any 1-d or 2-d array with fewer than 1e20 rows."""


def npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """The ``.npy`` version 1.0 header of a C-ordered array, padded to 128 bytes."""
    buffer = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    header = buffer.getvalue()
    if len(header) != HEADER:
        raise ValueError(f"the header of {shape} {dtype} takes {len(header)} bytes, expected {HEADER}")
    return header


class ArrayFile:
    """A growing array of rows with a fixed trailing shape."""

    def __init__(self, path: Path, dtype: DTypeLike, width: int | None = None) -> None:
        self.path = path
        self.dtype = np.dtype(dtype)
        self.width = width
        self.row_bytes = self.dtype.itemsize * (1 if width is None else width)
        self._file = path.open("r+b" if path.exists() else "w+b")
        if self._file.seek(0, os.SEEK_END) < HEADER:
            self.cut(0)

    def __len__(self) -> int:
        return (self._file.seek(0, os.SEEK_END) - HEADER) // self.row_bytes

    def append(self, rows: NDArray[Any]) -> None:
        """Adds rows; they are cast to the file's dtype."""
        data = np.ascontiguousarray(rows, dtype=self.dtype)
        self._file.seek(0, os.SEEK_END)
        self._file.write(data.tobytes())

    def cut(self, rows: int) -> None:
        """Drops everything after the first ``rows`` rows."""
        self._file.flush()
        self._file.truncate(HEADER + rows * self.row_bytes)
        self._write_header(rows)

    def _write_header(self, rows: int) -> None:
        shape = (rows,) if self.width is None else (rows, self.width)
        self._file.seek(0)
        self._file.write(npy_header(shape, self.dtype))

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows ``[start, stop)``, read (not mapped) from the file."""
        self._file.flush()
        self._file.seek(HEADER + start * self.row_bytes)
        data = np.fromfile(self._file, dtype=self.dtype, count=(stop - start) * (self.width or 1))
        return data if self.width is None else data.reshape(-1, self.width)

    def flush(self) -> None:
        """Makes all rows durable."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Writes the header with the final length and closes."""
        try:
            self._write_header(len(self))
            self.flush()
        finally:
            self._file.close()

    def discard(self) -> None:
        """Closes; what cannot be written any more, as on a full disk, is lost."""
        with contextlib.suppress(OSError):
            self._file.close()


class BlobFile:
    """A growing file of bytes, with the end offset of every item in a growing array beside it."""

    def __init__(self, path: Path, ends: Path) -> None:
        self.path = path
        self._file = path.open("r+b" if path.exists() else "w+b")
        self._file.seek(0, os.SEEK_END)
        self._ends = ArrayFile(ends, np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def size(self) -> int:
        """Bytes of all items."""
        return self._file.seek(0, os.SEEK_END)

    def append(self, items: list[bytes]) -> None:
        """Adds items."""
        ends = self.size + np.cumsum([len(item) for item in items], dtype=np.int64)
        self._file.write(b"".join(items))
        self._ends.append(ends)

    def read(self, item: int) -> bytes:
        """The bytes of one item."""
        start = int(self._ends.read(item - 1, item)[0]) if item else 0
        end = int(self._ends.read(item, item + 1)[0])
        self._file.seek(start)
        return self._file.read(end - start)

    def cut(self, items: int) -> None:
        """Drops everything after the first ``items`` items."""
        end = int(self._ends.read(items - 1, items)[0]) if items else 0
        self._ends.cut(items)
        self._file.flush()
        self._file.truncate(end)

    def flush(self) -> None:
        """Makes all items durable."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._ends.flush()

    def close(self) -> None:
        """Closes both files with their final headers."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        finally:
            self._file.close()
            self._ends.close()

    def discard(self) -> None:
        """Closes; what cannot be written any more, as on a full disk, is lost."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._ends.discard()


def map_array(path: Path) -> NDArray[Any]:
    """A read-only memory map of a ``.npy`` file (an ordinary empty array where there are no rows)."""
    mapped: NDArray[Any]
    if path.stat().st_size <= HEADER:
        mapped = np.load(path, allow_pickle=False)  # numpy cannot map zero bytes
    else:
        mapped = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))  # numpy's memmap class is slow to slice
    return mapped


def map_bytes(path: Path) -> NDArray[np.uint8]:
    """A read-only memory map of a file as bytes."""
    if path.stat().st_size == 0:
        return np.zeros(0, np.uint8)
    return np.asarray(np.memmap(path, np.uint8, mode="r"))
