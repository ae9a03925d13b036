"""What a worker does, whoever started it: loads the encoder once, then texts of units to bytes of unit files."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unabridged import errors
from unabridged.contracts import Encoder, Level, OverflowPolicy
from unabridged.errors import RuntimeFailure, UnabridgedError
from unabridged.index.shard import Record
from unabridged.retrievers.engines.spec import EncoderSpec
from unabridged.retrievers.engines.unit_files import Fault, Finished, pack, write_unit
from unabridged.retrievers.units import encode_unit, encode_with

WARM_UP = "a text"
"""Encoded before the first unit: what is missing for encoding at all is the worker's fault and not a text's."""


@dataclass(frozen=True, slots=True)
class Job:
    """What all units of one build have in common, as plain values: what a worker is started with."""

    encoder: EncoderSpec
    level: Level
    overflow: OverflowPolicy
    threads: int | None
    """Of torch and of what it calls, in each worker; None leaves them as they are."""
    folder: str | None
    """Where finished units go; None: they are sent back."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "encoder": self.encoder.as_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Job:
        """What :meth:`as_json` gave, after a journey as JSON."""
        given = {**values, "level": Level(values["level"]), "overflow": OverflowPolicy(values["overflow"])}
        return cls(**{**given, "encoder": EncoderSpec.from_json(values["encoder"])})


@dataclass(frozen=True, slots=True)
class Problem:
    """An error that ends the build, on its way from a worker to the process that writes the index."""

    kind: str
    message: str

    @classmethod
    def of(cls, error: Exception) -> Problem:
        """``error`` with the name of this machine; a package that is missing is named with it."""
        host = socket.gethostname()
        if isinstance(error, ImportError) and not isinstance(error, UnabridgedError):
            return cls("MissingExtra", f"{error.name or 'a package'} cannot be imported on {host}: {error}")
        kind = type(error).__name__ if isinstance(error, UnabridgedError) else RuntimeFailure.__name__
        said = str(error) if isinstance(error, UnabridgedError) else f"{type(error).__name__}: {error}"
        return cls(kind, f"{said} (worker {os.getpid()} on {host})")

    def error(self) -> UnabridgedError:
        """The typed error again; :class:`RuntimeFailure` for a type not known here, or one that needs more."""
        kind = getattr(errors, self.kind, None)
        if isinstance(kind, type) and issubclass(kind, UnabridgedError):
            with contextlib.suppress(TypeError):
                made: UnabridgedError = kind(self.message)
                return made
        return RuntimeFailure(self.message)


class Worker:
    """Encodes units in this process."""

    def __init__(self, job: Job) -> None:
        """Loads the encoder and encodes one word with it.

        Raises:
            UnabridgedError, ImportError: whatever is wrong here for any text.
        """
        self._folder = None if job.folder is None else Path(job.folder)
        encoder = job.encoder.load()
        if job.threads is not None and not isinstance(encoder, _weightless()):
            _set_threads(job.threads)
        encoder.encode_documents([WARM_UP])
        self._encode = encode_with(encoder, job.level, job.overflow)

    def run(self, name: str, texts: Sequence[str]) -> bytes | None:
        """Encodes the unit ``name``: its file is in the folder when this returns, or without one its bytes come back.

        Texts that cannot be encoded are named in the file and stop nothing.
        """
        records = [Record(str(row), text, b"", b"") for row, text in enumerate(texts)]
        _, encoded, failed = encode_unit(records, self._encode, lambda record: record.id)
        faults = tuple(Fault(int(failure.id), failure.reason, failure.message) for failure in failed)
        data = pack(name, Finished(len(texts), encoded, tuple(sorted(faults, key=lambda fault: fault.row))))
        if self._folder is None:
            return data
        write_unit(self._folder, name, data)
        return None


def _weightless() -> type[Encoder]:
    from unabridged.encoders.hashing import HashingEncoder

    return HashingEncoder


def _set_threads(threads: int) -> None:
    with contextlib.suppress(ModuleNotFoundError):
        import torch

        torch.set_num_threads(threads)
