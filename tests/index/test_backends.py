"""Engines against brute force: real PostgreSQL with pgvector, real Milvus Lite, no folder in between."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests_backends import ENGINES, batch, brute_force, engine_url, found_rows, layout

from unabridged.contracts import NO_HIT
from unabridged.errors import BackendMismatch, RuntimeFailure, ShapeError, UsageError, ValidationError
from unabridged.index.backends import connect
from unabridged.index.backends.conditions import Condition, conditions_of

DIM = 32


def hostile_vectors(count: int, seed: int = 0) -> np.ndarray:
    """Unit vectors with duplicates, a zero vector and one row far out."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    if count > 60:
        vectors[10:40] = vectors[10]
        vectors[50] = 0.0
        vectors[60] *= 40.0
    return vectors


@pytest.fixture(scope="module", params=ENGINES)
def engine(request):
    return request.param


@pytest.fixture
def url(engine, tmp_path):
    return engine_url(engine, tmp_path)


@pytest.fixture(scope="module")
def filled(engine, tmp_path_factory):
    """257 rows with metadata, in one shard."""
    vectors = hostile_vectors(257)
    metadata = [json.dumps(one).encode() for one in METADATA]
    ids = list(IDS)
    backend = connect(engine_url(engine, tmp_path_factory.mktemp("filled")))
    backend.create(layout(DIM, rows=257, sets=("segments", "documents")))
    backend.begin(1, 1, 257)
    parts = [(0, 100), (100, 257)]
    loaded = backend.load(
        "shard",
        [
            batch(vectors[a:b], first=a, metadata=metadata[a:b], ids=ids[a:b], documents=vectors[a:b][:, ::-1].copy())
            for a, b in parts
        ],
        "none",
    )
    backend.finish("content", 1)
    assert (loaded.documents, loaded.segments) == (257, 257)
    yield backend, vectors
    backend.close()


HOSTILE = [
    'quote"quote',
    "it's",
    "back\\slash",
    "x' OR '1'='1",
    'x" or 1==1 or "',
    "'); DROP TABLE users; --",
    "naïve é 漢字 🙂",
    "i" * 1000,
    "per%scent {brace}",
]
IDS = [HOSTILE[n] if n < len(HOSTILE) else f"d{n}" for n in range(257)]


def _metadata(n: int) -> dict[str, object]:
    value: dict[str, object] = {"n": n, "half": n % 2 == 0, "tags": ["a", f"t{n % 5}"], "word": HOSTILE[n % 9]}
    if n % 3 == 0:
        value["some"] = None if n % 2 else "x"
    if n % 7 == 0:
        value["od\"d'f\\ield"] = n
    value["mixed"] = [n % 2, str(n % 2), bool(n % 2), n / 2][n % 4]
    return value


METADATA = [_metadata(n) for n in range(257)]


def matches(condition: Condition, n: int) -> bool:
    """The filter's own rule, written again."""
    held = IDS[n] if condition.field == "id" else METADATA[n].get(condition.field)
    values = list(condition.values)
    return held in values or (isinstance(held, list) and any(one in values for one in held))


