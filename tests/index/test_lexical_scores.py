"""Scores against rank_bm25 and bm25s, whose formulas were written by others."""

import ast
import os
import random
from pathlib import Path

import numpy as np
import pytest

from unabridged.contracts import NO_HIT, Level
from unabridged.errors import UsageError
from unabridged.index.lexical import VARIANTS, Analyzer, LexicalIndex, LexicalWriter

ANALYZER = Analyzer(stopwords="none")
CONSTANTS = [(1.5, 0.75), (0.9, 0.0), (2.0, 1.0)]


def random_texts(seed, count, vocabulary, longest):
    rng = random.Random(seed)
    words = [f"w{i}" for i in range(vocabulary)]
    weights = [1 / (i + 1) for i in range(vocabulary)]
    return [" ".join(rng.choices(words, weights, k=rng.randint(1, longest))) for _ in range(count)]


def real_texts():
    texts = []
    for path in sorted(Path(os.__file__).parent.glob("*.py"))[:60]:
        texts.append(ast.get_docstring(ast.parse(path.read_text("utf-8"))) or path.stem)
    return texts


CORPORA = {
    "one": ["w1 w2 w1"],
    "pair": ["w0 w1 w1", "w0 w2"],
    "small": random_texts(1, 12, 9, 8),
    "zipf": random_texts(2, 240, 300, 40),
    "real": real_texts(),
}


def build(folder, texts, starts=None, **options):
    writer = LexicalWriter(folder, ANALYZER, **options)
    for number, text in enumerate(texts):
        writer.add(text, [0] if starts is None else starts[number])
    writer.finish()
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("scores")
    return {name: build(base / name, texts) for name, texts in CORPORA.items()}


def queries_for(texts):
    rng = random.Random(7)
    terms = sorted({term for text in texts for term in ANALYZER.analyze(text)})
    return [rng.choices(terms, k=rng.randint(1, 6)) for _ in range(8)] + [[terms[0], terms[0], terms[-1]]]


def all_scores(index, query, count):
    """Scores by row; NaN where the row is no hit."""
    hits = index.search([" ".join(query)], count + 3)
    found = np.full(count, np.nan)
    real = hits.rows[0] != NO_HIT
    assert np.isneginf(hits.scores[0][~real]).all()
    found[hits.rows[0][real]] = hits.scores[0][real]
    return found


