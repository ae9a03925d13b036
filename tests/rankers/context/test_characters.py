"""Texts without spaces: passages stay short, and nothing that people see as one character is parted."""

from __future__ import annotations

import random
from bisect import bisect_right
from itertools import pairwise

import numpy as np
import pytest

from tests_support import one_thread  # noqa: F401
from unabridged.rankers.context.characters import LONG, LONGEST, PIECE, divided, whole_before
from unabridged.rankers.context.counting import default_tokenizer
from unabridged.rankers.context.cutting import passages_of
from unabridged.rankers.select.splitting import sentences
from unabridged.rankers.select.windows import windows

SIZE = 100_000
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
FLAG = "\U0001f1e9\U0001f1ea"


def drawn(characters: str) -> str:
    chance = random.Random(characters)
    return "".join(chance.choice(characters) for _ in range(SIZE))


def ranged(first: int, last: int) -> str:
    return "".join(map(chr, range(first, last)))


def clusters(*kinds: str) -> tuple[str, set[int]]:
    """A text of these, and the places between them."""
    chance = random.Random(repr(kinds))
    parts: list[str] = []
    places, at = {0}, 0
    while at < SIZE:
        parts.append(chance.choice(kinds))
        at += len(parts[-1])
        places.add(at)
    return "".join(parts), places


THAI = [chr(0xE01 + at) + mark for at in range(40) for mark in ("", "\u0e34", "\u0e31\u0e49", "\u0e48")]
BLOCKS = {
    "ideographs": clusters(*ranged(0x4E00, 0x9FA5)),
    "chinese": clusters(*ranged(0x4E00, 0x4F00), *("\u3002", "\uff0c") * 4),
    "japanese": clusters(*ranged(0x3041, 0x3097), "\u304b\u3099"),
    "korean": clusters(*ranged(0xAC00, 0xD7A3), "\u1112\u1161\u11ab"),
    "thai": clusters(*THAI),
    "thai lines": clusters(*THAI, *[" "] * 2),
    "families": clusters(FAMILY, "\U0001f44d\U0001f3fd"),
    "flags": clusters(FLAG),
    "marks": clusters("e\u0301\u0323", "o\u0308"),
    "letters": clusters(*"abcdefgh"),
    "rare ideographs": clusters(*ranged(0x20000, 0x20100), "\u845b\U000e0100"),
}


def cuts(found) -> set[int]:
    return {place for one in found for place in (one.start, one.end)}


@pytest.mark.parametrize("name", BLOCKS)
def test_passages_of_a_text_without_spaces_are_short_and_part_no_character(name):
    text, places = BLOCKS[name]
    found = passages_of("d", text)
    assert max(len(one.text) for one in found) <= 160 * (LONG + 1) // 4
    assert cuts(found) <= places
    shown = sorted(at for one in found for at in range(one.start, one.end))
    assert [at for at in range(len(text)) if not text[at].isspace()] == [at for at in shown if not text[at].isspace()]
    assert all(text[one.start : one.end] == one.text for one in found)


@pytest.mark.parametrize("name", BLOCKS)
def test_windows_of_a_text_without_spaces_are_short_and_part_no_character(name):
    text, places = BLOCKS[name]
    text = text[: max(place for place in places if place <= 20_000)]
    tokenizer = default_tokenizer()
    found = list(windows("d", text, tokenizer, tokens=128, overlap=16))
    assert max(len(one.text) for one in found) <= 128 * (LONG + 1)
    assert len(found) > 20_000 // (128 * LONG)
    assert cuts(found) <= places
    assert (found[0].start, found[-1].end) == (0, len(text))
    assert all(one.start < other.start <= one.end < other.end for one, other in pairwise(found))


@pytest.mark.parametrize("name", ["ideographs", "japanese", "thai", "korean", "families", "letters"])
def test_sentences_of_a_text_without_full_stops_are_short_and_part_no_character(name):
    text, places = BLOCKS[name]
    found = sentences(text)
    assert max(end - start for start, end in found) <= 120 * LONG
    assert {place for span in found for place in span} <= places
    assert sum(end - start for start, end in found) == len(text)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_place_before_is_the_last_one_between_two_characters(name):
    text, places = BLOCKS[name]
    rising = sorted(places)
    for at in range(1, 3000):
        expected = rising[bisect_right(rising, at) - 1]
        assert whole_before(text, at) == (expected or at)


def test_a_heap_of_marks_is_parted_in_the_end():
    text = "e" + "\u0301" * 500
    assert whole_before(text, 10) == 10
    assert whole_before(text, LONGEST - 1) == LONGEST - 1
    assert whole_before(text, 400) == 400
    assert whole_before("\r\n", 1) == 1
    assert whole_before("a\r\nb", 2) == 1


def test_long_tokens_are_pieces_that_cover_them_and_short_ones_stay():
    chance = random.Random(3)
    places, at = [], 0
    for _ in range(300):
        at += chance.randrange(3)
        size = chance.choice([0, 1, 3, LONG, LONG + 1, 5 * LONG, 1001])
        places.append((at, at + size))
        at += size
    found = divided(np.array(places, dtype=np.int64)).tolist()
    naive = []
    for start, end in places:
        if end - start <= LONG:
            naive.append([start, end])
        else:
            naive += [[place, min(end, place + PIECE)] for place in range(start, end, PIECE)]
    assert found == naive
    assert divided(np.zeros((0, 2), dtype=np.int64)).shape == (0, 2)