@pytest.mark.parametrize("k", [1, 7, 64, 257, 1000])
def test_rows_and_scores_are_those_of_brute_force_and_ties_come_by_row(filled, k):
    backend, vectors = filled
    queries = hostile_vectors(257, seed=0)[[3, 10, 60]]
    found = backend.search("segments", queries, k)
    assert found.hits.rows.shape == (3, k)
    assert found.applied.returned == 3 * min(k, 257)
    for at, query in enumerate(queries):
        rows, scores = brute_force(vectors, query, k)
        got = found_rows(found.hits.rows[at])
        away = found.hits.scores[at][: len(got)] - vectors[got] @ query
        norm = float(np.linalg.norm(query))
        assert (np.abs(away) <= 1e-3 * norm * np.linalg.norm(vectors[got], axis=1) + 1e-6).all()
        np.testing.assert_allclose(found.hits.scores[at][: min(k, 200)], scores[:200], rtol=1e-3, atol=1e-3 * norm)
        if k == 257 and backend.name == "milvus-lite":
            assert got[:20] == rows.tolist()[:20]
        assert set(got) == set(rows.tolist()) or k in (1, 7, 64)  # at the cut of a tie any of the equals will do
        assert (found.hits.scores[at][len(rows) :] == -np.inf).all()
        assert (found.hits.rows[at][len(rows) :] == NO_HIT).all()
        falling = found.hits.scores[at][: len(rows)]
        assert (np.diff(falling) <= 0).all()
        ties = np.flatnonzero(np.diff(falling) == 0)
        assert all(found.hits.rows[at][one] < found.hits.rows[at][one + 1] for one in ties)


def test_a_vector_of_zeros_is_a_row_like_any_other(filled):
    backend, vectors = filled
    found = backend.search("segments", vectors[:1], 257)
    assert 50 in found_rows(found.hits.rows[0])
    place = found_rows(found.hits.rows[0]).index(50)
    assert found.hits.scores[0, place] == 0.0


def test_both_sets_of_vectors_are_searched_apart(filled):
    backend, vectors = filled
    query = vectors[70][::-1].copy()
    assert found_rows(backend.search("documents", query[None], 1).hits.rows[0]) == [60]
    rows, _ = brute_force(np.ascontiguousarray(vectors[:, ::-1]), query, 5)
    assert found_rows(backend.search("documents", query[None], 5).hits.rows[0]) == rows.tolist()


CONDITIONS = [
    Condition("n", (5,)),
    Condition("n", (5, 6.0, 7)),
    Condition("n", (4000,)),
    Condition("half", (True,)),
    *conditions_of({"half": 1})[0],
    Condition("tags", ("t3",)),
    *(Condition("word", (one,)) for one in HOSTILE),
    *(Condition("id", (one,)) for one in HOSTILE),
    Condition("id", ("d20", "d21", "nobody")),
    *conditions_of({"mixed": [1]})[0],
    *conditions_of({"mixed": "1"})[0],
    Condition("absent", ("x",)),
    Condition("n", ()),
    Condition("some", ("x",)),
]


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda one: f"{one.field}={str(one.values)[:20]}")
def test_a_filter_finds_exactly_the_matching_rows_whatever_its_text(filled, condition):
    backend, vectors = filled
    allowed = np.array([matches(condition, n) for n in range(257)])
    if not backend.accepts(condition):
        pytest.fail(f"{condition} is not accepted")
    assert backend.count("segments", [condition]) == allowed.sum()
    found = backend.search("segments", vectors[:2], 257, [condition])
    for at in range(2):
        rows, _ = brute_force(vectors, vectors[at], 257, allowed)
        assert sorted(found_rows(found.hits.rows[at])) == sorted(rows.tolist())


def test_conditions_that_say_nothing_or_name_odd_fields_are_exact_or_refused(filled):
    backend, vectors = filled
    for condition in (
        Condition("some", (None,)),
        Condition("od\"d'f\\ield", (14,)),
        Condition("word", ("a\nb",)),
        Condition("n", (-1,)),
        Condition("n", (1e-05, 3)),
    ):
        if backend.accepts(condition):
            allowed = sum(matches(condition, n) for n in range(257))
            assert backend.count("segments", [condition]) == allowed
        else:
            with pytest.raises(UsageError, match="cannot filter"):
                backend.search("segments", vectors[:1], 3, [condition])


def test_two_conditions_must_both_hold(filled):
    backend, vectors = filled
    both = [Condition("half", (True,)), Condition("tags", ("t0",))]
    found = backend.search("segments", vectors[:1], 257, both)
    assert sorted(found_rows(found.hits.rows[0])) == [n for n in range(257) if n % 2 == 0 and n % 5 == 0]


