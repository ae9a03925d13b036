"""Rankings from scores: what rankers that judge each candidate alone share."""

from __future__ import annotations

from collections.abc import Sequence

from unabridged.rankers.contracts import KEPT, UNREAD, Candidate, Exposure, Ranking, Spent, Status, Step, by_score
from unabridged.rankers.listwise.fitting import Fitter, Piece


def fitted(fitter: Fitter, query: str, candidates: Sequence[Candidate], limit: int | None) -> list[tuple[int, Piece]]:
    """Tokens of each whole candidate, and what is shown of it in at most ``limit`` tokens."""
    totals = fitter.totals(candidates)
    pieces = (fitter.piece(query, one, total, limit) for one, total in zip(candidates, totals, strict=True))
    return list(zip(totals, pieces, strict=True))


def exposures(shown: Sequence[tuple[int, Piece]], scores: Sequence[float | None]) -> tuple[Exposure, ...]:
    """What was shown of each candidate; those without a score were not judged."""
    return tuple(
        Exposure(total, 0, (), 0, (KEPT, UNREAD))
        if score is None
        else Exposure(total, piece.tokens, piece.spans, 1, piece.flags)
        for (total, piece), score in zip(shown, scores, strict=True)
    )


def scored(
    scores: Sequence[float | None],
    *,
    exposures: tuple[Exposure, ...],
    steps: tuple[Step, ...] = (),
    spent: Spent | None = None,
) -> Ranking:
    """The ranking by falling score; equals keep first-stage order, and so do those without a score, at the end."""
    order = by_score(scores)
    known = sum(score is not None for score in scores)
    status = Status.OK if known == len(scores) else Status.PARTIAL if known else Status.FAILED
    return Ranking(
        order,
        status,
        scores=tuple(scores[place] for place in order),
        exposures=exposures,
        steps=steps,
        spent=spent or Spent(),
    )
