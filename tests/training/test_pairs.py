"""Training data: every format, every fault by file and line, and what a shelf makes of it."""

import gzip
import json

import numpy as np
import pytest

from unabridged.contracts import Document, Failure
from unabridged.encoders._hf import read_folder
from unabridged.encoders._tokens import Tokenizer
from unabridged.errors import CorpusError, MissingFile
from unabridged.training.pairs import Source
from unabridged.training.shelf import DOCUMENT, Framing, make_shelf, open_shelf, rows_of


def jsonl(path, *rows):
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def beir(folder, split="train"):
    (folder / "qrels").mkdir(parents=True)
    jsonl(folder / "corpus.jsonl", *({"_id": f"d{n}", "title": "", "text": f"text {n}"} for n in range(4)))
    jsonl(folder / "queries.jsonl", *({"_id": f"q{n}", "text": f"question {n}"} for n in range(3)))
    lines = ["query-id\tcorpus-id\tscore", "q0\td0\t1", "q0\td1\t2", "q1\td2\t0", "q1\td3\t1", "q2\td0\t0"]
    (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def read(path, **options):
    return [(pair.query, pair.positives, pair.negatives) for pair in Source(path, **options)]


def test_json_lines_have_one_or_several_answers_under_the_names_that_people_use(tmp_path):
    rows = [
        {"query": "a", "positive": "b"},
        {"anchor": "a", "positive": ["b", "c"], "negative": "d"},
        {"query": "a", "pos": ["b"], "neg": ["d", "e"]},
        {"query": "a", "positives": "b", "negatives": None},
    ]
    path = jsonl(tmp_path / "x.jsonl", *rows[:2], "\n", *rows[2:])
    expected = [("a", ("b",), ()), ("a", ("b", "c"), ("d",)), ("a", ("b",), ("d", "e")), ("a", ("b",), ())]
    assert read(path) == expected
    packed = tmp_path / "x.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read(packed) == expected


def test_triples_are_query_right_and_wrong_by_tabs(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("what is x\tit is y\tit is z\r\n\nsecond\tright\n")
    assert read(path) == [("what is x", ("it is y",), ("it is z",)), ("second", ("right",), ())]


def test_beir_judgements_above_zero_are_right_and_others_wrong_and_a_query_without_right_ones_is_no_pair(tmp_path):
    folder = beir(tmp_path / "set")
    found = read(folder)
    assert found == [("question 0", ("text 0", "text 1"), ()), ("question 1", ("text 3",), ("text 2",))]
    assert [pair.right for pair in Source(folder)] == [{"d0", "d1"}, {"d3"}]
    with pytest.raises(CorpusError, match=r"qrels/dev\.tsv, found corpus\.jsonl"):
        read(folder, split="dev")


def test_loco_pairs_are_the_answers_of_one_task(tmp_path):
    questions = [
        {"qid": "1", "query": "one", "answer_pids": ["a"], "dataset": "x"},
        {"qid": "2", "query": "two", "answer_pids": ["b"], "dataset": "y"},
    ]
    documents = [{"pid": name, "passage": f"passage {name}", "dataset": "x" if name == "a" else "y"} for name in "ab"]
    queries, corpus = jsonl(tmp_path / "q.jsonl", *questions), jsonl(tmp_path / "d.jsonl", *documents)
    assert read(queries, documents=corpus, dataset="y") == [("two", ("passage b",), ())]


CUT_SHORT = gzip.compress(b'{"query": "a", "positive": "b"}\n' * 9, mtime=0)[:-9]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.jsonl", '{"query": "a", "positive": "b"}\n{"query": "a"}\n', r"x\.jsonl:2: expected a field 'positive' or"),
        ("x.jsonl", '{"positive": "b"}\n', r"x\.jsonl:1: expected a field 'query' or 'anchor', found 'positive'"),
        ("x.jsonl", '{"query": "a", "positive": [1]}\n', r"x\.jsonl:1: positive must be a text and not empty, found 1"),
        ("x.jsonl", '{"query": "a", "positive": []}\n', r"x\.jsonl:1: expected at least one positive, found none"),
        ("x.jsonl", '{"query": " ", "positive": "b"}\n', r"x\.jsonl:1: query must be a text and not empty"),
        ("x.jsonl", '{"query": "a", "positive": "b", "negative": [""]}\n', r"x\.jsonl:1: negative must be a text"),
        ("x.jsonl", '{"query": "a", "positive": "b", "negative": "b"}\n', r"x\.jsonl:1: one text is positive and neg"),
        ("x.jsonl", "{\n", r"x\.jsonl:1: not JSON at column"),
        ("x.jsonl", "[1]\n", r"x\.jsonl:1: expected a JSON object, found list"),
        ("x.jsonl", b'{"query": "\xff", "positive": "b"}\n', r"x\.jsonl:1: not JSON at column"),
        ("x.tsv", "a\tb\na b\n", r"x\.tsv:2: expected query, positive and negative .* found 1 columns"),
        ("x.tsv", "a\tb\tc\td\n", r"x\.tsv:1: expected .* found 4 columns"),
        ("x.tsv", "a\t\tc\n", r"x\.tsv:1: column must be a text and not empty"),
        ("x.tsv", "121352\t1618\t34\n", r"x\.tsv:1: expected texts separated by tabs, found three numbers.*ids"),
        ("x.tsv", b"a\t\xff\n", r"x\.tsv:1: expected UTF-8, found byte 2"),
        ("x.jsonl.gz", CUT_SHORT, r"x\.jsonl\.gz ends in the mid"),
        ("x.txt", "a", r"x\.txt is no training data: expected a \.jsonl or \.tsv"),
    ],
)
def test_a_fault_is_named_by_file_and_line(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CorpusError, match=message):
        read(path)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(MissingFile, match="no training data at"):
        Source(tmp_path / "none.jsonl")


