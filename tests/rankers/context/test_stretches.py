"""Whole sources accounted for: each character is in a span, in a hit that was left out, or in a stretch."""

from __future__ import annotations

import random

import pytest

from unabridged.rankers.context.assemble import assemble
from unabridged.rankers.context.contracts import BUDGET, WHITE_SPACE
from unabridged.rankers.context.cutting import passages_of
from unabridged.rankers.context.stretches import Passed, accounted

REASONS = ("behind the best", "cancelled", "empty")


def text_of(seed: int) -> str:
    chance = random.Random(seed)
    words = ["alpha", "naïve", "🙂", "語", "pump", "e\u0301t\u00e9.", "nine", "crowns.", "Zed"]
    gaps = [" ", "\r\n", "\n\n", " \t ", ". "]
    start = chance.choice(["", "\n \n", "\ufeff"])
    return start + "".join(chance.choice(words) + chance.choice(gaps) for _ in range(chance.randrange(1, 400)))


def characters(found):
    """Every character of some spans, by document."""
    return [(one.doc_id, at) for one in found for at in range(one.start, one.end)]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("packing", [{}, {"trim": True}, {"neighbours": 1}, {"margin": 7}, {"join_gap": 40}])
def test_spans_hits_and_stretches_are_together_the_sources(seed, packing):
    chance = random.Random(seed)
    texts = {name: text_of(seed * 7 + place) for place, name in enumerate("abc")}
    passages = [one for name, text in texts.items() for one in passages_of(name, text, tokens=12)]
    chance.shuffle(passages)
    most = chance.randrange(1, len(passages) + 1)
    left = [Passed(one.doc_id, one.start, one.end, chance.choice(REASONS)) for one in passages[most:]]
    sizes = {name: [(0, len(text))] for name, text in texts.items()}
    hits = [(one, None) for one in passages[:most]]
    bare = assemble("who?", hits, sources=texts, budget=chance.choice([60, 200]), duplicates="none", **packing)
    pack = accounted(bare, sizes, left)
    assert pack.dropped[: len(bare.dropped)] == bare.dropped
    known = {*characters(pack.sources), *characters(bare.dropped)}
    rest = characters(pack.dropped[len(bare.dropped) :])
    # A hit that had no room may be shown in part, as a neighbour; a stretch is shown nowhere, and told once.
    assert not known & set(rest)
    assert sorted([*known, *rest]) == sorted((name, at) for name, text in texts.items() for at in range(len(text)))
    own = {(one.doc_id, one.start, one.end): one.reason for one in left}
    stretches = pack.dropped[len(bare.dropped) :]
    for one in stretches:
        assert one.hit is None
        inside = {why for (name, start, end), why in own.items() if name == one.doc_id and _meet(one, start, end)}
        cut = any(_meet(one, *part) for source in pack.sources if source.doc_id == one.doc_id for part in source.cut)
        assert one.reason in (inside | ({BUDGET} if cut else set()) or {WHITE_SPACE})
        assert (one.reason == WHITE_SPACE) == texts[one.doc_id][one.start : one.end].isspace() == (one.passages == 0)


def _meet(one, start, end):
    return max(one.start, start) < min(one.end, end)


def test_neighbours_with_one_reason_are_one_stretch_and_another_reason_begins_where_its_passage_does():
    text = "aa bb cc dd ee"
    left = [Passed("d", start, start + 2, why) for start, why in ((0, "x"), (3, "x"), (9, "y"), (12, "x"))]
    pack = accounted(
        assemble("who?", [{"doc_id": "d", "start": 6, "end": 8}], sources={"d": text}), {"d": [(0, 14)]}, left
    )
    told = [(one.start, one.end, one.reason, one.passages) for one in pack.dropped]
    assert told == [(0, 6, "x", 2), (8, 12, "y", 1), (12, 14, "x", 1)]
    assert pack.dropped[0].as_json() == {"doc_id": "d", "start": 0, "end": 6, "reason": "x", "passages": 2}
