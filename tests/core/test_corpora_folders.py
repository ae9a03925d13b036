"""Folders, Parquet, HTML and PDF: nothing is passed over without a record, in a stable order."""

import datetime
import os
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unabridged.contracts import Document, Failure
from unabridged.corpora import _pdf, read_corpus
from unabridged.corpora._html import html_to_text
from unabridged.errors import MissingExtra, MissingFile


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def ids(corpus):
    return [item.id for item in corpus if isinstance(item, Document)]


def test_a_folder_of_texts_is_read_in_the_order_of_its_relative_paths(tmp_path):
    names = [
        "a.txt",
        "a/b.md",
        "a-b.rst",
        "a0.py",
        "a/z/deep.c",
        "B.txt",
        "README",
        "é.txt",
        "a b.txt",
        "t.csv",
        "x.jsonl",
    ]
    for name in names:
        write(tmp_path / name, name.encode())
    corpus = read_corpus(tmp_path)
    assert ids(corpus) == sorted(names)
    assert [item.text for item in corpus] == sorted(names)
    assert ids(corpus) == ids(corpus)
    assert corpus.skipped.total == 0


def test_hidden_binary_and_linked_entries_are_counted_and_never_silent(tmp_path, caplog):
    write(tmp_path / "good.txt", b"text")
    write(tmp_path / "nul.txt.bin", b"a\0b")
    write(tmp_path / ".git/config", b"text")
    write(tmp_path / ".hidden", b"text")
    write(tmp_path / "sub/image.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    write(tmp_path / "utf16.txt", "text".encode("utf-16"))
    write(tmp_path / "latin.txt", b"caf\xe9")
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "dangling.txt").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    corpus = read_corpus(tmp_path)
    with caplog.at_level("INFO"):
        items = list(corpus)
    assert ids(items) == ["good.txt"]
    assert {bad.id: bad.reason for bad in items if isinstance(bad, Failure)} == {
        "dangling.txt": "unreadable",
        "latin.txt": "undecodable",
        "utf16.txt": "undecodable",
    }
    assert corpus.skipped.counts == {"hidden": 2, "binary": 2, "link": 1, "not-a-file": 1}
    assert len(corpus.skipped.examples) == corpus.skipped.total == 6
    assert any("image.png" in record.getMessage() for record in caplog.records)


def test_several_folders_keep_their_ids_apart(tmp_path):
    for folder in ("docs", "src"):
        write(tmp_path / folder / "README.md", folder.encode())
    assert ids(read_corpus(tmp_path / "docs")) == ["README.md"]
    both = read_corpus(tmp_path / "docs", tmp_path / "src")
    assert ids(both) == [f"{(tmp_path / folder).as_posix()}/README.md" for folder in ("docs", "src")]


def test_a_single_file_is_called_as_it_was_given(tmp_path, monkeypatch):
    write(tmp_path / "docs/a.md", b"# A\r\n\r\ntext")
    monkeypatch.chdir(tmp_path)
    for source in ("docs/a.md", "docs/*.md", "**/a.md"):
        (found,) = read_corpus(source)
        assert (found.id, found.text) == ("docs/a.md", "# A\r\n\r\ntext")


def test_a_beir_folder_gives_its_corpus_and_not_its_queries(tmp_path):
    write(tmp_path / "corpus.jsonl", b'{"_id": "d", "title": "T", "text": "x", "metadata": {}}\n')
    write(tmp_path / "queries.jsonl", b'{"_id": "q", "text": "x"}\n')
    write(tmp_path / "qrels/test.tsv", b"query-id\tcorpus-id\tscore\nq\td\t1\n")
    (found,) = read_corpus(tmp_path)
    assert (found.id, found.source) == ("d", "T x")


def test_a_folder_of_one_table_format_is_read_as_tables(tmp_path):
    for name in ("b.jsonl", "a.jsonl", "sub/c.ndjson"):
        write(tmp_path / name, b'{"id": "%s", "contents": "x"}\n' % name.encode())
    write(tmp_path / "README.md", b"about")
    corpus = read_corpus(tmp_path)
    assert ids(corpus) == ["a.jsonl", "b.jsonl", "sub/c.ndjson"]
    assert corpus.skipped.counts == {"not-corpus": 1}
    write(tmp_path / "notes.txt", b"text")
    assert "notes.txt" in ids(read_corpus(tmp_path))
    forced = read_corpus(tmp_path, format="jsonl")
    assert ids(forced) == ["a.jsonl", "b.jsonl", "sub/c.ndjson"]
    assert forced.skipped.counts == {"not-corpus": 1, "other-format": 1}


def test_an_empty_folder_yields_nothing_and_a_missing_one_is_an_error(tmp_path):
    assert list(read_corpus(tmp_path)) == []
    with pytest.raises(MissingFile):
        read_corpus(tmp_path / "none")


