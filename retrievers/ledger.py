"""The truncation ledger: for every document, how many tokens it has and how many were read.

Tokens are the encoder's own content tokens; special tokens and prompts are not counted.

A document without tokens (an empty text, white space) is a line like any other, with the status ``empty``: it is
there, by id, and counts as no failure.  Its vector is kept and not searched.  That vector is of special tokens
alone and the same for all of them: with the embedded model it was nearer to each of twelve queries than 30 to 100 %
of 400 paragraphs were, so that such documents would crowd results in which they answer nothing.  A file of comments
alone, read by an encoder that leaves comments out, is such a document: nothing of it was to be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from unabridged.contracts import Mask
from unabridged.index.shard import Shard


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """The record of one document of an index."""

    doc_id: str
    tokens_total: int
    tokens_seen: int
    segments: int
    policy: str
    split: str = ""
    """How the document was cut, from encoders of source code: ``syntax: python``, ``lines: unknown language``, ..."""

    tokens_left_out: int = 0
    """Tokens that were not read because it was asked to leave them out, such as comments of source code."""

    @property
    def truncated(self) -> bool:
        """Whether some of the document that was to be read was not."""
        return self.tokens_seen + self.tokens_left_out < self.tokens_total

    @property
    def status(self) -> str:
        """``read`` to the end, or but for what was ``left out``; ``truncated``; ``empty``: nothing was to be read."""
        if not self.tokens_seen and not self.truncated:
            return "empty"
        return "truncated" if self.truncated else "left out" if self.tokens_left_out else "read"


def read_ledger(shards: Sequence[Shard], alive: Mask | None, policy: str) -> Iterator[LedgerLine]:
    """The lines of all living documents, in index order."""
    base = 0
    for shard in shards:
        coverage = np.asarray(shard.array("coverage"))
        segments = np.diff(np.asarray(shard.array("segment_ends")), prepend=0)
        left = shard.left_out
        for row, (total, seen) in enumerate(coverage):
            if alive is None or alive[base + row]:
                yield LedgerLine(
                    shard.id(row),
                    int(total),
                    int(seen),
                    int(segments[row]),
                    policy,
                    shard.note(row) or "",
                    0 if left is None else int(left[row]),
                )
        base += len(coverage)
