"""Laws of the lexical index: equal to a rebuild, to itself spilled, to brute force; hostile input and files."""

import json
import random
import shutil
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unabridged.contracts import NO_HIT, Level
from unabridged.errors import DiskFull, ManifestMismatch, ShapeError, UsageError
from unabridged.index.lexical import Analyzer, LexicalIndex, LexicalWriter, topk
from unabridged.index.lexical import scorer as scorer_module

ANALYZER = Analyzer(stopwords="none")
LEVELS = [Level.DOC, Level.SEGMENT]
QUERIES = ["w1", "w2 w2 w30", "w0 w7 w90 w150 nowhere", "nowhere", "", "w5 w6 w7 w8 w9 w10 w11"]


def corpus(seed, count, longest=50, vocabulary=200):
    rng = random.Random(seed)
    words = [f"w{i}" for i in range(vocabulary)]
    weights = [1 / (i + 1) for i in range(vocabulary)]
    items = []
    for _ in range(count):
        text = " ".join(rng.choices(words, weights, k=rng.randint(0, longest)))
        items.append((text, sorted({0, *rng.choices(range(len(text) + 1), k=rng.randint(0, 4))})))
    return items


def build(folder, items, analyzer=ANALYZER, **options):
    writer = LexicalWriter(folder, analyzer, **options)
    for text, starts in items:
        writer.add(text, starts)
    writer.finish()
    return folder


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def items():
    return corpus(3, 160)


@pytest.fixture(scope="module")
def folder(items, tmp_path_factory):
    return build(tmp_path_factory.mktemp("index") / "whole", items)


def renumbered(hits, rows):
    """Hits with each row replaced by ``rows[row]``."""
    return np.where(hits.rows == NO_HIT, NO_HIT, rows[np.maximum(hits.rows, 0)])


@pytest.mark.parametrize("variant", ["lucene", "okapi", "bm25plus-everywhere"])
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), parts=st.integers(1, 4), dying=st.sampled_from([0.0, 0.2, 0.9]))
def test_any_order_of_adds_and_deletes_equals_a_rebuild(tmp_path_factory, variant, seed, parts, dying):
    base = tmp_path_factory.mktemp("order")
    rng = np.random.default_rng(seed)
    items = corpus(seed, 30, longest=25, vocabulary=40)
    order = rng.permutation(len(items))
    alive = rng.random(len(items)) >= dying
    ends = [0, *sorted(rng.integers(0, len(items) + 1, parts - 1).tolist()), len(items)]
    folders = [
        build(base / f"part{i}", [items[j] for j in order[ends[i] : ends[i + 1]]], max_postings=150)
        for i in range(parts)
    ]
    grown = LexicalIndex.open(folders, ANALYZER, variant=variant, alive_documents=alive[order])
    living = [j for j in order if alive[j]]
    rebuilt = LexicalIndex.open([build(base / "new", [items[j] for j in living])], ANALYZER, variant=variant)
    documents = np.cumsum(alive[order]) - 1
    counts = np.array([len(items[j][1]) for j in order])
    segments = np.cumsum(np.repeat(alive[order], counts)) - 1
    queries = ["w1", "w2 w2 w30", "w0 w7 w12 nowhere", "w3 w4 w5 w6 w7 w8"]
    for level, rows in ((Level.DOC, documents), (Level.SEGMENT, segments)):
        found, expected = (index.search(queries, 60, level=level) for index in (grown, rebuilt))
        np.testing.assert_array_equal(renumbered(found, rows), expected.rows)
        np.testing.assert_array_equal(found.scores, expected.scores)  # bit for bit
    old, new = grown.stats, rebuilt.stats
    assert (old.documents, old.segments) == (new.documents, new.segments)
    assert (old.average_document, old.average_segment) == (new.average_document, new.average_segment)
    shutil.rmtree(base)


@pytest.mark.parametrize("capacity", [1, 2, 17, 500])
def test_spilling_changes_no_byte(items, tmp_path, capacity):
    some = items[: 2 * capacity + 2]
    assert contents(build(tmp_path / "spilled", some, max_postings=capacity)) == contents(build(tmp_path / "not", some))


def test_terms_in_more_rows_than_a_block_stream_to_the_same_bytes(items, tmp_path, monkeypatch):
    expected = contents(build(tmp_path / "usual", items[:40]))
    monkeypatch.setattr("unabridged.index.lexical.runs.BLOCK", 5)
    monkeypatch.setattr("unabridged.index.lexical.merge.BLOCK", 7)
    monkeypatch.setattr("unabridged.index.lexical.merge._TERMS", 3)
    monkeypatch.setattr("unabridged.index.lexical.runs._TERMS", 4)
    monkeypatch.setattr("unabridged.index.lexical.runs._PIECE", 3)
    assert contents(build(tmp_path / "tiny", items[:40], max_postings=64)) == expected