def test_a_pipe_is_spooled(tmp_path, monkeypatch):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "spool").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "spool"))
    writer = threading.Thread(target=lambda: pipe.write_bytes(b'{"id": 1, "text": "x"}\n'))
    writer.start()
    with read_corpus(pipe) as corpus:
        writer.join()
        assert ids(corpus) == ids(corpus) == ["1"]
    assert list((tmp_path / "spool").iterdir()) == []


def test_parquet_streams_rows_with_every_type_of_column(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = 1000
    table = arrow.table({
        "id": arrow.array(range(rows)),
        "text": arrow.array([b"bytes" if n % 2 else "strïng".encode() for n in range(rows)], arrow.binary()),
        "title": arrow.array(["T", None] * (rows // 2)),
        "year": arrow.array([1999, None] * (rows // 2)),
        "day": arrow.array([datetime.date(2020, 1, 2)] * rows),
        "metadata": arrow.array([{"a": 1}] * rows),
        "vector": arrow.array([[0.1, 0.2]] * rows),
    })  # fmt: skip
    parquet.write_table(table, tmp_path / "c.parquet", row_group_size=300)
    corpus = read_corpus(tmp_path / "c.parquet")
    first, second, *_ = found = list(corpus)
    assert [item.id for item in found] == [str(n) for n in range(rows)] == ids(corpus)
    assert (first.text, first.title, first.metadata) == ("strïng", "T", {"year": 1999, "day": "2020-01-02", "a": 1})
    assert (second.text, second.title, second.metadata) == ("bytes", "", {"day": "2020-01-02", "a": 1})
    assert first.where.endswith("c.parquet:1")
    assert next(iter(read_corpus(tmp_path / "c.parquet", metadata=False))).metadata == {}


def test_faults_in_parquet_are_records(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    bad = arrow.table({"id": ["1", "2", None], "text": arrow.array([b"x", b"\xff", b"y"], arrow.binary())})
    parquet.write_table(bad, tmp_path / "bad.parquet")
    one, undecodable, no_id = read_corpus(tmp_path / "bad.parquet")
    assert (one.id, undecodable.reason, no_id.reason) == ("1", "undecodable", "wrong-id-type")
    parquet.write_table(arrow.table({"key": [1], "text": ["x"]}), tmp_path / "foreign.parquet")
    (failure,) = read_corpus(tmp_path / "foreign.parquet")
    assert failure.reason == "missing-id"
    assert "1 rows" in failure.message
    assert ids(read_corpus(tmp_path / "foreign.parquet", id_field="key")) == ["1"]
    write(tmp_path / "cut.parquet", (tmp_path / "bad.parquet").read_bytes()[:-30])
    (failure,) = read_corpus(tmp_path / "cut.parquet")
    assert failure.reason == "corrupt-file"


def test_a_hugging_face_folder_gives_the_corpus_part_only(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for part, name in (("corpus", "d"), ("queries", "q"), ("en-qrels", "r")):
        (tmp_path / part).mkdir()
        parquet.write_table(
            arrow.table({"_id": [name], "text": ["x"]}), tmp_path / part / "test-00000-of-00001.parquet"
        )
    write(tmp_path / "README.md", b"card")
    corpus = read_corpus(tmp_path)
    assert ids(corpus) == ["d"]
    assert corpus.skipped.counts == {"not-corpus": 3}


def test_a_missing_package_is_an_error_for_a_named_file_and_a_record_in_a_folder(tmp_path, monkeypatch):
    write(tmp_path / "a.pdf", b"%PDF-1.4")
    write(tmp_path / "b.txt", b"text")
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r'pip install "unabridged\[pdf\]"'):
        read_corpus(tmp_path / "a.pdf")
    failure, found = read_corpus(tmp_path)
    assert (failure.reason, found.id) == ("missing-extra", "b.txt")


PAGE = """<!doctype html><html><head><title> A &amp;
 B </title><style>p { color: red }</style></head><body><script>if (a < b) { x() }</script>
<h1>Head</h1><p>one <b>two</b>
three&nbsp;&lt;four&gt;</p><ul><li>a<li>b</ul><pre>  keep
   this</pre>after<br>break<svg><title>drawing</title></svg></body></html>"""


def test_html_keeps_text_and_title_and_drops_scripts(tmp_path):
    (found,) = read_corpus(write(tmp_path / "p.html", PAGE.encode()))
    assert found.title == "A & B"
    assert found.text == "Head\n\none two three\xa0<four>\n\na\nb\n\n  keep\n   this\nafter\nbreak\ndrawing"


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from(["<p>", "</p>", "<pre>", "<title>", "<b", "</", "&#xD800;", "<!--", "-->", "<svg>", "ü"]))
)
def test_broken_html_never_raises_and_words_outside_of_tags_stay(parts):
    html_to_text("".join(parts))
    text, title = html_to_text(
        "word1 " + "".join(part for part in parts if part in ("<p>", "</p>", "<pre>")) + " word2"
    )
    assert text.split() == ["word1", "word2"]
    assert title == ""


def pdf_bytes(*contents: bytes, kids: str | None = None) -> bytes:
    """A small valid PDF, one page for each content stream."""
    count = len(contents)
    pages = kids or " ".join(f"{4 + 2 * n} 0 R" for n in range(count))
    bodies = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{pages}] /Count {count} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for n, content in enumerate(contents):
        page = "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 300] /Resources << /Font << /F1 3 0 R >> >>"
        bodies.append(f"{page} /Contents {5 + 2 * n} 0 R >>".encode())
        bodies.append(b"<< /Length %d >>\nstream\n" % len(content) + content + b"\nendstream")
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(bodies, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(bodies) + 1) + table
    return out + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(bodies) + 1, start)


def line(text: str) -> bytes:
    return f"BT /F1 12 Tf 20 200 Td ({text}) Tj 0 -20 Td (below) Tj ET".encode()


needs_pdf = pytest.mark.skipif("not __import__('importlib').util.find_spec('pypdfium2')", reason="extra pdf")


@needs_pdf
def test_a_pdf_is_one_document_of_its_pages(tmp_path):
    write(tmp_path / "a.pdf", pdf_bytes(line("Hello page one"), line("Page two"), b""))
    (found,) = read_corpus(tmp_path)
    assert found.id == "a.pdf"
    assert found.text == "Hello page one\nbelow\n\nPage two\nbelow\n\n"
    assert found.metadata == {"pages": 3, "pages_without_text": 1}


@needs_pdf
def test_corrupt_and_empty_pdfs_are_records(tmp_path):
    write(tmp_path / "garbage.pdf", b"%PDF-1.4\ngarbage")
    write(tmp_path / "none.pdf", b"")
    write(tmp_path / "scan.pdf", pdf_bytes(b"", b""))
    items = list(read_corpus(tmp_path))
    assert [(item.id, item.reason) for item in items] == [
        ("garbage.pdf", "malformed-pdf"),
        ("none.pdf", "malformed-pdf"),
        ("scan.pdf", "empty"),
    ]
    assert "2 pages" in items[2].message


@needs_pdf
def test_a_broken_page_is_a_record_and_the_other_pages_are_kept(tmp_path):
    path = write(tmp_path / "a.pdf", pdf_bytes(line("one"), line("two"), line("three"), kids="4 0 R 99 0 R 8 0 R"))
    failure, found = read_corpus(path)
    assert (failure.reason, failure.where) == ("page-lost", f"{path.as_posix()} page 2")
    assert found.text == "one\nbelow\n\nthree\nbelow"


WORKER = """
import json, os, sys, time
path, first, memory = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def say(**entry): print(json.dumps(entry), flush=True)
say(pages=5, title="")
for page in range(first, 5):
    marker = path + f".tried{page}"
    again = os.path.exists(marker)
    open(marker, "a").write("x")
    if page == 1 and not again: os._exit(9)
    if page == 2: time.sleep(60)
    if page == 3 and not again:
        say(page=page, error="MemoryError")
        continue
    say(page=page, text=f"text {page}")
"""


def test_a_page_that_kills_or_hangs_its_reader_is_tried_twice_and_costs_no_other_page(tmp_path, monkeypatch):
    script = write(tmp_path / "worker.py", WORKER.encode())
    path = write(tmp_path / "a.pdf", b"%PDF")
    monkeypatch.setattr(_pdf, "WORKER", script)
    monkeypatch.setattr(_pdf, "need_pdf", lambda: None)
    monkeypatch.setattr("unabridged.corpora._readers.NEEDS", {})
    failure, found = read_corpus(path, pdf_timeout=1.0)
    assert found.text == "text 0\n\ntext 1\n\ntext 3\n\ntext 4"
    assert (failure.where, failure.reason) == (f"{path.as_posix()} page 3", "page-lost")
    assert "no page for 1 s" in failure.message
    assert [len((tmp_path / f"a.pdf.tried{n}").read_bytes()) for n in range(4)] == [1, 2, 2, 2]


def test_a_file_that_always_kills_its_reader_is_one_record(tmp_path, monkeypatch):
    path = write(tmp_path / "a.pdf", b"%PDF")
    monkeypatch.setattr(_pdf, "WORKER", write(tmp_path / "worker.py", b"import os; os._exit(9)"))
    monkeypatch.setattr("unabridged.corpora._pdf.need_pdf", lambda: None)
    monkeypatch.setattr("unabridged.corpora._readers.NEEDS", {})
    (failure,) = read_corpus(path)
    assert (failure.reason, "code 9" in failure.message) == ("malformed-pdf", True)


@needs_pdf
def test_the_reader_of_a_pdf_has_a_memory_limit(tmp_path):
    path = write(tmp_path / "a.pdf", pdf_bytes(line("one")))
    (failure,) = read_corpus(path, pdf_memory_mb=20)
    assert failure.reason == "malformed-pdf"
    assert "limit 20 MB" in failure.message
