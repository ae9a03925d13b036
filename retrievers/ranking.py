"""A ranked list for one query, with the segment that is each row's evidence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unabridged.contracts import NO_HIT, Floats, Rows


@dataclass(frozen=True, slots=True)
class Ranking:
    """K rows, best first, no padding.  ``segments`` are global segment rows, NO_HIT where there is none."""

    rows: Rows  # (K,) int64: documents, or segments
    scores: Floats  # (K,) float32, never rising
    segments: Rows  # (K,) int64

    def top(self, k: int) -> Ranking:
        """The first ``k`` rows."""
        return Ranking(self.rows[:k], self.scores[:k], self.segments[:k])


def ranked(rows: Rows, scores: Floats, segments: Rows) -> Ranking:
    """Rows in order of falling score; equal scores by ascending row."""
    order = np.lexsort((rows, -scores))
    return Ranking(rows[order], scores[order].astype(np.float32), segments[order])


def unpadded(rows: Rows, scores: Floats) -> tuple[Rows, Floats]:
    """One row of a :class:`Hits` without its padding."""
    real = rows != NO_HIT
    return rows[real], scores[real]
