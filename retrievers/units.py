"""Units of encoding: runs of documents, and what to do when one document of a run cannot be encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np

from unabridged.contracts import Encoded, Encoder, Failure, Level, OverflowPolicy
from unabridged.errors import OutOfMemory, Overflow, RuntimeFailure, ShapeError, UnabridgedError
from unabridged.halving import ran_out
from unabridged.index.pieces import Piece, join, split
from unabridged.index.shard import Record

UNIT_CHARACTERS = 400_000
"""A unit is closed by the document that brings it here: about 100,000 tokens, half a minute on a laptop."""
UNIT_DOCUMENTS = 4_096

ITEM_ERRORS = (Overflow, OutOfMemory, ShapeError, RuntimeFailure)
"""Errors of ours that can concern one text; all others of ours stop the run."""

BROKEN_ENCODER = 8
"""When this many texts of a unit fail one by one, and none succeeds, the encoder is at fault and not the texts."""

Encode = Callable[[Sequence[str]], Encoded]
Prepare = Callable[[Sequence[str]], Callable[[], Encoded]]


def prepare_with(encoder: Encoder, level: Level, overflow: OverflowPolicy) -> Prepare:
    """As :func:`encode_with`, in two halves where the encoder has them: only the second needs its device."""
    prepare = _first_half(encoder)

    def half(sources: Sequence[str]) -> Callable[[], Encoded]:
        compute: Callable[[], Encoded]
        if prepare is None:
            compute = partial(encoder.encode_documents, sources, level=level, overflow=overflow)
        else:
            with _panics():
                compute = prepare(sources, level=level, overflow=overflow)

        def other_half() -> Encoded:
            with _panics():
                encoded = compute()
            for vectors in (encoded.segments, encoded.documents):
                if vectors is not None and not bool(np.isfinite(vectors).all()):
                    raise ShapeError("the encoder returned a vector with NaN or infinite values")
            return encoded

        return other_half

    return half


@contextmanager
def _panics() -> Iterator[None]:
    """A panic of a library written in Rust (tokenizers) is no ``Exception``, and concerns a text all the same."""
    try:
        yield
    except (Exception, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise RuntimeFailure(f"{type(error).__name__}: {error}") from error


def _first_half(encoder: Encoder) -> Callable[..., Callable[[], Encoded]] | None:
    """The encoder's ``prepare_documents``, if it is a half of the ``encode_documents`` that the encoder has.

    Whoever changes the whole in a class of its own, or on the object, means the whole.
    """

    def owner(name: str) -> object:
        return next((kind for kind in type(encoder).__mro__ if name in vars(kind)), None)

    half = getattr(encoder, "prepare_documents", None)
    changed = "encode_documents" in getattr(encoder, "__dict__", {})
    if half is None or changed or owner("prepare_documents") is not owner("encode_documents"):
        return None
    found: Callable[..., Callable[[], Encoded]] = half
    return found


def encode_with(encoder: Encoder, level: Level, overflow: OverflowPolicy) -> Encode:
    """One encoder pass under fixed settings, refusing vectors that are not finite."""
    prepare = prepare_with(encoder, level, overflow)
    return lambda sources: prepare(sources)()


def encode_unit(
    records: Sequence[Record], encode: Encode, where: Callable[[Record], str]
) -> tuple[list[Record], Encoded | None, list[Failure]]:
    """Encodes a run of documents in one pass; if that fails, finds the documents at fault by halving.

    Returns the records that were encoded with their result (None when there is none), and a failure for
    each of the others.
    """
    try:
        encoded = encode([record.source for record in records])
    except Exception as error:
        if isinstance(error, UnabridgedError) and not isinstance(error, ITEM_ERRORS):
            raise
        if len(records) == 1:
            return [], None, [_failure(records[0], where(records[0]), error)]
        kept, part, failed = _halves(records, encode, where)
        if not kept and len(failed) >= BROKEN_ENCODER and not isinstance(error, (Overflow, OutOfMemory)):
            raise RuntimeFailure(
                f"The encoder fails on every one of {len(failed)} texts, the first time with {type(error).__name__}: "
                f"{error}. What was finished is kept; the same command continues."
            ) from error
        return kept, part, failed
    return _complete(records, encoded, where)


def _halves(
    records: Sequence[Record], encode: Encode, where: Callable[[Record], str]
) -> tuple[list[Record], Encoded | None, list[Failure]]:
    middle = len(records) // 2
    kept: list[Record] = []
    failed: list[Failure] = []
    pieces = []
    for part in (records[:middle], records[middle:]):
        good, encoded, bad = encode_unit(part, encode, where)
        kept.extend(good)
        failed.extend(bad)
        if encoded is not None:
            pieces.extend(split(encoded))
    return kept, join(pieces) if pieces else None, failed


def _complete(
    records: Sequence[Record], encoded: Encoded, where: Callable[[Record], str]
) -> tuple[list[Record], Encoded | None, list[Failure]]:
    """The result with one segment or more for every document.

    An encoder may give none for a text without tokens, which then gets one of no tokens over its whole source.  A
    text of which it counts tokens, and gives nothing, was not read: it fails.
    """
    counts = np.diff(encoded.offsets)
    if bool(np.all(counts > 0)):
        return list(records), encoded, []
    unread = np.flatnonzero((counts == 0) & (encoded.coverage.total > 0)).tolist()
    message = "the encoder counts tokens in this text and gives no segment of it"
    failed = [Failure(records[row].id, where(records[row]), "encode", "no-segment", message) for row in unread]
    kept = [row for row in range(len(records)) if row not in set(unread)]
    pieces = split(encoded)
    whole = [_with_segment(pieces[row], len(records[row].source), encoded) for row in kept]
    return [records[row] for row in kept], join(whole) if whole else None, failed


def _with_segment(piece: Piece, characters: int, encoded: Encoded) -> Piece:
    """``piece``, or where it has no segment the same with one of no tokens, by the document's vector or zeros."""
    if len(piece.spans):
        return piece
    vectors = encoded.segments
    if vectors is not None:
        zeros = np.zeros(vectors.shape[1], np.float32)
        vectors = (zeros if piece.document is None else piece.document)[None]
    return replace(piece, spans=np.array([[0, characters]]), tokens=np.zeros(1, np.int64), segments=vectors)


def _failure(record: Record, where: str, error: Exception) -> Failure:
    reasons = {Overflow: "overflow", OutOfMemory: "out-of-memory", ShapeError: "not-finite"}
    other = "out-of-memory" if ran_out(error) else "encoder-error"
    reason = next((word for kind, word in reasons.items() if isinstance(error, kind)), other)
    return Failure(record.id, where, "encode", reason, f"{type(error).__name__}: {error}")
