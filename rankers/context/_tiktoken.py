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
    if not network and not all((folder / _cached(part)).is_file() for part in _FILES[name]):
        raise MissingFile(
            f"The vocabulary of {name} is not in {folder}, and the network was not allowed: pass --network on the "
            "command line or network=True in Python, or set TIKTOKEN_CACHE_DIR to a folder that has it."
        )
    try:
        return tiktoken.get_encoding(name)
    except (OSError, ValueError) as error:  # those of its HTTP client are OSErrors
        raise RuntimeFailure(f"The vocabulary of {name} could not be loaded: {error}") from error


def cache_folder() -> Path:
    """Where tiktoken keeps what it downloads."""
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if variable in os.environ:
            return Path(os.environ[variable])
    return Path(tempfile.gettempdir()) / "data-gym-cache"


def _cached(part: str) -> str:
    return hashlib.sha1(f"{_PLACE}/{part}".encode()).hexdigest()  # the name of a file