def assert_equal_where_found(found, expected, absent):
    hit = ~np.isnan(found)
    np.testing.assert_allclose(found[hit], expected[hit], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(expected[~hit], absent, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("corpus", CORPORA)
@pytest.mark.parametrize(("k1", "b"), CONSTANTS)
@pytest.mark.parametrize(
    ("variant", "theirs"),
    [("okapi", "BM25Okapi"), ("bm25l-rank", "BM25L"), ("bm25plus-everywhere", "BM25Plus")],
)
def test_scores_equal_rank_bm25(folders, corpus, k1, b, variant, theirs):
    rank_bm25 = pytest.importorskip("rank_bm25")
    texts = CORPORA[corpus]
    oracle = getattr(rank_bm25, theirs)([ANALYZER.analyze(text) for text in texts], k1=k1, b=b)
    index = LexicalIndex.open([folders[corpus]], ANALYZER, variant=variant, k1=k1, b=b)
    for query in queries_for(texts):
        absent = sum(oracle.idf[term] * oracle.delta for term in query) if theirs == "BM25Plus" else 0.0
        assert_equal_where_found(all_scores(index, query, len(texts)), oracle.get_scores(query), absent)


@pytest.mark.parametrize("corpus", CORPORA)
@pytest.mark.parametrize(("k1", "b"), CONSTANTS)
@pytest.mark.parametrize(
    ("variant", "method", "delta"),
    [
        ("lucene", "lucene", 0.5),
        ("robertson", "robertson", 0.5),
        ("atire", "atire", 0.5),
        ("bm25l-everywhere", "bm25l", 0.5),
        ("bm25plus-everywhere", "bm25+", 1.0),
    ],
)
def test_scores_equal_bm25s(folders, corpus, k1, b, variant, method, delta):
    bm25s = pytest.importorskip("bm25s")
    texts = CORPORA[corpus]
    oracle = bm25s.BM25(method=method, k1=k1, b=b, delta=delta)
    oracle.index([ANALYZER.analyze(text) for text in texts], show_progress=False)
    index = LexicalIndex.open([folders[corpus]], ANALYZER, variant=variant, k1=k1, b=b)
    for query in queries_for(texts):
        absent = 0.0
        if oracle.nonoccurrence_array is not None:
            absent = float(sum(oracle.nonoccurrence_array[oracle.vocab_dict[term]] for term in query))
        assert_equal_where_found(all_scores(index, query, len(texts)), oracle.get_scores(query), absent)


@pytest.mark.parametrize(("paper", "libraries"), [("bm25l", "bm25l-everywhere"), ("bm25plus", "bm25plus-everywhere")])
def test_the_papers_bound_counts_only_where_the_term_occurs(folders, paper, libraries):
    texts = CORPORA["zipf"]
    published = LexicalIndex.open([folders["zipf"]], ANALYZER, variant=paper)
    everywhere = LexicalIndex.open([folders["zipf"]], ANALYZER, variant=libraries)
    one = all_scores(published, ["w3"], len(texts))
    np.testing.assert_allclose(one, all_scores(everywhere, ["w3"], len(texts)), rtol=1e-6)  # one term: no difference
    both = all_scores(published, ["w3", "w9"], len(texts))
    only = ~np.isnan(one) & np.isnan(all_scores(published, ["w9"], len(texts)))
    np.testing.assert_allclose(both[only], one[only], rtol=1e-6)
    assert only.any()


def test_one_score_by_hand(tmp_path):
    index = LexicalIndex.open([build(tmp_path / "hand", ["cat cat dog", "dog", "emu emu"])], ANALYZER)
    # N = 3, df = 1, tf = 2, length 3, average 2: log(1 + 2.5 / 1.5) * 2 / (2 + 1.5 * (0.25 + 0.75 * 1.5))
    assert index.search(["cat"], 1).scores[0, 0] == pytest.approx(np.log(1 + 2.5 / 1.5) * 2 / (2 + 1.5 * 1.375))


@pytest.mark.parametrize("variant", VARIANTS)
def test_segments_are_scored_as_a_collection_of_their_own(tmp_path, variant):
    texts = CORPORA["zipf"]
    starts = [list(range(0, len(text) + 1, 23)) for text in texts]
    parts = []
    for text, cuts in zip(texts, starts, strict=True):
        terms, begins = ANALYZER.analyze_with_starts(text)
        owner = np.searchsorted(cuts, begins, "right") - 1
        parts += [" ".join(np.array(terms, object)[owner == s]) for s in range(len(cuts))]
    long = LexicalIndex.open([build(tmp_path / "long", texts, starts)], ANALYZER, variant=variant)
    flat = LexicalIndex.open([build(tmp_path / "flat", parts)], ANALYZER, variant=variant)
    queries = [" ".join(query) for query in queries_for(texts)]
    found, expected = long.search(queries, 50, level=Level.SEGMENT), flat.search(queries, 50)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert long.stats.average_segment == flat.stats.average_document


@pytest.mark.parametrize("variant", ["lucene", "bm25plus-everywhere", "okapi"])
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("dead", [False, True], ids=["whole", "deleted"])
def test_segment_scores_are_those_of_a_segment_search(tmp_path, variant, warm, dead):
    texts = CORPORA["zipf"]
    starts = [list(range(0, len(text) + 1, 31)) for text in texts]
    folders = [
        build(tmp_path / "a", texts[:90], starts[:90]),
        build(tmp_path / "b", texts[90:], starts[90:]),
    ]
    alive = np.arange(len(texts)) % 7 != 3 if dead else None
    index = LexicalIndex.open(folders, ANALYZER, variant=variant, alive_documents=alive)
    offsets = np.cumsum([0, *map(len, starts)])
    query = "w2 w11 w40 w2 nowhere"
    hits = LexicalIndex.open(folders, ANALYZER, variant=variant, alive_documents=alive).search(
        [query], int(offsets[-1]), level=Level.SEGMENT
    )
    expected = np.zeros(offsets[-1], np.float32)
    real = hits.rows[0] != NO_HIT
    expected[hits.rows[0][real]] = hits.scores[0][real]
    if warm:
        index.search([query], 3, level=Level.SEGMENT)
    for document in range(len(texts)):
        span = slice(offsets[document], offsets[document + 1])
        np.testing.assert_array_equal(index.segment_scores(query, document), expected[span])
    assert expected.any()


@pytest.mark.parametrize(
    "options",
    [{"variant": "bm26"}, {"k1": -1.0}, {"b": 1.5}, {"k1": float("nan")}, {"delta": -0.1}, {"delta": float("inf")}],
    ids=str,
)
def test_a_formula_out_of_range_is_refused(folders, options):
    with pytest.raises(UsageError, match="BM25"):
        LexicalIndex.open([folders["small"]], ANALYZER, **options)


@pytest.mark.parametrize("variant", VARIANTS)
def test_without_saturation_scores_stay_finite(folders, variant):
    index = LexicalIndex.open([folders["zipf"]], ANALYZER, variant=variant, k1=0.0)
    hits = index.search(["w1 w2 w3"], 20)
    assert np.isfinite(hits.scores[hits.rows != NO_HIT]).all()
    # With k1 = 0 the libraries' BM25L gives every document the same score, so that none is a hit.
    assert (hits.rows != NO_HIT).any() == (variant != "bm25l-everywhere")
