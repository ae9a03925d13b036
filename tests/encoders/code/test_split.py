"""Laws of cutting source code: nothing lost, nothing over the window, cuts between statements where there are any."""

import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests_code import SOURCES

from unabridged.encoders import windows
from unabridged.encoders.code.split import CodeSplitter, Split, splitter_of
from unabridged.errors import UsageError

CODE = [way for way in Split if way is not Split.PROSE]


def words(text):
    return np.array([m.span() for m in re.finditer(r"\w+|[^\w\s]", text)], dtype=np.int64).reshape(-1, 2)


def octets(text):
    spans = [(i, i + 1) for i, letter in enumerate(text) for _ in letter.encode("utf-8", "surrogatepass")]
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def leading(text):
    """As SentencePiece and byte-level BPE report: the space before a word belongs to its token."""
    return np.array([m.span() for m in re.finditer(r"\s?\S{1,4}|\s", text)], dtype=np.int64).reshape(-1, 2)


TOKENISERS = {"words": words, "octets": octets, "leading": leading}


def check(text, offsets, found, capacity):
    """The laws of windows without overlap, by a count of every token and character."""
    if not len(offsets):
        assert len(found.ranges) == 0
        return
    assert np.concatenate([np.arange(a, b) for a, b in found.ranges]).tolist() == list(range(len(offsets)))
    assert "".join(text[a:b] for a, b in found.spans) == text
    sizes = np.diff(found.ranges)
    assert sizes.min() >= 1
    assert sizes.max() <= capacity
    # Each token lies in its window's span, but for white space in front of it and a character of several tokens.
    spans = offsets.tolist()
    for (first, last), (start, end) in zip(found.ranges.tolist(), found.spans.tolist(), strict=True):
        shared = (spans[first - 1 : first], spans[last : last + 1])
        for a, b in spans[first:last]:
            inside = not text[a : min(b, start)].strip() and b <= end
            assert inside or not text[a:b].strip() or [[a, b]] in shared


@pytest.mark.parametrize("tokenise", TOKENISERS.values(), ids=TOKENISERS)
@pytest.mark.parametrize("how", CODE, ids=lambda way: way.value)
@pytest.mark.parametrize("name", SOURCES)
def test_every_language_is_rebuilt_from_its_blocks(name, how, tokenise):
    text = SOURCES[name]
    for source in (text, f"src/a.{name} {text}".replace("\n", "\r\n")):
        offsets = tokenise(source)
        for capacity in (1, 7, 40, 100):
            check(source, offsets, CodeSplitter(how).divide(source, offsets, capacity), capacity)


def broken(text, cuts):
    """``text`` with pieces taken out and put in, at any place."""
    for place, length, piece in cuts:
        at = place % (len(text) + 1)
        text = text[:at] + piece + text[at + length :]
    return text


PIECES = st.sampled_from(
    [
        *("", "{", "}}}", "(", '"', "'''", "/*", "*/", "#", "//", "=begin\n", "<?php ?>", "def f(:\n"),
        *("\r\n", "\r", "\n" * 5, "\t", "\x0c", "\x00", "\ufeff", "\u2028", "x" * 300),
        *("ñ", "日本", "🙂", "e\u0301", "\ud83d", "\U0001f469\u200d\U0001f467"),
    ]
)
CUTS = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 60), PIECES), max_size=8)


@pytest.mark.parametrize("name", SOURCES)
@settings(max_examples=25, deadline=None)
@given(cuts=CUTS, capacity=st.integers(1, 60), how=st.sampled_from(CODE), tokenise=st.sampled_from([words, leading]))
def test_a_damaged_source_is_rebuilt_from_its_blocks_too(name, cuts, capacity, how, tokenise):
    text = broken(SOURCES[name], cuts)
    offsets = tokenise(text)
    language = name if how is Split.SYNTAX else None
    check(text, offsets, CodeSplitter(how, language).divide(text, offsets, capacity), capacity)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=300), capacity=st.integers(1, 20))
