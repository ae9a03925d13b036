"""Laws of cutting a text into windows, over words, single characters and hostile texts."""

import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unabridged.encoders.windows import head, split
from unabridged.errors import UsageError

PIECES = st.sampled_from(
    ["word", "a", " ", "  ", "\n", "\n\n", "# Title\n", "The end. ", "don't", "日本語", "語。", "🙂", "👩‍👩‍👧", "é",
     "e\u0301", "\t", "\r\n", "x" * 30, "مرحبا", "\u3000", "\u200b", "1.5", "ﬁ", "\x00"]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=60).map("".join)


def words(text):
    return np.array([m.span() for m in re.finditer(r"\w+|[^\w\s]", text)], dtype=np.int64).reshape(-1, 2)


def letters(text):
    return np.array([(i, i + 1) for i in range(len(text))], dtype=np.int64).reshape(-1, 2)


def octets(text):
    spans = [(i, i + 1) for i, letter in enumerate(text) for _ in letter.encode("utf-8", "surrogatepass")]
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def leading(text):
    """As SentencePiece reports: the space before a word belongs to its token."""
    return np.array([m.span() for m in re.finditer(r"\s?\S{1,4}", text)], dtype=np.int64).reshape(-1, 2)


TOKENISERS = {"words": words, "letters": letters, "octets": octets, "leading": leading}


@pytest.mark.parametrize("tokenise", TOKENISERS.values(), ids=TOKENISERS)
@settings(max_examples=50, deadline=None)
@given(text=TEXTS, capacity=st.integers(1, 20))
@example(text="", capacity=3)
@example(text=" \n\t ", capacity=1)
@example(text="a", capacity=1)
@example(text="  lead and trail  ", capacity=2)
def test_windows_without_overlap_are_a_partition_of_tokens_and_characters(tokenise, text, capacity):
    offsets = tokenise(text)
    windows = split(text, offsets, capacity)
    if not len(offsets):
        assert len(windows.ranges) == 0
        return
    assert np.concatenate([np.arange(a, b) for a, b in windows.ranges]).tolist() == list(range(len(offsets)))
    assert "".join(text[a:b] for a, b in windows.spans) == text
    sizes = np.diff(windows.ranges)
    assert sizes.min() >= 1
    assert sizes.max() <= capacity


@pytest.mark.parametrize("tokenise", [words, letters, leading], ids=["words", "letters", "leading"])
@settings(max_examples=50, deadline=None)
@given(text=TEXTS, capacity=st.integers(1, 20))
def test_every_token_stands_inside_the_span_of_its_window(tokenise, text, capacity):
    offsets = tokenise(text)
    windows = split(text, offsets, capacity)
    for (first, last), (start, end) in zip(windows.ranges, windows.spans, strict=True):
        visible = [
            (a + len(text[a:b]) - len(text[a:b].lstrip()), b) for a, b in offsets[first:last] if text[a:b].strip()
        ]
        assert all(start <= a and b <= end for a, b in visible)


@settings(max_examples=80, deadline=None)
@given(text=TEXTS, capacity=st.integers(3, 20), data=st.data())
def test_windows_with_overlap_cover_everything_and_always_advance(text, capacity, data):
    overlap = data.draw(st.integers(0, (capacity - 1) // 2))
    offsets = words(text)
    windows = split(text, offsets, capacity, overlap)
    covered = np.zeros(len(text), dtype=bool)
    for start, end in windows.spans:
        covered[start:end] = True
    assert covered.all() or not len(offsets)
    assert (np.diff(windows.ranges[:, 0]) > 0).all()
    assert (np.diff(windows.ranges[:, 1]) > 0).all()
    shared = windows.ranges[:-1, 1] - windows.ranges[1:, 0]
    assert ((shared >= 0) & (shared <= overlap)).all()


@pytest.mark.parametrize("tokens", [1, 63, 64])
def test_a_text_that_fits_is_one_window_with_the_whole_as_span(tokens):
    text = "\n " + "w " * tokens
    windows = split(text, words(text), 64)
    assert windows.ranges.tolist() == [[0, tokens]]
    assert windows.spans.tolist() == [[0, len(text)]]


def test_one_token_too_many_gives_two_windows_of_similar_size():
    text = "w " * 65
    sizes = np.diff(split(text, words(text), 64).ranges).ravel()
    assert len(sizes) == 2
    assert sizes.min() >= 16


@pytest.mark.parametrize(
    ("better", "worse", "opening"),
    [
        ("\n\n# Part\n", "\n\n", "# Part"),
        ("\n\nA Title\n\n", "\n\n", "A Title"),
        ("\n\n", ". ", "Cc"),
        (". ", "\n", "Cc"),
        ("\n", " ", "Cc"),
    ],
    ids=["heading>paragraph", "title>paragraph", "paragraph>sentence", "sentence>line", "line>space"],
)
def test_the_better_place_wins_though_the_worse_one_comes_later(better, worse, opening):
    text = "aa " * 85 + f"bb{better}Cc" + f" {'a' * 30}" * 3 + f" dd{worse}Ee" + " aa" * 400
    assert text[int(split(text, words(text), 100).spans[1, 0]) :].startswith(opening)


def test_a_decimal_point_and_an_abbreviation_end_no_sentence():
    text = "aa " * 80 + "Stop. Then " + "aa " * 3 + "e.g. small 1.5 " + "aa " * 300
    start = int(split(text, words(text), 100).spans[1, 0])
    assert text[start:].startswith("Then")


def test_words_are_not_cut_where_the_second_half_of_the_window_has_a_space():
    rng = np.random.default_rng(0)
    text = " ".join("x" * int(n) for n in rng.integers(1, 12, 500))
    for start, _ in split(text, letters(text), 40).spans[1:]:
        assert text[start - 1] == " " or text[start] == " "


def test_a_text_without_spaces_is_cut_into_full_windows():
    text = "x" * 1000
    assert np.diff(split(text, letters(text), 100).ranges).ravel()[:8].tolist() == [100] * 8


def test_characters_of_several_tokens_are_kept_whole():
    text = "\U0001f642" * 100
    for start, end in split(text, octets(text), 30).ranges[:-1]:
        assert (end - start) % 4 == 0


def test_a_combining_mark_stays_with_its_letter():
    text = "e\u0301" * 100
    assert all(text[start] == "e" for start, _ in split(text, letters(text), 33).spans)


def test_the_head_holds_exactly_the_capacity_and_names_the_characters_read():
    text = "one two three four"
    windows = head(text, words(text), 2)
    assert windows.ranges.tolist() == [[0, 2]]
    assert text[slice(*windows.spans[0])] == "one two"


@pytest.mark.parametrize(("capacity", "overlap"), [(0, 0), (-3, 0), (10, 5), (10, -1), (1, 1)])
def test_windows_that_would_not_advance_are_refused_with_the_numbers(capacity, overlap):
    with pytest.raises(UsageError, match=str(overlap if capacity > 0 else capacity)):
        split("a b c", words("a b c"), capacity, overlap)


@pytest.mark.parametrize(
    "offsets", [[[0, 0], [0, 1], [1, 1], [1, 2]], [[2, 3], [0, 1], [1, 2], [3, 4]], [[0, 9], [9, 9], [9, 9]]]
)
def test_offsets_that_repeat_or_step_back_still_give_a_partition(offsets):
    windows = split("abcd", np.array(offsets, dtype=np.int64), 1)
    assert "".join("abcd"[a:b] for a, b in windows.spans) == "abcd"
