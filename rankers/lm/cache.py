"""Answers kept in a SQLite file, so that a run that was killed goes on where it stopped and a repeated one is free.

An answer is kept under a hash of everything it depends on: the model's fingerprint, the sampling, the constraint and
the messages.  Errors are not kept, and neither is an answer that another call would not give again (a temperature
above 0 without a seed).  Any number of processes may share a file; each answer is on the disk before it is returned.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from threading import Event

from unabridged.contracts import JSON
from unabridged.encoders._hashes import canonical_sha256
from unabridged.errors import DiskFull, ResourceError, ValidationError
from unabridged.rankers.lm.contracts import Completion, Constraint, LanguageModel, Outcome, Prompt, Sampling, Usage
from unabridged.rankers.lm.wrapped import Wrapped

FORMAT = 1
BUSY_SECONDS = 60.0
"""How long a process waits for another one that is writing."""
CHUNK = 16
"""Prompts that are asked for together: what a kill can lose."""


class ResponseCache:
    """Key to answer, in the file ``path``; safe to share by threads and processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResourceError(f"{path} cannot be used: {error}. Name a file where you may write.") from error
        with self._connection() as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version not in (0, FORMAT):
                raise ValidationError(
                    f"{path} is a response cache of format {version}, this version reads format {FORMAT}. Name "
                    "another file."
                )
            database.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL)")
            database.execute(f"PRAGMA user_version = {FORMAT}")

    def __len__(self) -> int:
        """Answers that are kept."""
        with self._connection() as database:
            return int(database.execute("SELECT COUNT(*) FROM answers").fetchone()[0])

    def get(self, key: str) -> Completion | None:
        """The answer, marked as cached and without attempts; None if there is none."""
        with self._connection() as database:
            row = database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        return None if row is None else _read(row[0], self.path)

    def put(self, key: str, answer: Completion) -> None:
        """Keeps ``answer``; of two for one key the first stays, so that readers agree."""
        with self._connection() as database:
            database.execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", (key, _written(answer)))

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            if not hasattr(self._local, "database"):
                self._local.database = self._open()
            # Commits, or rolls back if an error passes.
            with self._local.database as database:
                yield database
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                raise DiskFull(f"No room left on the disk while writing {self.path}.") from error
            raise ResourceError(f"{self.path} cannot be used: {error}. Check that it may be written.") from error
        except sqlite3.DatabaseError as error:
            raise ValidationError(f"{self.path} is no response cache ({error}). Name another file.") from error

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=BUSY_SECONDS)
        # Readers do not wait for the writer, and a kill at any moment loses nothing that was committed.
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        return database


class CachedModel(Wrapped):
    """``model``, asked only for what ``cache`` does not hold; equal prompts of one call are asked once."""

    def __init__(self, model: LanguageModel, cache: ResponseCache, *, chunk: int = CHUNK) -> None:
        super().__init__(model)
        self.cache = cache
        self._chunk = chunk

    def complete(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        constraint: Constraint | None = None,
        cancel: Event | None = None,
    ) -> list[Outcome]:
        """One outcome per prompt, from the cache where it is there."""
        if not sampling.repeatable:
            return self.model.complete(prompts, sampling, constraint=constraint, cancel=cancel)
        keys = [answer_key(self.fingerprint, prompt, sampling, constraint) for prompt in prompts]
        known: dict[str, Outcome] = {}
        missing: dict[str, Prompt] = {}
        for key, prompt in zip(keys, prompts, strict=True):
            if key not in known and key not in missing:
                found = self.cache.get(key)
                if found is None:
                    missing[key] = prompt
                else:
                    known[key] = found
        todo = list(missing)
        asked: set[str] = set()
        for start in range(0, len(todo), self._chunk):
            part = todo[start : start + self._chunk]
            outcomes = self.model.complete(
                [missing[key] for key in part], sampling, constraint=constraint, cancel=cancel
            )
            for key, outcome in zip(part, outcomes, strict=True):
                known[key] = outcome
                if isinstance(outcome, Completion) and outcome.finish != "filtered":
                    self.cache.put(key, outcome)
                    asked.add(key)
        return [self._shared(key, known[key], asked) for key in keys]

    def _shared(self, key: str, outcome: Outcome, asked: set[str]) -> Outcome:
        """The outcome for the first prompt that asked, and a cached one for those that asked the same."""
        if key in asked:
            asked.discard(key)
            return outcome
        return _from_cache(outcome) if isinstance(outcome, Completion) and outcome.finish != "filtered" else outcome


def answer_key(fingerprint: str, prompt: Prompt, sampling: Sampling, constraint: Constraint | None) -> str:
    """SHA-256 of everything that an answer depends on."""
    asked: dict[str, JSON] = {
        "model": fingerprint,
        "messages": [[message.role, message.content] for message in prompt],
        "sampling": asdict(sampling),
        "constraint": None if constraint is None else [type(constraint).__name__, asdict(constraint)],
    }
    return canonical_sha256(asked)


def _from_cache(answer: Completion) -> Completion:
    return replace(answer, cached=True, attempts=0, seconds=0.0)


def _written(answer: Completion) -> str:
    return json.dumps(asdict(answer), ensure_ascii=False, sort_keys=True)


def _read(text: str, path: Path) -> Completion:
    try:
        facts: Mapping[str, JSON] = json.loads(text)
        usage = facts["usage"]
        return _from_cache(Completion(**{**facts, "usage": None if usage is None else Usage(**usage)}))
    except (ValueError, TypeError, KeyError) as error:
        raise ValidationError(f"{path} holds an answer that cannot be read ({error}). Name another file.") from error
