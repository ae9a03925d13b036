"""Choices among many spans: quick, within the budget whatever a tokenizer does at the joints, and all accounted for."""

from __future__ import annotations

import random
import time

import pytest

from unabridged.rankers.context import choosing
from unabridged.rankers.context.assemble import assemble
from unabridged.rankers.context.contracts import BUDGET
from unabridged.rankers.context.sources import Reader
from unabridged.rankers.context.spans import merged
from unabridged.rankers.context.taken import Taken

TEXT = "ab  cd \n\n ef gh\t\tij  " * 12


@pytest.mark.parametrize("gap", [0, 1, 5])
@pytest.mark.parametrize("seed", range(15))
def test_a_span_stands_alone_where_a_pack_would_show_it_by_itself(seed, gap):
    chance = random.Random(seed)
    taken, spans = Taken(Reader({"d": TEXT}), gap), []
    for _ in range(12):
        start = chance.randrange(len(TEXT) - 1)
        span = (start, min(len(TEXT), start + chance.randrange(1, 9)))
        shown = merged([*spans, span], TEXT, gap)
        [own] = [members for _, _, members in shown if len(spans) in members]
        assert taken.alone("d", span) == (len(own) == 1)
        assert taken.alone("e", span)
        taken.add("d", span)
        spans.append(span)
        assert taken._spans["d"] == [(first, last) for first, last, _ in merged(spans, TEXT, gap)]


def test_two_thousand_offers_that_stand_apart_and_a_budget_for_half_of_them_take_seconds():
    text = "\n\n---\n\n".join(f"passage {at} " + "tells of it " * 30 for at in range(2_000))
    hits, at = [], 0
    for place, part in enumerate(text.split("\n\n---\n\n")):
        hits.append({"doc_id": "d", "start": at, "end": at + len(part), "score": float(place * 7919 % 10_007)})
        at += len(part) + 7
    began = time.process_time()
    pack = assemble("who?", hits, sources={"d": text}, budget=90_000, tokenizer=lambda one: len(one.split()))
    assert time.process_time() - began < 30
    assert 89_900 <= pack.tokens <= 90_000
    assert len(pack.sources) + len(pack.dropped) == len(hits)


@pytest.mark.parametrize("most", [0, choosing.MOST_EXACT])
@pytest.mark.parametrize("seed", range(8))
def test_a_tokenizer_that_counts_a_whole_above_its_parts_never_breaks_the_budget(seed, most, monkeypatch):
    monkeypatch.setattr(choosing, "MOST_EXACT", most)
    chance = random.Random(seed)
    texts = {name: " ".join(chance.choice("abcdefgh") * 3 for _ in range(400)) for name in "xy"}
    hits = [
        {"doc_id": chance.choice("xy"), "start": start, "end": start + 40, "score": chance.random()}
        for start in (chance.randrange(1500) for _ in range(40))
    ]

    def steep(text: str) -> int:
        return len(text.split()) + (len(text) // 90) ** 2

    pack = assemble("who?", hits, sources=texts, budget=120, tokenizer=steep, duplicates="near")
    assert steep(pack.text) == pack.tokens <= 120
    assert pack.sources
    first = [one.hits[0] for one in pack.sources]
    assert sorted([*first, *(one.hit for one in pack.dropped)]) == list(range(40))
    assert BUDGET in {one.reason for one in pack.dropped}
    assert all(one.into is not None for one in pack.dropped if "duplicate" in one.reason)


@pytest.mark.parametrize("order", ["rising", "falling", "mixed"])
def test_a_book_whose_passages_follow_each_other_is_counted_a_few_times_and_not_once_for_each_of_them(order):
    texts = [f"passage {at} " + "tells of it " * 30 for at in range(1_200)]
    book, hits, at = "\n\n".join(texts), [], 0
    for place, part in enumerate(texts):
        score = {"rising": place, "falling": -place, "mixed": place * 7919 % 10_007}[order]
        hits.append({"doc_id": "d", "start": at, "end": at + len(part), "score": float(score)})
        at += len(part) + 2
    read = 0

    def count(text: str) -> int:
        nonlocal read
        read += len(text)
        return len(text.split())

    pack = assemble("who?", hits, sources={"d": book}, budget=90_000, tokenizer=count)
    assert 89_900 <= pack.tokens <= 90_000
    first = [one.hits[0] for one in pack.sources]
    assert sorted([*first, *(one.hit for one in pack.dropped)]) == list(range(len(hits)))
    assert read < 20 * len(book)
