"""Context packs: every span is its source's, every hit is accounted for, and the budget holds for every tokenizer."""

from __future__ import annotations

import hashlib
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unabridged import assemble
from unabridged.contracts import Hit, Span
from unabridged.encoders._resolve import embedded_folder
from unabridged.errors import BudgetTooSmall, SourceChanged, UnabridgedError, UsageError, ValidationError
from unabridged.rankers.context.arranging import two_stage
from unabridged.rankers.context.contracts import (
    BUDGET,
    CHANGED,
    DUPLICATE,
    EMPTY,
    MERGED,
    NEAR_DUPLICATE,
    OUTSIDE,
    UNKNOWN,
    Order,
)
from unabridged.rankers.context.counting import token_counter
from unabridged.rankers.lm.convert import conversion_folder
from unabridged.rankers.lm.embedded import embedded_file
from unabridged.rankers.select.contracts import Passage

PIECES = [
    "The annex was signed in 2019. ", "na\u00efve caf\u00e9 ", "e\u0301a\u0308 ", "\r\n\r\n", "\r\n", "   ",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1ee\U0001f1f8 ", "\u65e5\u672c\u8a9e\u306e\u6587\u3002",
    "# Heading\n", "word ", "Why? Because! ", "x" * 40 + " ", "\u200b", "[3] ", '"quoted" ', "\t", "\n\n", "\ufb01n. ",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


def name_of(tokenizer) -> str:
    return getattr(tokenizer, "__name__", tokenizer)


def words(text: str) -> int:
    return len(text.split())


def letters(text: str) -> int:
    return len(text)


def bytes_squared(text: str) -> int:
    """Not additive at all: the sum of parts says nothing of the whole."""
    return len(text) ** 2 // 100


def is_converted() -> bool:
    """Whether the embedded language model is here and need not be converted first, which takes a minute."""
    try:
        return conversion_folder(embedded_file()).is_dir()
    except UnabridgedError:
        return False


HAS_MODEL = pytest.mark.skipif(not is_converted(), reason="the embedded language model is not here, or not converted")


@st.composite
def offered(draw):
    """Sources with hostile text, and hits of every kind in them: nested, touching, equal, empty."""
    sources = {name: draw(TEXTS) for name in ("a", "b b", "c\nc")[: draw(st.integers(1, 3))]}
    hits = []
    for _ in range(draw(st.integers(0, 14))):
        name = draw(st.sampled_from(sorted(sources)))
        size = len(sources[name])
        start = draw(st.integers(0, size))
        end = draw(st.integers(start, min(size, start + 80)))
        score = draw(st.one_of(st.none(), st.floats(-5, 5), st.sampled_from([0.0, 1.0])))
        hits.append({"doc_id": name, "start": start, "end": end, "score": score, "text": sources[name][start:end]})
    return sources, hits


OPTIONS = st.fixed_dictionaries(
    {
        "order": st.sampled_from([None, *Order]),
        "join_gap": st.sampled_from([0, 3, 30]),
        "neighbours": st.sampled_from([0, 0, 1]),
        "margin": st.sampled_from([0, 0, 25]),
        "headings": st.booleans(),
        "headers": st.booleans(),
        "show_question": st.sampled_from([None, "first", "last"]),
        "duplicates": st.sampled_from(["none", "exact", "near"]),
        "trim": st.booleans(),
    }
)


@pytest.mark.parametrize(
    "tokenizer", ["embedded", pytest.param("embedded-lm", marks=HAS_MODEL), words, letters, bytes_squared], ids=name_of
)
@settings(max_examples=30, deadline=None)
@given(case=offered(), options=OPTIONS, budget=st.integers(1, 400))
def test_spans_are_their_sources_every_hit_is_accounted_for_and_the_budget_holds(tokenizer, case, options, budget):
    sources, hits = case
    count = token_counter(tokenizer)
    asked = {"sources": sources, "tokenizer": tokenizer, **options}
    smallest = smallest_budget(hits, budget, asked)
    if smallest is not None:
        assert smallest > budget
        roomy = assemble("who signed?", hits, budget=smallest, **asked)
        assert roomy.tokens <= smallest
        assert roomy.sources or not any(hit["text"].strip() for hit in hits)
        return
    pack = assemble("who signed?", hits, budget=budget, **asked)
    assert pack.tokens == count(pack.text) <= budget
    for source in pack.sources:
        text = sources[source.doc_id]
        assert source.text == text[source.start : source.end] == pack.text[source.at : source.at + len(source.text)]
        assert source.sha256 == hashlib.sha256(text.encode()).hexdigest()
        assert pack.text[: source.at].rpartition(f"[{source.number}] ")[1]
        assert all(text[start:end].strip() and end <= source.start for start, end in source.headings)
    assert [source.number for source in pack.sources] == list(range(1, len(pack.sources) + 1))
    check_accounts(pack, hits)
    check_shown(pack, hits)
    for name, text in sources.items():
        spans = sorted((one.start, one.end) for one in pack.sources if one.doc_id == name)
        for (_, end), (start, _) in pairwise(spans):
            assert start - end > options["join_gap"]
            assert not text[end:start].isspace()


def smallest_budget(hits, budget, asked):
    """What the refusal names, None where there is none."""
    try:
        assemble("who signed?", hits, budget=budget, **asked)
    except BudgetTooSmall as error:
        return error.smallest
    return None


def check_accounts(pack, hits):
    """Every hit once: the first of a source, or dropped."""
    accounted = [source.hits[0] for source in pack.sources] + [one.hit for one in pack.dropped]
    assert sorted(accounted) == list(range(len(hits)))
    merged = {(hit, source.number) for source in pack.sources for hit in source.hits[1:]}
    assert merged == {(one.hit, one.into) for one in pack.dropped if one.reason == MERGED}
    for one in pack.dropped:
        assert (one.doc_id, one.start, one.end) == tuple(hits[one.hit][name] for name in ("doc_id", "start", "end"))
        if one.reason in (DUPLICATE, NEAR_DUPLICATE):
            assert one.into is not None


def check_shown(pack, hits):
    """What a kept hit offered is shown, or recorded as cut."""
    for source in pack.sources:
        shown = set(range(source.start, source.end))
        cut = {at for start, end in source.cut for at in range(start, end)}
        assert not cut & shown
        for hit in source.hits:
            assert set(range(hits[hit]["start"], hits[hit]["end"])) <= shown | cut


@settings(max_examples=30, deadline=None)
@given(case=offered(), gap=st.sampled_from([0, 4]))
def test_with_room_for_all_the_spans_are_those_of_a_naive_marking_of_characters(case, gap):
    sources, hits = case
    pack = assemble("q", hits, sources=sources, budget=10**6, tokenizer=letters, duplicates="none", join_gap=gap)
    for name, text in sources.items():
        marked = [False] * (len(text) + 1)
        own = [hit for hit in hits if hit["doc_id"] == name and hit["text"].strip()]
        for hit in own:
            marked[hit["start"] : hit["end"]] = [True] * (hit["end"] - hit["start"])
        runs, at = [], 0
        while at < len(text):
            if marked[at]:
                stop = next(place for place in range(at, len(text) + 1) if not marked[place])
                if runs and (at - runs[-1][1] <= gap or text[runs[-1][1] : at].isspace()):
                    runs[-1] = (runs[-1][0], stop)
                else:
                    runs.append((at, stop))
                at = stop
            else:
                at += 1
        assert sorted((one.start, one.end) for one in pack.sources if one.doc_id == name) == runs


@settings(max_examples=30, deadline=None)
@given(case=offered())
def test_each_order_is_a_permutation_of_the_same_spans_and_the_one_it_says(case):
    sources, hits = case
    packs = {
        order: assemble("q", hits, sources=sources, budget=10**6, tokenizer=letters, order=order) for order in Order
    }
    spans = {order: [(one.doc_id, one.start, one.end) for one in pack.sources] for order, pack in packs.items()}
    assert len({Counter(found).total() for found in spans.values()}) == 1
    assert all(Counter(found) == Counter(spans[Order.SCORE]) for found in spans.values())
    known = [hit["score"] if hit["score"] is not None else float("-inf") for hit in hits]
    places = [known[one.hits[0]] for one in packs[Order.SCORE].sources]
    assert places == sorted(places, reverse=True)
    assert spans[Order.REVERSE] == spans[Order.SCORE][::-1]
    assert spans[Order.TWO_STAGE] == two_stage(spans[Order.SCORE])
    for name in sources:
        starts = [start for doc, start, _ in spans[Order.SOURCE] if doc == name]
        assert starts == sorted(starts)
    together = [doc for doc, _, _ in spans[Order.SOURCE]]
    assert sum(one != other for one, other in pairwise(together)) == max(0, len(set(together)) - 1)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, []), (1, [0]), (2, [0, 1]), (3, [0, 2, 1]), (4, [0, 2, 3, 1]), (7, [0, 2, 4, 6, 5, 3, 1])],
)
def test_two_stage_puts_the_best_at_both_edges(count, expected):
    assert two_stage(range(count)) == expected


