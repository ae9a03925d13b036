"""The needle generator: one haystack, one fact per document, nothing answered twice."""

from __future__ import annotations

import re

import numpy as np
import pytest

from unabridged.errors import UsageError
from unabridged.eval.synth.haystack import haystack
from unabridged.eval.synth.needle import PLACES, Depth, Fact, needle, template_facts


def without_line(text: str, start: int, end: int) -> str:
    before, after = text[: start - 1], text[end + 1 :]
    return f"{before} {after}" if before and after else before + after


@pytest.mark.parametrize("depth", list(Depth))
@pytest.mark.parametrize("length", [256, 1024])
def test_all_documents_of_a_length_share_one_haystack_of_the_nominal_size(length, depth):
    made = needle(length, depth=depth)
    hays = {without_line(d.text, r.start, r.end) for d, r in zip(made.documents, made.records, strict=True)}
    assert len(hays) == 1
    longest = max(len(d.text[r.start : r.end].split()) for d, r in zip(made.documents, made.records, strict=True))
    assert len(hays.pop().split(" ")) == 3 * length // 4 - longest


def test_the_recorded_depth_is_the_place_of_the_fact():
    made = needle(512)
    for document, record in zip(made.documents, made.records, strict=True):
        hay = without_line(document.text, record.start, record.end)
        before = document.text[: record.start - 1]
        assert record.depth == pytest.approx((len(before) + bool(before)) / len(hay), abs=2e-3)
        assert record.answer in document.text[record.start : record.end]
        assert record.answer not in hay


def test_stratified_depths_fill_ten_tenths_equally_among_documents_and_questions():
    made = needle(2048)
    tenths = np.bincount([int(10 * r.depth) for r in made.records], minlength=10)
    asked = np.bincount((10 * made.depths).astype(int), minlength=10)
    assert tenths.tolist() == [10] * 10
    assert asked.tolist() == [5] * 10


def test_a_longer_haystack_begins_with_the_shorter_one():
    assert haystack(500, seed=2).startswith(haystack(100, seed=2))
    assert haystack(100, seed=2) != haystack(100, seed=3)
    assert not re.search(r"\d", haystack(5_000))


def test_no_template_fact_and_no_place_occurs_in_the_template_haystack():
    hay = haystack(20_000)
    assert not [place for place in PLACES if place in hay]


def test_questions_are_unique_and_each_answer_stands_in_one_document():
    made = needle(256)
    assert len(set(made.questions)) == 50
    for row in made.relevant:
        assert [at for at, text in enumerate(made.texts) if made.records[row].answer in text] == [row]


def test_distractors_share_no_place_and_no_number_with_any_fact():
    facts, strays = template_facts(120, 4), template_facts(120, 4, distractors=True)
    assert not {f.answer for f in facts} & {s.answer for s in strays}
    assert not {f.question for f in facts} & {s.question for s in strays}
    made = needle(512, 4, distractors=3)
    for document, record in zip(made.documents, made.records, strict=True):
        held = [stray for stray in strays if f"\n{stray.text}\n" in document.text]
        assert len(held) == 3
        assert document.text[record.start : record.end].count(record.answer) == 1


def test_a_users_texts_are_the_haystack_and_their_numbers_are_no_answers():
    texts = [f"Entry {n} speaks of {n + 1100}. Nothing else is said there." for n in range(400)]
    made = needle(1024, texts=texts, documents=20, queries=10)
    assert made.texts[0].startswith(("Entry 0 speaks of 1100.", "\n"))
    assert all(not 1100 <= int(r.answer) < 1500 for r in made.records)


def test_equal_seeds_give_equal_sets_and_other_seeds_do_not():
    assert needle(512, 7, distractors=2) == needle(512, 7, distractors=2)
    assert needle(512, 7).texts != needle(512, 8).texts


def test_a_question_that_occurs_twice_is_refused():
    facts = [
        Fact("The sun has 4711 spots.", "How many spots?", "4711"),
        Fact("It has 4712.", "How many spots?", "4712"),
    ]
    with pytest.raises(UsageError, match="'How many spots\\?' occurs twice"):
        needle(256, facts=facts, documents=2, queries=1)


def test_a_fact_that_the_haystack_has_already_is_refused():
    texts = ["The sun has 4711 spots. " * 200]
    with pytest.raises(UsageError, match="already"):
        needle(256, facts=[Fact("The sun has 4711 spots.", "How many?", "4711")], texts=texts, documents=1, queries=1)


def test_texts_that_are_too_short_say_how_much_they_have():
    with pytest.raises(UsageError, match="have 3 words"):
        needle(256, texts=["one two three"])


@pytest.mark.parametrize("documents", [0, 121])
def test_more_documents_than_facts_are_refused(documents):
    with pytest.raises(UsageError, match="queries and documents"):
        needle(256, documents=documents, queries=1)


@pytest.mark.parametrize("distractors", [-1, 121])
def test_more_distractors_than_there_are_and_fewer_than_none_are_refused(distractors):
    with pytest.raises(UsageError, match="distractors must number 0 to 120"):
        needle(256, documents=2, queries=1, distractors=distractors)
