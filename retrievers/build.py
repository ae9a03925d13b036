"""Corpus + encoder -> index folder: resumable, by content, in constant memory.

One pass counts and finds duplicate ids (``unabridged.corpora.scan``); a second pass encodes what is not
known yet, unit by unit, into staged shards (``staging``); then one commit makes dense vectors, BM25 and
ledger visible at one instant (``commit``).  A run that continues an interrupted one is the same code path.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from unabridged.contracts import Corpus, Encoder, Mask, Passport
from unabridged.corpora import scan
from unabridged.encoders.load import check_passport
from unabridged.errors import CorpusError, MissingFile, UsageError
from unabridged.files import disk_errors
from unabridged.halving import memory_report
from unabridged.index.dense.gpu import checked
from unabridged.index.shard import ShardWriter
from unabridged.manifest import NAME, load_manifest
from unabridged.progress import Listener, Meter
from unabridged.retrievers.commit import commit
from unabridged.retrievers.engines.choice import LOCAL, Engine, Prepared
from unabridged.retrievers.failures import FailureLog
from unabridged.retrievers.fill import Counts, Expected, Filler
from unabridged.retrievers.known import Known
from unabridged.retrievers.ledger import LedgerLine, read_ledger
from unabridged.retrievers.lexical import write_lexical
from unabridged.retrievers.lock import locked
from unabridged.retrievers.settings import BuildSettings, check_same, work_identity
from unabridged.retrievers.staging import Staging
from unabridged.retrievers.state import IndexState
from unabridged.retrievers.verified import check_files

UNITS = "units"
"""Folder, in that of work in progress, for units that other processes have encoded and the index does not have yet."""


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did.  Counts of documents; tokens are the encoder's content tokens over the whole index."""

    documents: int
    added: int
    updated: int
    unchanged: int
    deleted: int
    missing_kept: int
    failed: int
    failed_reasons: dict[str, int]
    skipped: dict[str, int]
    tokens_total: int
    tokens_seen: int
    truncated: int
    empty: int
    vectors: int
    reused_vectors: int
    index: dict[str, Any]
    seconds: float
    splits: dict[str, int] = field(default_factory=dict)
    """Documents by how they were cut, where the encoder tells it: ``syntax: python``, ``lines``, ``whole``, ..."""
    left_out: int = 0
    """Documents of which tokens were left out as asked; these tokens count neither as seen nor as truncated."""
    tokens_left_out: int = 0
    memory: list[dict[str, Any]] = field(default_factory=list)
    """What memory did to the batches, for each device (:class:`unabridged.halving.MemoryUse`); no part of the index."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def build(  # noqa: PLR0913 - what is built of what, and three ways to take part in it
    corpus: Corpus,
    encoder: Encoder,
    out: str | Path,
    *,
    options: Mapping[str, Any] | None = None,
    add: bool = False,
    delete_missing: bool = False,
    listener: Listener | None = None,
    begin: Callable[[], None] | None = None,
    engine: Engine = LOCAL,
    index_device: str = "auto",
) -> BuildReport:
    """Brings the index folder ``out`` to hold the documents of ``corpus`` and returns what was done.

    Documents whose text and metadata are already there are left alone, changed ones are replaced, new ones
    are added.  With ``delete_missing`` documents that the corpus does not name are removed.  ``add`` says
    that the index exists already and keeps its settings.  Killed at any moment, the same call continues.
    ``begin`` is called when all that could be refused has been looked at, before the first text is encoded.
    ``engine`` says which processes encode (:mod:`unabridged.retrievers.engines.choice`); the folder is the same.
    ``index_device`` may help to build approximate indexes (:mod:`unabridged.index.dense.gpu.request`); a GPU finds
    other lists than the CPU, so their files have other bytes, and the manifest says where they were built.

    Raises:
        MissingExtra, ResourceError: ``index_device`` asks for a GPU and there is none that FAISS can use.
        DuplicateId, CorpusError: the corpus names an id twice, or has no readable document.
        PassportMismatch: the folder was built with another encoder or other settings.
        IndexLocked: another process is writing the folder.
        DiskFull: what was finished is kept.
    """
    folder = Path(out)
    if add and not (folder / NAME).is_file():
        raise UsageError(f"There is no finished index at {folder} to add to. Leave out --add to build one.")
    if not isinstance(encoder, Encoder):
        raise UsageError(f"expected an encoder or the name of one, got {type(encoder).__name__}")
    checked(index_device)
    prepared = engine.prepared(encoder)
    with disk_errors(folder):
        make_folder(folder)
        with locked(folder):
            before, state = current_state(folder, encoder.passport, options or {})
            return _Build(corpus, prepared, folder, before, state).run(listener, delete_missing, begin, index_device)


class _Build:
    """One run of :func:`build`; the state that its steps share."""

    def __init__(
        self, corpus: Corpus, prepared: Prepared, folder: Path, before: IndexState | None, state: IndexState
    ) -> None:
        self.started = time.monotonic()
        self.corpus, self.prepared, self.folder = corpus, prepared, folder
        self.encoder = prepared.encoder
        self.before, self.state = before, state
        self.settings = state.settings

    def run(
        self,
        listener: Listener | None,
        delete_missing: bool,
        begin: Callable[[], None] | None,
        index_device: str,
    ) -> BuildReport:
        """Scan, fill, commit."""
        found = Expected.of(scan(self.corpus))
        identity = work_identity(self.encoder.passport, self.settings)
        staging = Staging(self.folder, identity, self.state.generation, self._writer, self._finish_shard)
        failures = FailureLog(self.folder, forget_others=delete_missing)
        try:
            if begin is not None:
                begin()
            counts, alive = self._fill(found, staging, failures, listener, delete_missing)
            state = commit(self.folder, self.before, self.state, staging.finished, alive, index_device=index_device)
            failures.finish()
            staging.remove()
        except BaseException:
            staging.abandon()
            failures.abandon()
            raise
        return self._report(state, counts, failures)

    def _fill(
        self, found: Expected, staging: Staging, failures: FailureLog, listener: Listener | None, delete_missing: bool
    ) -> tuple[Counts, Mask]:
        """Encodes what is missing; returns which documents live on, over committed and then staged shards."""
        staged = staging.shards
        before = self.state.rows + sum(len(shard.array("keys")) for shard in staged)
        alive = np.ones(before, bool)
        alive[: self.state.rows] = self.state.alive(self.folder)
        identity = work_identity(self.encoder.passport, self.settings)
        filler = Filler(
            encoding=self.prepared.open(self.settings, staging.work / UNITS, identity),
            known=Known([*self.state.shards(self.folder), *staged], alive),
            staging=staging,
            failures=failures,
            meter=Meter(found.documents, found.characters, listener),
            repeated=found.repeated,
            committed=self.state.rows,
        )
        with contextlib.closing(filler.encoding):
            for item in self.corpus:
                filler.take(item)
            filler.flush()
        self._check_stable(found, filler)
        staging.close_shard()
        total = sum(int(entry["documents"]) for entry in staging.finished)
        return filler.counts, filler.alive(total, delete_missing=delete_missing)

    @staticmethod
    def _check_stable(found: Expected, filler: Filler) -> None:
        """Refuses to commit when the second pass over the corpus was not the first one again."""
        if (filler.documents, filler.key_sum) != (found.documents, found.key_sum):
            raise CorpusError(
                f"The corpus changed while it was read: {found.documents:,} documents at first, then "
                f"{filler.documents:,}, or other texts. Nothing was committed; run the same command again."
            )

    def _writer(self, folder: Path) -> ShardWriter:
        return ShardWriter(folder, level=self.settings.level, dim=self.encoder.dim, dtype=self.settings.vector_dtype)

    def _finish_shard(self, folder: Path) -> None:
        write_lexical(folder, self.settings)

    def _report(self, state: IndexState, counts: Counts, failures: FailureLog) -> BuildReport:
        body = state.summary()
        return BuildReport(
            documents=body["documents"],
            added=counts.added,
            updated=counts.updated,
            unchanged=counts.unchanged,
            deleted=counts.deleted,
            missing_kept=counts.missing_kept,
            failed=len(failures),
            failed_reasons=dict(failures.reasons),
            skipped=skipped_of(self.corpus),
            tokens_total=body["tokens_total"],
            tokens_seen=body["tokens_seen"],
            truncated=body["truncated"],
            empty=body["empty"],
            vectors=body["vectors"],
            reused_vectors=counts.reused,
            index=body["index"],
            seconds=round(time.monotonic() - self.started, 3),
            splits=self._splits(state),
            left_out=body.get("left_out", 0),
            tokens_left_out=body.get("tokens_left_out", 0),
            memory=[use.as_json() for use in memory_report(self.encoder)],
        )

    def _splits(self, state: IndexState) -> dict[str, int]:
        shards = state.shards(self.folder)
        if not any(shard.noted for shard in shards):
            return {}
        return splits_of(read_ledger(shards, state.alive(self.folder), self.settings.overflow.value))


def skipped_of(corpus: Corpus) -> dict[str, int]:
    """Files and folders that a corpus left aside, by reason (hidden, binary, link, ...)."""
    skipped = getattr(corpus, "skipped", None)
    return {} if skipped is None else dict(skipped.counts)


def splits_of(ledger: Iterable[LedgerLine]) -> dict[str, int]:
    """Documents by how they were cut, the reasons for which some fell to lines aside; nothing where nobody tells."""
    counts = Counter(_way(line.split) for line in ledger if line.split)
    return dict(sorted(counts.items()))


def _way(split: str) -> str:
    way, _, _ = split.partition(":")
    return way if way in ("lines", "whole") else split


def make_folder(folder: Path) -> None:
    """Creates the index folder.

    Raises:
        MissingFile: the path is a file, or lies where nothing can be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise MissingFile(f"{folder} cannot be an index folder: {error.strerror}") from error


def current_state(folder: Path, passport: Passport, options: Mapping[str, Any]) -> tuple[IndexState | None, IndexState]:
    """The state of ``folder`` as committed (None before the first commit), and with the options of this run.

    Options that are not given keep what the index has, or take the defaults for a new one.
    """
    if not (folder / NAME).is_file():
        return None, IndexState.empty(BuildSettings(**options), passport)
    state = IndexState.from_manifest(load_manifest(folder))
    check_files(folder, state)
    check_passport(state.passport, passport)
    asked = replace(state.settings, **options)
    check_same(state.settings, asked)
    return state, replace(state, settings=asked)
