"""Files as bytes and lines: plain, gzip and Zstandard, with damage told apart from the end of the file."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

BUFFER = 1 << 20
CHUNK = 1 << 13
"""Compressed bytes per step: small, because 4 bytes of a hostile Zstandard frame can stand for 128 KiB."""
BOM = b"\xef\xbb\xbf"
COMPRESSIONS = (".gz", ".zst")
MAX_WINDOW = 1 << 31
"""Bytes; large dumps are written with ``zstd --long=31``, which the library refuses by default."""


class BrokenStream(Exception):
    """A file that cannot be read on from here; the caller turns it into a record."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def compression(path: Path) -> str:
    """``.gz``, ``.zst`` or an empty string, by the last suffix."""
    suffix = path.suffix.lower()
    return suffix if suffix in COMPRESSIONS else ""


def open_stream(path: Path, kind: str | None = None) -> BinaryIO:
    """The decompressed bytes of ``path``; ``kind`` is as from :func:`compression`, which is the default."""
    raw = path.open("rb", buffering=BUFFER)
    kind = compression(path) if kind is None else kind
    if not kind:
        return raw
    decoders = _gzip_decoder if kind == ".gz" else _zstd_decoders()
    return cast("BinaryIO", io.BufferedReader(_PieceStream(raw, decoders), BUFFER))


def lines(path: Path) -> Iterator[bytes]:
    """The lines of ``path`` with their line ends and without the byte order mark.

    Only a line feed ends a line.  A line may have any length.  Raises :class:`BrokenStream` after the last
    whole line of a damaged file.
    """
    with guarded(path) as stream:
        first = True
        while line := stream.readline():
            yield line.removeprefix(BOM) if first else line
            first = False


def head(path: Path, size: int = 8192) -> bytes:
    """The first decompressed bytes of ``path``; raises :class:`BrokenStream`."""
    with guarded(path) as stream:
        return stream.read(size)


@contextmanager
def guarded(path: Path) -> Iterator[BinaryIO]:
    """``path`` opened and decompressed; every way it can be damaged is raised as :class:`BrokenStream`."""
    try:
        with open_stream(path) as stream:
            yield stream
    except EOFError as error:
        message = f"{path} ends in the middle of its compressed data; everything before that was read"
        raise BrokenStream("truncated-file", message) from error
    except _Damaged as error:
        raise BrokenStream("corrupt-file", f"{path} is damaged: {error}; everything before that was read") from error
    except OSError as error:
        raise BrokenStream("unreadable", f"cannot read {path}: {error.strerror or error}") from error


class _Damaged(Exception):
    """A decompressor refused what it was given."""


class _PieceStream(io.RawIOBase):
    """Decompressed bytes as a raw stream.

    The readers of the standard library and of zstandard either drop what was decompressed just before the
    damage or take a truncated frame for its end, so the frames are walked here.
    """

    def __init__(self, raw: IO[bytes], new_decoder: Callable[[], _Decoder]) -> None:
        self._raw = raw
        self._pieces = _pieces(raw, new_decoder)
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._piece:
            self._piece = memoryview(next(self._pieces, b""))
        size = min(len(buffer), len(self._piece))
        buffer[:size] = self._piece[:size]
        self._piece = self._piece[size:]
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


def _pieces(raw: IO[bytes], new_decoder: Callable[[], _Decoder]) -> Iterator[bytes]:
    """Decompressed pieces of all members or frames; EOFError when the file ends inside of one."""
    decoder: _Decoder | None = None
    data, seen = b"", False
    while True:
        data = data or raw.read(CHUNK)
        if not data:
            if decoder is not None or not seen:
                raise EOFError
            return
        if decoder is None:
            if seen and not data.strip(b"\0"):  # tape blocks pad with zeros after the last member
                data = b""
                continue
            decoder, seen = new_decoder(), True
        piece, ended, data = decoder.decompress(data)
        decoder = None if ended else decoder
        if piece:
            yield piece


def _gzip_decoder() -> _Decoder:
    return _Decoder(zlib.decompressobj(wbits=31), zlib.error)


def _zstd_decoders() -> Callable[[], _Decoder]:
    import zstandard

    context = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    return lambda: _Decoder(context.decompressobj(), zstandard.ZstdError)


class _Decoder:
    """One gzip member or Zstandard frame; both libraries' objects answer to the same names."""

    def __init__(self, decoder: Any, damage: type[Exception]) -> None:
        self._decoder, self._damage = decoder, damage

    def decompress(self, data: bytes) -> tuple[bytes, bool, bytes]:
        """``(piece, ended, what follows the end)``."""
        try:
            piece: bytes = self._decoder.decompress(data)
        except self._damage as error:
            raise _Damaged(str(error)) from error
        ended = bool(self._decoder.eof)
        return piece, ended, bytes(self._decoder.unused_data) if ended else b""