def test_rows_are_fetched_by_key_and_by_document_with_ids_as_they_were(filled):
    backend, vectors = filled
    keys = backend.search("segments", vectors[:1], 257).hits.rows[0].tolist()
    rows = backend.fetch("segments", "document", keys, vectors=True)
    assert [row.doc_id for row in rows] == IDS
    assert [row.metadata for row in rows] == METADATA
    np.testing.assert_allclose(np.array([row.vector for row in rows]), vectors, rtol=1e-3, atol=1e-3)
    assert (rows[3].start, rows[3].end, rows[3].text) == (0, 5, None)
    [one] = backend.fetch("segments", "key", [sorted(keys)[7]])
    assert (one.doc_id, one.vector) == (IDS[7], None)


@pytest.mark.parametrize(
    ("queries", "k", "error"),
    [
        (np.zeros((1, DIM + 1), np.float32), 3, ShapeError),
        (np.zeros(DIM, np.float32), 3, ShapeError),
        (np.full((1, DIM), np.nan, np.float32), 3, ShapeError),
        (np.full((1, DIM), np.inf, np.float32), 3, ShapeError),
        (np.zeros((1, DIM), np.float32), 0, UsageError),
        (np.zeros((1, DIM), np.float32), 16_385, UsageError),
    ],
)
def test_bad_queries_are_typed_errors(filled, queries, k, error):
    with pytest.raises(error):
        filled[0].search("segments", queries, k)


def test_threads_get_what_a_single_one_gets(filled):
    backend, vectors = filled
    alone = [backend.search("segments", vectors[at : at + 1], 9).hits.rows.tolist() for at in range(12)]
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(
            lambda at: backend.search("segments", vectors[at : at + 1], 9).hits.rows.tolist(), range(12)
        )
    assert list(together) == alone


@pytest.mark.parametrize("count", [0, 1, 2, 63])
def test_small_collections_answer_with_what_they_have(url, count):
    vectors = hostile_vectors(count, seed=5)
    backend = connect(url)
    try:
        backend.create(layout(DIM, rows=count))
        backend.begin(1, 1, count)
        backend.load("shard", [batch(vectors)] if count else [], "none")
        backend.finish("content", 1)
        query = hostile_vectors(1, seed=6)
        found = backend.search("segments", query, 10)
        rows, _ = brute_force(vectors, query[0], 10)
        assert found_rows(found.hits.rows[0]) == rows.tolist()
        assert backend.count("segments") == count
    finally:
        backend.close()


def test_loading_removing_unloading_and_reopening(url):
    vectors = hostile_vectors(120, seed=7)
    backend = connect(url)
    backend.create(layout(DIM, rows=120))
    assert backend.recorded().content == ""
    backend.begin(3, 2, 120)
    first = backend.load("a", [batch(vectors[:60])], "none")
    second = backend.load("b", [batch(vectors[60:])], "none")
    assert first.number != second.number
    again = backend.load("b", [batch(vectors[60:])], "none")  # in place of what was there
    assert again.segments == 60
    assert backend.count("segments") == 120
    after = backend.remove("a", np.array([1, 2]), np.array([1, 2]), "two dead")
    assert (after.segments, after.dead) == (58, "two dead")
    backend.finish("content", 3)
    backend.close()

    backend = connect(url)
    try:
        recorded = backend.recorded()
        assert (recorded.content, recorded.generation, sorted(recorded.shards)) == ("content", 3, ["a", "b"])
        assert recorded.shards["a"].dead == "two dead"
        found = backend.search("segments", vectors[1:3], 120).hits.rows
        assert not {1, 2} & {int(key) & 0xFFFFFFFF for key in found.ravel() if key >> 32 == first.number}
        assert backend.count("segments") == 118
        backend.unload("a")
        assert backend.count("segments") == 60
        assert list(backend.recorded().shards) == ["b"]
        backend.drop()
        assert backend.recorded() is None
    finally:
        backend.close()