@example(text="", capacity=3)
@example(text=" \n\t ", capacity=1)
@example(text="a.py ", capacity=1)
@example(text="a.py \n\n\n", capacity=1)
def test_any_text_is_rebuilt_from_its_blocks(text, capacity):
    offsets = octets(text)
    check(text, offsets, CodeSplitter().divide(text, offsets, capacity), capacity)


@pytest.mark.parametrize("how", CODE, ids=lambda way: way.value)
@settings(max_examples=20, deadline=None)
@given(name=st.sampled_from(sorted(SOURCES)), capacity=st.integers(2, 60), overlap=st.integers(1, 29))
@example(name="python", capacity=21, overlap=10)  # a first window that is shorter than the overlap
def test_with_an_overlap_every_window_brings_a_new_token_and_no_character_is_left_out(how, name, capacity, overlap):
    text = SOURCES[name]
    offsets = words(text)
    if overlap >= (capacity + 1) // 2:
        with pytest.raises(UsageError, match="half of the window"):
            CodeSplitter(how).divide(text, offsets, capacity, overlap)
        return
    found = CodeSplitter(how).divide(text, offsets, capacity, overlap)
    firsts, lasts = found.ranges.T
    assert firsts[0] == 0
    assert lasts[-1] == len(offsets)
    assert (np.diff(lasts) > 0).all()
    assert (firsts[1:] <= lasts[:-1]).all()
    assert (lasts[:-1] - firsts[1:] <= overlap).all()
    assert (lasts - firsts).max() <= capacity
    covered = np.zeros(len(text), dtype=bool)
    for start, end in found.spans:
        covered[start:end] = True
    assert covered.all()


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(SOURCES)),
    cuts=CUTS,
    capacity=st.integers(4, 60),
    overlap=st.sampled_from([0, 0, 1, 5]),
)
def test_a_header_and_its_window_fit_together_and_the_laws_hold(name, cuts, capacity, overlap):
    text = f"src/größe/a.{name} {broken(SOURCES[name], cuts)}"
    offsets = words(text)

    def tokenise(header):
        return np.arange(len(words(header)), dtype=np.int32)

    splitter = CodeSplitter(Split.SYNTAX, name, header=True)
    if overlap >= (capacity - capacity // 4 + 1) // 2:
        with pytest.raises(UsageError, match="half of the window"):
            splitter.divide(text, offsets, capacity, overlap, tokenise=tokenise)
        return
    found = splitter.divide(text, offsets, capacity, overlap, tokenise=tokenise)
    if not overlap:
        check(text, offsets, found, capacity)
    headers = found.headers or [[]] * len(found.ranges)
    assert len(headers) == len(found.ranges)
    for header, (first, last) in zip(headers, found.ranges, strict=True):
        assert len(header) <= capacity // 4
        assert len(header) + last - first <= capacity


def blocks(text, capacity, **options):
    found = CodeSplitter(**options).divide(text, words(text), capacity)
    return [text[a:b] for a, b in found.spans], found.note


def test_functions_are_packed_whole_and_a_comment_goes_with_its_function():
    text = "".join(f"# {'About it. ' * 3}\ndef f{i}(x):\n    y = x + {i}\n    return y * y\n\n\n" for i in range(8))
    found, note = blocks(text, 60)
    assert note == "syntax: python"
    assert len(found) > 3
    assert all(block.startswith("# About it.") for block in found)
    assert sum(block.count("def ") for block in found) == 8


def test_a_function_that_is_too_long_is_cut_between_its_statements_and_those_around_it_stay_whole():
    long = "def long():\n" + "".join(f"    if a[{i}]:\n        b[{i}] = call({i}, {i})\n" for i in range(30))
    text = f"def first():\n    return 1\n\n\n{long}\n\ndef last():\n    return 2\n"
    found, _ = blocks(text, 50)
    inner = [block for block in found if "if a[" in block and "def" not in block]
    assert len(inner) >= 5
    assert all(block.startswith("    if a[") for block in inner)
    assert sum("def last():\n    return 2\n" in block for block in found) == 1


def test_an_earlier_cut_is_taken_where_it_keeps_a_definition_in_one_window():
    # 30 tokens of statements, then a function of 60 that would fit one window of 70 but not the rest of the first.
    text = (
        "".join(f"a{i} = {i}\n" for i in range(10)) + "\n\ndef whole(x):\n" + "    x = x + 1\n" * 10 + "    return x\n"
    )
    text += "".join(f"b{i} = {i}\n" for i in range(40))
    found, _ = blocks(text, 70)
    assert [block.count("    x = x + 1\n") for block in found if "x = x" in block] == [10]


def test_a_decorator_stays_with_what_it_decorates():
    text = "".join(f"@cache\n@other({i})\ndef f{i}(x):\n    return x + {i}\n\n\n" for i in range(9))
    found, _ = blocks(text, 30)
    assert all(block.startswith("@cache") for block in found)


def test_a_line_longer_than_the_window_is_cut_inside_and_lines_around_it_are_not():
    text = "a = 1\n" * 5 + "b = [" + "1, " * 200 + "]\n" + "c = 1\n" * 5
    found, _ = blocks(text, 40, how=Split.LINES)
    assert "".join(found) == text
    assert found[0].endswith("\n")
    assert len([block for block in found if "1, 1" in block]) > 5


def test_tokens_fill_each_window_and_spaces_stop_before_a_word():
    text = "ab cd efgh " * 30
    offsets = np.array([(i, i + 1) for i, letter in enumerate(text) if letter != " "], dtype=np.int64)
    by_token = CodeSplitter(Split.TOKENS).divide(text, offsets, 15)
    by_space = CodeSplitter(Split.SPACES).divide(text, offsets, 15)
    assert (np.diff(by_token.ranges)[:-2] == 15).all()
    assert all(text[start - 1] == " " for start in by_space.spans[1:, 0])
    assert any(text[start - 1] != " " for start in by_token.spans[1:, 0])


def test_a_text_that_fits_is_one_window_and_is_not_parsed():
    text = SOURCES["rust"]
    found = CodeSplitter().divide(text, words(text), len(words(text)))
    assert (found.note, found.spans.tolist()) == ("whole", [[0, len(text)]])


def test_prose_is_cut_as_ever_before_and_after():
    text = "Some words here. " * 50
    offsets = words(text)
    assert splitter_of("prose") is None
    plain = windows.split(text, offsets, 20)
    assert next(text[a:b] for a, b in plain.spans) == "Some words here. " * 5


def test_text_in_no_language_falls_to_lines_and_says_so():
    text = "Dear Sir,\nI write to you about the annex to the agreement of last May.\n" * 20
    found, note = blocks(text, 30)
    assert note == "lines: unknown language"
    assert all(block.endswith("\n") for block in found)


def test_a_file_that_does_not_parse_falls_to_lines_and_says_how_much_of_it():
    text = "notes.py " + "Dear Sir, I write to you about ) the annex ] to the agreement } of last May!\n" * 20
    _, note = blocks(text, 30)
    assert re.fullmatch(r"lines: \d+% of the text does not parse as python", note)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "ast"}, "prose, syntax, lines, spaces, tokens"),
        ({"split": "lines", "language": "go"}, "needs split='syntax'"),
        ({"split": "tokens", "header": True}, "needs split='syntax'"),
        ({"split": "prose", "header": True}, "split='prose' has none"),
        ({"split": "syntax", "language": "cobol"}, "python, java, javascript"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    split = options.pop("split")
    with pytest.raises(UsageError, match=re.escape(message)):
        splitter_of(split, options.get("language"), header=options.get("header", False))