SOURCES = {
    "laws": "The annex was signed in 2019 by the council. It has nine parts. Nobody read it.",
    "news": "The annex was signed in 2019 by the council.",
    "copy": "the annex was signed, in 2019, by the whole council today",
    "void": " \n ",
}


def hit(doc_id: str, start: int, end: int, score: float = 1.0) -> Hit:
    return Hit(1, doc_id, score, Span(start, end, SOURCES[doc_id][start:end]))


def test_a_pack_reads_as_it_is_documented():
    pack = assemble("who?", [hit("laws", 0, 44, 2.0), hit("void", 0, 3), hit("laws", 45, 63)], sources=SOURCES)
    assert pack.text == "[1] laws\nThe annex was signed in 2019 by the council. It has nine parts."
    [source] = pack.sources
    assert (source.start, source.end, source.score, source.hits) == (0, 63, 2.0, (0, 2))
    assert [(one.hit, one.reason, one.into) for one in pack.dropped] == [(1, EMPTY, None), (2, MERGED, 1)]
    assert (pack.order, pack.tokenizer, pack.budget) == (Order.SOURCE, "embedded", 8000)
    assert {"question", "text", "tokens", "sources", "dropped", "timings"} <= set(pack.as_json())


def test_equal_texts_stand_once_and_similar_ones_where_that_is_asked():
    hits = [hit("laws", 0, 44, 3.0), hit("news", 0, 44, 2.0), hit("copy", 0, 57, 1.0)]
    exact = assemble("who?", hits, sources=SOURCES)
    assert [(one.hit, one.reason, one.into) for one in exact.dropped] == [(1, DUPLICATE, 1)]
    near = assemble("who?", hits, sources=SOURCES, duplicates="near", similarity=0.3)
    assert [(one.hit, one.reason) for one in near.dropped] == [(1, DUPLICATE), (2, NEAR_DUPLICATE)]
    assert len(assemble("who?", hits, sources=SOURCES, duplicates="none").sources) == 3