def test_a_collection_that_is_not_ours_is_left_alone(url, engine):
    backend = connect(url)
    try:
        if engine == "pgvector":
            backend._tables.connection.execute(f"CREATE TABLE {backend.address.collection}_segments (mine int)")
        else:
            backend._client.create_collection(f"{backend.address.collection}_segments", dimension=4)
        with pytest.raises(BackendMismatch, match="name another"):
            backend.recorded()
    finally:
        backend.close()


def test_a_collection_of_another_format_is_refused(url):
    backend = connect(url)
    try:
        backend.create(layout(DIM))
        getattr(backend, "_tables", backend).save({"format": "unabridged-backend", "version": 99})
        with pytest.raises(BackendMismatch, match="not made by this release"):
            backend.recorded()
    finally:
        backend.close()


def test_an_index_that_does_not_exist_cannot_be_searched(url):
    backend = connect(url)
    try:
        with pytest.raises(BackendMismatch, match="no collection"):
            backend.search("segments", np.zeros((1, DIM), np.float32), 3)
    finally:
        backend.close()


def test_widths_that_an_engine_cannot_hold_are_refused_before_anything_is_made(url):
    backend = connect(url)
    try:
        with pytest.raises(UsageError, match=r"wide|width"):
            backend.create(layout(40_000))
        assert backend.recorded() is None
    finally:
        backend.close()


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """4,000 clustered vectors behind a graph; one row in fifty is rare."""
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((40, DIM))[rng.integers(0, 40, 4000)] + 0.4 * rng.standard_normal((4000, DIM))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    metadata = [json.dumps({"rare": n % 50 == 0, "half": n % 2}).encode() for n in range(4000)]
    backend = connect(engine_url("pgvector", tmp_path_factory.mktemp("graph"), options="index=hnsw"))
    backend.create(layout(DIM, rows=4000))
    backend.begin(1, 1, 4000)
    backend.load("shard", [batch(vectors, metadata=metadata)], "none")
    backend.finish("content", 1)
    yield backend, vectors
    backend.close()


