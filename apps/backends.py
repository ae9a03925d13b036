"""Search engines on the command line: which ``--backend`` is one, loading it, and what is told of it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from unabridged.apps.output import complain
from unabridged.apps.progress import duration
from unabridged.contracts import Encoder
from unabridged.errors import BackendMismatch, UsageError
from unabridged.index.backends import Address, Recorded, connect, parse_address
from unabridged.index.backends.address import is_address
from unabridged.retrievers.backends.load import LoadReport, check_layout, facts, sync
from unabridged.retrievers.backends.opened import BackendIndex
from unabridged.retrievers.backends.remembered import REMEMBERED, address_of, remember, remembered
from unabridged.retrievers.opened import Index

WORD = re.compile(r"[A-Za-z][\w.-]*")
"""What names a way to run a model."""


def split_backends(asked: Sequence[str] | None) -> tuple[str | None, Address | None]:
    """What runs the model, and where the engine is: ``--backend`` names both, told apart by the ``://``.

    Raises:
        UsageError: two of one kind, or an address that is none.
    """
    values = list(asked or ())
    engines = [value for value in values if is_address(value)]
    runs = [value for value in values if not is_address(value)]
    if len(engines) > 1 or len(runs) > 1:
        raise UsageError(
            f"--backend names at most one engine and one way to run the model; found {len(engines)} and {len(runs)}"
        )
    if REMEMBERED in runs:
        raise UsageError(f"--backend {REMEMBERED} is for search: index takes the engine's address")
    if any(not WORD.fullmatch(value) for value in runs):  # not shown: an address that lost its slashes has a password
        raise UsageError(
            "--backend is a word such as onnx, or an engine's address, as milvus://… or postgresql://…; found neither"
        )
    return (runs[0] if runs else None), (parse_address(engines[0]) if engines else None)


def check_engine(address: Address, encoder: Encoder) -> None:
    """Raises now what would otherwise be raised after hours of encoding.

    Raises:
        MissingExtra, BackendUnreachable, BackendMismatch: see :func:`unabridged.index.backends.connect.connect`.
        PassportMismatch: the collection holds vectors of another encoder.
    """
    backend = connect(address)
    try:
        recorded = backend.recorded()
        if recorded is not None:
            passport = encoder.passport
            check_layout(recorded, passport.fingerprint, passport.dim, passport.source, backend.shown)
            if recorded.layout.texts != address.texts:
                found, asked = (
                    "texts=yes" if texts else "no texts" for texts in (recorded.layout.texts, address.texts)
                )
                raise BackendMismatch(
                    f"{backend.shown} was made with {found}, and {asked} is asked for: ask as it was made, or name "
                    "another collection"
                )
    finally:
        backend.close()


def check_owner(index: Index, recorded: Recorded | None, address: Address) -> None:
    """Raises where the collection holds another folder's rows, which a load would remove.

    It is this folder's if they share a shard, or if the folder noted it when it was loaded.

    Raises:
        BackendMismatch: with what is there.
    """
    own = {str(entry["name"]) for entry in index.state.shard_entries}
    if recorded is None or not recorded.shards or own & set(recorded.shards) or _noted(index.folder, address):
        return
    held = facts(recorded)
    raise BackendMismatch(
        f"{address.shown} holds {held['documents']:,} documents in {held['shards']:,} shards of another index, none of "
        f"which is in {index.folder}, and loading would remove them: name another collection, or drop that one in "
        "Python: unabridged.index.backends.connect(address).drop()"
    )


def _noted(folder: Path, address: Address) -> bool:
    """Whether the folder remembers this collection, by whatever options."""
    with contextlib.suppress(UsageError):
        noted = remembered(folder)
        if noted is not None:
            return _collection(parse_address(noted)) == _collection(address)
    return False


def _collection(address: Address) -> tuple[str, ...]:
    return address.scheme, address.place, address.database, address.collection


def load_engine(folder: Path, address: Address, *, quiet: bool) -> LoadReport:
    """Brings the engine to the state of the folder, and notes it there without its account.

    Raises:
        BackendMismatch: the collection is another folder's, see :func:`check_owner`; and as ``sync``.
    """
    tell: Callable[[str], None] | None = None if quiet else complain
    backend = connect(address)
    try:
        index = Index(folder)
        check_owner(index, backend.recorded(), address)
        report = sync(index, backend, texts=address.texts, tell=tell)
    finally:
        backend.close()
    remember(folder, address)
    return report


def open_with(folder: Path, asked: str, encoder: Encoder | None) -> BackendIndex:
    """The index with the engine that ``--backend`` asks for."""
    return BackendIndex(folder, connect(address_of(folder, asked)), encoder=encoder)


def told(report: LoadReport) -> str:
    """A load, for people."""
    lines = [
        f"{report.backend} at {report.address}: generation {report.generation}, {report.loaded_shards} shards loaded, "
        f"{report.kept_shards} kept, {report.removed_shards} removed"
    ]
    if report.loaded_shards:
        lines.append(
            f"{report.documents:,} documents and {report.segments:,} segments loaded in "
            f"{duration(report.load_seconds)} ({report.rows_per_second:,.0f} rows/s), index in "
            f"{duration(report.finish_seconds)}"
        )
    kinds = ", ".join(f"{which} by {facts.get('index')}" for which, facts in report.structure.items())
    recall = f"recall@10 {report.recall_at_10}" if report.recall_at_10 is not None else "recall not measured"
    lines.append(f"{kinds}; {recall} ({report.recall_note})")
    lines.append("search it with: --backend remembered")
    return "\n".join(lines)


def said_of(index: BackendIndex) -> str:
    """One line about what the engine did, and what the folder had to do in its place."""
    facts = index.applied()
    kinds = ", ".join(f"{which} by {one['index']}" for which, one in facts["applied"].items())
    here = [f"{count} x {what}" for what, count in facts.items() if what.startswith("exact scan here")]
    return "; ".join([f"candidates from {index.backend.name}: {kinds or 'none'}", *here])
