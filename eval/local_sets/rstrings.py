r"""Texts in a data file of an R package (``Rdata.rdb``), read without R.

Such a file is objects one after another, each compressed by zlib behind its size.  An object is R's serialization
format 2 or 3 in big-endian order (R Internals, section 1.8): ``X\n``, three integers, in format 3 the name of an
encoding, then the object's flags.  Only vectors of texts without attributes are read.
"""

from __future__ import annotations

import struct
import zlib

from unabridged.errors import CorpusError

_TEXTS, _TEXT = 16, 9
_MISSING = -1


def character_vectors(data: bytes) -> list[list[str]]:
    """The vectors of texts in ``data``, in the order of the file; a missing text is empty, other objects are left out.

    :class:`CorpusError` when the file is cut off, or is none.
    """
    found: list[list[str]] = []
    try:
        while data:
            (size,) = struct.unpack_from(">i", data)
            reader = zlib.decompressobj()
            plain = reader.decompress(data[4:])
            if not reader.eof or len(plain) != size:
                raise ValueError(f"an object should have {size} bytes, found {len(plain)}")
            data = reader.unused_data
            texts = _vector(plain)
            if texts is not None:
                found.append(texts)
    except (struct.error, zlib.error, ValueError) as error:
        raise CorpusError(f"expected objects of R behind their sizes, found other bytes ({error})") from error
    return found


def _vector(plain: bytes) -> list[str] | None:
    if plain[:2] != b"X\n":
        raise ValueError(f"an object should begin with X, found {plain[:2]!r}")
    version, _, _ = struct.unpack_from(">3i", plain, 2)
    at = 14
    if version > 2:
        at += 4 + struct.unpack_from(">i", plain, at)[0]
    flags, count = struct.unpack_from(">2i", plain, at)
    at += 8
    if flags != _TEXTS:
        return None
    texts = []
    for _ in range(count):
        flags, size = struct.unpack_from(">2i", plain, at)
        at += 8
        if flags & 0xFF != _TEXT or size < _MISSING or at + size > len(plain):
            raise ValueError(f"expected a text at byte {at - 8} of an object of {len(plain)} bytes")
        size = max(size, 0)
        texts.append(plain[at : at + size].decode())
        at += size
    return texts
