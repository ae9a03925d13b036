"""Passages by their vectors: the inner product with the question's, under any encoder of the project."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event

import numpy as np

from unabridged.contracts import Encoder, Level, OverflowPolicy
from unabridged.errors import UsageError
from unabridged.rankers.aggregate import Aggregate, aggregate, check_aggregate
from unabridged.rankers.contracts import Spent
from unabridged.rankers.lm.contracts import Usage
from unabridged.rankers.select.checks import CANCELLED, EMPTY, NO_SCORE, check_asked
from unabridged.rankers.select.contracts import Cost, Passage, Scored

AT_ONCE = 1024
"""Passages between two looks at ``cancel``."""


class VectorSelector:
    """Scores a passage by the best of its windows: one longer than the encoder reads is split, none is cut."""

    def __init__(self, encoder: Encoder, *, how: Aggregate = "max", at_once: int = AT_ONCE) -> None:
        """:class:`UsageError` for an unknown ``how`` or fewer than one passage at once."""
        check_aggregate(how, 1)
        if at_once < 1:
            raise UsageError(f"at_once={at_once} passages: it is at least 1.")
        self.encoder = encoder
        self._how: Aggregate = how
        self._at_once = at_once

    @property
    def label(self) -> str:
        """The encoder."""
        return f"vectors:{self.encoder.passport.source}"

    def cost(self, question: str, passages: Sequence[Passage]) -> Cost:
        """The tokens of question and passages; an encoder is asked for no answers, so that there are no calls."""
        check_asked(question, passages)
        return Cost(tokens=int(self.encoder.count_tokens([question, *(one.text for one in passages)]).sum()))

    def score(self, question: str, passages: Sequence[Passage], *, cancel: Event | None = None) -> Scored:
        """One score per passage; between -1 and 1 where the encoder's vectors have norm 1.

        A passage without tokens has none, with the reason ``empty``.
        """
        check_asked(question, passages)
        scores: list[float | None] = []
        reasons: list[str] = []
        seen = int(self.encoder.count_tokens([question]).sum())
        query = None
        for start in range(0, len(passages), self._at_once):
            part = passages[start : start + self._at_once]
            if cancel is not None and cancel.is_set():
                scores += [None] * len(part)
                reasons += [CANCELLED] * len(part)
                continue
            if query is None:
                query = self.encoder.encode_queries([question])[0]
            found = self.encoder.encode_documents(
                [one.text for one in part], level=Level.SEGMENT, overflow=OverflowPolicy.SPLIT
            )
            values = np.asarray(found.segments, dtype=np.float32) @ query
            seen += int(found.coverage.seen.sum())
            for place in range(len(part)):
                own = values[int(found.offsets[place]) : int(found.offsets[place + 1])]
                read = bool(found.coverage.total[place])
                number = read and len(own) > 0 and not bool(np.isnan(own).any())
                scores.append(aggregate(own, self._how, 1)[0] if number else None)
                reasons.append("" if number else NO_SCORE if read else EMPTY)
        usage = Usage(prompt=0 if query is None else seen, completion=0)
        return Scored(tuple(scores), tuple(reasons), spent=Spent(usage=usage))