def test_an_unfinished_attempt_leaves_nothing_behind(items, folder, tmp_path):
    target = tmp_path / "again"
    writer = LexicalWriter(target, ANALYZER, max_postings=20)
    for text, starts in items[:50]:
        writer.add(text + " leftover", starts)
    writer.discard()
    with pytest.raises(ManifestMismatch, match="not a finished"):
        LexicalIndex.open([target], ANALYZER)
    assert contents(build(target, items)) == contents(folder)


def test_the_arrays_are_the_counts_of_the_texts(items, folder):
    expected, lengths = {}, []
    for text, starts in items:
        for number in range(len(starts)):
            terms, begins = ANALYZER.analyze_with_starts(text)
            mine = [
                t for t, at in zip(terms, begins, strict=True) if np.searchsorted(starts, at, "right") == number + 1
            ]
            for term in mine:
                key = term, len(lengths)
                expected[key] = expected.get(key, 0) + 1
            lengths.append(len(mine))
    load = {path.stem: np.load(path) for path in folder.glob("*.npy")}
    terms = [
        (folder / "terms.bin").read_bytes()[a:b].decode()
        for a, b in zip([0, *load["term_ends"][:-1]], load["term_ends"], strict=True)
    ]
    assert terms == sorted({term for term, _ in expected})
    owner = np.repeat(np.arange(len(terms)), np.diff(load["ends"], prepend=0))
    found = {(terms[t], int(row)): int(tf) for t, row, tf in zip(owner, load["rows"], load["tf"], strict=True)}
    assert found == expected
    assert load["segment_terms"].tolist() == lengths
    assert load["document_terms"].tolist() == [len(ANALYZER.analyze(text)) for text, _ in items]
    holders = [{int(load["documents"][row]) for term, row in expected if term == t} for t in terms]
    assert load["document_df"].tolist() == [len(held) for held in holders]


@pytest.mark.parametrize(("count", "kind"), [(255, "uint8"), (256, "uint16"), (65_536, "uint32")])
@pytest.mark.parametrize("capacity", [9000, 1_000_000])
def test_frequencies_take_the_smallest_type_that_holds_them(tmp_path, count, kind, capacity):
    writer = LexicalWriter(tmp_path / "tf", ANALYZER, max_postings=capacity)
    writer.add("dog " * count + "cat", [0])
    assert writer.finish()["tf"] == kind
    assert np.load(tmp_path / "tf" / "tf.npy").tolist() == [1, count]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("few", [0, 1024], ids=["bounded", "unbounded"])
def test_a_filter_removes_rows_and_changes_no_score(folder, level, share, few, monkeypatch):
    monkeypatch.setattr(topk, "_FEW", few)
    index = LexicalIndex.open([folder], ANALYZER)
    owner = np.load(folder / "documents.npy")
    allow = np.random.default_rng(5).random(index.documents) < share
    for query in QUERIES:
        every = index.search([query], index.segments, level=level)
        rows = every.rows[0][every.rows[0] != NO_HIT]
        kept = allow[rows] if level is Level.DOC else allow[owner[rows]]
        for k in (1, 4, index.segments + 5):
            hits = index.search([query], k, level=level, allow=allow)
            real = hits.rows[0] != NO_HIT
            np.testing.assert_array_equal(hits.rows[0][real], rows[kept][:k])
            np.testing.assert_array_equal(hits.scores[0][real], every.scores[0][: len(rows)][kept][:k])
            assert np.isneginf(hits.scores[0][~real]).all()


@pytest.mark.parametrize("few", [0, 1024], ids=["bounded", "unbounded"])
@pytest.mark.parametrize("variant", ["lucene", "okapi", "robertson", "bm25plus-everywhere"])
@pytest.mark.parametrize("level", LEVELS)
def test_fewer_hits_are_the_head_of_more(folder, few, variant, level, monkeypatch):
    index = LexicalIndex.open([folder], ANALYZER, variant=variant)
    every = index.search(QUERIES, index.segments + 9, level=level)
    monkeypatch.setattr(topk, "_FEW", few)
    for k in (1, 2, 10, 60):
        head = index.search(QUERIES, k, level=level)
        np.testing.assert_array_equal(head.rows, every.rows[:, :k])
        np.testing.assert_array_equal(head.scores, every.scores[:, :k])
    assert (every.rows[:, -9:] == NO_HIT).all()


