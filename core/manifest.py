"""The manifest of an index folder: one JSON file that names every other file with its size and SHA-256.

It is the only mutable name in the folder and is renamed into place last, so that a commit happens at one
instant.  It holds no time and no path, so two builds of the same corpus have the same manifest, byte for
byte.  ``checksum`` is the SHA-256 of the canonical JSON of everything else, so that a flipped bit in the
manifest itself is seen too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unabridged.errors import ManifestMismatch, MissingFile
from unabridged.files import sha256_file, write_atomic

FORMAT = "unabridged-index"
VERSION = 1
NAME = "manifest.json"


def canonical(value: Any) -> bytes:
    """JSON with sorted keys, no spaces and no NaN: equal values have equal bytes."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def fingerprint(value: Any) -> str:
    """SHA-256 of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical(value)).hexdigest()


def file_entry(path: Path) -> dict[str, Any]:
    """What the manifest says about one file."""
    return {"bytes": path.stat().st_size, "sha256": sha256_file(path)}


def save_manifest(folder: Path, body: Mapping[str, Any]) -> str:
    """Writes the manifest atomically and returns its checksum."""
    content = {"format": FORMAT, "version": VERSION, **body}
    checksum = fingerprint(content)
    text = json.dumps({**content, "checksum": checksum}, sort_keys=True, indent=1, ensure_ascii=False)
    write_atomic(folder / NAME, text.encode("utf-8") + b"\n")
    return checksum


def load_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of ``folder``, checked for format, version and checksum."""
    path = folder / NAME
    if not folder.is_dir():
        raise MissingFile(
            f"There is no index folder at {folder}. Build one with: unabridged index CORPUS --out {folder}"
        )
    if not path.is_file():
        raise ManifestMismatch(
            f"{folder} is not a finished index: it has no {NAME}. If a build was interrupted, run the same "
            "'unabridged index' command again and it continues."
        )
    try:
        body = json.loads(path.read_bytes())
    except ValueError as error:
        raise ManifestMismatch(f"{path} is not valid JSON ({error}): restore it or build the index again") from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        found = body.get("format") if isinstance(body, dict) else type(body).__name__
        raise ManifestMismatch(f"{path} is of format {found!r}, expected {FORMAT!r}")
    if body.get("version") != VERSION:
        raise ManifestMismatch(f"{path} has version {body.get('version')!r}, this release reads version {VERSION}")
    found = body.pop("checksum", None)
    expected = fingerprint(body)
    if found != expected:
        raise ManifestMismatch(f"{path} is damaged: its content has checksum {expected}, it claims {found}")
    return body


def check_sizes(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises unless every file is there with its size (one ``stat`` each: cheap enough for every open)."""
    for name, entry in files.items():
        path = folder / name
        size = path.stat().st_size if path.is_file() else None
        if size != entry["bytes"]:
            found = "is missing" if size is None else f"has {size} bytes"
            raise ManifestMismatch(f"{path} {found}, the manifest expects {entry['bytes']} bytes")


def check_hashes(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises unless every file has its SHA-256 (reads all bytes)."""
    check_sizes(folder, files)
    for name, entry in files.items():
        found = sha256_file(folder / name)
        if found != entry["sha256"]:
            raise ManifestMismatch(f"{folder / name} has SHA-256 {found}, the manifest expects {entry['sha256']}")
