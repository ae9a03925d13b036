"""``read_corpus``: files, globs, folders and stdin as one stream of documents."""

from __future__ import annotations

import glob
import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from unabridged.contracts import Document, Failure
from unabridged.corpora._code import is_code
from unabridged.corpora._fields import FieldMap, Item, Options
from unabridged.corpora._folders import Skipped, beir_file, corpus_parts, is_binary, table_format, walk
from unabridged.corpora._readers import NEEDS, check_format, format_of, is_other_format, read_item
from unabridged.corpora._spool import remove, spool
from unabridged.errors import MissingFile, UsageError

STDIN = "-"


@dataclass(frozen=True, slots=True)
class _Source:
    """A file, or a folder to be walked again at each pass.  ``format`` is None in a folder of texts."""

    path: Path
    shown: str
    format: str | None
    is_folder: bool
    prefix: str = ""


class FileCorpus:
    """Documents of files, in the order the sources were given; folders and globs are sorted.

    Each iteration opens the files anew and holds one document (one batch of a table) at a time.  ``skipped``
    tells what the latest iteration did not read.  :meth:`close` removes the copy of standard input, which
    also happens when the corpus is dropped or the process ends.
    """

    def __init__(self, sources: list[_Source], options: Options, spooled: list[Path]) -> None:
        self._sources, self._options = sources, options
        self.skipped = Skipped()
        self._remove = weakref.finalize(self, _remove_all, spooled, os.getpid())

    def __iter__(self) -> Iterator[Document | Failure]:
        self.skipped = Skipped()
        return self._read(self.skipped)

    def _read(self, skipped: Skipped) -> Iterator[Document | Failure]:
        for source in self._sources:
            if source.is_folder:
                yield from _read_folder(source, self._options, skipped)
            else:
                item = Item(source.path, source.shown, source.shown)
                yield from read_item(item, source.format or "text", self._options)

    def close(self) -> None:
        """Removes temporary files; the corpus cannot be read again if it came from standard input."""
        self._remove()

    def __enter__(self) -> FileCorpus:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_corpus(  # noqa: PLR0913 - the front door: each option is documented below
    *sources: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002 - the word users know
    id_field: str | None = None,
    text_field: str | None = None,
    title_field: str | None = None,
    metadata: bool = True,
    pdf_timeout: float = 60,
    pdf_memory_mb: int = 1024,
    max_file_mb: float | None = None,
    skip_generated: bool = False,
) -> FileCorpus:
    """The documents of files, globs, folders or ``"-"`` (standard input) as a stream that can be iterated again.

    Iterating yields a :class:`~unabridged.contracts.Document`, or a :class:`~unabridged.contracts.Failure` for
    what could not be read; it never stops at a bad item and its memory does not grow with the corpus.

    Args:
        sources: JSON lines, Parquet, TSV, CSV and TREC files (plain, ``.gz``, ``.zst``), BEIR and Hugging Face
            folders, folders of text, code, HTML and PDF (id = path below the folder, preceded by the folder if
            several are given), single such files (id = path as given), patterns with ``*``, ``?``, ``[`` or ``**``.
        format: One format for all sources, instead of the file names' suffixes.
        id_field: The field of the id, instead of the names that are recognised; likewise the next two.
        text_field: The field of the text.
        title_field: The field of the title.
        metadata: Whether scalar fields and the ``metadata`` object are kept.
        pdf_timeout: Seconds that the reader of a PDF may be silent before it is stopped.
        pdf_memory_mb: Address space of that reader, in MiB.
        max_file_mb: Texts, code and HTML over this size in MiB are recorded as failures; None: any size is read.
        skip_generated: Code that says that a program wrote it, and minified code, is recorded as a failure.

    Raises:
        MissingFile: A path does not exist or cannot be read, or a pattern matches nothing.
        UsageError: No source, or a file whose name does not tell its format.
        MissingExtra: A named file needs a package that is not installed.
    """
    if not sources:
        raise UsageError("read_corpus needs at least one file, folder, pattern, or '-' for standard input")
    if pdf_timeout <= 0 or pdf_memory_mb <= 0:
        raise UsageError(f"pdf_timeout and pdf_memory_mb must be positive, found {pdf_timeout} and {pdf_memory_mb}")
    if max_file_mb is not None and max_file_mb <= 0:
        raise UsageError(f"max_file_mb must be positive, found {max_file_mb}")
    forced = None if format is None else check_format(format)
    fields = FieldMap.named(id_field, text_field, title_field, metadata)
    options = Options(fields, pdf_timeout, pdf_memory_mb, max_file_mb, skip_generated)
    given = [found for source in sources for found in _expand(os.fspath(source))]
    several = sum(path.is_dir() for path in given) > 1
    spooled: list[Path] = []
    try:
        plan = [_planned(path, forced, several, spooled) for path in given]
    except BaseException:
        _remove_all(spooled, os.getpid())
        raise
    return FileCorpus(plan, options, spooled)


def _expand(source: str) -> list[Path]:
    """The paths that ``source`` names: itself if it exists, else what it matches as a pattern, sorted."""
    try:
        if source == STDIN or Path(source).exists():
            return [Path(source)]
    except OSError as error:
        raise MissingFile(f"cannot read {source}: {error.strerror}") from error
    if not glob.has_magic(source):
        raise MissingFile(f"no such file or folder: {source}")
    found = sorted(Path(name) for name in glob.glob(source, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
    files = [path for path in found if not path.is_dir()] or found
    if not files:
        raise MissingFile(f"no file matches the pattern {source!r}")
    return files


def _planned(path: Path, forced: str | None, several: bool, spooled: list[Path]) -> _Source:
    shown = path.as_posix()
    if shown == STDIN or not (path.is_file() or path.is_dir()):  # a pipe can be read only once
        copy, format_found = spool(None if shown == STDIN else path)
        spooled.append(copy)
        return _checked(_Source(copy, "stdin" if shown == STDIN else shown, forced or format_found, False))
    if not os.access(path, os.R_OK):
        raise MissingFile(f"cannot read {shown}: permission denied")
    if path.is_file():
        return _checked(_Source(path, shown, forced or format_of(path, in_folder=False), False))
    beir = beir_file(path)
    if beir is not None and forced in (None, "jsonl"):
        return _Source(beir, beir.as_posix(), "jsonl", False)
    prefix = f"{shown.rstrip('/')}/" if several else ""
    return _checked(_Source(path, shown, forced or table_format(path), True, prefix))


def _checked(source: _Source) -> _Source:
    """``source`` when the package it needs is installed, else :class:`MissingExtra`."""
    if source.format is not None and source.format in NEEDS:
        NEEDS[source.format]()
    return source


def _read_folder(source: _Source, options: Options, skipped: Skipped) -> Iterator[Document | Failure]:
    tables = source.format is not None and source.format not in ("text", "html", "pdf")
    files = corpus_parts(source.path, skipped) if tables else walk(source.path, skipped)
    for path, relative in files:
        item = Item(path, f"{source.shown.rstrip('/')}/{relative}", source.prefix + relative)
        name = source.format or format_of(path, in_folder=True)
        if is_other_format(path, source.format or name):
            skipped.add(item.shown, "other-format")
        elif name in ("text", "trec", "html") and not is_code(path) and is_binary(path):
            skipped.add(item.shown, "binary")
        else:
            yield from read_item(item, name, options)


def _remove_all(paths: list[Path], owner: int) -> None:
    """Removes temporary copies, but not from a forked child, whose parent still reads them."""
    if os.getpid() == owner:
        for path in paths:
            remove(path)
