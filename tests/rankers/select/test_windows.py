"""Passages of long texts: their limits, their characters, and that blocks of any size give the same ones."""

import random
from itertools import pairwise

import pytest

from tests_support import one_thread  # noqa: F401
from unabridged.errors import CorpusError, MissingFile, UsageError
from unabridged.rankers.context.counting import default_tokenizer
from unabridged.rankers.select.tokens import text_tokens
from unabridged.rankers.select.windows import file_blocks, windows

WORDS = ["the", "cat", "is", "on", "mat.", "We", "saw", "it!\r\n", "Is", "it?", "e\u0301te\u0301", "Zürich,\n\n", "x9"]
WORDS += ["\U0001f468\u200d\U0001f469\u200d\U0001f467", "漢字の文。"]


def text_of(size, seed=0):
    chance = random.Random(seed)
    return " ".join(chance.choice(WORDS) for _ in range(size))


def bytewise():
    """A tokenizer whose tokens are bytes: characters have up to four."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return tokenizer


class Estimating:
    """Counts by bytes, as models behind servers do, and shows no places."""

    name = "estimate"

    def count_texts(self, texts):
        return [-(-len(text.encode()) // 3) for text in texts]


TOKENIZERS = {"word piece": default_tokenizer, "bytes": bytewise, "estimate": Estimating}


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request):
    return TOKENIZERS[request.param]()


@pytest.mark.parametrize(("tokens", "overlap"), [(16, 0), (16, 7), (64, 12), (300, 40)])
@pytest.mark.parametrize("size", [1, 3, 150])
def test_passages_are_of_the_source_and_together_all_of_it_within_the_limit(tokenizer, tokens, overlap, size):
    text = text_of(size, seed=size)
    found = list(windows("d", text, tokenizer, tokens=tokens, overlap=overlap))
    count = text_tokens(tokenizer).count
    for one in found:
        assert one.text == text[one.start : one.end]
        assert count(one.text) <= tokens
    assert found[0].start == 0
    assert found[-1].end == len(text)
    for one, other in pairwise(found):
        assert one.start < other.start <= one.end < other.end
        if overlap == 0:
            assert other.start == one.end


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_blocks_of_any_size_give_the_passages_of_the_whole(tokenizer, block):
    text = text_of(150, seed=block)
    whole = list(windows("d", text, tokenizer, tokens=40, overlap=9))
    assert len(whole) > 5
    parts = (text[at : at + block] for at in range(0, len(text), block))
    assert list(windows("d", parts, tokenizer, tokens=40, overlap=9)) == whole


@pytest.mark.parametrize("name", ["word piece", "bytes"])
def test_a_sentence_no_longer_than_the_overlap_is_whole_in_a_passage_wherever_it_stands(name):
    tokenizer = TOKENIZERS[name]()
    key = "The pass key is 71432."
    overlap = text_tokens(tokenizer).count(" " + key) + 1
    hay = ["Tea"] * 150
    for at in range(0, 150, 9):
        text = " ".join([*hay[:at], key, *hay[at:]])
        assert any(key in one.text for one in windows("d", text, tokenizer, tokens=4 * overlap, overlap=overlap))


def test_files_are_read_with_their_line_ends_and_letters_across_blocks(tmp_path):
    text = "é\r\n漢\r" * 9 + "\U0001f600 end\n"
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode())
    for block in (1, 2, 3, 5, 1000):
        assert "".join(file_blocks(path, block=block)) == text
    found = list(windows("d", file_blocks(path), default_tokenizer(), tokens=16, overlap=3))
    assert all(one.text == text[one.start : one.end] for one in found)
    path.write_bytes(b"ab\xff")
    with pytest.raises(CorpusError, match="byte 2"):
        list(file_blocks(path))
    path.write_bytes(b"ab\xc3")
    with pytest.raises(CorpusError, match="UTF-8"):
        list(file_blocks(path))
    with pytest.raises(MissingFile):
        list(file_blocks(tmp_path / "none"))


def test_no_more_is_read_than_a_few_windows_ahead():
    read = []

    def blocks():
        for number in range(1000):
            read.append(number)
            yield "word and word. " * 10

    stream = windows("d", blocks(), default_tokenizer(), tokens=64, overlap=8)
    for _ in range(10):
        next(stream)
    assert len(read) < 40


def test_texts_without_tokens_and_without_spaces():
    assert list(windows("d", "", default_tokenizer())) == []
    [blank] = windows("d", " \n ", default_tokenizer())
    assert (blank.start, blank.end) == (0, 3)
    solid = "x" * 900
    found = list(windows("d", solid, bytewise(), tokens=100, overlap=10))
    assert max(len(one.text) for one in found) <= 100
    assert found[-1].end == 900
    marks = "a" + "\u0301" * 400
    found = list(windows("d", marks, bytewise(), tokens=100, overlap=10))
    assert found[-1].end == len(marks)


def test_lone_surrogates_keep_every_character_in_its_place():
    text = "ab \ud83d cd. " * 200
    found = list(windows("d", text, default_tokenizer(), tokens=32, overlap=4))
    assert all(one.text == text[one.start : one.end] for one in found)
    assert found[-1].end == len(text)


@pytest.mark.parametrize(("tokens", "overlap"), [(15, 0), (64, 32), (64, -1)])
def test_windows_that_could_not_be_are_refused(tokens, overlap):
    with pytest.raises(UsageError, match="overlap"):
        windows("d", "text", default_tokenizer(), tokens=tokens, overlap=overlap)


class Counted(str):
    """A text that knows how many of its characters were copied."""

    __slots__ = ("copied",)

    def __getitem__(self, place):
        part = super().__getitem__(place)
        self.copied = getattr(self, "copied", 0) + len(part)
        return part


def test_a_long_text_is_copied_a_few_times_over_and_not_once_for_each_passage():
    text = Counted(text_of(30_000))
    found = list(windows("d", text, default_tokenizer(), tokens=64, overlap=8))
    assert len(found) > 500
    assert len(text) <= text.copied < 12 * len(text)
