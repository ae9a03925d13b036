"""Packs of values that mean nothing, or that JSON cannot hold: refused by name, or told in valid JSON."""

from __future__ import annotations

import json
import math

import pytest

from unabridged import assemble
from unabridged.errors import UsageError

TEXT = "The castle has nine towers. It was built in 1402."


@pytest.mark.parametrize("score", [math.inf, -math.inf])
def test_a_score_without_bounds_orders_hits_and_is_null_in_json(score):
    hits = [{"doc_id": "a", "start": 0, "end": 10, "score": 1.0}, {"doc_id": "b", "score": score}]
    pack = assemble("who?", hits, sources={"a": TEXT, "b": "Another text."}, order="score")
    assert [one.doc_id for one in pack.sources] == (["b", "a"] if score > 0 else ["a", "b"])
    told = json.loads(json.dumps(pack.as_json(), allow_nan=False))
    assert {one["doc_id"]: one["score"] for one in told["sources"]} == {"a": 1.0, "b": None}


@pytest.mark.parametrize(("one", "other"), [("!!!", "???"), ("\U0001f3f0\U0001f3f0", "\U0001f308"), ("* * *", "-----")])
def test_different_signs_are_not_near_duplicates_of_each_other(one, other):
    hits = [{"doc_id": "a"}, {"doc_id": "b"}, {"doc_id": "c"}]
    pack = assemble("who?", hits, sources={"a": one, "b": other, "c": one}, duplicates="near")
    assert [source.text for source in pack.sources] == [one, other]
    assert [(left.doc_id, left.reason) for left in pack.dropped] == [("c", "duplicate")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"similarity": "0.5"}, "similarity='0.5'"),
        ({"similarity": True}, "similarity=True"),
        ({"recorded": ["a"]}, "recorded is list; expected a mapping"),
    ],
)
def test_options_of_other_types_are_refused_by_name(options, message):
    with pytest.raises(UsageError, match=message):
        assemble("who?", [{"doc_id": "a"}], sources={"a": TEXT}, **options)


def test_a_hash_that_is_no_text_is_refused_with_its_hit():
    with pytest.raises(UsageError, match="hit 1 of 'a' has 5 as its sha256"):
        assemble("who?", [{"doc_id": "a", "sha256": 5}], sources={"a": TEXT})


@pytest.mark.parametrize("answer", [None, b"[1]", 1])
def test_an_answer_that_is_no_text_has_no_citations_to_check(answer):
    pack = assemble("who?", [{"doc_id": "a"}], sources={"a": TEXT})
    with pytest.raises(UsageError, match="expected its text"):
        pack.check_citations(answer)
