"""Encodings of the package tiktoken, which would download their vocabularies without being asked."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unabridged.encoders._hashes import files_sha256
from unabridged.errors import MissingFile, RuntimeFailure
from unabridged.rankers.context.counting import missing_tiktoken

_PLACE = "https://openaipublic.blob.core.windows.net"
_FILES: Mapping[str, tuple[str, ...]] = {
    "gpt2": ("gpt-2/encodings/main/vocab.bpe", "gpt-2/encodings/main/encoder.json"),
    "r50k_base": ("encodings/r50k_base.tiktoken",),
    "p50k_base": ("encodings/p50k_base.tiktoken",),
    "p50k_edit": ("encodings/p50k_base.tiktoken",),
    "cl100k_base": ("encodings/cl100k_base.tiktoken",),
    "o200k_base": ("encodings/o200k_base.tiktoken",),
    "o200k_harmony": ("encodings/o200k_base.tiktoken",),
}
"""What each encoding reads, as the package names it; in its cache a file is called by the SHA-1 of its address."""
_SHA256: Mapping[str, str] = {
    "gpt-2/encodings/main/vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "gpt-2/encodings/main/encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "encodings/r50k_base.tiktoken": "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
    "encodings/p50k_base.tiktoken": "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
    "encodings/cl100k_base.tiktoken": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "encodings/o200k_base.tiktoken": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
}
"""Of these files.  The package deletes and fetches again what is another, without asking."""


def encoding(name: str, *, network: bool) -> Any:
    """The encoding of tiktoken called ``name``.

    Raises:
        MissingExtra: tiktoken is not installed.
        MissingFile: its vocabulary is not in the cache of tiktoken, and the network was not allowed.
        RuntimeFailure: the download failed.
    """
    if importlib.util.find_spec("tiktoken") is None:
        raise missing_tiktoken(name)
    tiktoken = importlib.import_module("tiktoken")
    folder = cache_folder()
    if not network and not all(_whole(folder, part) for part in _FILES[name]):
        where = "the cache, which is switched off" if folder is None else folder
        raise MissingFile(
            f"The vocabulary of {name} is not whole in {where}, and the network was not allowed: pass --network on the "
            "command line or network=True in Python, or set TIKTOKEN_CACHE_DIR to a folder that has it."
        )
    try:
        return tiktoken.get_encoding(name)
    except (OSError, ValueError) as error:  # those of its HTTP client are OSErrors
        raise RuntimeFailure(f"The vocabulary of {name} could not be loaded: {error}") from error


def cache_folder() -> Path | None:
    """Where tiktoken keeps what it downloads; None where it keeps nothing."""
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if variable in os.environ:
            return Path(os.environ[variable]) if os.environ[variable] else None
    return Path(tempfile.gettempdir()) / "data-gym-cache"


def _whole(folder: Path | None, part: str) -> bool:
    file = None if folder is None else folder / _cached(part)
    return file is not None and file.is_file() and files_sha256([file]) == _SHA256[part]


def _cached(part: str) -> str:
    return hashlib.sha1(f"{_PLACE}/{part}".encode()).hexdigest()  # the name of a file
