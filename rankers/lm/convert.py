"""A GGUF file as a model folder with safetensors: converted once, kept, and found again by the file's SHA-256.

transformers needs half a minute and more to unpack a GGUF file, and a second or two to load what comes out of it.
The folder appears whole or not at all, and of several processes that want it one converts and the others wait.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from unabridged._extras import require
from unabridged.contracts import JSON
from unabridged.encoders._hashes import files_sha256
from unabridged.encoders._torch import quiet
from unabridged.errors import MissingFile, ValidationError
from unabridged.files import disk_errors, sha256_files, sync_file, sync_folder, write_atomic
from unabridged.rankers.lm.places import cache_folder

FORMAT = 1
"""Raised when the folder comes out differently, so that an older one is made again."""
RECORD = "conversion.json"
LARGEST_FLOAT16 = 65504.0
MAGIC = b"GGUF"

logger = logging.getLogger(__name__)
Notify = Callable[[str], None]


def converted(file: Path, *, cache: Path | None = None, notify: Notify | None = None) -> Path:
    """The model folder of a GGUF file, in ``cache`` (None: :func:`~unabridged.rankers.lm.places.cache_folder`).

    ``notify`` is given one sentence before a conversion starts.  :class:`ValidationError` if the file is no GGUF file
    or transformers cannot read what is in it.
    """
    place = conversion_folder(file, cache=cache)
    place.parent.mkdir(parents=True, exist_ok=True)
    locks = require("filelock", extra="llm-local")
    with locks.FileLock(place.with_name(f"{place.name}.lock")):
        if not _is_whole(place):
            (notify or logger.info)(
                f"Converting {file.name} into a folder that loads faster: once, about half a minute to two minutes."
            )
            _convert(file, place)
    return place


def conversion_folder(file: Path, *, cache: Path | None = None) -> Path:
    """Where the conversion of a GGUF file lies once it is made: by the file's name, SHA-256 and the format."""
    if not file.is_file():
        raise MissingFile(f"There is no GGUF file at {file}.")
    with file.open("rb") as opened:
        if opened.read(len(MAGIC)) != MAGIC:
            raise ValidationError(f"{file} is no GGUF file: it does not begin with {MAGIC.decode()}.")
    return (cache or cache_folder()) / "models" / f"{file.stem}-{files_sha256([file])[:16]}-{FORMAT}"


def _is_whole(place: Path) -> bool:
    """Whether ``place`` holds every file that its record names, byte by byte."""
    try:
        record = json.loads((place / RECORD).read_text(encoding="utf-8"))
        expected = {str(name): str(digest) for name, digest in record["files"].items()}
        return all(files_sha256([place / name]) == digest for name, digest in expected.items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        # Absent, cut off or edited: it is made again.
        return False


def _convert(file: Path, place: Path) -> None:
    work = place.with_name(place.name + ".tmp")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        with disk_errors(place):
            facts = _write(file, work)
            record = {
                "format": FORMAT,
                "source": file.name,
                "sha256": files_sha256([file]),
                **facts,
                "files": sha256_files(work),
            }
            for path in work.iterdir():
                sync_file(path)
            write_atomic(work / RECORD, json.dumps(record, indent=1).encode())
            shutil.rmtree(place, ignore_errors=True)
            work.replace(place)
            sync_folder(place.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write(file: Path, folder: Path) -> dict[str, JSON]:
    """Writes model and tokenizer; returns the precision, and how far rounding to it moved a weight."""
    transformers = require("transformers", extra="llm-local", purpose="GGUF files")
    for module in ("gguf", "accelerate"):
        require(module, extra="llm-local", purpose="GGUF files")
    torch = require("torch", extra="llm-local", purpose="GGUF files")
    here = {"gguf_file": file.name, "local_files_only": True}
    try:
        with quiet(transformers), _silent(transformers):
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(file.parent), **here)
            model = transformers.AutoModelForCausalLM.from_pretrained(str(file.parent), dtype=torch.float32, **here)
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        raise ValidationError(f"transformers cannot read {file}: {error}") from error
    state = model.state_dict()
    largest = max(float(tensor.abs().max()) for tensor in state.values())
    precision = "float16" if largest <= LARGEST_FLOAT16 else "bfloat16"
    kind = getattr(torch, precision)
    moved = max(float((tensor.to(kind).float() - tensor).abs().max()) for tensor in state.values())
    config = model.config
    # What was packed in the file is unpacked here; the note would make transformers look for it again.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        plain = transformers.AutoModelForCausalLM.from_config(config, dtype=kind)
    plain.load_state_dict({name: tensor.to(kind) for name, tensor in state.items()}, assign=True)
    plain.tie_weights()
    plain.generation_config = model.generation_config
    with quiet(transformers):
        plain.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return {"precision": precision, "largest_weight": largest, "largest_change": moved}


@contextlib.contextmanager
def _silent(transformers: Any) -> Iterator[None]:
    """Without transformers' advice on kernels that unpacking does not need; the caller's level is restored."""
    log = transformers.utils.logging
    level = log.get_verbosity()
    log.set_verbosity_error()
    try:
        yield
    finally:
        log.set_verbosity(level)
