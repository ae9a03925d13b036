"""What an answer cites and quotes, against the pack that it was given."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unabridged import assemble

FIRST = "The annex was signed in 2019.\r\nNobody  read it, she said."
SECOND = "Costs were 5\u20137 \u20ac, \u201cabout\u201d half. The council met twice; it adjourned."
PACK = assemble(
    "who?", [{"doc_id": "a", "score": 2.0}, {"doc_id": "b", "score": 1.0}], sources={"a": FIRST, "b": SECOND}
)


def verdicts(answer: str) -> list[tuple[str, tuple[int, ...], str, tuple[int, ...]]]:
    return [(one.text, one.numbers, one.verdict, one.found_in) for one in PACK.check_citations(answer).quotations]


@pytest.mark.parametrize(
    ("answer", "cited", "out_of_range"),
    [
        ("", (), ()),
        ("Signed [2], read [1], again [2].", (2, 1), ()),
        ("All [1, 2] and [1-2] and [1\u20132].", (1, 2), ()),
        ("None [0][3] [999999999].", (), (0, 3, 999999999)),
        ("Range [1-900000000] and [2-1].", (1, 2), (900000000,)),
        ("No citations: [a], [1.5], [], [-1], a[b].", (), ()),
        ("A year [2019] or a code [1234567890123].", (), (2019, 1234567890123)),
        ("Glued[1][2].", (1, 2), ()),
        ("Arabic digits [\u0661] are none.", (), ()),
    ],
)
def test_numbers_are_those_of_the_pack_or_out_of_range(answer, cited, out_of_range):
    report = PACK.check_citations(answer)
    assert (report.cited, report.out_of_range) == (cited, out_of_range)
    assert set(report.unused) == {1, 2} - set(cited)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('It was "signed in 2019" [1].', [("signed in 2019", (1,), "true", (1,))]),
        ('"signed in 2019." [1]', [("signed in 2019.", (1,), "true", (1,))]),
        ('They say "signed in 2019," [1] and left.', [("signed in 2019,", (1,), "punctuation", (1,))]),
        ('According to [1], "Nobody read it" then.', [("Nobody read it", (1,), "white space", (1,))]),
        ('He said "signed in 2020" [1].', [("signed in 2020", (1,), "absent", ())]),
        ('He said "signed in 2019" [2].', [("signed in 2019", (2,), "absent", (1,))]),
        ('He said "signed in 2019" [1][2].', [("signed in 2019", (1, 2), "true", (1,))]),
        ('He said "signed in 2019" [7].', [("signed in 2019", (7,), "absent", (1,))]),
        ('He said "signed in 2019". Other things hold [1].', [("signed in 2019", (), "uncited", (1,))]),
        ('He said "signed in 2019." [1] More.', [("signed in 2019.", (1,), "true", (1,))]),
        ("\u201cmet twice\u201d [2]; \u00abadjourned\u00bb [1]", [
            ("met twice", (2,), "true", (2,)), ("adjourned", (1,), "absent", (2,)),
        ]),
        ('First "annex" [1], then "met twice" [2].', [
            ("annex", (1,), "true", (1,)), ("met twice", (2,), "true", (2,)),
        ]),
        ('A 5" pipe, a 6" pipe [1]. "" " "', []),
        ("It's the council's 'word' [2].", []),
        ('"SIGNED in 2019" [1]', [("SIGNED in 2019", (1,), "absent", ())]),
    ],
)  # fmt: skip
def test_a_quotation_is_true_where_it_is_cited_byte_for_byte(answer, expected):
    assert verdicts(answer) == expected


def test_an_answer_is_good_when_it_cites_and_all_of_it_is_true():
    assert PACK.check_citations('"signed in 2019" [1].').ok
    assert PACK.check_citations("Signed [1].").ok
    assert not PACK.check_citations("Signed.").ok
    assert not PACK.check_citations("Signed [1][3].").ok
    assert not PACK.check_citations('"never" [1].').ok
    body = PACK.check_citations('"never" [1] [3].').as_json()
    assert (body["ok"], body["cited"], body["out_of_range"], body["unused"]) == (False, [1], [3], [2])
    assert body["quotations"][0]["verdict"] == "absent"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(FIRST) - 1), st.integers(1, 20), st.sampled_from(["\u201c{}\u201d", "\u00ab{}\u00bb"]))
def test_every_part_of_a_span_is_true_and_no_changed_part_is(start, length, marks):
    part = FIRST[start : start + length]
    answer = f"As {marks.format(part)} [1]"
    if part.strip():
        [found] = PACK.check_citations(answer).quotations
        assert (found.verdict, found.text, answer[found.start : found.end]) == ("true", part, part)
        [changed] = PACK.check_citations(f"As {marks.format(part + 'ZZ')} [1]").quotations
        assert changed.verdict == "absent"


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet='ab "[]12,-.\n\u201c\u201d', max_size=60))
def test_any_answer_has_a_report(answer):
    report = PACK.check_citations(answer)
    assert set(report.cited) <= {1, 2}
    assert not set(report.out_of_range) & {1, 2}
    for one in report.quotations:
        assert answer[one.start : one.end] == one.text
