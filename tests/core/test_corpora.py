"""Record formats: what is written is what is read, and what cannot be read has a record."""

import csv
import gzip
import io
import json
import zlib

import orjson
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from unabridged.contracts import Document, Failure
from unabridged.corpora import ListCorpus, read_corpus
from unabridged.errors import MissingFile, UsageError

IDS = ["plain", "with space", "tab\tid", "100%p", "line\nend", "emoji 🦉", "\u2028", "-", "/a/b"]
TEXTS = ["one\u2028two", "crlf\r\nline\rend", "nul\0byte", "🦉" * 3, "﻿bom inside", "a\u0085b", 'quote " and \\']
UTF8 = st.text(st.characters(codec="utf-8"), min_size=1)


def documents(corpus):
    return [item for item in corpus if isinstance(item, Document)]


def failures(corpus):
    return [item for item in corpus if isinstance(item, Failure)]


def compress(data: bytes, suffix: str) -> bytes:
    return {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}[suffix](data)


def write(path, data: bytes):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"], ids=["plain", "gzip", "zstandard"])
def test_hostile_ids_and_texts_survive_jsonl(tmp_path, suffix):
    rows = [(f"{one}", text) for one in IDS for text in TEXTS]
    rows = [(f"{one}{at}", text) for at, (one, text) in enumerate(rows)]
    data = b"".join(orjson.dumps({"_id": one, "text": text}) + b"\n" for one, text in rows)
    corpus = read_corpus(write(tmp_path / f"c.jsonl{suffix}", compress(data, suffix)))
    for _ in range(2):
        assert [(found.id, found.text) for found in corpus] == rows


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(UTF8, UTF8), min_size=1, max_size=8))
def test_any_id_and_text_survive_jsonl(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("jsonl") / "c.jsonl"
    path.write_bytes(b"".join(json.dumps({"id": one, "contents": text}).encode() + b"\n" for one, text in rows))
    assert [(item.id, item.text) for item in read_corpus(path)] == list(rows)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"_id": "1", "title": "T", "text": "x", "metadata": {"url": "u", "n": [1]}}, {"url": "u", "n": [1]}),
        ({"id": 7, "contents": "x", "year": 1999, "ok": True, "none": None, "list": [1]}, {"year": 1999, "ok": True}),
        ({"docid": "a", "document_text": "x", "metadata": "flat"}, {"metadata": "flat"}),
        ({"pid": -3, "passage": "x", "title": None}, {}),
        ({"docno": "d", "body": "x", "year": 1, "metadata": {"year": 2}}, {"year": 2}),
        ({"query_id": "q", "content": "x", "score": 0.5}, {"score": 0.5}),
    ],
    ids=["beir", "pyserini", "tevatron", "colbert", "trec", "other"],
)
def test_field_names_of_other_toolkits_are_recognised(tmp_path, record, expected):
    path = write(tmp_path / "c.jsonl", orjson.dumps(record))
    (found,) = read_corpus(path)
    assert (found.id, found.text, found.title) == (str(next(iter(record.values()))), "x", record.get("title") or "")
    assert dict(found.metadata) == expected
    assert found.where == f"{path.as_posix()}:1"
    (bare,) = read_corpus(path, metadata=False)
    assert bare.metadata == {}


def test_named_fields_replace_the_recognised_ones(tmp_path):
    path = write(tmp_path / "c.jsonl", b'{"id": "no", "key": "yes", "text": "no", "abstract": "yes", "head": "T"}\n')
    (found,) = read_corpus(path, id_field="key", text_field="abstract", title_field="head")
    assert (found.id, found.text, found.title) == ("yes", "yes", "T")
    (missing,) = read_corpus(path, text_field="absent")
    assert (missing.reason, missing.id) == ("missing-text", "no")
    assert "absent" in missing.message
    assert "'abstract'" in missing.message


@pytest.mark.parametrize("number", [0, -1, 2**53 + 1, 2**63, 2**64 + 1, 10**40])
def test_integer_ids_are_exact(tmp_path, number):
    (found,) = read_corpus(write(tmp_path / "c.jsonl", b'{"id": %d, "text": "x"}' % number))
    assert found.id == str(number)