def test_what_does_not_fit_is_named_and_a_smaller_one_behind_it_is_taken():
    hits = [hit("news", 0, 44, 3.0), hit("laws", 0, 79, 2.0), hit("laws", 45, 63, 1.0)]
    pack = assemble("who?", hits, sources=SOURCES, budget=18, tokenizer=words)
    assert [(one.doc_id, one.text) for one in pack.sources] == [
        ("news", SOURCES["news"]),
        ("laws", "It has nine parts."),
    ]
    assert [(one.hit, one.reason) for one in pack.dropped] == [(1, BUDGET)]


def test_a_hit_is_cut_at_the_end_of_a_sentence_and_what_is_missing_is_recorded():
    pack = assemble("who?", [hit("laws", 0, 79)], sources=SOURCES, budget=15, tokenizer=words, trim=True)
    [source] = pack.sources
    assert source.text == "The annex was signed in 2019 by the council. It has nine parts."
    assert source.cut == ((63, 79),)
    with pytest.raises(BudgetTooSmall, match="With 18 one would"):
        assemble("who?", [hit("laws", 0, 79)], sources=SOURCES, budget=15, tokenizer=words)


def test_a_source_that_changed_is_refused_with_its_hashes_or_dropped():
    now = {**SOURCES, "laws": SOURCES["laws"].replace("2019", "2020")}
    recorded = hashlib.sha256(SOURCES["laws"].encode()).hexdigest()
    for hits, extra in (
        ([hit("laws", 45, 63)], {"recorded": {"laws": recorded}}),
        ([{"doc_id": "laws", "start": 45, "end": 63, "sha256": recorded}], {}),
    ):
        with pytest.raises(SourceChanged, match=r"'laws'.*" + recorded):
            assemble("who?", hits, sources=now, **extra)
        pack = assemble("who?", [*hits, hit("news", 0, 9)], sources=now, faults="drop", **extra)
        assert [(one.hit, one.reason) for one in pack.dropped] == [(0, CHANGED)]
    with pytest.raises(SourceChanged, match="the text of hit 1"):
        assemble("who?", [hit("laws", 0, 44)], sources=now)
    # The sources of one pack are hits of the next, and their hashes are checked.
    pack = assemble("who?", [hit("laws", 0, 44)], sources=SOURCES)
    with pytest.raises(SourceChanged):
        assemble("who?", pack.sources, sources=now)
    assert assemble("who?", [one.as_json() for one in pack.sources], sources=SOURCES).text == pack.text


