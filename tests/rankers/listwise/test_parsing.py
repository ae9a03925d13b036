"""Answers of models: any text gives a permutation, and the report says what was in it."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unabridged.errors import UsageError
from unabridged.rankers.listwise.labels import Labels
from unabridged.rankers.listwise.parsing import AnswerForm, answer_of, parse

NUMBERS = AnswerForm()
PLAIN = AnswerForm(labels=Labels(brackets=False))
LETTERS = AnswerForm(labels=Labels(letters=True))
LETTER = AnswerForm(labels=Labels(letters=True, brackets=False))
FORMS = [NUMBERS, PLAIN, LETTERS, LETTER]


def named(text: str, n: int = 5, **more) -> tuple[list[int], str]:
    """The ids that were read, counted from 1, and the kind of the report."""
    parsed = parse(text, n, **more)
    assert sorted(parsed.order) == list(range(n))
    return [place + 1 for place in parsed.order[: parsed.report.n_valid]], parsed.report.kind


def written(order, form: AnswerForm) -> str:
    return " > ".join(form.labels.shown(place) for place in order)


@pytest.mark.parametrize("form", FORMS, ids=["[1]", "1", "[A]", "A"])
@pytest.mark.parametrize("n", [1, 2, 9, 10, 20, 26, 100])
def test_a_written_permutation_is_read_back(form, n):
    if form.labels.letters and n > 26:
        with pytest.raises(UsageError, match="letters"):
            form.labels.first(n)
        return
    for seed in range(20):
        order = tuple(random.Random(seed).sample(range(n), n))
        parsed = parse(written(order, form), n, form=form, cut=False)
        assert parsed.order == order
        assert parsed.report.n_valid == n
        assert parsed.report.kind in (("ok", "wrong_format") if n == 1 else ("ok",))


READ = [
    ("[3] > [1] > [2] > [5] > [4]", [3, 1, 2, 5, 4], "ok"),
    ("Here are the 5 passages ranked: [3] > [1] > [2] > [5] > [4].", [3, 1, 2, 5, 4], "ok"),
    ("Comparing [1] and [2], I find: [2] > [1] > [5] > [3] > [4]", [2, 1, 5, 3, 4], "ok"),
    ("[3]\n[1]\n[2]\n[5]\n[4]", [3, 1, 2, 5, 4], "ok"),
    ("[3] > [1]\n[2] > [5]\n[4]", [3, 1, 2, 5, 4], "ok"),
    ("[3]>[1]>[2] > [5] >> [4]", [3, 1, 2, 5, 4], "ok"),
    ("[3] &gt; [1] &gt; [2] &gt; [5] &gt; [4]", [3, 1, 2, 5, 4], "ok"),
    ("[3] > [1] > [3] > [2] > [5] > [4]", [3, 1, 2, 5, 4], "repetition"),
    ("[3] > [1] > [9] > [2] > [5] > [4]", [3, 1, 2, 5, 4], "out_of_range"),
    ("[0] > [3] > [1] > [-1] > [6] > [2] > [5] > [4]", [3, 1, 2, 5, 4], "out_of_range"),
    (f"[{10**30}] > [3] > [1] > [2] > [5] > [4]", [3, 1, 2, 5, 4], "out_of_range"),
    ("[" + "9" * 6000 + "] > [3] > [1] > [2] > [5] > [4]", [3, 1, 2, 5, 4], "out_of_range"),
    ("[3] > [1]", [3, 1], "missing"),
    ("[3] > [1] > [", [3, 1], "missing"),
    ("[0003] > [1]", [3, 1], "missing"),
    ("3 > 1 > 2 > 5 > 4", [3, 1, 2, 5, 4], "wrong_format"),
    ("The 5 passages: 3 > 1 > 2 > 5 > 4", [3, 1, 2, 5, 4], "wrong_format"),
    ("3, 1, 2, 5, and 4", [3, 1, 2, 5, 4], "wrong_format"),
    ("3\n1\n2\n5\n4", [3, 1, 2, 5, 4], "wrong_format"),
    ("1. 3\n2. 1\n3. 2\n4. 5\n5. 4", [3, 1, 2, 5, 4], "wrong_format"),
    ("1) Passage 3\n2) Passage 1\n3) Passage 2", [3, 1, 2], "wrong_format"),
    ('{"ranking": [3, 1, 2, 5, 4]}', [3, 1, 2, 5, 4], "wrong_format"),
    ('["[3]", "[1]", "[2]", "[5]", "[4]"]', [3, 1, 2, 5, 4], "ok"),
    ("Document 3, Document 1, Document 2", [3, 1, 2], "wrong_format"),
    ("PASSAGE3, PASSAGE1, PASSAGE2", [3, 1, 2], "wrong_format"),
    ("passage three > passage one > passage two", [3, 1, 2], "wrong_format"),
    ("\uff3b\uff13\uff3d \uff1e \uff3b\uff11\uff3d", [3, 1], "missing"),
    ("\uff13 > \uff11 > \uff12", [3, 1, 2], "wrong_format"),
    ("[\u0663] > [\u0661]", [3, 1], "missing"),
    ("\u2462 > \u2460 > \u2461", [3, 1, 2], "wrong_format"),
    ("<think>[1] > [2]</think>[3] > [1] > [2] > [5] > [4]", [3, 1, 2, 5, 4], "ok"),
    ("<think>a</think><think>[1]</think>[3] > [1]", [3, 1], "missing"),
    ("[5] </think> [3] > [1]", [3, 1], "missing"),
    ("<think>[1] > [2] > [3] > [4] > [5]", [], "wrong_format"),
    ("[1] > [2] <think> but perhaps [5]", [], "wrong_format"),
    ("<think>x</think><answer>[3] > [1]</answer> for [5] reasons", [3, 1], "missing"),
    ("First <answer>[5]</answer>, no: <answer>[3] > [1]", [3, 1], "missing"),
    ("", [], "wrong_format"),
    ("   \n\t", [], "wrong_format"),
    ("I'm sorry, but I cannot rank these 5 passages.", [], "wrong_format"),
    ("As an AI of 3 years, I decline for 2 reasons.", [], "wrong_format"),
    ("Of the 5 passages, 3 are about cats, 2 of them from 1999.", [], "wrong_format"),
    ("Passage 3 is not relevant, whereas passage 1 is 95% so (0.95, 1.2).", [], "wrong_format"),
    ("One of the passages is better than two of the others.", [], "wrong_format"),
    ("Error code: 400 - context length is 4096", [], "wrong_format"),
    ("3", [3], "wrong_format"),
    ("[3", [], "wrong_format"),
]


@pytest.mark.parametrize(("text", "right", "kind"), READ, ids=[repr(text)[:50] for text, *_ in READ])
def test_ids_are_read_and_other_numbers_are_not(text, right, kind):
    assert named(text) == (right, kind)


CHOSEN = [
    ("[B] > [A] > [C]", LETTERS, [2, 1, 3]),
    ("[b] > [a]", LETTERS, [2, 1]),
    ("B > A > C", LETTERS, [2, 1, 3]),
    ("B, A, C", LETTER, [2, 1, 3]),
    ("I think A is a good one", LETTER, []),
    ("Passage B > Passage A", LETTER, [2, 1]),
    ("**B**", LETTER, [2]),
    ("Passage B.", LETTER, [2]),
    ("(C)", LETTER, [3]),
    ("[Z] > [B]", LETTERS, [2]),
]


@pytest.mark.parametrize(("text", "form", "right"), CHOSEN, ids=[text for text, *_ in CHOSEN])
def test_letters_are_read_as_letters(text, form, right):
    assert named(text, form=form)[0] == right


@pytest.mark.parametrize("text", ["The most relevant passage is B.", "Answer: B", "Passage B", "B", "[B]", '"B"'])
def test_a_choice_may_be_wrapped_in_a_sentence(text):
    if text == "The most relevant passage is B.":
        assert named(text, form=LETTER, expected=1)[0] in ([], [2])
    else:
        assert named(text, form=LETTER, expected=1)[0] == [2]


def test_a_last_id_that_may_have_been_cut_is_not_read_as_a_shorter_one():
    assert named("[3] > [1", 12, cut=True)[0] == [3]
    assert named("3 > 1", 12, form=PLAIN, cut=True)[0] == [3]
    assert named("3 > 1", 12, form=PLAIN)[0] == [3, 1]
    assert named("3 > 2", 12, form=PLAIN, cut=True)[0] == [3, 2]
    assert named("3 > 1", 9, form=PLAIN, cut=True)[0] == [3, 1]
    assert named("10 > 11 > 12 > 3 > 1", 12, form=PLAIN, cut=True)[0] == [10, 11, 12, 3, 1]


def test_only_the_wanted_ids_are_missed():
    parsed = parse("[9] > [2]", 20, expected=2)
    assert parsed.report.kind == "ok"
    assert parsed.report.n_missing == 0
    assert parse("[9] > [2]", 20, expected=3).report.n_missing == 1


def test_a_pattern_and_markers_of_a_template_are_used():
    form = AnswerForm(extraction=re.compile(r"PASSAGE(\d+)"), validation=re.compile(r"\[(PASSAGE\d+(, )?)+\]"))
    assert named("[PASSAGE2, PASSAGE1, PASSAGE3]", 3, form=form) == ([2, 1, 3], "ok")
    assert named("So: [PASSAGE2, PASSAGE1, PASSAGE3]", 3, form=form) == ([2, 1, 3], "wrong_format")
    marked = AnswerForm(markers=("<<", ">>"))
    assert named("[1] is odd << [2] > [1] > [3] >> [3]", 3, form=marked) == ([2, 1, 3], "ok")


def test_nothing_to_rank_is_an_empty_permutation():
    assert parse("[1] > [2]", 0).order == ()


PIECES = ["[", "]", ">", " > ", "<think>", "</think>", "<answer>", "</answer>", "passage ", "and", ",", "\n", "-",
          "0", "1", "2", "12", "20", "21", "999", "\uff11", "\u2460", "A", "B", "Z", "&gt;", "10" * 20, " ", ".",
          "three"]  # fmt: skip


@settings(max_examples=1500, deadline=None)
@given(
    st.one_of(st.text(max_size=80), st.lists(st.sampled_from(PIECES), max_size=60).map("".join)),
    st.integers(0, 26),
    st.sampled_from(FORMS),
    st.one_of(st.none(), st.integers(1, 30)),
    st.booleans(),
)
def test_any_text_gives_a_permutation_and_counts_that_add_up(text, n, form, expected, cut):
    parsed = parse(text, n, form=form, expected=expected, cut=cut)
    assert sorted(parsed.order) == list(range(n))
    report = parsed.report
    assert 0 <= report.n_valid <= n
    assert report.n_missing == max(0, (n if expected is None else min(expected, n)) - report.n_valid)
    assert report.repaired == (report.kind != "ok")
    if report.kind == "ok":
        assert (report.n_dup, report.n_missing, report.n_out_of_range) == (0, 0, 0)
    assert parsed.order[report.n_valid :] == tuple(sorted(parsed.order[report.n_valid :]))


@settings(max_examples=500, deadline=None)
@given(st.permutations(range(12)), st.text(alphabet="abcdefgh ,.:;\n", max_size=40), st.booleans())
def test_talk_around_a_ranking_does_not_change_it(order, talk, behind):
    text = f"{written(order, NUMBERS)}\n{talk}" if behind else f"All 12 of them. {talk}\n{written(order, NUMBERS)}"
    assert parse(text, 12).order == tuple(order)


def test_long_hostile_texts_are_read_in_little_time():
    import time

    begun = time.perf_counter()
    for text in ("[" * 100_000, "1 " * 50_000, "[1] > " * 30_000, " " * 200_000 + "x", "passage " * 30_000,
                 "1," * 60_000, "<think>" * 20_000, "A " * 50_000, "\n1)" * 30_000):  # fmt: skip
        for form in FORMS:
            assert sorted(parse(text, 20, form=form).order) == list(range(20))
    assert time.perf_counter() - begun < 20


def test_the_answer_is_behind_the_thought():
    assert answer_of("<think>x</think> y") == " y"
    assert answer_of("<THINKING>x") == ""
