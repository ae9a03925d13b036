"""Sets from packages: small packages made here become the sets that their texts say, headings out, answers known."""

from __future__ import annotations

import bz2
import gzip
import json
import shutil
import subprocess
import tarfile
import zipfile

import pytest
from tests_packages import deb, prose, zst

from unabridged.errors import CorpusError, MissingFile, UsageError
from unabridged.eval.evidence import read_evidence, read_record
from unabridged.eval.local_sets.build import build, capped
from unabridged.eval.local_sets.markup import headings, read_html, squeeze
from unabridged.eval.local_sets.packages import debian
from unabridged.eval.sets import facts, read_beir

FAQ = f"""<html><head><title>left out</title></head><body><h1>A.1 What is a faq?</h1>
<p>intro  of &amp; all</p><h2>A.1.1 Why   ask?</h2><p>{prose("first")}</p><script>x()</script>
<h2>A.1.2 No question</h2><p>between</p><h2>A.1.3 Who answers?</h2><ul><li>last<br>words</li></ul></body></html>"""


def anarchism(folder):
    root = "usr/share/doc/anarchism/html"
    short = "<body><h2>A.2.1 Too short?</h2><p>few words</p></body>"
    files = {f"{root}/secA1.html": FAQ, f"{root}/short.html": short, f"{root}/none.html": f"<p>{prose('x')}</p>"}
    return deb(folder, "anarchism", {name: text.encode() for name, text in files.items()})


def test_a_faq_becomes_its_questions_and_its_pages_without_headings(tmp_path):
    anarchism(tmp_path / "packages")
    record = build("aafaq", tmp_path)
    found = read_beir(tmp_path / "aafaq")
    texts = {one.id: one.text for one in found.corpus}
    assert list(texts) == ["secA1"], "pages that are short or ask nothing are left out"
    assert texts["secA1"] == f"intro of & all\n{prose('first')}\nbetween\nlast\nwords"
    assert [one.text for one in found.queries] == ["What is a faq?", "Why ask?", "Who answers?"]
    assert all(grades == {"secA1": 1} for grades in found.qrels.values())
    assert record == read_record(tmp_path / "aafaq")
    words = 4 + 320 + 1 + 2
    assert (record["documents"], record["queries"], record["words_max"], record["words_mean"]) == (1, 3, words, words)
    assert (record["origin"], record["licence"]) == ("Debian anarchism 1.0-1", "GPL-2")
    assert record["revision"] == facts(found).revision


def test_the_evidence_of_a_question_is_what_its_heading_stood_above(tmp_path):
    anarchism(tmp_path / "packages")
    build("aafaq", tmp_path)
    [page] = read_beir(tmp_path / "aafaq").corpus
    shown = {one.query_id: page.text[one.start : one.end] for one in read_evidence(tmp_path / "aafaq")}
    assert shown == {
        "secA1-0": page.text,
        "secA1-1": prose("first"),
        "secA1-2": "last\nwords",
    }, "a heading of a higher level holds those below it"


def test_marks_survive_every_kind_of_white_space():
    text, found = read_html("<p>\u00a0a\u2003b \r\n</p>\n\n<h3>Sp\u00a0lit\u00b6</h3> \t<p>c\u00b6 d</p><h3>Empty</h3>")
    assert text == squeeze("a\u2003b\nc d")
    assert [(one.text, text[one.start : one.end]) for one in found] == [("Sp lit", "c d"), ("Empty", "")]
    assert headings("", []) == ()


def test_python_pages_ask_their_faqs_and_their_synopses(tmp_path):
    root = "usr/share/doc/python3.11/html"
    page = "<body><nav>n</nav><div role='main' class='body'><h1>T</h1>{}<p>{}</p></div><div>foot</div></body>"
    files = {
        f"{root}/faq/design.html": page.format("<h2>Why indent?<a class='headerlink'>\u00b6</a></h2>", prose("w", 40)),
        f"{root}/library/abc.html": page.format("", prose("abc", 40)),
        f"{root}/genindex.html": page.format("", prose("g", 40)),
        f"{root}/_sources/library/abc.rst.txt": ".. module:: abc\n   :synopsis: Base *classes* of `all`.\n",
    }
    deb(tmp_path / "p", "python3.11-doc", {k: v.encode() for k, v in files.items()}, pack=zst, suffix="zst")
    record = build("pydoc", tmp_path / "out", tmp_path / "p")
    found = read_beir(tmp_path / "out" / "pydoc")
    assert {one.id: one.text for one in found.queries} == {
        "faq/design-0": "Why indent?",
        "library/abc-synopsis": "Base classes of all.",
    }
    assert [one.text for one in found.corpus] == [prose("w", 40), prose("abc", 40)]
    assert record["evidence"] == 1, "where a synopsis is answered is not known"