@pytest.mark.parametrize("few", [0, 1024], ids=["bounded", "unbounded"])
@pytest.mark.parametrize("k", [1, 5, 29, 200])
def test_ties_come_in_ascending_rows_and_the_lowest_survive_the_cut(tmp_path, few, k, monkeypatch):
    monkeypatch.setattr(topk, "_FEW", few)
    same, other = ("same words", [0]), ("other", [0])
    folders = [build(tmp_path / "a", [same] * 20 + [other] * 90), build(tmp_path / "b", [same] * 10)]
    index = LexicalIndex.open(folders, ANALYZER)
    hits = index.search(["same words"], k)
    expected = [*range(20), *range(110, 120)][:k]
    assert hits.rows[0][: len(expected)].tolist() == expected
    assert (hits.rows[0][len(expected) :] == NO_HIT).all()
    assert len(set(hits.scores[0][: len(expected)].tolist())) == 1


def test_a_repeated_query_term_counts_twice(folder):
    index = LexicalIndex.open([folder], ANALYZER)
    once, twice = index.search(["w3", "w3 w3"], 30).scores
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-6)


def test_results_do_not_depend_on_batch_mates_or_history(folder):
    together = LexicalIndex.open([folder], ANALYZER).search(QUERIES * 2, 7)
    for q, query in enumerate(QUERIES):
        alone = LexicalIndex.open([folder], ANALYZER).search([query], 7)
        for at in (q, q + len(QUERIES)):
            np.testing.assert_array_equal(together.rows[at], alone.rows[0])
            np.testing.assert_array_equal(together.scores[at], alone.scores[0])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("cache", [0, 4000, 1 << 20])
def test_eight_threads_give_the_serial_results(folder, level, cache, monkeypatch):
    monkeypatch.setattr("unabridged.index.lexical.searcher.CACHE_BYTES", cache)
    monkeypatch.setattr(topk, "_FEW", 50)
    expected = LexicalIndex.open([folder], ANALYZER).search(QUERIES, 9, level=level)
    index = LexicalIndex.open([folder], ANALYZER)
    wrong = []

    def work(shift):
        for turn in range(20):
            q = (turn + shift) % len(QUERIES)
            hits = index.search([QUERIES[q]], 9, level=level)
            if not (
                np.array_equal(hits.rows[0], expected.rows[q]) and np.array_equal(hits.scores[0], expected.scores[q])
            ):
                wrong.append(q)

    threads = [threading.Thread(target=work, args=(shift,)) for shift in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_cache_stays_within_its_bytes():
    cache = scorer_module.TermCache(10_000)
    for number in range(200):
        rows = np.arange(number % 40)
        cache.put(f"t{number % 70}", scorer_module.TermScores(rows, rows.astype(float), 0.0))
        assert 0 < cache.bytes <= 10_000
    assert cache.get("t59") is not None
    before = cache.bytes
    cache.put("huge", scorer_module.TermScores(np.arange(10_000), np.zeros(10_000), 0.0))
    assert cache.get("huge") is None
    assert cache.bytes == before


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("shape", ["no folder", "no document", "no token", "all deleted"])
def test_an_index_without_terms_has_no_hits(tmp_path, level, shape):
    alive = None
    folders = []
    if shape == "no document":
        folders = [build(tmp_path / "x", [])]
    elif shape == "no token":
        folders = [build(tmp_path / "x", [("", [0]), ("?", []), ("a", [0])])]
    elif shape == "all deleted":
        folders, alive = [build(tmp_path / "x", [("some words", [0])] * 3)], np.zeros(3, bool)
    for variant in ("lucene", "okapi", "bm25plus-everywhere"):
        index = LexicalIndex.open(folders, ANALYZER, alive_documents=alive, variant=variant)
        hits = index.search(["some words", ""], 4, level=level)
        assert (hits.rows == NO_HIT).all()
        assert np.isneginf(hits.scores).all()
        assert hits.rows.shape == (2, 4)
        assert index.stats.average_document == 0.0 or shape == "no token"


def test_no_queries_give_no_rows(folder):
    assert LexicalIndex.open([folder], ANALYZER).search([], 3).rows.shape == (0, 3)


def test_a_query_of_stop_words_has_no_hits(tmp_path):
    analyzer = Analyzer()
    index = LexicalIndex.open([build(tmp_path / "x", [("the cat and the dog", [0])], analyzer)], analyzer)
    assert (index.search(["the and of"], 2).rows == NO_HIT).all()
    assert index.search(["the cat"], 2).rows[0].tolist() == [0, NO_HIT]


def test_hostile_tokens_are_found_again(tmp_path):
    huge = "x" * 300_000
    texts = [f"🙂 {huge} 🙂🙂", "İSTANBUL Ünïcode", "東京 tower", "nul\x00byte", "\ud800 lone"]
    index = LexicalIndex.open([build(tmp_path / "x", [(text, [0, 1]) for text in texts], max_postings=2)], ANALYZER)
    queries = [huge, "İstanbul", "東京", "byte", "lone", "🙂"]
    assert index.search(queries, 1).rows[:, 0].tolist() == [0, 1, 2, 3, 4, NO_HIT]


def test_lone_surrogates_are_terms_like_others(tmp_path):
    analyzer = Analyzer(pattern=r"\S+", stopwords="none")
    texts = ["\ud800", "\ue000", "a", "\U0001f642"]
    index = LexicalIndex.open([build(tmp_path / "x", [(text, [0]) for text in texts], analyzer)], analyzer)
    assert index.search(texts, 1).rows[:, 0].tolist() == [0, 1, 2, 3]


def test_tokens_before_the_first_start_belong_to_the_first_segment(tmp_path):
    index = LexicalIndex.open([build(tmp_path / "x", [("cat dog emu", [4, 8])])], ANALYZER)
    assert index.search(["cat", "emu"], 1, level=Level.SEGMENT).rows[:, 0].tolist() == [0, 1]


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(folder, k):
    with pytest.raises(UsageError, match="k must be"):
        LexicalIndex.open([folder], ANALYZER).search(["w1"], k)


def test_misfits_are_refused(folder, tmp_path):
    index = LexicalIndex.open([folder], ANALYZER)
    with pytest.raises(UsageError, match="doc or segment"):
        index.search(["w1"], 1, level=Level.BOTH)
    with pytest.raises(ShapeError, match="allow must be"):
        index.search(["w1"], 1, allow=np.ones(3, bool))
    with pytest.raises(ShapeError, match="allow must be"):
        index.search(["w1"], 1, allow=np.ones(index.documents))
    with pytest.raises(ShapeError, match="alive_documents must be"):
        LexicalIndex.open([folder], ANALYZER, alive_documents=np.ones(3, bool))
    for row in (-1, index.documents):
        with pytest.raises(UsageError, match="document row"):
            index.segment_scores("w1", row)
    with pytest.raises(UsageError, match="max_postings"):
        LexicalWriter(tmp_path / "w", ANALYZER, max_postings=0)


def test_the_writer_refuses_what_it_cannot_place(tmp_path):
    writer = LexicalWriter(tmp_path / "w", ANALYZER)
    with pytest.raises(ShapeError, match="must not fall"):
        writer.add("some words", [0, 5, 3])
    with pytest.raises(ShapeError, match="no segment"):
        writer.add("some words", [])
    writer.add("some words", np.array([0, 5]))
    assert writer.finish()["documents"] == 1  # what was refused left nothing
    with pytest.raises(UsageError, match="finished"):
        writer.add("more", [0])
    with pytest.raises(UsageError, match="finished"):
        writer.finish()


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    writer = LexicalWriter(tmp_path / "w", ANALYZER, max_postings=1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer._inverter, "spill", full)
    with pytest.raises(DiskFull, match="No room left"):
        writer.add("some words", [0])
    writer.discard()


FILES = [
    "meta.json", "terms.bin", "term_ends.npy", "ends.npy", "rows.npy", "tf.npy", "document_df.npy",
    "segment_terms.npy", "documents.npy", "document_terms.npy", "offsets.npy",
]  # fmt: skip


def test_the_folder_holds_these_files_and_no_other(folder):
    assert sorted(contents(folder)) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "four", "half", "short", "junk"])
