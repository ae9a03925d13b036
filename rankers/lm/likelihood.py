"""Log-probabilities of given texts after a prompt; what prompts and texts have in common is computed once."""

from __future__ import annotations

from collections.abc import Sequence

from unabridged.rankers.lm.answers import log_softmax
from unabridged.rankers.lm.lanes import SingleLane

Ids = Sequence[int]


def score_continuations(lane: SingleLane, pairs: Sequence[tuple[Ids, Ids]]) -> list[float]:
    """Sum of the log-probabilities of each continuation's tokens after its prompt; 0 for an empty one.

    Continuations that differ in their last token only, as labels of one token do, share a forward pass.
    """
    scores = [0.0] * len(pairs)
    # In the order of their tokens, so that neighbours share the longest beginnings.
    stems: dict[tuple[int, ...], list[int]] = {}
    for row in sorted(range(len(pairs)), key=lambda row: [*pairs[row][0], *pairs[row][1]]):
        prompt, more = pairs[row]
        if more:
            stems.setdefault((*prompt, *more[:-1]), []).append(row)
    for stem, rows in stems.items():
        # The prompt's last token predicts the first of the continuation, whose last one predicts nothing asked for.
        keep = max(len(pairs[row][1]) for row in rows)
        logits, _ = lane.start(stem, keep=keep)
        values = [log_softmax(line) for line in logits]
        for row in rows:
            more = pairs[row][1]
            lines = values[keep - len(more) :]
            scores[row] = sum(float(line[token]) for line, token in zip(lines, more, strict=True))
    return scores