def test_reference_pages_of_one_purpose_share_judgements(tmp_path):
    page = '<div id="docContent"><div class="refnamediv"><h2>Name</h2><p>{0} \u2014 {1}</p></div><p>{2}</p></div>'
    root = "usr/share/doc/postgresql-doc-15/html"
    files = {f"{root}/sql-{n}.html": page.format(n, "do it twice", prose(n, 70)).encode() for n in "ab"}
    deb(tmp_path / "packages", "postgresql-doc-15", files)
    build("pgdoc", tmp_path)
    found = read_beir(tmp_path / "pgdoc")
    assert found.qrels == {"p0": {"sql-a": 1, "sql-b": 1}}
    assert [one.text for one in found.corpus] == [prose("a", 70), prose("b", 70)]


def test_perl_manuals_ask_their_names_and_their_faqs(tmp_path):
    faq = (
        f"=head1 NAME\n\nperlfaq1 - General\n\n=head1 DESCRIPTION\n\nB<bold> text\n\n"
        f"=head2 What is Perl?\n\n{prose('perl', 60)}\n\n=head2 Not asked\n\n=over 4\n\n=item one\n\ntail\n"
    )
    other = f"=head1 NAME\n\nperlre - Perl regular expressions\n\n=head1 X\n\n{prose('re', 60)}\n"
    root = "usr/share/perl/5.36.0/pod"
    files = {f"{root}/perlfaq1.pod": faq, f"{root}/perlre.pod": other, f"{root}/perl5delta.pod": other}
    deb(tmp_path / "packages", "perl-doc", {k: v.encode() for k, v in files.items()})
    build("perldoc", tmp_path)
    found = read_beir(tmp_path / "perldoc")
    texts = {one.id: one.text for one in found.corpus}
    assert texts == {
        "pod/perlfaq1": f"bold text\n{prose('perl', 60)}\none\ntail",
        "pod/perlre": prose("re", 60),
    }
    assert {one.id: one.text for one in found.queries} == {
        "pod/perlfaq1-0": "What is Perl?",
        "pod/perlre-name": "Perl regular expressions",
    }
    [shown] = read_evidence(tmp_path / "perldoc")
    assert texts[shown.doc_id][shown.start : shown.end] == prose("perl", 60)


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_manual_pages_ask_their_descriptions(tmp_path):
    def page(name, line, text):
        source = f".TH {name} 1\n.SH NAME\n{name} \\- {line}\n.SH DESCRIPTION\n{text}\n"
        return gzip.compress(source.encode())

    root = "usr/share/man/man1"
    own = {
        f"{root}/a.1.gz": page("a", "copy all files", prose("a", 30)),
        f"{root}/b.1.gz": page("b", "copy all files", prose("b", 30)),
        f"{root}/c.1.gz": gzip.compress(b".so man1/a.1\n"),
        "usr/share/man/de/man1/a.1.gz": page("a", "alles", prose("d", 30)),
    }
    deb(tmp_path / "packages", "manpages", own, [(f"{root}/d.1.gz", "a.1.gz", tarfile.SYMTYPE)])
    for name in ("manpages-dev", "git-man"):
        deb(tmp_path / "packages", name, {f"{root}/{name}.1.gz": page(name, f"other {name}", prose(name, 30))})
    build("manpages", tmp_path)
    found = read_beir(tmp_path / "manpages")
    assert sorted(one.id for one in found.corpus) == ["a.1", "b.1", "git-man.1", "manpages-dev.1"]
    assert {tuple(grades) for grades in found.qrels.values()} == {("a.1", "b.1"), ("git-man.1",), ("manpages-dev.1",)}
    assert all("copy all files" not in one.text for one in found.corpus)


