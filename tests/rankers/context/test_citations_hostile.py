"""Answers that are long, nested, or full of code: what they cite, in time that grows with them."""

from __future__ import annotations

import random
import time

import pytest

from unabridged import assemble
from unabridged.rankers.context.code_spans import code_spans, without_code

FIRST = "The annex was signed in 2019. Nobody read it, she said. The list is rows[1] of the table."
SECOND = "Costs were about half. The council met twice."
PACK = assemble(
    "who?", [{"doc_id": "a", "score": 2.0}, {"doc_id": "b", "score": 1.0}], sources={"a": FIRST, "b": SECOND}
)
LONG = 1_000_000


@pytest.mark.parametrize(
    ("answer", "cited", "out_of_range"),
    [
        ("[[1]] and [ 2 ]", (1, 2), ()),
        ("[1[2]] [[1], [2]]", (2, 1), ()),
        ("[1][2][1]", (1, 2), ()),
        ("[1;2] [2,9] [1 - 2]", (1, 2), (9,)),
        ("[3-9] [0-1]", (1,), (9, 3, 0)),
        ("[999999999999999999] [9999999999999999999]", (), (999999999999999999,)),
        ("[1-999999999999999999]", (1, 2), (999999999999999999,)),
        ("[1, [2] [1 [2", (2,), ()),
        ("Take `rows[1]`, see [2].", (2,), ()),
        ("Take ``a`[1]`` [2].", (2,), ()),
        ("```python\nx = rows[1]\n```\nAs said [2].", (2,), ()),
        ("~~~\nrows[1]\n~~~\n[2]", (2,), ()),
        ("Open fence [2]\n```\nrows[1]", (2,), ()),
        ("It`s here [1].\n\nIt`s there [2].", (1, 2), ()),
        ("One ` alone [1].", (1,), ()),
        ("rows[1] is glued", (1,), ()),
        ("\\[1\\] and [\uff11] and [\u00b9]", (), ()),
        ("", (), ()),
        ("\ud800 [1] \U0001f642 [2]", (1, 2), ()),
    ],
)
def test_numbers_in_marks_count_and_those_in_code_do_not(answer, cited, out_of_range):
    report = PACK.check_citations(answer)
    assert (report.cited, report.out_of_range) == (cited, out_of_range)


def test_a_string_of_code_is_no_quotation_and_a_quotation_may_hold_code():
    code = 'Call:\n```\nprint("never said" [1])\n```\nThat is "met twice" [2].'
    [found] = PACK.check_citations(code).quotations
    assert (found.text, found.verdict) == ("met twice", "true")
    pack = assemble("who?", [{"doc_id": "a"}], sources={"a": "Use the `frobnicate` call, he said."})
    [quoted] = pack.check_citations('He said "the `frobnicate` call" [1].').quotations
    assert (quoted.text, quoted.verdict) == ("the `frobnicate` call", "true")


@pytest.mark.parametrize(
    "part",
    [
        "[1] ",
        "[1",
        "[",
        "[1-2][",
        '"met twice" [2]. ',
        '"',
        '"a',
        "\u201ea ",
        "\u00ab a \u00bb [1] ",
        "`a``b```c",
        "\n ",
        'No "met twice" here. [2] "signed" and [1, 2] ',
    ],
)
def test_an_answer_of_a_million_characters_is_checked_in_seconds(part):
    answer = part * (LONG // len(part))
    began = time.process_time()
    report = PACK.check_citations(answer)
    assert time.process_time() - began < 12
    assert set(report.cited) <= {1, 2}


def test_forty_thousand_different_quotations_are_judged_in_seconds():
    answer = " ".join(f'"word {number}" [{1 + number % 2}].' for number in range(40_000))
    began = time.process_time()
    report = PACK.check_citations(answer)
    assert time.process_time() - began < 12
    assert len(report.quotations) == 40_000
    assert {one.verdict for one in report.quotations} == {"absent"}


def naive(text: str) -> list[tuple[int, int]]:
    """Inline code of one line by its rule: a run of backticks is closed by the next run that is as long."""
    found, at = [], 0
    while at < len(text):
        if text[at] != "`":
            at += 1
            continue
        size = 1
        while text[at : at + size + 1] == "`" * (size + 1):
            size += 1
        place = at + size
        while place < len(text):
            run = 0
            while text[place + run : place + run + 1] == "`":
                run += 1
            if run == size:
                break
            place += max(1, run)
        if place < len(text):
            found.append((at, place + size))
            at = place + size
        else:
            at += size
    return found


@pytest.mark.parametrize("seed", range(60))
def test_code_in_a_line_is_closed_by_as_many_backticks_as_opened_it(seed):
    chance = random.Random(seed)
    text = "x" + "".join(chance.choice(["`", "``", "a", " [1] ", "`"]) for _ in range(chance.randrange(30)))
    assert code_spans(text) == naive(text)
    covered = without_code(text)
    assert len(covered) == len(text)
    for at, one in enumerate(text):
        inside = any(start <= at < end for start, end in naive(text))
        assert covered[at] == ("x" if inside else one)
