"""Search over an opened index: spans, modes, levels, filters, and clear errors."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import unabridged as ub
from tests_support import brute_force_documents
from unabridged.encoders.hashing import HashingEncoder
from unabridged.errors import EmptyIndex, MissingFile, UsageError


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Forty documents of 1 to 12 windows."""
    rng = np.random.default_rng(3)
    vocabulary = [f"word{n}" for n in range(400)]
    items = []
    for n in range(40):
        text = " ".join(rng.choice(vocabulary, size=int(rng.integers(10, 600))))
        items.append({"_id": f"doc {n}", "text": text, "metadata": {"year": 2000 + n % 4, "tag": "ab"[n % 2]}})
    items[7]["text"] += " the secret annex was signed by Quetzalcoatl in Reykjavik"
    return ub.build_index(items, HashingEncoder(window=64), tmp_path_factory.mktemp("search") / "ix")


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
@pytest.mark.parametrize("level", ["doc", "segment", "both"])
def test_a_fact_at_the_end_of_a_document_is_found_with_its_span(index, mode, level):
    hit = index.search_one("annex signed by Quetzalcoatl in Reykjavik", k=3, mode=mode, level=level)[0]
    assert hit.doc_id == "doc 7"
    assert "Quetzalcoatl" in hit.span.text
    assert index.source("doc 7")[hit.span.start : hit.span.end] == hit.span.text


def test_dense_document_scores_equal_a_naive_loop_over_all_documents(index):
    query = "word3 word17 word99 word250"
    expected = brute_force_documents(index, query)
    got = [(hit.doc_id, hit.score) for hit in index.search_one(query, k=40, mode="dense")]
    assert [name for name, _ in got] == [name for name, _ in expected]
    np.testing.assert_allclose([s for _, s in got], [s for _, s in expected], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
@pytest.mark.parametrize("level", ["doc", "segment"])
def test_results_are_best_first_ranked_from_one_and_unique(index, mode, level):
    hits = index.search_one("word1 word2 word3", k=25, mode=mode, level=level).hits
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    assert all(a.score >= b.score for a, b in pairwise(hits))
    keys = [(hit.doc_id, hit.span.start) if level == "segment" else hit.doc_id for hit in hits]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
def test_k_beyond_the_corpus_returns_what_there_is(index, mode):
    hits = index.search_one("word1 word2", k=10_000, mode=mode).hits
    assert 0 < len(hits) <= 40


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
@pytest.mark.parametrize("level", ["doc", "segment"])
def test_filters_keep_only_matching_documents_and_all_of_them(index, mode, level):
    hits = index.search_one(
        "word1 word2 word3 word4", k=500, mode=mode, level=level, filter={"year": [2001], "tag": "b"}
    )
    found = {hit.doc_id for hit in hits}
    allowed = {f"doc {n}" for n in range(40) if n % 4 == 1 and n % 2 == 1}
    assert found <= allowed
    if mode != "bm25":
        assert found == allowed


def test_a_filter_may_be_a_function_and_may_name_the_id(index):
    hits = index.search_one("word1", k=50, mode="dense", filter={"year": lambda y: y > 2002, "id": ["doc 3", "doc 4"]})
    assert [hit.doc_id for hit in hits] == ["doc 3"]


def test_a_filter_that_nothing_matches_finds_nothing(index):
    for mode in ("dense", "bm25", "hybrid"):
        assert index.search_one("word1", filter={"year": 1900}, mode=mode).hits == ()


def test_a_batch_equals_single_searches(index):
    queries = ["word1 word9", "annex", "word300 word301"]
    batch = index.search(queries, k=7)
    for query, result in zip(queries, batch, strict=True):
        single = index.search_one(query, k=7)
        assert [(h.doc_id, h.span) for h in single] == [(h.doc_id, h.span) for h in result]
        np.testing.assert_allclose([h.score for h in single], [h.score for h in result], rtol=1e-5)


def test_threads_get_the_serial_results(index):
    queries = [f"word{n} word{n + 1} word{2 * n}" for n in range(40)]
    serial = [[(h.doc_id, h.score) for h in index.search_one(q)] for q in queries]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda q: [(h.doc_id, h.score) for h in index.search_one(q)], queries)) == serial


