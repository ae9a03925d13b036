"""TREC runs and judgements, written so that every evaluator reads the same ranking."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TypeAlias
from urllib.parse import quote, unquote

import numpy as np

from unabridged.contracts import Floats
from unabridged.errors import CorpusError, DiskFull, DuplicateId, MissingFile, ShapeError, UsageError
from unabridged.files import sync_folder

Run: TypeAlias = Mapping[str, Mapping[str, float]]
"""Query id -> document id -> score; higher is better."""
Qrels: TypeAlias = Mapping[str, Mapping[str, int]]
"""Query id -> document id -> grade; above 0 is relevant."""


def write_run(
    path: str | os.PathLike[str],
    results: Iterable[tuple[str, Sequence[tuple[str, float]]]],
    tag: str = "unabridged",
    *,
    escape: bool = False,
) -> int:
    """Writes ``qid Q0 docid rank score tag`` lines, ranks from 1; returns the number of lines.

    ``results`` is ``(query id, [(document id, score), ...])``, best first.  Evaluators ignore the rank, read
    scores as float32 and break ties by document id; so scores are written strictly decreasing *as float32*:
    a score that does not fall is lowered to the next smaller float32.  The file appears whole or not at all.

    Args:
        path: The file to write; an older one is replaced at the end.
        results: One entry per query; an entry without documents writes no line.
        tag: The name of the run.
        escape: Writes white space, NUL and ``%`` in ids as ``%XX`` of their UTF-8 bytes, which
            ``read_run(..., escaped=True)`` undoes.

    Raises:
        UsageError: An id or the tag is empty or holds white space, which the format cannot carry.
        ShapeError: A score is NaN or infinite, or rises, so that the list is not best first.
        DuplicateId: A query occurs twice, or a document twice for one query.
        MissingFile, DiskFull: The file cannot be written.
    """
    _word(tag, "tag", escape=False)
    written = 0
    with _whole_file(Path(path), "run") as file:
        for lines in _lines(results, tag, escape):
            file.write("".join(lines))
            written += len(lines)
    return written


def write_qrels(path: str | os.PathLike[str], qrels: Qrels, *, escape: bool = False) -> int:
    """Writes ``qid 0 docid grade`` lines; returns their number.  The file appears whole or not at all.

    ``escape`` is as for :func:`write_run`.  :func:`unabridged.corpora.read_qrels` reads the file.

    Raises:
        UsageError: An id is empty or holds white space, which the format cannot carry.
        MissingFile, DiskFull: The file cannot be written.
    """
    written = 0
    with _whole_file(Path(path), "judgement") as file:
        for query, grades in qrels.items():
            name = _word(query, "query id", escape)
            for document, grade in grades.items():
                file.write(f"{name} 0 {_word(document, 'document id', escape)} {grade:d}\n")
                written += 1
    return written


def read_run(path: str | os.PathLike[str], *, escaped: bool = False) -> dict[str, dict[str, float]]:
    """Query id -> document id -> score, in the file's order; ``escaped`` undoes ``write_run(escape=True)``.

    Raises:
        MissingFile: No such file.
        CorpusError: A malformed line, a NaN, or a document twice for one query; with the line number.
    """
    plain = unquote if escaped else str
    run: dict[str, dict[str, float]] = {}
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise MissingFile(f"cannot read the run file {path}: {error.strerror}") from error
    for number, line in enumerate(raw.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            query, _, document, _, text, _ = (word.decode("utf-8") for word in line.split())
            score = float(text)
        except ValueError as error:
            raise CorpusError(f"{path}:{number}: expected 'qid Q0 docid rank score tag', found {line!r}") from error
        if math.isnan(score):
            raise CorpusError(f"{path}:{number}: the score is NaN")
        scores = run.setdefault(plain(query), {})
        if plain(document) in scores:
            raise CorpusError(f"{path}:{number}: document {plain(document)!r} twice for query {plain(query)!r}")
        scores[plain(document)] = score
    return run


def strictly_decreasing(scores: Sequence[float]) -> Floats:
    """``scores`` (K,) as float32 (K,), each below the one before; equal ones are lowered by single steps.

    Raises :class:`ShapeError` for NaN, infinity, a score beyond float32, or one above its predecessor.
    """
    with np.errstate(over="ignore"):
        given = np.asarray(scores, dtype=np.float64).reshape(-1)
        out: Floats = given.astype(np.float32)
    if not bool(np.isfinite(out).all()):
        raise ShapeError(f"scores must be finite float32 numbers, found {given[~np.isfinite(out)][0]}")
    rises = np.flatnonzero(np.diff(given) > 0)
    if rises.size:
        at = int(rises[0])
        raise ShapeError(f"scores must come best first, found {given[at + 1]} at rank {at + 2} below {given[at]}")
    low = np.float32(-np.inf)
    for row in (np.flatnonzero(np.diff(out) >= 0) + 1).tolist():
        while row < len(out) and out[row] >= out[row - 1]:
            out[row] = np.nextafter(out[row - 1], low)
            row += 1
    if not bool(np.isfinite(out).all()):
        raise ShapeError("scores end at the smallest float32, so that ties cannot be told apart below it")
    return out


@contextlib.contextmanager
def _whole_file(target: Path, what: str) -> Iterator[IO[str]]:
    """A file that takes the place of ``target`` at the end, durable; after an error there is the older one."""
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("x", encoding="utf-8", newline="\n") as file:
            yield file
            _sync(file)
        part.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull(f"no room for the {what} file {target}; free some space and run again") from error
        raise MissingFile(f"cannot write the {what} file {target}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def _lines(results: Iterable[tuple[str, Sequence[tuple[str, float]]]], tag: str, escape: bool) -> Iterator[list[str]]:
    queries: set[str] = set()
    for query, hits in results:
        name = _word(query, "query id", escape)
        if name in queries:
            raise DuplicateId(f"query {query!r} occurs twice in the results")
        queries.add(name)
        documents = [_word(document, "document id", escape) for document, _ in hits]
        if len(set(documents)) < len(documents):
            twice = next(document for at, document in enumerate(documents) if document in documents[:at])
            raise DuplicateId(f"document {twice!r} occurs twice for query {query!r}")
        scores = strictly_decreasing([score for _, score in hits])
        texts = scores.astype("U32").tolist()  # the shortest decimals that read back as the same float32
        yield [
            f"{name} Q0 {document} {rank} {text} {tag}\n"
            for rank, (document, text) in enumerate(zip(documents, texts, strict=True), 1)
        ]


def _word(text: str, what: str, escape: bool) -> str:
    """``text`` as one word of a line; see :func:`write_run` for ``escape``."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(f"a TREC run cannot hold the {what} {text!r}: it has a lone surrogate") from error
    if escape:
        text = "".join(quote(char, safe="") if char in "%\0" or char.isspace() else char for char in text)
    if not text or "\0" in text or text.split() != [text]:
        advice = "" if what == "tag" else "; escape=True writes it percent-encoded"
        raise UsageError(f"a TREC run cannot hold the {what} {text!r}: it is empty or has white space in it{advice}")
    return text


def _sync(file: IO[str]) -> None:
    file.flush()
    os.fsync(file.fileno())