class TestPgvector:
    """What only a real index shows."""

    def recall(self, found, vectors, queries, k, allowed=None) -> float:
        shares = []
        for at, query in enumerate(queries):
            rows, _ = brute_force(vectors, query, k, allowed)
            shares.append(len(set(found_rows(found.hits.rows[at])) & set(rows.tolist())) / len(rows))
        return float(np.mean(shares))

    def test_the_graph_answers_and_says_so(self, graph):
        backend, vectors = graph
        found = backend.search("segments", vectors[:50], 10)
        assert found.applied.index == "hnsw"
        assert not found.applied.exact
        assert found.applied.settings["hnsw.ef_search"] == 128
        assert self.recall(found, vectors, vectors[:50], 10) >= 0.95
        assert backend.structure("segments")["index"] == "hnsw"

    @pytest.mark.parametrize("k", [100, 1500])
    def test_more_rows_than_candidates_in_sight_come_back_whole(self, graph, k):
        backend, vectors = graph
        found = backend.search("segments", vectors[:3], k)
        assert found.applied.returned == 3 * k
        assert self.recall(found, vectors, vectors[:3], k) >= 0.9

    def test_few_matching_rows_are_scanned_exactly(self, graph):
        backend, vectors = graph
        allowed = np.arange(4000) % 50 == 0
        found = backend.search("segments", vectors[:20], 10, [Condition("rare", (True,))])
        assert found.applied.exact
        assert "scanned exactly" in found.applied.reason
        assert self.recall(found, vectors, vectors[:20], 10, allowed) >= 0.99

    def test_many_matching_rows_go_through_the_graph_until_enough_are_found(self, graph, monkeypatch):
        monkeypatch.setattr("unabridged.index.backends.pgvector.FEW_MATCHES", 10)
        backend, vectors = graph
        for condition, allowed, least in (
            (Condition("half", (1,)), np.arange(4000) % 2 == 1, 0.9),
            (Condition("rare", (True,)), np.arange(4000) % 50 == 0, 0.7),
        ):
            found = backend.search("segments", vectors[:20], 10, [condition])
            assert found.applied.index == "hnsw"
            assert found.applied.returned == 200
            assert self.recall(found, vectors, vectors[:20], 10, allowed) >= least

    def test_lines_that_the_index_leaves_short_are_scanned_exactly(self, graph, monkeypatch):
        monkeypatch.setattr("unabridged.index.backends.pgvector.FEW_MATCHES", 10)
        monkeypatch.setattr("unabridged.index.backends.pgvector.TUPLES", 1)
        backend, vectors = graph
        found = backend.search("segments", vectors[:4], 60, [Condition("rare", (True,))])
        assert found.applied.returned == 4 * 60
        assert "short lines" in found.applied.reason

    def test_settings_end_with_their_search(self, graph):
        backend, vectors = graph
        backend.search("segments", vectors[:1], 10)
        shown = backend._tables.connection.execute("SHOW hnsw.ef_search").fetchone()[0]
        assert shown == "40"
        assert backend._tables.connection.execute("SHOW enable_sort").fetchone()[0] == "on"

    def test_what_half_precision_cannot_hold_is_refused_and_nothing_of_the_shard_stays(self, tmp_path):
        backend = connect(engine_url("pgvector", tmp_path))
        try:
            backend.create(layout(DIM))
            vectors = hostile_vectors(5)
            vectors[4, 0] = 1e5
            with pytest.raises(ShapeError, match="65,504"):
                backend.load("shard", [batch(vectors[:2]), batch(vectors[2:], first=2)], "none")
            assert backend.count("segments") == 0
            assert not backend.recorded().shards
        finally:
            backend.close()

    def test_texts_with_nul_are_held_with_a_sign_for_it(self, tmp_path):
        backend = connect(engine_url("pgvector", tmp_path))
        try:
            backend.create(layout(DIM))
            metadata = [json.dumps({"a\0b": ["c\0d"]}).encode()]
            backend.load("shard", [batch(hostile_vectors(1), ids=["e\0f"], metadata=metadata)], "none")
            [row] = backend.fetch("segments", "key", [(1 << 32)])
            assert (row.doc_id, row.metadata) == ("e\u2400f", {"a\u2400b": ["c\u2400d"]})
        finally:
            backend.close()

    def test_a_refused_statement_is_a_typed_error(self, graph):
        backend, _ = graph
        with pytest.raises(RuntimeFailure, match="refuses"):
            backend.search("documents; DROP TABLE x", np.zeros((1, DIM), np.float32), 3)


def test_milvus_refuses_ids_and_metadata_that_it_cannot_hold(tmp_path):
    backend = connect(engine_url("milvus-lite", tmp_path))
    try:
        backend.create(layout(DIM))
        for part in ({"ids": ["i" * 70_000]}, {"metadata": [json.dumps({"x": "y" * 70_000}).encode()]}):
            with pytest.raises(ValidationError, match="Milvus holds"):
                backend.load("shard", [batch(hostile_vectors(1), **part)], "none")
    finally:
        backend.close()


def test_milvus_lite_says_what_it_did_in_place_of_what_was_asked(tmp_path):
    backend = connect(engine_url("milvus-lite", tmp_path, options="index=hnsw"))
    try:
        backend.create(layout(DIM, rows=5))
        backend.load("shard", [batch(hostile_vectors(5))], "none")
        backend.finish("content", 1)
        applied = backend.search("segments", hostile_vectors(1), 3).applied
        assert (applied.index, applied.exact) == ("FLAT", True)
        assert "HNSW" in applied.reason
        assert backend.stand_in
    finally:
        backend.close()
