"""Fusion of the rankings of one query."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from unabridged.contracts import NO_HIT
from unabridged.retrievers.ranking import Ranking
from unabridged.retrievers.scoring import Fusion, fuse


def fuse_rankings(rankings: Mapping[str, Ranking], fusion: Fusion) -> Ranking:
    """One ranking of everything that some ranking found; evidence is looked up afterwards."""
    rows, scores = fuse([(ranking.rows, ranking.scores) for ranking in rankings.values()], fusion)
    return Ranking(rows, scores, np.full(len(rows), NO_HIT, np.int64))
