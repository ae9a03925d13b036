"""Questions over many sentences: the evidence is where the record says, nothing else answers, and sizes are kept."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys

import pytest

from unabridged.errors import UsageError
from unabridged.eval.synth import niah as niah_module
from unabridged.eval.synth import twohop as twohop_module
from unabridged.eval.synth import vartrack as vartrack_module
from unabridged.eval.synth.needle import PLACES
from unabridged.eval.synth.niah import Kind, niah
from unabridged.eval.synth.passkey import NAMES
from unabridged.eval.synth.sentences import FILLER, nominal_tokens, sized, vocabulary
from unabridged.eval.synth.twohop import RIVERS, first_hop, second_hop, twohop
from unabridged.eval.synth.vartrack import vartrack

MAKERS = {"niah": niah, "vartrack": vartrack, "twohop": twohop}
KINDS = [(key, value) for key in Kind for value in Kind]


def variants(seeds=range(12)):
    for seed in seeds:
        yield niah(80, seed, keys=3, values=2)
        yield vartrack(80, seed, chains=3, hops=5)
        yield twohop(80, seed)
    for key, value in KINDS:
        yield niah(40, 7, keys=6, values=3, key_kind=key, value_kind=value)
    for make in MAKERS.values():
        yield make(0, 1)


def test_the_text_at_every_place_of_evidence_is_its_sentence():
    for sample in variants():
        record = sample.as_json()
        assert sample.evidence == tuple(sorted(set(sample.evidence)))
        for at, (start, end) in zip(sample.evidence, record["evidence_spans"], strict=True):
            assert sample.text[start:end] == sample.sentences[at] == record["sents"][at]
        assert len(sample.spans) == len(sample.sentences)
        json.dumps(record)


def test_without_its_evidence_the_text_holds_no_answer_and_with_it_every_one():
    for sample in variants():
        rest = " ".join(one for at, one in enumerate(sample.sentences) if at not in sample.evidence)
        kept = " ".join(sample.sentences[at] for at in sample.evidence)
        for answer in sample.answers:
            assert answer not in rest
            assert re.search(rf"\b{re.escape(answer)}\b", kept)


def test_filler_has_no_digit_and_shares_no_word_with_any_question():
    assert not re.search(r"\d", "".join(FILLER))
    assert len(set(FILLER)) == len(FILLER)
    assert all(7 <= len(one.split()) <= 10 for one in FILLER)
    asked = [niah_module.question("k", 1), niah_module.question("k", 2), vartrack_module.question("v")]
    asked += [twohop_module.question(person) for person in NAMES]
    assert not vocabulary(*asked) & vocabulary(*FILLER)


@pytest.mark.parametrize("values", [1, 3])
@pytest.mark.parametrize(("key", "value"), KINDS, ids=[f"{k.value}-{v.value}" for k, v in KINDS])
def test_each_key_has_its_values_and_none_of_another_kind(key, value, values):
    forms = {
        Kind.WORDS: r"[a-z]+-[a-z]+",
        Kind.NUMBERS: r"\d{7}",
        Kind.UUIDS: r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    }
    sample = niah(60, 3, keys=5, values=values, key_kind=key, value_kind=value)
    line = re.compile(rf"A special code registered under ({forms[key]}) reads ({forms[value]})\.")
    said = [match.groups() for one in sample.sentences if (match := line.fullmatch(one))]
    assert len(said) == len(sample.sentences) - 60 == 5 * values
    assert len({k for k, _ in said}) == 5
    assert len({v for _, v in said}) == 5 * values
    assert not {k for k, _ in said} & {v for _, v in said}
    asked = re.search(r"under (\S+)\?", sample.question)[1]
    assert {v for k, v in said if k == asked} == set(sample.answers)
    assert {sample.sentences[at].split()[5] for at in sample.evidence} == {asked}


def replayed(sample):
    """What every variable holds at the end, by executing the text."""
    held = {}
    for one in sample.sentences:
        if match := re.fullmatch(r"VAR ([A-Z]{5}) = (\w+)\.", one):
            held[match[1]] = held.get(match[2], match[2])
    return held


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("chains", "hops"), [(1, 0), (2, 4), (4, 7)])
def test_executing_the_assignments_gives_exactly_the_answers(chains, hops, seed):
    sample = vartrack(50, seed, chains=chains, hops=hops)
    held = replayed(sample)
    assert len(held) == chains * (hops + 1)
    value = re.search(r"\d{5}", sample.question)[0]
    assert {name for name, one in held.items() if one == value} == set(sample.answers)
    assert len(sample.answers) == len(sample.evidence) == hops + 1
    assert all(re.fullmatch(r"\d{5}", one) for one in held.values()), "no name is copied before it has a value"


def test_chains_are_mixed():
    orders = {tuple(at - sample.evidence[0] for at in sample.evidence) for sample in (vartrack(0, s) for s in range(9))}
    assert len(orders) > 3


def test_the_question_about_a_person_shares_no_word_with_any_sentence_about_a_town():
    asked = vocabulary(*map(twohop_module.question, NAMES))
    assert not asked & vocabulary(*(second_hop(town, river) for town in PLACES for river in RIVERS))
    assert asked & vocabulary(*(first_hop(person, "x") for person in NAMES)) == vocabulary(*NAMES) | {"works"}
    assert len(set(RIVERS)) == 120
    assert not vocabulary(*RIVERS) & vocabulary(*PLACES, *NAMES, *FILLER)


@pytest.mark.parametrize("seed", range(6))
def test_two_hops_lead_from_the_person_to_the_river(seed):
    sample = twohop(70, seed, pairs=12)
    person = re.search(r"wherever (.+) works", sample.question)[1]
    towns = dict(re.fullmatch(r"(.+) works in (\w+)\.", one).groups() for one in sample.sentences if "works" in one)
    rivers = dict(
        re.fullmatch(r"(\w+) lies at River (\w+)\.", one).groups() for one in sample.sentences if "River" in one
    )
    assert (len(towns), len(rivers)) == (12, 12)
    assert sample.answers == (rivers[towns[person]],)
    assert [sample.sentences.index(first_hop(person, towns[person])) in sample.evidence, len(sample.evidence)] == [
        True,
        2,
    ]


def test_depths_are_the_shares_of_sentences_before_the_evidence():
    sample = vartrack(100, 5)
    assert sample.depths.tolist() == [at / (len(sample.sentences) - 1) for at in sample.evidence]
    assert sample.depth == pytest.approx(sum(sample.depths) / 5)
    places = [at for seed in range(200) for at in niah(20, seed).depths]
    assert (min(places), max(places)) == (0.0, 1.0), "edges are possible places"


@pytest.mark.parametrize("make", MAKERS)
def test_equal_seeds_give_equal_bytes_in_another_process_and_other_seeds_do_not(make):
    code = (
        f"import hashlib; from unabridged.eval.synth.{make} import {make}; "
        f"print(hashlib.sha256(repr({make}(60, 7).as_json()).encode()).hexdigest())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": salt},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for salt in ("1", "2")
    }
    assert runs == {hashlib.sha256(repr(MAKERS[make](60, 7).as_json()).encode()).hexdigest()}
    texts = {MAKERS[make](60, seed).text for seed in range(20)}
    assert len(texts) == 20
    assert MAKERS[make](60, 7, length=1).text != MAKERS[make](60, 7, length=2).text


def pieces(text):
    """A tokenizer of pieces of four characters."""
    return sum(-(-len(word) // 4) for word in text.split())


@pytest.mark.parametrize("count", [nominal_tokens, pieces, len])
@pytest.mark.parametrize("length", [400, 1000, 4096])
@pytest.mark.parametrize("make", MAKERS)
def test_a_text_by_tokens_fits_and_one_more_sentence_of_filler_would_not(make, length, count):
    if count is len:
        length *= 5
    sample = sized(lambda size: MAKERS[make](size, 3, length=length), length, count)
    assert count(sample.text) <= length
    assert count(f"{sample.text} {max(FILLER, key=count)}") > length
    one_more = MAKERS[make](sample.parameters["sentences"] + 1, 3, length=length)
    assert count(one_more.text) > length
    assert (one_more.question, one_more.answers) == (sample.question, sample.answers)


def test_what_cannot_fit_is_said_and_every_search_ends():
    with pytest.raises(UsageError, match=r"needles alone have \d+ tokens, more than length=20"):
        sized(lambda size: niah(size, 0, length=20), 20)
    with pytest.raises(UsageError, match="count them rightly"):
        sized(lambda size: niah(size, 0, length=90), 90, lambda text: 1)
    exact = nominal_tokens(niah(0, 0, length=77).text)
    assert sized(lambda size: niah(size, 0, length=77), exact).parameters["sentences"] == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: niah(5, keys=0), "1 or more, got 0 and 1"),
        (lambda: niah(5, values=0), "1 or more, got 4 and 0"),
        (lambda: niah(5, keys=577), "too few different names for 577"),
        (lambda: niah(-1), "got -1"),
        (lambda: vartrack(5, chains=0), "chains must number 1"),
        (lambda: vartrack(5, hops=-1), "hops 0 or more"),
        (lambda: twohop(5, pairs=101), "1 to 100, got 101"),
    ],
)
def test_counts_that_cannot_be_are_refused_instead_of_searched_for_ever(make, message):
    with pytest.raises(UsageError, match=message):
        make()
