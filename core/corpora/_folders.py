"""Folders: what kind they are, and their files in a stable order with nothing passed over in silence."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from unabridged.corpora._streams import COMPRESSIONS, BrokenStream, head
from unabridged.errors import MissingFile
from unabridged.manifest import FORMAT
from unabridged.manifest import NAME as MANIFEST

logger = logging.getLogger(__name__)

BEIR_NAMES = ("corpus.jsonl", "corpus.jsonl.gz", "corpus.jsonl.zst")
TABLE_SUFFIXES = MappingProxyType({
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".tsv": "tsv", ".csv": "csv",
    ".trec": "trec", ".sgml": "trec", ".sgm": "trec",
})  # fmt: skip
"""Suffix (without compression) -> format, for files that hold many documents."""
BESIDE_SUFFIXES = frozenset({".json", ".yaml", ".yml", ".bib"})
BESIDE_STEMS = frozenset({"readme", "license", "licence", "changelog"})
"""Files that accompany tables and do not make a folder one of texts."""
OTHER_CONFIGS = ("queries", "qrels", "top_ranked", "instruction")
"""Parts of a Hugging Face retrieval set that are not its corpus."""
EXAMPLES = 20


@dataclass(slots=True)
class Skipped:
    """Files and folders that one pass over a corpus did not read, by reason, with the first few paths.

    Reasons: ``hidden`` (names with a dot, which takes in VCS folders), ``binary``, ``link`` (a link to a
    folder), ``not-a-file`` (sockets, devices), ``not-corpus`` (beside the tables of a data set) and
    ``other-format`` (another than the one asked for).  Each path is also logged at level INFO.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many paths were not read; a folder counts as one."""
        return sum(self.counts.values())

    def add(self, path: str, reason: str) -> None:
        """Records one path."""
        self.counts[reason] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(path)
        logger.info("not read (%s): %s", reason, path)


def bare_suffix(path: Path) -> str:
    """The last suffix in lower case, ``.gz`` and ``.zst`` aside."""
    inner = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    return inner.suffix.lower()


def beir_file(folder: Path) -> Path | None:
    """The corpus file of a BEIR folder, None for any other folder."""
    return next((folder / name for name in BEIR_NAMES if (folder / name).is_file()), None)


def table_format(folder: Path) -> str | None:
    """The format that all files of ``folder`` share, or None: then it is a folder of texts.

    Looks no further than the first file that does not fit.
    """
    found: str | None = None
    for path, _ in walk(folder, Skipped()):
        if not is_beside(path):
            kind = TABLE_SUFFIXES.get(bare_suffix(path))
            if kind is None or found not in (None, kind):
                return None
            found = kind
    return found


def is_beside(path: Path) -> bool:
    """Whether a file next to tables is documentation or configuration."""
    stem = path.name.lower().partition(".")[0]
    return stem in BESIDE_STEMS or path.suffix.lower() in BESIDE_SUFFIXES


def corpus_parts(folder: Path, skipped: Skipped) -> Iterator[tuple[Path, str]]:
    """The tables of a data set folder that hold its corpus: the ones called so, else all but queries and qrels."""
    named = any(_part(relative) == "corpus" for path, relative in walk(folder, Skipped()) if not is_beside(path))
    for path, relative in walk(folder, skipped):
        part = _part(relative)
        if is_beside(path) or (named and part != "corpus") or part in OTHER_CONFIGS:
            skipped.add(relative, "not-corpus")
        else:
            yield path, relative


def _part(relative: str) -> str:
    """``corpus``, ``queries``, … if a folder or the file's name says so."""
    *folders, name = relative.lower().split("/")
    for part in ("corpus", *OTHER_CONFIGS):
        if any(folder.endswith(part) for folder in folders) or name.startswith((f"{part}.", f"{part}-", f"{part}_")):
            return part
    return ""


def walk(folder: Path, skipped: Skipped) -> Iterator[tuple[Path, str]]:
    """``(path, relative POSIX path)`` of every file under ``folder``, sorted by the relative path.

    The entries of one chain of folders are in memory at a time, not the tree's.  Raises :class:`MissingFile`
    when ``folder`` cannot be listed; a folder below it that cannot be listed is yielded itself, so that
    opening it gives the record.
    """
    try:
        open_folders = [iter(_listed(folder, ""))]
    except OSError as error:
        raise MissingFile(f"cannot list the folder {folder}: {error.strerror}") from error
    while open_folders:
        step = next(open_folders[-1], None)
        if step is None:
            open_folders.pop()
            continue
        entry, relative = step
        reason = _why_not(entry)
        if reason:
            skipped.add(relative, reason)
        elif _is(entry.is_dir):
            try:
                open_folders.append(iter(_listed(Path(entry.path), f"{relative}/")))
            except OSError:
                yield Path(entry.path), relative
        else:
            yield Path(entry.path), relative


def _listed(folder: Path, prefix: str) -> list[tuple[os.DirEntry[str], str]]:
    """Entries with their relative paths; a folder sorts as its files do, with the slash behind its name."""
    with os.scandir(folder) as listing:
        entries = sorted(listing, key=lambda entry: entry.name + "/" * _is(entry.is_dir))
    return [(entry, prefix + entry.name) for entry in entries]


def _why_not(entry: os.DirEntry[str]) -> str:
    """The reason for not reading an entry, or nothing.  A dangling link is opened, which gives the record."""
    if entry.name.startswith("."):
        return "hidden"
    if _is(entry.is_dir):
        if entry.is_symlink():
            return "link"  # links can form a circle
        return "index" if _is_index(Path(entry.path)) else ""
    return "" if _is(entry.is_file) or entry.is_symlink() else "not-a-file"


def _is_index(folder: Path) -> bool:
    """Whether a folder is an index of ours, finished or being built: it may lie inside the corpus."""
    manifest = folder / MANIFEST
    if (folder / "work" / "identity.json").is_file():
        return True
    try:
        return manifest.is_file() and f'"{FORMAT}"'.encode() in manifest.read_bytes()
    except OSError:
        return False


def _is(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:
        return False


def is_binary(path: Path) -> bool:
    """Whether the first 8 KiB hold a NUL byte and no UTF-16 mark; unreadable files are not, so that reading tells."""
    try:
        start = head(path)
    except BrokenStream:
        return False
    return b"\0" in start and not start.startswith((b"\xff\xfe", b"\xfe\xff"))