BAD = {
    "malformed-json": [b'{"id": "1", "text": "x"', b"{'id': 1}", b'{"id": "1", "text": "x", "n": NaN}', b"[" * 5000],
    "not-an-object": [b"[1]", b'"x"', b"1", b"null"],
    "missing-id": [b'{"text": "x"}', b'{"id": "", "text": "x"}', b"{}"],
    "wrong-id-type": [b'{"id": 1.5, "text": "x"}', b'{"id": true, "text": "x"}', b'{"id": null, "text": "x"}'],
    "missing-text": [b'{"id": "1"}'],
    "not-a-string": [b'{"id": "1", "text": 5}', b'{"id": "1", "text": null}', b'{"id": "1", "text": "x", "title": 1}'],
    "undecodable": [b'{"id": "1", "text": "\xff"}', b'{"id": "1", "text": "\xed\xa0\x80"}'],
    "lone-surrogate": [b'{"id": "1", "text": "\\ud800"}', b'{"id": "\\udfff", "text": "x"}'],
}


@pytest.mark.parametrize(("reason", "line"), [(reason, line) for reason in BAD for line in BAD[reason]])
def test_a_bad_line_is_one_record_and_the_lines_around_it_are_read(tmp_path, reason, line):
    good = b'{"id": "%d", "text": "good"}\n'
    path = write(tmp_path / "c.jsonl", good % 8 + b"\n" + line + b"\n" + good % 9)
    first, bad, last = read_corpus(path)
    assert (first.id, last.id) == ("8", "9")
    assert isinstance(bad, Failure)
    assert (bad.reason, bad.stage, bad.where) == (reason, "read", f"{path.as_posix()}:3")
    bad.id.encode("utf-8")
    assert last.where.endswith(":4")


def test_messages_name_the_column_the_offset_and_the_id(tmp_path):
    path = write(
        tmp_path / "c.jsonl", b'{"id": 1, "text": "x"}\n{"id": 1, }\n{"id": 2, "text": "\xff"}\n{"id":3,"text":5}'
    )
    _, malformed, undecodable, number = read_corpus(path)
    assert "column 9" in malformed.message
    assert f"byte offset {path.read_bytes().index(0xFF)}" in undecodable.message
    assert (number.id, "int" in number.message) == ("3", True)


@pytest.mark.parametrize("text", ["", " \u2028\t\n"], ids=["nothing", "white space"])
def test_an_empty_text_is_a_document_and_stays_what_it_is(tmp_path, text):
    line = json.dumps({"id": "1", "text": text, "title": "", "lang": "en"}).encode()
    (found,) = read_corpus(write(tmp_path / "c.jsonl", line))
    assert (found.id, found.source, found.metadata) == ("1", text, {"lang": "en"})


def test_a_document_with_a_title_only_is_read(tmp_path):
    (found,) = read_corpus(write(tmp_path / "c.jsonl", b'{"_id": "1", "title": "Only this", "text": ""}'))
    assert found.source == "Only this "