def test_a_file_of_another_size_is_refused_at_open(folder, tmp_path, name, damage):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    path = copy / name
    data = path.read_bytes()
    keep = {"empty": 0, "four": 4, "half": len(data) // 2, "short": len(data) - 2}
    path.unlink()
    if damage != "missing":
        path.write_bytes(data[: keep[damage]] if damage in keep else data + b"junk")
    with pytest.raises(ManifestMismatch, match=name):
        LexicalIndex.open([copy], ANALYZER)


@pytest.mark.parametrize(
    ("field", "value"),
    [("format", "other"), ("version", 2), ("tf", "float64"), ("documents", -1), ("postings", "many"), ("segments", 3)],
)
def test_a_meta_file_that_says_otherwise_is_refused(folder, tmp_path, field, value):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    meta = json.loads((copy / "meta.json").read_bytes())
    (copy / "meta.json").write_text(json.dumps({**meta, field: value}))
    with pytest.raises(ManifestMismatch):
        LexicalIndex.open([copy], ANALYZER)


def test_another_analyzer_is_refused_with_both_settings(folder):
    with pytest.raises(ManifestMismatch, match=r"'stemmer': None.*'stemmer': 'english'"):
        LexicalIndex.open([folder], Analyzer(stopwords="none", stemmer="english"))


def test_a_mask_given_at_open_is_not_shared(folder):
    alive = np.ones(LexicalIndex.open([folder], ANALYZER).documents, bool)
    alive[3] = False
    index = LexicalIndex.open([folder], ANALYZER, alive_documents=alive)
    alive[:] = False
    assert index.stats.documents == len(alive) - 1
