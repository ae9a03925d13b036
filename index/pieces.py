"""One document's part of an encoder pass, so that stored and fresh results can be mixed in any order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unabridged.contracts import Coverage, Encoded, Floats, Rows


@dataclass(frozen=True, slots=True)
class Piece:
    """Spans (S, 2), tokens (S,), coverage, segment vectors (S, D) and document vector (D,) of one document."""

    spans: Rows
    tokens: Rows
    total: int
    seen: int
    segments: Floats | None
    document: NDArray[np.float32] | None
    note: str | None = None
    """How it was cut into segments; None: the encoder tells it of no document."""
    left_out: int | None = None
    """Tokens left out because that was asked for; None: the encoder leaves out none of any document."""


def split(encoded: Encoded) -> list[Piece]:
    """The pieces of a pass, in order."""
    pieces = []
    for row in range(len(encoded.offsets) - 1):
        part = slice(int(encoded.offsets[row]), int(encoded.offsets[row + 1]))
        pieces.append(
            Piece(
                encoded.spans[part],
                encoded.tokens[part],
                int(encoded.coverage.total[row]),
                int(encoded.coverage.seen[row]),
                None if encoded.segments is None else encoded.segments[part],
                None if encoded.documents is None else encoded.documents[row],
                None if encoded.coverage.notes is None else encoded.coverage.notes[row],
                None if encoded.coverage.left_out is None else int(encoded.coverage.left_out[row]),
            )
        )
    return pieces


def join(pieces: Sequence[Piece]) -> Encoded:
    """The pass that would have given ``pieces``; at least one is needed."""
    sizes = [len(piece.spans) for piece in pieces]
    segments = [piece.segments for piece in pieces if piece.segments is not None]
    documents = [piece.document for piece in pieces if piece.document is not None]
    noted = any(piece.note is not None for piece in pieces)
    left_out = any(piece.left_out is not None for piece in pieces)
    return Encoded(
        offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        spans=np.concatenate([piece.spans for piece in pieces]).reshape(-1, 2),
        tokens=np.concatenate([piece.tokens for piece in pieces]),
        coverage=Coverage(
            np.array([piece.total for piece in pieces], np.int64),
            np.array([piece.seen for piece in pieces], np.int64),
            tuple(piece.note or "" for piece in pieces) if noted else None,
            np.array([piece.left_out or 0 for piece in pieces], np.int64) if left_out else None,
        ),
        segments=np.concatenate(segments) if segments else None,
        documents=np.stack(documents) if documents else None,
    )


def take(encoded: Encoded, rows: Sequence[int]) -> Encoded:
    """The pass restricted to some of its documents."""
    pieces = split(encoded)
    return join([pieces[row] for row in rows])
