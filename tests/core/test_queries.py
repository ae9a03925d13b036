"""Query and judgement files: every fault names its line."""

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unabridged.corpora import Query, read_qrels, read_queries
from unabridged.errors import CorpusError, DuplicateId, MissingFile


def put(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


EXPECTED = [Query("q 1", "what is it?"), Query("2", "tab\tinside")]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("q.tsv", "q 1\twhat is it?\n\n2\ttab\tinside\n"),
        ("q.txt", "\ufeffid\ttext\r\nq 1\twhat is it?\r\n2\ttab\tinside"),
        ("q.jsonl", '{"_id": "q 1", "text": "what is it?"}\n{"qid": 2, "query": "tab\\tinside"}\n'),
        ("q.ndjson", '{"query_id": "q 1", "query_text": "what is it?"}\n{"id": "2", "text": "tab\\tinside"}\n'),
        ("q.json", '[{"_id": "q 1", "text": "what is it?"},\n {"id": 2, "text": "tab\\tinside"}]'),
        ("q.tsv.gz", gzip.compress(b"q 1\twhat is it?\n2\ttab\tinside\n", mtime=0)),
    ],
)
def test_every_format_gives_the_same_queries(tmp_path, name, data):
    assert read_queries(put(tmp_path / name, data)) == EXPECTED


def test_a_list_of_strings_is_numbered_from_one(tmp_path):
    assert read_queries(put(tmp_path / "q.json", '["a", "b"]')) == [Query("1", "a"), Query("2", "b")]


WORDS = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(WORDS, WORDS, min_size=1, max_size=6))
def test_any_query_survives_json_lines(tmp_path_factory, queries):
    path = tmp_path_factory.mktemp("queries") / "q.jsonl"
    path.write_text("".join(json.dumps({"_id": one, "text": text}) + "\n" for one, text in queries.items()))
    assert read_queries(path) == [Query(one, text) for one, text in queries.items()]


@pytest.mark.parametrize(
    ("name", "data", "error", "match"),
    [
        ("q.tsv", "1\ta\nno tab\n", CorpusError, r"q\.tsv:2: .*no tab"),
        ("q.tsv", "1\ta\n\n1\tb\n", DuplicateId, r"'1'.*q\.tsv:1 and .*q\.tsv:3"),
        ("q.tsv", "1\ta\n2\t  \n", CorpusError, r"q\.tsv:2: query '2' is empty"),
        ("q.tsv", "\ta\n", CorpusError, r"q\.tsv:1: a query without an id"),
        ("q.tsv", b"1\ta\n2\t\xff\n", CorpusError, r"q\.tsv:2: not UTF-8 at byte 2"),
        ("q.tsv", "\n", CorpusError, "holds no query"),
        ("q.jsonl", '{"_id": 1, "text": "a"}\n{"_id": 2,\n', CorpusError, r"q\.jsonl:2: not JSON at column"),
        ("q.jsonl", "[1]\n", CorpusError, r"q\.jsonl:1: expected a JSON object"),
        ("q.jsonl", '{"text": "a"}\n', CorpusError, r"q\.jsonl:1: no id"),
        ("q.jsonl", '{"id": "1", "text": ""}\n', CorpusError, r"q\.jsonl:1: query '1' is empty"),
        ("q.json", '["a",\n "b"', CorpusError, r"q\.json:2: not JSON"),
        ("q.json", '["a", 5]', CorpusError, r"q\.json item 2: expected a JSON object"),
        ("q.tsv.gz", gzip.compress(b"1\ta\n" * 9, mtime=0)[:-9], CorpusError, "ends in the middle"),
    ],
)
def test_faults_in_query_files_are_errors_with_line_numbers(tmp_path, name, data, error, match):
    with pytest.raises(error, match=match):
        read_queries(put(tmp_path / name, data))


def test_a_missing_query_or_judgement_file_is_named(tmp_path):
    for read in (read_queries, read_qrels):
        with pytest.raises(MissingFile, match=r"no such file: .*none.tsv"):
            read(tmp_path / "none.tsv")
        with pytest.raises(MissingFile, match=rf"{tmp_path.name} is a folder; name a file, such as .*qrels/test.tsv"):
            read(tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        "query-id\tcorpus-id\tscore\nq 1\td1\t2\nq 1\td 2\t0\nq2\td1\t1\n",
        "q 1\t0\td1\t2\nq 1\t0\td 2\t0\r\nq2\t0\td1\t1\n",
        "q 1\td1\t2.0\nq 1\td 2\t0\nq2\td1\t1\nq2\td1\t1\n",
    ],
    ids=["beir", "trec", "tevatron"],
)
def test_judgements_of_three_formats_are_the_same(tmp_path, data):
    assert read_qrels(put(tmp_path / "qrels", data)) == {"q 1": {"d1": 2, "d 2": 0}, "q2": {"d1": 1}}


def test_judgements_split_at_white_space_may_be_negative(tmp_path):
    assert read_qrels(put(tmp_path / "qrels", "1 0 a -1\n1 Q0  b  3\n")) == {"1": {"a": -1, "b": 3}}


@pytest.mark.parametrize(
    ("data", "match"),
    [
        ("1 0 a 1\n1 a\n", r":2: expected 'qid docid score'"),
        ("1 0 a high\n", r":1: the grade must be an integer, found 'high'"),
        ("1 0 a 0.5\n", r":1: the grade"),
        ("1 0 a inf\n", r":1: the grade"),
        ("1 0 a 1\n1 0 a 2\n", r":2: .*two different grades"),
        (
            "query-id\tcorpus-id\tscore\nq1\td1\t1\t5\n",
            r"qrels:2: expected the 3 columns .*\(query-id, corpus-id, score\), found 4: 'q1', 'd1', '1', '5'",
        ),
        ("query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\t0\td1\t1\n", r":3: expected the 3 columns"),
        ("q1\t0\td1\t1\nq1\td2\t1\n", r":2: expected the 4 columns .*\(qid, 0, docid, score\), found 3"),
        ("q1 d1 1\nq1 0 d2 1\n", r":2: expected the 3 columns .*\(qid, docid, score\), found 4"),
    ],
)
def test_faults_in_judgements_are_errors_with_line_numbers(tmp_path, data, match):
    with pytest.raises(CorpusError, match=match):
        read_qrels(put(tmp_path / "qrels", data))
