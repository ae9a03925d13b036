"""Cutting, widening and headings: places in a text."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unabridged import assemble
from unabridged.errors import UsageError
from unabridged.rankers.context.cutting import passages_of
from unabridged.rankers.context.headings import headings_above
from unabridged.rankers.context.sources import paragraphs
from unabridged.rankers.context.spans import sentence_ends, with_margin, with_neighbours, without

PIECES = [
    "One two. ",
    "Why? ",
    "\u4e00\u4e8c\u3002",
    "e\u0301 ",
    "\r\n\r\n",
    "\n",
    "  ",
    "# Head\n",
    "x" * 30 + " ",
    "\U0001f600 ",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=60).map("".join)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, 40), st.sampled_from(["", "src/a.py "]))
def test_passages_are_disjoint_in_order_and_hold_all_that_can_be_seen(text, tokens, title):
    text = title + text
    found = passages_of("d", text, tokens=tokens)
    assert all(text[one.start : one.end] == one.text and one.text.strip() == one.text for one in found)
    assert all(one.end <= other.start for one, other in pairwise(found))
    shown = [place for one in found for place in range(one.start, one.end)]
    assert {place for place, letter in enumerate(text) if not letter.isspace()} <= set(shown)


@pytest.mark.parametrize(
    "text", ["Some words here. " * 60, "A line.\r\n\r\nMore\n" * 40, "\u4e00\u4e8c\U0001f600" * 200]
)
def test_long_prose_is_cut_block_by_block_and_nothing_is_lost(text, monkeypatch):
    monkeypatch.setattr("unabridged.rankers.context.cutting.BLOCK", 100)
    found = passages_of("d", text, tokens=9)
    assert all(text[one.start : one.end] == one.text for one in found)
    assert all(one.end <= other.start for one, other in pairwise(found))
    assert "".join("".join(one.text.split()) for one in found) == "".join(text.split())


def test_a_passage_of_no_tokens_is_refused():
    with pytest.raises(UsageError, match="at least 1"):
        passages_of("d", "a b", tokens=0)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.data())
def test_sentences_end_behind_something_visible_and_the_last_is_the_last_visible_character(text, data):
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    ends = sentence_ends(text, start, end)
    part = text[start:end]
    assert ends == sorted(set(ends))
    assert bool(ends) == bool(part.strip())
    assert all(not text[place - 1].isspace() for place in ends)
    if ends:
        assert ends[-1] == start + len(part.rstrip())


def test_sentences_of_plain_prose():
    text = "He said no. She, e.g. in May, said \u201cyes.\u201d Then?  Nothing"
    assert [text[:place] for place in sentence_ends(text, 0, len(text))] == [
        "He said no.",
        "He said no. She, e.g. in May, said \u201cyes.\u201d",
        "He said no. She, e.g. in May, said \u201cyes.\u201d Then?",
        text,
    ]


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.integers(0, 30), st.data())
def test_a_margin_adds_whole_words_and_no_more_than_it_may(text, margin, data):
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    first, last = with_margin((start, end), text, margin)
    assert max(0, start - margin) <= first <= start <= end <= last <= min(len(text), end + margin)
    assert first == start or ((first == 0 or text[first - 1].isspace()) and not text[first].isspace())
    assert last == end or ((last == len(text) or text[last].isspace()) and not text[last - 1].isspace())


@pytest.mark.parametrize(
    ("span", "count", "expected"),
    [
        ((12, 15), 0, (12, 15)),
        ((12, 15), 1, (0, 30)),
        ((10, 20), 1, (0, 30)),
        ((8, 12), 1, (0, 30)),
        ((0, 5), 1, (0, 20)),
        ((35, 40), 1, (20, 40)),
        ((35, 40), 9, (0, 40)),
        ((40, 50), 1, (20, 50)),
    ],
)
def test_neighbours_are_the_segments_before_and_behind(span, count, expected):
    assert with_neighbours(span, [(0, 10), (10, 20), (20, 30), (30, 40)], count) == expected


def test_without_segments_there_are_no_neighbours():
    assert with_neighbours((3, 5), [], 2) == (3, 5)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)).map(sorted).map(tuple), max_size=5))
def test_what_is_left_of_a_span_is_what_a_set_of_characters_says(parts):
    left = {place for start, end in without((4, 16), parts) for place in range(start, end)}
    assert left == set(range(4, 16)) - {place for start, end in parts for place in range(start, end)}


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_paragraphs_hold_all_that_can_be_seen_and_no_blank_line(text):
    found = list(paragraphs(text))
    shown = {place for start, end in found for place in range(start, end)}
    assert {place for place, letter in enumerate(text) if not letter.isspace()} <= shown
    for start, end in found:
        part = text[start:end]
        assert part.strip() == part != ""
        assert all(line.strip() for line in part.split("\n"))


MARKED = "# Top\n\nText\n\n## Sub ##\n\nmore\n```sh\n# no\n```\nhere\n\n## Next\nthere\n\nOther\r\n=====\r\n\nend"
BOOK = "PART I\n\nCHAPTER I.\n\nIt was.\n\nCHAPTER II. The Fall\n\n"
BOOK += "1.2 Methods here\n\nWe did. Section 3 of it\nsays.\n\nBook Two\n\nz"
CODE = """\
src/shop.py class Cart:
    '''Of a shop.'''

    def total(self):
        first = 1
        return first

last = 2
"""


@pytest.mark.parametrize(
    ("text", "word", "expected"),
    [
        (MARKED, "Text", ["Top"]),
        (MARKED, "more", ["Top", "Sub"]),
        (MARKED, "here", ["Top", "Sub"]),
        (MARKED, "there", ["Top", "Next"]),
        (MARKED, "end", ["Other"]),
        (MARKED, "Top", []),
        (BOOK, "It was", ["PART I", "CHAPTER I."]),
        (BOOK, "We did", ["PART I", "CHAPTER II. The Fall", "1.2 Methods here"]),
        (BOOK, "says", ["PART I", "CHAPTER II. The Fall", "1.2 Methods here"]),
        (BOOK, "z", ["Book Two"]),
        ("no headings at all", "all", []),
        ("", "", []),
    ],
)
def test_a_span_stands_under_the_headings_that_a_reader_sees(text, word, expected):
    assert [text[start:end] for start, end in headings_above(text, text.index(word))] == expected


def test_code_stands_under_the_signatures_around_it():
    pytest.importorskip("tree_sitter_python")
    shown = [CODE[start:end] for start, end in headings_above(CODE, CODE.index("return"))]
    assert shown == ["class Cart:", "def total(self):"]
    assert headings_above(CODE, CODE.index("last")) == []
    at = CODE.index("return")
    pack = assemble("q", [{"doc_id": "c", "start": at, "end": at + 6}], sources={"c": CODE}, headings=True)
    assert pack.text == "[1] c > class Cart: > def total(self):\nreturn"
    assert [CODE[start:end] for start, end in pack.sources[0].headings] == shown


def test_headings_are_in_the_header_and_counted():
    at = MARKED.index("more")
    offer = {"doc_id": "line\nend", "start": at, "end": at + 4}
    pack = assemble("q", [offer], sources={"line\nend": MARKED}, headings=True, tokenizer=len)
    assert pack.text == "[1] line\\nend > Top > Sub\nmore"
    assert pack.tokens == len(pack.text)
    bare = assemble("q", [offer], sources={"line\nend": MARKED}, headings=True, headers=False)
    assert bare.text == "[1] Top > Sub\nmore"
