"""Copies of a text: their share, and a score that does not depend on which copy was judged."""

import itertools
import math
import random

import numpy as np
import pytest

from unabridged.contracts import Document, Failure
from unabridged.errors import DuplicateId
from unabridged.eval.duplicates import collapse, duplicate_share, text_keys
from unabridged.eval.measures import AP, RR, R, Success, evaluate, nDCG

MEASURES = [nDCG @ 10, nDCG, AP, RR, R @ 3, Success @ 1]


def keys_of(texts):
    return text_keys(Document(name, text) for name, text in texts.items())


def both(run, qrels, texts):
    plain = evaluate(run, qrels, MEASURES)
    return plain.values, evaluate(*collapse(run, qrels, keys_of(texts)), MEASURES).values


def test_the_share_counts_texts_that_an_earlier_one_equals():
    assert duplicate_share(["a", "b", "a", "a"]) == 2 / 4
    assert duplicate_share(["a", "b", "A", "a "]) == 0
    assert duplicate_share([]) == 0


def test_title_and_text_together_are_the_text():
    failure = Failure("x", "f:1", "read", "empty", "")
    keys = text_keys([Document("1", "b", "a"), Document("2", "a b"), Document("3", "b"), failure])
    assert keys["1"] == keys["2"] != keys["3"]
    assert set(keys) == {"1", "2", "3"}


@pytest.mark.parametrize(("copies", "expected"), [(1, 1.0), (2, 0.8155), (3, 0.710), (5, 0.590)])
def test_with_one_judged_copy_the_plain_score_is_luck_and_the_collapsed_one_is_not(copies, expected):
    names = [f"d{n}" for n in range(copies)]
    texts = {**dict.fromkeys(names, "same"), "other": "else"}
    plain = []
    for order in itertools.permutations(names):
        run = {"q": {**{name: 9.0 - at for at, name in enumerate(order)}, "other": 0.0}}
        usual, collapsed = both(run, {"q": {"d0": 1}}, texts)
        plain.append(usual[0, 0])
        assert collapsed[0, 0] == 1.0
    assert np.mean(plain) == pytest.approx(sum(1 / math.log2(i + 1) for i in range(1, copies + 1)) / copies)
    assert np.mean(plain) == pytest.approx(expected, abs=5e-4)


def test_when_one_text_is_judged_no_value_falls_even_with_ties():
    draw = random.Random(1)
    names = [f"d{n}" for n in range(14)]
    for _ in range(300):
        texts = {name: draw.choice("abcdef") for name in names}
        run = {"q": {name: draw.choice([1.0, 2.0, draw.random()]) for name in draw.sample(names, 9)}, "p": {}}
        usual, collapsed = both(run, {"q": {draw.choice(names): draw.randint(1, 3)}, "p": {"d0": 1}}, texts)
        assert (collapsed >= usual - 1e-12).all()


def test_without_duplicates_nothing_changes():
    draw = random.Random(2)
    names = [f"d{n}" for n in range(20)]
    qrels = {f"q{n}": {name: draw.randint(-1, 3) for name in draw.sample(names, 6)} for n in range(20)}
    run = {query: {name: draw.choice([0.5, 1.0, 2.0]) for name in draw.sample(names, 9)} for query in list(qrels)[1:]}
    for texts in ({name: name for name in names}, {}):
        usual, collapsed = both(run, qrels, texts)
        assert np.array_equal(usual, collapsed)


def test_the_highest_grade_of_a_text_is_that_of_all_its_copies():
    texts = {"a": "same", "b": "same", "c": "else"}
    run, qrels = collapse({"q": {"b": 2.0, "a": 1.0, "c": 3.0}}, {"q": {"a": 2, "b": 0, "c": 1}}, keys_of(texts))
    assert run == {"q": {"b": 2.0, "c": 3.0}}
    assert qrels == {"q": {"b": 2, "c": 1}}
    missing = collapse({}, {"q": {"b": 0, "a": 2}}, keys_of(texts))[1]
    assert list(missing["q"].values()) == [2]


def test_a_document_twice_in_a_list_is_no_copy_but_an_error():
    with pytest.raises(DuplicateId):
        collapse({"q": [("a", 1.0), ("a", 0.5)]}, {}, {})