def test_a_byte_order_mark_is_accepted_and_crlf_line_ends_are_no_text(tmp_path):
    bom = b"\xef\xbb\xbf"
    (found,) = read_corpus(write(tmp_path / "c.jsonl", bom + b'{"id": "1", "text": "a\\r\\nb"}\r\n'))
    assert found.text == "a\r\nb"
    (found,) = read_corpus(write(tmp_path / "c.tsv", bom + b"1\tx\r\n"))
    assert (found.id, found.text) == ("1", "x")


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("frames", [1, 3])
def test_a_truncated_stream_gives_the_records_before_it_and_says_so(tmp_path, suffix, frames):
    lines = [orjson.dumps({"id": str(n), "text": f"text {n * n * 7919}"}) + b"\n" for n in range(6000)]
    parts = [b"".join(lines[at : at + 6000 // frames]) for at in range(0, 6000, 6000 // frames)]
    data = b"".join(compress(part, suffix) for part in parts)
    whole = read_corpus(write(tmp_path / f"whole.jsonl{suffix}", data))
    assert [found.id for found in whole] == [str(n) for n in range(6000)]
    items = list(read_corpus(write(tmp_path / f"cut.jsonl{suffix}", data[:-20])))
    last = compress(parts[-1], suffix)[:-20]
    decoder = zlib.decompressobj(31) if suffix == ".gz" else zstandard.ZstdDecompressor().decompressobj()
    readable = decoder.decompress(last).count(b"\n") + 6000 - 6000 // frames
    assert [found.id for found in items[:-1]] == [str(n) for n in range(readable)]
    assert items[-1].reason == "truncated-file"


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_damaged_and_empty_compressed_files_are_records(tmp_path, suffix):
    data = bytearray(compress(b'{"id": "1", "text": "x"}\n' * 50_000, suffix))
    data[len(data) // 2] ^= 0xFF
    *_, last = read_corpus(write(tmp_path / f"flip.jsonl{suffix}", bytes(data)))
    assert last.reason in ("corrupt-file", "malformed-json")
    for name, content, reason in (("empty", b"", "truncated-file"), ("foreign", b"plain text\n", "corrupt-file")):
        (only,) = read_corpus(write(tmp_path / f"{name}.jsonl{suffix}", content))
        assert only.reason == reason
    padded = write(tmp_path / "padded.jsonl.gz", gzip.compress(b'{"id": "1", "text": "x"}\n') + b"\0" * 10_000)
    assert [found.id for found in read_corpus(padded)] == ["1"]


def test_a_very_long_line_is_read_whole(tmp_path):
    text = "word " * 4_000_000
    path = write(tmp_path / "c.jsonl.zst", compress(orjson.dumps({"id": 1, "text": text}) + b"\n", ".zst"))
    (found,) = read_corpus(path)
    assert found.text == text


def test_a_file_that_vanishes_before_the_second_pass_is_a_record(tmp_path):
    path = write(tmp_path / "c.jsonl", b'{"id": 1, "text": "x"}')
    corpus = read_corpus(path)
    assert len(documents(corpus)) == 1
    path.unlink()
    (failure,) = corpus
    assert failure.reason == "unreadable"


def test_missing_paths_empty_patterns_and_unknown_types_are_errors_before_reading(tmp_path):
    write(tmp_path / "a.xyz", b"x")
    write(tmp_path / "a.json", b'[{"id": 1}]')
    for source in ("none.jsonl", "*.jsonl", "none/*.md"):
        with pytest.raises(MissingFile, match=r"none|jsonl"):
            read_corpus(tmp_path / source)
    with pytest.raises(UsageError, match=r"'\.xyz'.*jsonl.*parquet"):
        read_corpus(tmp_path / "a.xyz")
    with pytest.raises(UsageError, match="JSON array"):
        read_corpus(tmp_path / "a.json")
    with pytest.raises(UsageError, match="unknown corpus format 'excel'"):
        read_corpus(tmp_path / "a.xyz", format="excel")
    with pytest.raises(UsageError, match="at least one"):
        read_corpus()
    (found,) = read_corpus(tmp_path / "a.xyz", format="text")
    assert found.text == "x"


def test_patterns_are_sorted_and_a_file_with_a_bracket_in_its_name_is_itself(tmp_path):
    for name in ("b.jsonl", "a.jsonl", "c[1].jsonl"):
        write(tmp_path / name, b'{"id": "%s", "text": "x"}\n' % name.encode())
    assert [found.id for found in read_corpus(tmp_path / "*.jsonl")] == ["a.jsonl", "b.jsonl", "c[1].jsonl"]
    assert [found.id for found in read_corpus(tmp_path / "c[1].jsonl")] == ["c[1].jsonl"]
    assert [found.id for found in read_corpus(tmp_path / "b.jsonl", tmp_path / "a.jsonl")] == ["b.jsonl", "a.jsonl"]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"], ids=["plain", "gzip", "zstandard"])
def test_standard_input_is_spooled_once_and_read_twice(tmp_path, monkeypatch, suffix):
    data = compress(b'{"id": 1, "text": "x"}\n{"id": 2, "text": "y"}\n', suffix)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    corpus = read_corpus("-")
    for _ in range(2):
        assert [(found.id, found.where) for found in corpus] == [("1", "stdin:1"), ("2", "stdin:2")]
    assert len(list(tmp_path.iterdir())) == 1
    corpus.close()
    assert list(tmp_path.iterdir()) == []


def test_the_copy_of_standard_input_goes_with_the_corpus(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"1\tx\n")))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    corpus = read_corpus("-", format="tsv")
    assert [found.text for found in corpus] == ["x"]
    del corpus
    assert list(tmp_path.iterdir()) == []


def test_tsv_takes_two_or_three_columns_or_a_header(tmp_path):
    path = write(tmp_path / "collection.tsv", b"7\ta text\n8\tbody\tTitle\nno tab\n\n9\t\xff\n10\ta\tb\tc\n11\t \n")
    items = list(read_corpus(path))
    assert [(found.id, found.text, found.title) for found in documents(items)] == [
        ("7", "a text", ""),
        ("8", "body", "Title"),
        ("11", " ", ""),
    ]
    assert [(bad.reason, bad.where.rsplit(":", 1)[1]) for bad in failures(items)] == [
        ("wrong-columns", "3"),
        ("undecodable", "5"),
        ("wrong-columns", "6"),
    ]
    header = write(tmp_path / "header.tsv", b"text\tlang\tid\nx\ten\t1\n")
    (found,) = read_corpus(header)
    assert (found.id, found.text, found.metadata) == ("1", "x", {"lang": "en"})


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(UTF8, UTF8), min_size=1, max_size=6))
def test_any_id_and_text_survive_csv(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "c.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([["id", "text"], *rows])
    assert [(item.id, item.text) for item in read_corpus(path)] == list(rows)


def test_csv_faults_are_records_and_the_limit_of_the_csv_module_is_left_alone(tmp_path):
    long = "x" * 200_000
    data = f'id,text,n\n1,"two\r\nlines",5\n2,{long},6\n3,too few\n4,"bad" quote,1\n'.encode()
    path = write(tmp_path / "c.csv", data + b'5,\xff,1\n6,fine,1\n7,"never closed,1\n8,x,1\n')
    before = csv.field_size_limit()
    items = list(read_corpus(path))
    assert csv.field_size_limit() == before
    assert [(found.id, found.text) for found in documents(items)] == [("1", "two\r\nlines"), ("2", long), ("6", "fine")]
    assert [bad.reason for bad in failures(items)] == ["wrong-columns", "malformed-csv", "undecodable", "malformed-csv"]
    assert f"byte offset {path.read_bytes().index(0xFF)}" in failures(items)[2].message
    assert "lines 9 to 10" in failures(items)[3].message
    (failure,) = read_corpus(write(tmp_path / "h.csv", b"a,b\n1,2\n"))
    assert failure.reason == "missing-id"


TREC = b"""<DOC>
<DOCNO> FT-1 </DOCNO>
<HEADLINE>
<P>A  headline</P>
</HEADLINE>
<TEXT>
First <P>second</P> with List<String> & more
</TEXT>
<TEXT>third</TEXT>
</DOC>
<doc><docno>web-2</docno><dochdr>http://x</dochdr><html><title>W</title><body>seen<script>no</script></body></html></doc>
stray
<DOC><DOCNO>open-3</DOCNO><TEXT>lost
<DOC><DOCNO>latin-4</DOCNO><TEXT>caf\xe9</TEXT></DOC><DOC><TEXT>no name</TEXT></DOC>
<DOC><DOCNO>empty-5</DOCNO><TEXT> </TEXT></DOC>
<DOC><DOCNO>cut-6</DOCNO><TEXT>cut"""


@pytest.mark.parametrize("name", ["docs.trec", "docs.sgml.gz", "FT911_1"])
def test_trec_files_are_read_and_every_fault_in_them_has_a_record(tmp_path, name):
    path = write(tmp_path / name, gzip.compress(TREC) if name.endswith(".gz") else TREC)
    items = list(read_corpus(path))
    first, second, empty = documents(items)
    assert (empty.id, empty.text.strip()) == ("empty-5", "")
    assert (first.id, first.title) == ("FT-1", "A headline")
    assert first.text == "First \nsecond\n with List<String> & more\n\nthird"
    assert (second.id, second.title, second.text) == ("web-2", "W", "seen")
    assert [(bad.reason, bad.id) for bad in failures(items)] == [
        ("outside-document", ""),
        ("unclosed-document", "open-3"),
        ("undecodable", "latin-4"),
        ("missing-id", ""),
        ("unclosed-document", "cut-6"),
    ]
    assert f"byte offset {TREC.index(0xE9)}" in failures(items)[2].message


def test_xml_that_begins_with_a_doc_is_a_text_and_no_trec_file(tmp_path):
    source = "<doc>\n<title>Notes</title>\n<para>one paragraph</para>\n</doc>\n"
    path = write(tmp_path / "notes.xml", source.encode())
    (found,) = read_corpus(tmp_path)
    assert (found.text, path.name in found.id) == (source, True)


def test_a_list_takes_documents_records_and_texts_and_records_what_is_none():
    given_ = Document("a", "text", where="here:1")
    corpus = ListCorpus([given_, {"id": 3, "text": "x"}, "plain", {"id": 4}, "  ", "\ud800", 5, Document("", "x")])
    assert corpus is not iter(corpus)
    assert list(corpus) == list(corpus)
    items = list(corpus)
    assert items[0] is given_
    assert [(found.id, found.where) for found in documents(items)[1:]] == [
        ("3", "item 1"),
        ("2", "item 2"),
        ("4", "item 4"),
    ]
    assert [bad.reason for bad in failures(items)] == [
        "missing-text",
        "lone-surrogate",
        "not-an-object",
        "missing-id",
    ]
    assert len(corpus) == 8
