"""A finished unit on the disk, between the worker that encoded it and the process that writes the index.

::

    INDEX/work/units/NAME.unit      blake3 of all that follows (16 bytes), then an uncompressed .npz: offsets, spans,
                                    tokens, total, seen, and where there are any left_out, segments, documents; notes
                                    and failures as JSON in bytes: arrays only, no pickle

``NAME`` is the hash of the work (encoder and settings) and of the texts in their order, so that a unit is found again
by whoever forms the same unit, and a file of other work is never opened.  A file has its name once its bytes are on
the disk: the name is the mark that the unit is done.  Equal units have equal bytes, whoever writes them; a file that
is torn or damaged is as good as none.
"""

from __future__ import annotations

import io
import json
import os
import socket
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Coverage, Encoded
from unabridged.errors import MissingFile, ShapeError
from unabridged.files import TEMPORARY_SUFFIX, disk_errors, sync_folder

FORMAT = 1
SUFFIX = ".unit"
CHECK_BYTES = 16


@dataclass(frozen=True, slots=True)
class Fault:
    """One text of a unit that could not be encoded: its row in the unit, and the words of a ``Failure``."""

    row: int
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Finished:
    """What a unit of B texts gave: ``encoded`` has those that ``faults`` does not name, None when that is none."""

    texts: int
    encoded: Encoded | None
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        rows = {fault.row for fault in self.faults}
        kept = 0 if self.encoded is None else len(self.encoded.offsets) - 1
        if len(rows) != len(self.faults) or kept + len(rows) != self.texts or not rows <= set(range(self.texts)):
            raise ShapeError(f"a unit of {self.texts} texts came back as {kept} encoded and {len(self.faults)} failed")


def unit_name(identity: str, keys: Sequence[bytes]) -> str:
    """The name of the unit of texts with these content keys, in this order, under the work ``identity``."""
    import blake3

    digest = blake3.blake3(f"unit {FORMAT} {identity} {len(keys)}\n".encode())
    for key in keys:
        digest.update(key)
    return digest.hexdigest(16)


def pack(name: str, unit: Finished) -> bytes:
    """The bytes of a unit file."""
    header = {"format": FORMAT, "name": name, "texts": unit.texts, "faults": [asdict(fault) for fault in unit.faults]}
    arrays: dict[str, NDArray[Any]] = {"header": _bytes(header)}
    if unit.encoded is not None:
        found, coverage = unit.encoded, unit.encoded.coverage
        optional = {"segments": found.segments, "documents": found.documents, "left_out": coverage.left_out}
        arrays |= {"offsets": found.offsets, "spans": found.spans, "tokens": found.tokens}
        arrays |= {"total": coverage.total, "seen": coverage.seen}
        arrays |= {field: array for field, array in optional.items() if array is not None}
        if coverage.notes is not None:
            arrays["notes"] = _bytes(list(coverage.notes))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # members opened by name have no time of day in them
        for field, array in arrays.items():
            with archive.open(f"{field}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
    data = buffer.getvalue()
    return _check(data) + data


def unpack(name: str, data: bytes) -> Finished | None:
    """The unit in ``data``; None when these are not the whole and undamaged bytes of the unit ``name``."""
    body = data[CHECK_BYTES:]
    if data[:CHECK_BYTES] != _check(body):
        return None
    try:
        with np.load(io.BytesIO(body), allow_pickle=False) as archive:
            arrays = {field: archive[field] for field in archive.files}
        header = json.loads(arrays.pop("header").tobytes())
        if header["format"] != FORMAT or header["name"] != name:
            return None
        faults = tuple(Fault(**fault) for fault in header["faults"])
        return Finished(header["texts"], _encoded(arrays) if arrays else None, faults)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, KeyError, TypeError):
        return None  # whole, and of another release


def _check(body: bytes) -> bytes:
    import blake3

    return blake3.blake3(body).digest(CHECK_BYTES)


def _encoded(arrays: Mapping[str, NDArray[Any]]) -> Encoded:
    notes = json.loads(arrays["notes"].tobytes()) if "notes" in arrays else None
    coverage = Coverage(
        arrays["total"], arrays["seen"], None if notes is None else tuple(notes), arrays.get("left_out")
    )
    return Encoded(
        arrays["offsets"],
        arrays["spans"],
        arrays["tokens"],
        coverage,
        arrays.get("segments"),
        arrays.get("documents"),
    )


def _bytes(value: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value, sort_keys=True).encode("utf-8"), np.uint8)


def write_unit(folder: Path, name: str, data: bytes) -> None:
    """Puts a unit file into ``folder``, which the writer of the index has made: nobody else makes it.

    Two processes may write one unit at a time; each has a temporary name of its own, and both bring the same bytes.

    Raises:
        MissingFile: this machine does not see the folder; names the machine.
        DiskFull: there is no room for it.
    """
    temporary = folder / f"{name}.{socket.gethostname()}.{os.getpid()}{TEMPORARY_SUFFIX}"
    with disk_errors(folder):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(folder / (name + SUFFIX))
        except FileNotFoundError as error:
            raise MissingFile(
                f"{socket.gethostname()} does not see {folder}, into which its units go. Mount the folder of the index "
                "there under the same path, or let units come back over the network (--no-shared)."
            ) from error
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(folder)


def read_unit(folder: Path, name: str) -> Finished | None:
    """The unit ``name`` if it is done and its file is sound, else None; an unsound file is deleted.

    A file that the disk does not give is None too: it is written anew, or whoever writes it says what is wrong there.
    """
    path = folder / (name + SUFFIX)
    try:
        data = path.read_bytes()
    except OSError:
        return None
    found = unpack(name, data)
    if found is None:
        path.unlink(missing_ok=True)
    return found


def remove_unit(folder: Path, name: str) -> None:
    """Deletes the file of a unit that is in the index."""
    (folder / (name + SUFFIX)).unlink(missing_ok=True)