def test_unknown_documents_and_spans_outside_are_refused_or_dropped():
    for bad, reason, message in (
        ({"doc_id": "gone", "start": 0, "end": 2}, UNKNOWN, "no document with id 'gone'"),
        ({"doc_id": "news", "start": 0, "end": 45}, OUTSIDE, "44 characters"),
    ):
        with pytest.raises(UsageError, match=message):
            assemble("who?", [bad], sources=SOURCES)
        pack = assemble("who?", [bad, hit("laws", 0, 9)], sources=SOURCES, faults="drop")
        assert [(one.hit, one.reason) for one in pack.dropped] == [(0, reason)]


@pytest.mark.parametrize(
    ("hits", "options", "error", "message"),
    [
        ([], {"question": " "}, UsageError, "at least one word"),
        ([], {"budget": 0}, UsageError, "budget=0"),
        ([], {"budget": True}, UsageError, "budget=True"),
        ([], {"order": "best"}, UsageError, "two_stage"),
        ([], {"duplicates": "some"}, UsageError, "near"),
        ([], {"similarity": 0}, UsageError, "similarity"),
        ([], {"neighbours": -1}, UsageError, "neighbours=-1"),
        ([], {"show_question": "middle"}, UsageError, "first, last"),
        ([], {"faults": "ignore"}, UsageError, "raise, drop"),
        ([], {"tokenizer": "no such tokenizer"}, UsageError, "embedded-lm"),
        ([], {"tokenizer": 4}, UsageError, "int"),
        ("text", {}, UsageError, "one str"),
        ([7], {}, UsageError, "hit 1 is int"),
        ([{"doc_id": 3}], {}, UsageError, "doc_id"),
        ([{"doc_id": "news", "start": 3, "end": 2}], {}, UsageError, "no span"),
        ([{"doc_id": "news", "start": -1, "end": 2}], {}, UsageError, "no span"),
        ([{"doc_id": "news", "start": 1.5, "end": 2}], {}, UsageError, "1.5"),
        ([{"doc_id": "news", "score": float("nan")}], {}, ValidationError, "not a number"),
        ([{"doc_id": "news"}], {"sources": None}, UsageError, "sources="),
        ([{"doc_id": "news"}], {"sources": 5}, UsageError, "int"),
        ([{"doc_id": "news"}], {"sources": lambda name: 5}, UsageError, "int"),
        ([{"doc_id": "news"}], {"tokenizer": lambda text: 1.5}, UsageError, "1.5"),
    ],
)
def test_what_cannot_be_meant_is_refused(hits, options, error, message):
    with pytest.raises(error, match=message):
        assemble(**{"question": "who?", "hits": hits, "sources": SOURCES, **options})


def test_passages_pairs_and_functions_are_hits_and_sources_too():
    passage = Passage("news", 0, 9, SOURCES["news"][:9])
    assert assemble("who?", [passage], sources=SOURCES.get).sources[0].score is None
    assert assemble("who?", [(passage, 0.25)], sources=SOURCES.__getitem__).sources[0].score == 0.25
    whole = assemble("who?", [{"doc_id": "news"}], sources=SOURCES).sources[0]
    assert (whole.start, whole.end) == (0, 44)
    assert assemble("who?", []).text == ""


def test_neighbours_and_margins_are_shown_where_they_fit():
    text = "One one.\n\nTwo two.\n\nThree three.\n\nFour four."
    middle = {"doc_id": "d", "start": 14, "end": 17}
    assert assemble("q", [middle], sources={"d": text}, neighbours=1).sources[0].text == text[:32]
    assert assemble("q", [middle], sources={"d": text}, margin=8).sources[0].text == "Two two.\n\nThree"
    tight = assemble("q", [middle], sources={"d": text}, neighbours=2, budget=3, tokenizer=words)
    assert (tight.sources[0].text, tight.sources[0].why) == ("two", "hit 1; its surroundings did not fit")


def test_the_embedded_tokenizer_is_that_of_the_embedded_encoder():
    tokenizers = pytest.importorskip("tokenizers")
    theirs = tokenizers.Tokenizer.from_file(str(embedded_folder() / "tokenizer.json"))
    theirs.no_truncation()
    text = "Ünïcode, emoji 🇮🇸 and a loooooong tale. " * 60
    assert token_counter("embedded")(text) == len(theirs.encode(text, add_special_tokens=False).ids) > 512