def test_stages_tell_where_a_hybrid_hit_came_from(index):
    hit = index.search_one("annex Quetzalcoatl")[0]
    assert hit.stages["bm25_rank"] == 1
    assert hit.stages["bm25"] > 0


def test_timings_are_given_per_stage(index):
    timings = index.search_one("word1").timings
    assert set(timings) == {"encode_ms", "dense_ms", "bm25_ms", "finish_ms", "total_ms"}


@pytest.mark.parametrize("bad", ["", "   ", "\n"])
def test_an_empty_query_is_a_usage_error_that_names_it(index, bad):
    with pytest.raises(UsageError, match="query 2 is empty"):
        index.search(["fine", bad])


@pytest.mark.parametrize("options", [{"k": 0}, {"k": -1}, {"mode": "magic"}, {"level": "chapter"}])
def test_options_that_make_no_sense_are_usage_errors(index, options):
    with pytest.raises(UsageError):
        index.search_one("word1", **options)


def test_a_string_instead_of_a_list_is_a_usage_error(index):
    with pytest.raises(UsageError, match="search_one"):
        index.search("word1")


def test_a_query_of_unknown_words_finds_nothing_by_words(index):
    assert index.search_one("xyzzy plugh", mode="bm25").hits == ()
    assert len(index.search_one("xyzzy plugh", mode="hybrid")) > 0


def test_searching_an_index_from_which_all_was_deleted_says_so(tmp_path):
    folder = tmp_path / "ix"
    ub.build_index([{"_id": "a", "text": "some words"}], HashingEncoder(), folder)
    index = ub.build_index([{"_id": "b", "text": "other words"}], HashingEncoder(), folder, delete_missing=True)
    assert [h.doc_id for h in index.search_one("words")] == ["b"]
    items = [{"_id": "c", "text": "poison"}]
    index = ub.build_index(items, HashingEncoder(fail_on="poison"), folder, delete_missing=True)
    with pytest.raises(EmptyIndex):
        index.search_one("words")


def test_opening_nothing_says_how_to_build(tmp_path):
    with pytest.raises(MissingFile, match="unabridged index"):
        ub.open_index(tmp_path / "nowhere")


def test_a_copied_index_opens_elsewhere_and_restores_its_encoder(index, tmp_path):
    moved = tmp_path / "moved to here"
    shutil.copytree(index.folder, moved)
    again = ub.open_index(moved, verify=True)
    assert again.encoder.passport.fingerprint == index.state.passport.fingerprint
    assert [h.doc_id for h in again.search_one("annex")] == [h.doc_id for h in index.search_one("annex")]


async def _ask(index):
    return await index.asearch_one("annex Quetzalcoatl", k=1)


def test_the_async_search_gives_the_same_hit(index):
    import asyncio

    assert asyncio.run(_ask(index))[0].doc_id == "doc 7"


def test_a_closed_index_maps_no_file_and_says_that_it_is_closed(tmp_path):
    folder = tmp_path / "ix"
    ub.build_index([{"_id": "a", "text": "one long text"}], HashingEncoder(), folder).close()
    with ub.open_index(folder) as opened:
        assert opened.search_one("long text")[0].doc_id == "a"
        maps = Path("/proc/self/maps")
        held = maps.read_text().count(str(folder)) if maps.exists() else 1
        assert held
    if maps.exists():
        assert maps.read_text().count(str(folder)) == 0
    with pytest.raises(UsageError, match="was closed"):
        opened.search_one("long text")
    opened.close()


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
@pytest.mark.parametrize("level", ["doc", "segment", "both"])
def test_a_ranking_alone_is_that_of_the_search_with_spans(index, mode, level):
    queries = ["annex signed by Quetzalcoatl in Reykjavik", "word1 word2 word3"]
    for k in (3, 500):
        for wanted in (None, {"tag": "b"}):
            asked = {"k": k, "mode": mode, "level": level, "filter": wanted}
            for found, ranked in zip(index.search(queries, **asked), index.rank(queries, **asked), strict=True):
                assert [hit.doc_id for hit in found] == list(ranked.doc_ids)
                assert [hit.score for hit in found] == ranked.scores.tolist()
                assert len(ranked)
                assert ranked.timings.keys() == found.timings.keys() - {"finish_ms"}
