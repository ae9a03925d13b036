"""Which blocks of a document its vector is made of, for encoders that aggregate blocks (SEA).

What a block weighs is computed from the segment vectors that the index keeps, so nothing more is stored.

Letters::

    L blocks of one document
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from unabridged.contracts import Floats, Rows
from unabridged.retrievers.opened import Index


@dataclass(frozen=True, slots=True)
class Block:
    """Characters ``[start, end)`` of a document's source, and what they gave to its vector."""

    start: int
    end: int
    weight: float
    """See :class:`unabridged.encoders.sea.aggregators.Aggregated`; of one document they sum to 1."""


def blocks_of(index: Index, doc_id: str) -> tuple[Block, ...]:
    """The L blocks of a document in their order.

    Nothing for an index whose encoder does not aggregate blocks, or that keeps no vectors of them.
    :class:`UsageError` if the index has no living document with this id.
    """
    if not index.state.settings.level.has_segments or index.state.passport.facts.get("kind") != "sea":
        return ()
    weigh: Callable[[Floats, Rows], Floats] = index.encoder.block_weights  # type: ignore[attr-defined]
    shard, row = index.place(doc_id)
    piece = shard.piece(row)
    if piece.segments is None:
        return ()
    weights = weigh(piece.segments, np.array([0, len(piece.segments)], dtype=np.int64))
    return tuple(
        Block(start, end, float(weight))
        for (start, end), weight in zip(piece.spans.tolist(), weights.tolist(), strict=True)
    )