WIKI = """<mediawiki xmlns="http://x/"><page><title>Alan Gray</title><ns>0</ns><id>7</id><revision><id>9</id><text>
{{{{box|{{{{in}}}}}}}} '''Alan Gray''' was a [[man|person]] of whom nothing at all was ever heard in these parts.
== Life ==
Then {}</text></revision></page><page><title>T</title><ns>1</ns><id>8</id><text>x</text></page></mediawiki>"""


def test_articles_ask_their_first_sentence_without_their_title(tmp_path):
    member = "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
    (tmp_path / "packages").mkdir()
    with zipfile.ZipFile(tmp_path / "packages" / "gensim-4.4.0-py3-none-any.whl", "w") as archive:
        archive.writestr(member, bz2.compress(WIKI.format(prose("life")).encode()))
    build("gensimwiki", tmp_path)
    found = read_beir(tmp_path / "gensimwiki")
    [query], [article] = found.queries, found.corpus
    assert query.text == "it it was a person of whom nothing at all was ever heard in these parts."
    assert article.text == f"Then {prose('life')}"
    assert not (tmp_path / "gensimwiki" / "evidence.jsonl").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stdlibmod", "stdlibcode"])
def test_the_running_library_asks_its_docstrings_and_twice_the_same(tmp_path, name):
    first, second = build(name, tmp_path / "1"), build(name, tmp_path / "2")
    assert first == second
    assert first["queries"] == first["documents"] > 200
    found = read_beir(tmp_path / "1" / name)
    asked = {one.id: one.text for one in found.queries}
    for document in found.corpus:
        assert found.qrels[document.id] == {document.id: 1}
    repeated = [one.id for one in found.corpus if asked[one.id] in one.text]
    assert len(repeated) < 0.05 * len(asked), "where an author says the same once more, in a class or a comment"


def test_a_module_of_the_library_is_read_without_its_docstring(tmp_path, monkeypatch):
    body = "\n".join(f"value_{n} = {n}" for n in range(20))
    (tmp_path / "lib" / "test").mkdir(parents=True)
    (tmp_path / "lib" / "one.py").write_text(f'"""What one\nis for.\n\nMore of it.\n"""\n{body}\n')
    (tmp_path / "lib" / "bad.py").write_text("def (:\n")
    (tmp_path / "lib" / "test" / "two.py").write_text(f'"""Left out of all."""\n{body}\n')
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path / "lib"))
    build("stdlibmod", tmp_path / "out")
    found = read_beir(tmp_path / "out" / "stdlibmod")
    assert [(one.id, one.text) for one in found.corpus] == [("one.py", body)]
    assert [one.text for one in found.queries] == ["What one is for."]