def test_a_source_is_described_by_the_hashes_of_what_is_read_and_no_path(tmp_path):
    folder = beir(tmp_path / "set")
    (folder / "qrels" / "test.tsv").write_text("other")
    (folder / "other.txt").write_text("other")
    described = Source(folder).described()
    assert set(described["files"]) == {"corpus.jsonl", "queries.jsonl", "qrels/train.tsv"}
    assert str(tmp_path) not in json.dumps(described)


@pytest.fixture(scope="module")
def framing(bert_folder):
    tokenizer = Tokenizer(read_folder(bert_folder))
    return Framing(tokenizer, tokenizer.specials, ("query ", ""), 8)


def test_a_shelf_has_each_text_once_as_its_tokens_and_what_is_read_of_it(tmp_path, framing):
    rows = [
        {"query": "the cat", "positive": ["the mat", "the cat"], "negative": ["long " * 20]},
        {"query": "the cat", "positive": ["the mat"], "negative": ["the mat sat"]},
    ]
    shelf = make_shelf(tmp_path / "shelf", framing, 1, Source(jsonl(tmp_path / "x.jsonl", *rows)))
    texts = shelf.texts(0, len(shelf))
    assert texts == ["the cat", "the mat", "the cat", ("long " * 8).strip(), "the mat sat"]
    assert shelf.roles.tolist() == [0, 1, 1, 1, 1]  # asked and found are two texts
    assert shelf.queries.tolist() == [0, 0]
    assert [rows_of(shelf.positives, n).tolist() for n in range(2)] == [[1, 2], [1]]
    assert [rows_of(shelf.negatives, n).tolist() for n in range(2)] == [[3], [4]]
    encode = framing.tokenizer._rust.encode
    for row, text in enumerate(texts):
        expected = encode(("query " if row == 0 else "") + text).ids
        assert shelf.ids[shelf.offsets[row] : shelf.offsets[row + 1]].tolist() == expected
    assert shelf.facts["read"]["documents"] == {"texts": 4, "tokens": 15, "cut": 1, "tokens_cut": 12, "empty": 0}
    assert shelf.facts["read"]["queries"] == {"texts": 1, "tokens": 2, "cut": 0, "tokens_cut": 0, "empty": 0}


def test_lone_texts_are_cut_side_by_side_and_nothing_is_lost(tmp_path, framing):
    chance = np.random.default_rng(0)
    sources = [" ".join(chance.choice(["the", "cat", "sat", "mats"], 50)) for _ in range(3)]
    documents = [*(Document(str(n), text) for n, text in enumerate(sources)), Failure("x", "x:1", "read", "bad", "bad")]
    shelf = make_shelf(tmp_path / "shelf", framing, 1, [], documents, seed=1)
    assert shelf.facts["unreadable"] == 1
    assert len(shelf.lone) == len(shelf) > 18
    assert int(shelf.lengths.max()) <= 8 + 2
    own = [framing.tokenizer.encode([text])[0].ids for text in sources]
    found = [shelf.ids[shelf.offsets[n] + 1 : shelf.offsets[n + 1] - 1] for n in range(len(shelf))]
    assert np.concatenate(found).tolist() == np.concatenate(own).tolist()
    assert shelf.facts["read"]["pieces"]["tokens"] == sum(map(len, own))
    assert (shelf.roles == DOCUMENT).all()


def test_a_shelf_opens_again_for_what_it_was_made_from_and_for_nothing_else(tmp_path, framing):
    path = jsonl(tmp_path / "x.jsonl", {"query": "a", "positive": "b"})
    made = make_shelf(tmp_path / "shelf", framing, {"a": [1, 2]}, Source(path))
    found = open_shelf(tmp_path / "shelf", {"a": (1, 2)})
    assert found.digest == made.digest
    assert found.ids.tolist() == made.ids.tolist()
    assert open_shelf(tmp_path / "shelf", {"a": [1, 3]}) is None
    (tmp_path / "shelf" / "facts.json").unlink()
    assert open_shelf(tmp_path / "shelf", {"a": [1, 2]}) is None
    with pytest.raises(CorpusError, match="no text to train on"):
        make_shelf(tmp_path / "empty", framing, 1, [])
