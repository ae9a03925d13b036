"""The two functions that most programs need: build an index folder, open one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set, ValuesView
from pathlib import Path
from typing import Any

from unabridged.contracts import Corpus, Document, Encoder, Level, OverflowPolicy
from unabridged.corpora import ListCorpus, read_corpus
from unabridged.errors import UsageError
from unabridged.manifest import NAME, load_manifest
from unabridged.progress import Listener
from unabridged.retrievers.build import build
from unabridged.retrievers.engines.choice import Engine
from unabridged.retrievers.opened import Index
from unabridged.retrievers.settings import BuildSettings
from unabridged.retrievers.state import IndexState

Item = Document | Mapping[str, Any] | str
Documents = Corpus | Sequence[Item] | Iterator[Item]


def encoder_for(folder: Path, encoder: Encoder | str | Path | None, **options: Any) -> Encoder:
    """The encoder to use for ``folder``: the given one, else the one of an index that is there, else the default."""
    from unabridged.encoders.load import encoder_from_passport, load_encoder

    if encoder is not None and not isinstance(encoder, (str, Path)):
        return encoder
    if encoder is None and not options and (folder / NAME).is_file():
        return encoder_from_passport(IndexState.from_manifest(load_manifest(folder)).passport)
    return load_encoder(encoder, **options)


def settings_from(options: Mapping[str, Any]) -> dict[str, Any]:
    """The build options that were given, as fields of :class:`BuildSettings`; the others keep what they are."""
    given = {name: value for name, value in options.items() if value is not None}
    unknown = sorted(set(given) - set(BuildSettings.__dataclass_fields__))
    if unknown:
        raise UsageError(f"unknown build option {unknown[0]!r}; known: {', '.join(BuildSettings.__dataclass_fields__)}")
    try:
        if "level" in given:
            given["level"] = Level(given["level"])
        if "overflow" in given:
            given["overflow"] = OverflowPolicy(given["overflow"])
    except ValueError as error:
        known = "levels are doc, segment, both; policies split, aggregate, warn, truncate, error"
        raise UsageError(f"{error}; {known}") from error
    if given.get("overflow") is OverflowPolicy.AGGREGATE:
        given.setdefault("level", Level.DOC)
    return given


def corpus_from(source: Documents | str | Path) -> Corpus:
    """Whatever names documents, as a corpus: paths are read, items in memory are listed.

    Raises:
        UsageError: a single document, or something that is no iterable.
    """
    if isinstance(source, (str, Path)):
        return read_corpus(source)
    if isinstance(source, (Document, Mapping)) or not hasattr(source, "__iter__"):
        raise UsageError(f"expected a corpus, a path or an iterable of documents, got one {type(source).__name__}")
    in_memory = isinstance(source, (Sequence, Set, ValuesView, Iterator)) or hasattr(source, "tolist")
    return ListCorpus(source) if in_memory else source  # type: ignore[return-value, arg-type]


def build_index(  # noqa: PLR0913 - the one front door: each option is documented on the part that it reaches
    corpus: Documents | str | Path,
    encoder: Encoder | str | Path | None = None,
    out: str | Path = "index",
    *,
    add: bool = False,
    delete_missing: bool = False,
    device: str | None = None,
    progress: Listener | None = None,
    engine: str = "local",
    workers: int | None = None,
    address: str | None = None,
    threads: int | None = None,
    factory: str | None = None,
    shared: bool | None = None,
    index_device: str = "auto",
    **options: Any,
) -> Index:
    """Builds, continues or updates the index folder ``out`` and returns it open; ``.report`` says what was done.

    ``corpus`` is what ``read_corpus`` returns, a path for it, or any iterable of documents, dicts or strings.
    Without an encoder the one of the index, or the embedded default, is used.  ``options`` are the fields of
    :class:`~unabridged.retrievers.settings.BuildSettings` (level, overflow, recipe, ...).

    ``engine`` is ``local``, ``pool`` (``workers`` processes of this machine) or ``ray`` (here, or a cluster at
    ``address``), which build the same folder; it and the options from ``workers`` on are the fields of
    :class:`~unabridged.retrievers.engines.choice.Engine`.  ``index_device`` is where approximate indexes are built and
    the index is opened: ``auto``, ``cpu``, ``cuda``, ``cuda:0,1`` (:mod:`unabridged.index.dense.gpu.request`).

    Raises: see :func:`unabridged.retrievers.build.build`.
    """
    folder = Path(out)
    who = Engine(engine, workers, address, threads, factory, shared)
    chosen = encoder_for(folder, encoder, **({} if device is None else {"device": device}))
    report = build(
        corpus_from(corpus),
        chosen,
        folder,
        options=settings_from(options),
        add=add,
        delete_missing=delete_missing,
        listener=progress,
        engine=who,
        index_device=index_device,
    )
    return Index(folder, encoder=chosen, build_report=report, device=index_device)


def open_index(
    folder: str | Path,
    *,
    encoder: Encoder | str | Path | None = None,
    verify: bool | None = None,
    backend: str | None = None,
    device: str = "auto",
) -> Index:
    """Opens an index folder for search; ``verify=True`` reads and checks every byte first, False only sizes.

    Without ``encoder`` the one named in the passport is loaded at the first dense search; one that is given
    must have the fingerprint of the passport, wherever it was loaded from.  With ``backend``, the address of an engine
    or ``remembered``, that engine finds the candidates (:class:`~unabridged.retrievers.backends.opened.BackendIndex`).
    ``device`` is where the folder's own vectors are searched: ``auto`` (a GPU where one holds them and it pays),
    ``cpu``, ``cuda``, ``cuda:0,1``, and more (:mod:`unabridged.index.dense.gpu.request`); scores are the same.

    Raises:
        MissingExtra, ResourceError: ``device`` asks for a GPU and there is none that FAISS can use.
        MissingFile: there is no such folder.
        ManifestMismatch: the folder is no index, unfinished, truncated or damaged.
        PassportMismatch: ``encoder`` is not the encoder of the index, or of what the engine holds.
        BackendUnreachable, BackendMismatch: the engine does not answer, or holds another state of the index.
    """
    chosen = None if encoder is None else encoder_for(Path(folder), encoder)
    if backend is not None:
        from unabridged.index.backends import connect
        from unabridged.retrievers.backends.opened import BackendIndex
        from unabridged.retrievers.backends.remembered import address_of

        return BackendIndex(folder, connect(address_of(Path(folder), backend)), encoder=chosen, verify=verify)
    return Index(folder, encoder=chosen, verify=verify, device=device)