@pytest.mark.parametrize(("pack", "suffix"), [(gzip.compress, "gz"), (zst, "zst"), (lambda data: data, "")])
def test_a_package_gives_its_regular_files_and_hard_links_in_order(tmp_path, pack, suffix):
    files = {"usr/b.txt": b"b", "usr/B/c.txt": b"c", "etc/d": b"d"}
    links = [("usr/hard", "./usr/b.txt", tarfile.LNKTYPE), ("usr/soft", "/etc/passwd", tarfile.SYMTYPE)]
    deb(tmp_path, "x", files, links, version="1:2.0", pack=pack, suffix=suffix)
    found = debian("x", tmp_path, "usr")
    assert found.version == "1:2.0"
    assert {str(path): data for path, data in found.files.items()} == {"B/c.txt": b"c", "b.txt": b"b", "hard": b"b"}
    assert list(found.files) == sorted(found.files)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_a_package_of_the_distributions_own_tool_is_read(tmp_path):
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(
        "Package: x\nVersion: 3.1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: x\n"
    )
    (tree / "usr").mkdir()
    (tree / "usr" / "one").write_text("1")
    command = ["dpkg-deb", "--build", "--root-owner-group", str(tree), str(tmp_path / "x_3.1_all.deb")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert {str(path): data for path, data in debian("x", tmp_path, "usr").files.items()} == {"one": b"1"}


@pytest.mark.parametrize("left", [0, 5, 200, -2])
def test_a_damaged_package_is_named_and_leaves_no_folder(tmp_path, left):
    path = anarchism(tmp_path / "packages")
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(CorpusError, match=r"anarchism_1.0-1_all.deb is not a whole Debian package .*Delete it"):
        build("aafaq", tmp_path)
    assert not (tmp_path / "aafaq").exists()


def test_a_package_that_cannot_be_had_says_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingFile, match=r"apt-get is not on this system.* put anarchism_\*\.deb into "):
        build("aafaq", tmp_path)
    tool = tmp_path / "apt-get"
    tool.write_text("#!/bin/sh\necho 'E: Unable to locate' >&2\nexit 100\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(MissingFile, match=r"ended with 100 \(E: Unable to locate\).*apt-get update.* put anarchism_"):
        build("aafaq", tmp_path)
    assert not (tmp_path / "aafaq").exists()


def test_two_versions_of_a_package_are_refused(tmp_path):
    for version in ("1", "2"):
        deb(tmp_path, "x", {"usr/a": b""}, version=version)
    with pytest.raises(UsageError, match=r"x_1_all.deb, x_2_all.deb; keep the one"):
        debian("x", tmp_path, "usr")
    (tmp_path / "x_1_all.deb").unlink()
    with pytest.raises(MissingFile, match="has no etc"):
        debian("x", tmp_path, "etc")


def test_a_finished_set_is_kept_and_a_changed_one_is_refused(tmp_path):
    path = anarchism(tmp_path / "packages")
    record = build("aafaq", tmp_path)
    path.unlink()
    assert build("aafaq", tmp_path) == record, "no package is needed any more"
    corpus = tmp_path / "aafaq" / "corpus.jsonl"
    corpus.write_text(corpus.read_text().replace("first7 ", ""))
    with pytest.raises(CorpusError, match="Delete the folder"):
        build("aafaq", tmp_path)
    with pytest.raises(UsageError, match="'nosuch'; there are aafaq, pydoc"):
        build("nosuch", tmp_path)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    anarchism(tmp_path / "packages")
    (tmp_path / "aafaq").mkdir()
    (tmp_path / "aafaq" / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match="exists already"):
        build("aafaq", tmp_path)
    assert [one.name for one in (tmp_path / "aafaq").iterdir()] == ["mine.txt"]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["aafaq", "packages"]


def test_a_smaller_set_keeps_judged_documents_first_and_only_queries_whose_answers_are_kept(tmp_path):
    rows = [{"_id": f"d{n}", "text": prose(f"d{n}", 10)} for n in range(40)]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "queries.jsonl").write_text("".join(f'{{"_id": "q{n}", "text": "?"}}\n' for n in range(10)))
    (tmp_path / "qrels").mkdir()
    table = "".join(f"q{n}\td{n}\t1\nq{n}\td{n + 10}\t1\n" for n in range(10))
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + table)
    whole = read_beir(tmp_path)
    small = capped(whole, 200, 4)
    kept = {one.id for one in small.corpus}
    judged = {f"d{n}" for n in range(20)}
    assert len(kept) == 20
    assert len(kept & judged) == 15, "three quarters at most"
    assert all(kept.issuperset(grades) for grades in small.qrels.values())
    assert len(small.queries) <= 4
    assert facts(capped(whole, 10**6, 10**6)).revision == facts(whole).revision


@pytest.mark.parametrize(
    "line", ["{", '{"query-id": "q"}', '{"query-id": "q", "corpus-id": "d", "start": 4, "end": 4}', "[]"]
)
def test_evidence_that_is_none_is_named_by_its_line(tmp_path, line):
    good = '{"query-id": "q", "corpus-id": "d", "start": 0, "end": 4}\n'
    (tmp_path / "evidence.jsonl").write_text(good + line + "\n")
    with pytest.raises(CorpusError, match=r"evidence.jsonl:2: expected"):
        read_evidence(tmp_path)
    with pytest.raises(MissingFile, match="scores by depth"):
        read_evidence(tmp_path / "nowhere")
