"""Which reader a file gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType

from unabridged.contracts import Document, Failure
from unabridged.corpora._code import CODE_SUFFIXES
from unabridged.corpora._fields import Item, Options, Reader, failed, printable
from unabridged.corpora._folders import TABLE_SUFFIXES, bare_suffix
from unabridged.corpora._jsonl import read_jsonl
from unabridged.corpora._parquet import need_parquet, read_parquet
from unabridged.corpora._pdf import need_pdf, read_pdf
from unabridged.corpora._sgml import looks_like_trec, read_trec
from unabridged.corpora._streams import BrokenStream, head
from unabridged.corpora._tables import read_csv, read_tsv
from unabridged.corpora._texts import read_html, read_text
from unabridged.errors import MissingExtra, UsageError

READERS: MappingProxyType[str, Reader] = MappingProxyType({
    "jsonl": read_jsonl, "parquet": read_parquet, "tsv": read_tsv, "csv": read_csv,
    "trec": read_trec, "text": read_text, "html": read_html, "pdf": read_pdf,
})  # fmt: skip
"""Format -> reader."""
NEEDS: MappingProxyType[str, Callable[[], object]] = MappingProxyType({"parquet": need_parquet, "pdf": need_pdf})
"""Format -> check that its optional package is there."""
HTML_SUFFIXES = frozenset({".html", ".htm", ".xhtml"})
_TEXTS = (
    ".txt .text .md .markdown .mdx .rst .adoc .asciidoc .org .tex .log .ini .cfg .conf .toml .yaml .yml .xml .json "
    ".py .pyi .ipynb .js .mjs .cjs .jsx .ts .tsx .java .kt .scala .groovy .go .rs .c .h .cc .cpp .cxx .hh .hpp .hxx "
    ".cs .fs .vb .php .rb .pl .pm .lua .r .jl .m .mm .swift .dart .ex .exs .erl .hs .ml .mli .clj .lisp .el .scm .sh "
    ".bash .zsh .fish .ps1 .bat .sql .proto .graphql .css .scss .less .vue .svelte .cmake .mk .tcl .f90 .f .asm .s "
    ".zig .nim .v .sv .vhd .gradle .tf .diff .patch .srt .vtt .po"
)
TEXT_SUFFIXES = CODE_SUFFIXES | frozenset(_TEXTS.split())


def known() -> str:
    """The formats and suffixes for messages."""
    return (
        ".jsonl .ndjson .parquet .tsv .csv .trec .sgml .sgm (each but Parquet also .gz or .zst), .pdf, .html, .txt .md "
        f".rst and source code; or name one with format=: {', '.join(READERS)}"
    )


def check_format(name: str) -> str:
    """``name`` in lower case when there is a reader of that name, else :class:`UsageError`."""
    name = {"ndjson": "jsonl", "beir": "jsonl", "sgml": "trec", "markdown": "text"}.get(name.lower(), name.lower())
    if name not in READERS:
        raise UsageError(f"unknown corpus format {name!r}. Known: {', '.join(READERS)}")
    return name


def format_of(path: Path, *, in_folder: bool) -> str:
    """The format of one file, by its suffix and, for texts, its beginning.

    In a folder of texts, tables are texts too and unknown suffixes are read as text; a file that was named
    itself must have a suffix that says what it is, or none.
    """
    suffix = bare_suffix(path)
    if suffix in HTML_SUFFIXES:
        return "html"
    if suffix == ".pdf":
        return "pdf"
    if not in_folder and suffix in TABLE_SUFFIXES:
        return TABLE_SUFFIXES[suffix]
    if not in_folder and suffix == ".json":
        return _json_format(path)
    if not in_folder and suffix not in TEXT_SUFFIXES and suffix:
        raise UsageError(f"{path}: unknown file type {suffix!r}. Known: {known()}")
    try:
        return "trec" if looks_like_trec(head(path)) else "text"
    except BrokenStream:
        return "text"


def is_other_format(path: Path, wanted: str) -> bool:
    """Whether the suffix says that a file is not of the ``wanted`` format; TREC files and texts have any suffix."""
    suffix = bare_suffix(path)
    if wanted in ("text", "trec"):
        return False
    kinds = {**TABLE_SUFFIXES, ".pdf": "pdf", **dict.fromkeys(HTML_SUFFIXES, "html")}
    return kinds.get(suffix, "text" if suffix in TEXT_SUFFIXES else wanted) != wanted


def read_item(item: Item, name: str, options: Options) -> Iterator[Document | Failure]:
    """The documents of one file; damage to it, or a package it lacks, is the last record."""
    item = Item(item.path, printable(item.shown), item.id)
    try:
        yield from READERS[name](item, options)
    except BrokenStream as error:
        yield failed(item.id, item.shown, error.reason, str(error))
    except MissingExtra as error:
        yield failed(item.id, item.shown, "missing-extra", str(error))


def _json_format(path: Path) -> str:
    """A ``.json`` file that was named holds JSON lines; an array is refused, as it cannot be streamed."""
    try:
        start = head(path).lstrip(b"\xef\xbb\xbf \t\r\n")
    except BrokenStream:
        start = b""
    if start.startswith(b"["):
        raise UsageError(f"{path} is one JSON array; write one object a line instead: jq -c '.[]' FILE > FILE.jsonl")
    return "jsonl"
