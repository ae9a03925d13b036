"""The planner's pass: counts against a recount, keys against blake3, duplicates by their true ids."""

import random
import tracemalloc

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from unabridged.contracts import Document, Failure
from unabridged.corpora import ListCorpus, _scan, read_corpus, scan
from unabridged.errors import CorpusError, DuplicateId


def key_of(text: str) -> int:
    return int.from_bytes(blake3(text.encode()).digest()[:8], "little")


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip), min_size=1, max_size=90))
def test_counts_keys_and_sample_equal_a_recount(texts):
    corpus = ListCorpus([Document(str(at), text, "T" * (at % 2)) for at, text in enumerate(texts)])
    sources = [document.source for document in corpus]
    found = scan(corpus)
    assert (found.documents, found.failed, found.failures) == (len(texts), 0, ())
    assert found.characters == sum(map(len, sources))
    assert found.bytes == sum(len(source.encode()) for source in sources)
    assert found.longest == max(map(len, sources)) == len(sources[int(found.longest_id)])
    assert found.keys.dtype == np.uint64
    assert found.keys.tolist() == [key_of(source) for source in sources]
    smallest = sorted((key_of(source), source) for source in sources)[:64]
    assert [(one.key, one.text) for one in found.sample] == smallest
    assert int(found.lengths.sum()) == len(texts)


def test_the_sample_does_not_depend_on_the_order_and_long_texts_are_cut():
    texts = [f"text {n}" for n in range(500)] + ["long " * 40_000]
    shuffled = random.Random(3).sample(texts, len(texts))
    one, two = (scan(ListCorpus(some)) for some in (texts, shuffled))
    assert [found.text for found in one.sample] == [found.text for found in two.sample]
    (only,) = scan(ListCorpus(["long " * 40_000])).sample
    assert (len(only.text), only.characters) == (65_536, 200_000)


def test_longer_than_is_exact_to_the_width_of_a_bucket():
    lengths = [1, 2, 10, 100, 999, 1000, 1001, 5000, 10**6]
    found = scan(ListCorpus(["x" * n for n in lengths]))
    for limit in (0.5, 1, 3, 50, 900, 2000, 10**5, 2 * 10**6):
        low, high = (sum(n > limit * factor for n in lengths) for factor in (1.05, 0.95))
        assert low <= found.longer_than(limit) <= high


def test_failures_are_counted_all_and_kept_up_to_a_cap(monkeypatch):
    monkeypatch.setattr(_scan, "FAILURES_KEPT", 3)
    found = scan(ListCorpus(["\ud800", "text", *["\ud800"] * 9, {"id": 1}]))
    assert (found.documents, found.failed, len(found.failures)) == (1, 11, 3)
    assert found.reasons == {"lone-surrogate": 10, "missing-text": 1}


def test_empty_texts_count_as_documents_without_characters():
    found = scan(ListCorpus(["", "text", " \n"]))
    assert (found.documents, found.failed, found.characters) == (3, 0, 6)
    assert (found.longest_id, found.longer_than(0), found.longer_than(3)) == ("1", 3, 1)


def test_a_duplicate_id_is_named_with_both_places(tmp_path):
    for name in ("a.jsonl", "b.jsonl"):
        rows = "".join(f'{{"id": "{name}{n}", "text": "x"}}\n' for n in range(5))
        (tmp_path / name).write_text(rows + '{"id": "twice %p\\t", "text": "x"}\n')
    with pytest.raises(DuplicateId, match=r"'twice %p\\t' is used twice: .*a\.jsonl:6 and .*b\.jsonl:6"):
        scan(read_corpus(tmp_path / "*.jsonl"))
    assert scan(read_corpus(tmp_path / "a.jsonl")).documents == 6


def test_two_ids_with_one_hash_are_no_duplicates(monkeypatch):
    passes = []

    class Counted(ListCorpus):
        def __iter__(self):
            passes.append(1)
            return super().__iter__()

    monkeypatch.setattr("xxhash.xxh3_64_intdigest", lambda data: len(data))
    monkeypatch.setattr(_scan, "_BLOCK", 2)
    monkeypatch.setattr(_scan, "_CANDIDATES", 1)
    assert scan(Counted([Document(one, "x") for one in ("a", "b", "cc", "dd", "eee")])).documents == 5
    assert len(passes) == 3, "the pass itself, and one for each set of candidates"
    with pytest.raises(DuplicateId, match="'dd'"):
        scan(ListCorpus([Document(one, "x") for one in ("a", "dd", "cc", "dd", "eee")]))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=40))
def test_duplicates_are_found_exactly_when_there_are_some(numbers):
    corpus = ListCorpus([Document(str(n), "x") for n in numbers])
    if len(set(numbers)) == len(numbers):
        assert scan(corpus).documents == len(numbers)
    else:
        with pytest.raises(DuplicateId):
            scan(corpus)


def test_an_empty_corpus_says_what_was_found(tmp_path):
    with pytest.raises(CorpusError, match="no item at all"):
        scan(read_corpus(tmp_path))
    (tmp_path / "a.txt").write_bytes(b"\xfe")
    (tmp_path / "b.txt").write_bytes(b"\xff")
    (tmp_path / ".hidden").write_bytes(b"x")
    with pytest.raises(CorpusError, match=r"2 items .*2 undecodable.*a\.txt.*1 files not read: .*'hidden': 1"):
        scan(read_corpus(tmp_path))


def test_memory_does_not_hold_the_documents():
    class Made:
        def __iter__(self):
            for n in range(5000):
                yield Document(str(n), f"{n} " * 500)
                yield Failure(str(n), "", "read", "empty", "m" * 500)

    tracemalloc.start()
    found = scan(Made())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.characters > 11_000_000
    assert peak < 3_000_000, "sample 64 x 2.5 kB, failures 1000 x 0.6 kB, arrays 80 kB"
