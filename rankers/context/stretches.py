"""What of whole sources is in no span of a pack and was not offered to it either, in as few lines as tell it all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from unabridged.rankers.context.contracts import BUDGET, WHITE_SPACE, ContextPack, Dropped
from unabridged.rankers.context.spans import without
from unabridged.rankers.contracts import Characters


@dataclass(frozen=True, slots=True)
class Passed:
    """A passage that was read and not offered to the pack."""

    doc_id: str
    start: int
    end: int
    reason: str


def accounted(pack: ContextPack, read: Mapping[str, Sequence[Characters]], passed: Iterable[Passed]) -> ContextPack:
    """``pack``, in whose ``dropped`` each character that was read is that is in none of its spans.

    ``read`` has the disjoint spans of each source that were read, in order: of a file all of it.  Neighbours that were
    left out for one reason are one stretch, the white space between them included; what a cut hit does not show was
    left out for the budget.
    """
    covered: dict[str, list[Characters]] = {}
    reasons: dict[str, list[Passed]] = {}
    for source in pack.sources:
        covered.setdefault(source.doc_id, []).append((source.start, source.end))
        for start, end in source.cut:
            reasons.setdefault(source.doc_id, []).append(Passed(source.doc_id, start, end, BUDGET))
    for one in pack.dropped:
        covered.setdefault(one.doc_id, []).append((one.start, one.end))
    for left in passed:
        reasons.setdefault(left.doc_id, []).append(left)
    stretches = [
        stretch
        for doc_id, spans in read.items()
        for whole in spans
        for stretch in _stretches(doc_id, without(whole, covered.get(doc_id, ())), reasons.get(doc_id, ()))
    ]
    return replace(pack, dropped=(*pack.dropped, *stretches))


def _stretches(doc_id: str, gaps: Sequence[Characters], passed: Sequence[Passed]) -> list[Dropped]:
    """The ``gaps``, which rise, cut where the reason changes; one without a passage has white space alone."""
    found: list[Dropped] = []
    rising = sorted(passed, key=lambda one: (one.start, one.end))
    at = 0
    for start, end in gaps:
        while at < len(rising) and rising[at].end <= start:
            at += 1
        own: list[Dropped] = []
        # A passage that a span of the pack covers in part reaches over several gaps.
        row = at
        while row < len(rising) and rising[row].start < end:
            one = rising[row]
            row += 1
            if one.end <= start:
                continue
            if own and own[-1].reason == one.reason:
                own[-1] = replace(own[-1], end=end, passages=own[-1].passages + 1)
                continue
            begin = max(start, one.start) if own else start
            if own:
                own[-1] = replace(own[-1], end=begin)
            own.append(_stretch(doc_id, begin, end, one.reason, 1))
        found += own or [_stretch(doc_id, start, end, WHITE_SPACE, 0)]
    return found


def _stretch(doc_id: str, start: int, end: int, reason: str, passages: int) -> Dropped:
    return Dropped(hit=None, doc_id=doc_id, start=start, end=end, reason=reason, passages=passages)
