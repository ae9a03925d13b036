"""Vector sets on a stand-in for GPUs: results equal the CPU's, and what cannot be done there is done here and told.

The oracle is the same index on the CPU.  The stand-in refuses what a GPU refuses; see ``tests_gpu``.
"""

from __future__ import annotations

import gc
import json
import threading
from pathlib import Path

import faiss
import numpy as np
import pytest
from tests_gpu import FakeGpus, install

from unabridged.errors import RuntimeFailure, ShapeError
from unabridged.index.dense import DenseIndex, ExactVectors, FaissBase, build_base
from unabridged.index.dense.gpu import flat, noted, placed, training
from unabridged.index.dense.gpu.devices import held
from unabridged.index.dense.gpu.sizes import GIB
from unabridged.index.recipe import choose_recipe

N, D = 3_000, 16


def rows(count: int = N, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    x = random.standard_normal((30, D))[random.integers(0, 30, count)] + 0.5 * random.standard_normal((count, D))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


QUERIES = rows(20, 1)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> FakeGpus:
    return install(monkeypatch, FakeGpus(40 * GIB, 40 * GIB))


def exact_index(*, metric: str = "ip", dtype: type = np.float32) -> DenseIndex:
    x = rows().astype(dtype)
    return DenseIndex(None, ExactVectors([x[:1_000], x[1_000:1_001], x[1_001:]], metric))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for inverted files, each built once on the CPU."""
    return tmp_path_factory.mktemp("files")


def lists_index(files: Path, factory: str, metric: str = "ip") -> DenseIndex:
    x = rows()
    folder = files / f"{factory}-{metric}"
    if not folder.is_dir():
        folder.mkdir()
        recipe = choose_recipe(factory, n=N, dim=D, ram_bytes=1 << 40, disk_bytes=1 << 40)
        facts = build_base(lambda: iter([x]), N, D, recipe, folder, metric=metric)
        (folder / "facts.json").write_text(json.dumps(facts))
    facts = json.loads((folder / "facts.json").read_text())
    return DenseIndex(FaissBase.open(folder, facts), ExactVectors([x], metric))


def assert_same(found, expected) -> None:
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)


DEVICES = ["cuda:0", "cuda:1+float16", "cuda:0,1", "cuda:0,1+shard", "cuda+shard+float16"]
KINDS = ["IVF16,Flat", "IVF16_HNSW8,SQfp16", "IVF16,SQ8", "IVF16,PQ4np", "OPQ4,IVF16,PQ4np"]


# Flat


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_flat_vectors_give_the_rows_and_the_very_scores_of_the_exact_scan(gpus, device: str, metric: str) -> None:
    plain = exact_index(metric=metric)
    moved = placed(plain, device)
    assert moved.placement.on_gpu
    for k in (1, 10, 700):
        assert_same(moved.search(QUERIES, k), plain.search(QUERIES, k))
    assert moved.base.trail.reasons == {}
    assert {call[0] for call in gpus.calls} == {"resources", "flat", "add", "search"}


def test_rows_are_copied_once_in_blocks_and_each_part_is_one_index(gpus, monkeypatch) -> None:
    monkeypatch.setattr(flat, "BLOCK_ROWS", 500)
    monkeypatch.setattr(flat, "part_bytes", lambda need, free: 1_000 * D * 4)
    plain = exact_index()
    moved = placed(plain, "cuda:0")
    assert len(gpus.said("flat")) == 3
    assert sum(call[2] for call in gpus.said("add")) == N
    assert max(call[2] for call in gpus.said("add")) <= 500
    assert_same(moved.search(QUERIES, 25), plain.search(QUERIES, 25))


def test_a_part_with_fewer_rows_than_hits_is_no_error(gpus, monkeypatch) -> None:
    monkeypatch.setattr(flat, "part_bytes", lambda need, free: 8 * D * 4)
    x = rows(40)
    plain = DenseIndex(None, ExactVectors([x]))
    assert_same(placed(plain, "cuda:0").search(QUERIES, 30), plain.search(QUERIES, 30))


def test_shards_take_parts_of_the_rows_and_replicas_take_all(gpus) -> None:
    placed(exact_index(), "cuda:0,1+shard")
    first = {n: sum(call[2] for call in gpus.said("add") if call[1] == n) for n in (0, 1)}
    gpus.calls.clear()
    both = placed(exact_index(), "cuda:0,1")
    assert first == {0: N // 2, 1: N // 2}
    assert {n: sum(call[2] for call in gpus.said("add") if call[1] == n) for n in (0, 1)} == {0: N, 1: N}
    gpus.calls.clear()
    many = rows(300, 3)
    assert_same(both.search(many, 5), exact_index().search(many, 5))
    assert sorted(call[1:3] for call in gpus.said("search")) == [((0,), 150), ((1,), 150)]
    gpus.calls.clear()
    for _ in range(4):
        both.search(QUERIES[:1], 5)
    assert sorted(call[1] for call in gpus.said("search")) == [(0,), (0,), (1,), (1,)]


def test_stored_float16_is_held_as_it_is(gpus) -> None:
    plain = exact_index(dtype=np.float16)
    moved = placed(plain, "cuda")
    assert moved.placement.float16
    assert_same(moved.search(QUERIES, 10), plain.search(QUERIES, 10))


@pytest.mark.parametrize("device", ["cuda:0", "cuda:0+float16"])
def test_of_equal_scores_at_the_cut_the_lowest_rows_stay(gpus, device: str) -> None:
    x = rows()
    x[100:130] = x[7]  # fewer than are asked for beyond the cut
    x[200:500] = x[8]  # more
    plain = DenseIndex(None, ExactVectors([x]))
    moved = placed(plain, device)
    for k in (5, 20, 40, 310):
        assert_same(moved.search(x[[7, 8, 9]], k), plain.search(x[[7, 8, 9]], k))
    assert "more equal scores at the cut than a GPU index shows: searched on the CPU" in moved.base.trail.reasons


def test_more_hits_than_a_gpu_gives_come_from_the_cpu_and_are_told(gpus) -> None:
    plain = exact_index()
    moved = placed(plain, "cuda:0", name="segments")
    with noted() as notes:
        assert_same(moved.search(QUERIES, 2_500), plain.search(QUERIES, 2_500))
    assert len(notes) == 1
    assert "segments: 2,532 hits per query are more than the 2,048 of a GPU index" in notes[0]
    with noted() as notes:
        moved.search(QUERIES, 2_000)
    assert notes == []
    assert max(call[3] for call in gpus.said("search")) <= 2_048


@pytest.mark.parametrize("share", [0.9, 0.5, 0.2, 0.03, 0.01])
def test_filters_give_what_the_cpu_gives(gpus, share: float) -> None:
    allow = np.random.default_rng(2).random(N) < share
    plain = exact_index()
    moved = placed(plain, "cuda:0+float16")
    for k in (1, 10, 100):
        assert_same(moved.search(QUERIES, k, allow), plain.search(QUERIES, k, allow))


def test_a_filter_that_excludes_the_nearest_rows_is_answered_on_the_cpu_and_told(gpus) -> None:
    x = rows()
    allow = (x @ x[0]) < 0.1
    plain = DenseIndex(None, ExactVectors([x]))
    moved = placed(plain, "cuda:0")
    with noted() as notes:
        assert_same(moved.search(x[:1], 10, allow), plain.search(x[:1], 10, allow))
    assert notes == ["vectors: what the filter allows was not among the nearest rows: searched on the CPU"]


def test_few_allowed_rows_are_scanned_on_the_cpu_and_that_is_told(gpus) -> None:
    allow = np.zeros(N, bool)
    allow[::200] = True
    moved = placed(exact_index(), "cuda:0")
    with noted() as notes:
        assert_same(moved.search(QUERIES, 10, allow), exact_index().search(QUERIES, 10, allow))
    assert notes == ["vectors: so few rows are allowed that these alone were scanned, on the CPU"]
    assert gpus.said("search") == []


def test_a_full_gpu_gets_fewer_queries_and_then_none(gpus) -> None:
    plain = exact_index()
    moved = placed(plain, "cuda:0")
    gpus.most = 3
    with noted() as notes:
        assert_same(moved.search(QUERIES, 10), plain.search(QUERIES, 10))
    assert [call[2] for call in gpus.said("search")] == [20, 10, 5, *[2] * 10]
    assert notes == []
    gpus.most = 0
    with noted() as notes:
        assert_same(moved.search(QUERIES, 10), plain.search(QUERIES, 10))
    assert notes == ["vectors: the memory of the GPU was full for a single query: searched on the CPU"]


def test_another_failure_of_the_gpu_is_never_hidden(gpus) -> None:
    moved = placed(exact_index(), "cuda:0")
    gpus.broken = "CUDA error 700 an illegal memory access was encountered"
    with pytest.raises(RuntimeError, match="illegal memory access"):
        moved.search(QUERIES, 10)


@pytest.mark.parametrize(("room", "kind", "float16"), [(150_000, "flat", True), (1_000, "cpu", False)])
def test_vectors_that_do_not_fit_go_to_the_next_place(gpus, room: int, kind: str, float16: bool) -> None:
    gpus.room = room
    moved = placed(exact_index(), "cuda:0")
    assert (moved.placement.kind, moved.placement.float16) == (kind, float16)
    assert kind == "flat" or "out of memory" in moved.placement.reason
    assert_same(moved.search(QUERIES, 10), exact_index().search(QUERIES, 10))


def test_values_beyond_float16_are_held_as_float32_or_not_at_all(gpus) -> None:
    x = rows()
    x[5] *= 1e6
    plain = DenseIndex(None, ExactVectors([x]))
    forced = placed(plain, "cuda:0+float16")
    assert not forced.placement.on_gpu
    assert "largest float16" in forced.placement.reason
    assert placed(DenseIndex(None, ExactVectors([x])), "cuda:0").placement.kind == "flat"
    moved = placed(exact_index(), "cuda:0+float16")
    with noted() as notes:
        moved.search(QUERIES * np.float32(1e6), 5)
    assert "a query holds values beyond" in notes[0]


def test_bad_queries_are_refused_as_on_the_cpu(gpus) -> None:
    moved = placed(exact_index(), "cuda:0")
    poisoned = QUERIES.copy()
    poisoned[3, 2] = np.nan
    with pytest.raises(ShapeError, match="query 3 holds NaN"):
        moved.search(poisoned, 5)
    assert moved.search(QUERIES[:0], 5).rows.shape == (0, 5)


# Lists


@pytest.mark.parametrize("device", ["cuda:0", "cuda:0,1", "cuda:0,1+shard"])
@pytest.mark.parametrize("factory", KINDS)
def test_lists_give_the_hits_of_the_cpu(gpus, files: Path, factory: str, device: str) -> None:
    plain = lists_index(files, factory)
    moved = placed(lists_index(files, factory), device)
    assert moved.placement.kind.startswith("ivf")
    everywhere = {"nprobe": 16}
    for k in (1, 10, 200):
        assert_same(moved.search(QUERIES, k, params=everywhere), plain.search(QUERIES, k, params=everywhere))
    assert moved.base.trail.reasons == {}


def test_search_settings_hold_for_their_call_and_candidates_are_scored_with_the_stored_vectors(gpus, files) -> None:
    plain = lists_index(files, "IVF16,PQ4np,Refine(SQ8)")
    moved = placed(lists_index(files, "IVF16,PQ4np,Refine(SQ8)"), "cuda:0")
    hits = moved.search(QUERIES, 5, params={"nprobe": 7, "k_factor": 6})
    assert gpus.said("search")[-1][2:] == (20, 30, 7)
    moved.search(QUERIES, 5, params={"nprobe": 2})
    assert gpus.said("search")[-1][4] == 2
    for query, line, scores in zip(QUERIES, hits.rows, hits.scores, strict=True):
        np.testing.assert_array_equal(plain.score(query, line), scores)


def test_graphs_over_centres_are_put_back_after_the_copy(gpus, files: Path) -> None:
    index = lists_index(files, "IVF16_HNSW8,SQ8")
    before = index.search(QUERIES, 10)
    placed(index, "cuda:0")
    ivf = faiss.extract_index_ivf(index.base._index)
    assert isinstance(faiss.downcast_index(ivf.quantizer), faiss.IndexHNSW)
    assert_same(index.search(QUERIES, 10), before)


def test_filters_on_lists_give_what_the_cpu_gives(gpus, files: Path) -> None:
    plain, moved = lists_index(files, "IVF16,Flat"), placed(lists_index(files, "IVF16,Flat"), "cuda:0")
    for share in (0.8, 0.3, 0.03):
        allow = np.random.default_rng(4).random(N) < share
        params = {"nprobe": 16}
        assert_same(moved.search(QUERIES, 10, allow, params=params), plain.search(QUERIES, 10, allow, params=params))
    far = (rows() @ QUERIES[0]) < 0.1
    with noted() as notes:
        found = moved.search(QUERIES[:1], 10, far, params={"nprobe": 16})
    assert_same(found, plain.search(QUERIES[:1], 10, far, params={"nprobe": 16}))
    assert any("not among the nearest rows" in note for note in notes)


@pytest.mark.parametrize("factory", ["HNSW8", "IVF16,RaBitQ", "IVF16,PQ4x4fs", "IVF16,SQbf16"])
def test_kinds_that_gpus_do_not_have_stay_on_the_cpu_with_the_reason(gpus, files: Path, factory: str) -> None:
    index = lists_index(files, factory)
    moved = placed(index, "cuda:0")
    assert moved is index
    assert not moved.placement.on_gpu
    assert moved.placement.reason
    assert gpus.calls == []


def test_codes_without_lists_are_replaced_by_the_stored_vectors(gpus, files: Path) -> None:
    moved = placed(lists_index(files, "SQ4"), "cuda:0")
    assert moved.placement.kind == "flat"
    assert_same(moved.search(QUERIES, 10), exact_index().search(QUERIES, 10))


def test_too_many_lists_for_a_gpu_are_visited_on_the_cpu_and_told(gpus, files: Path, monkeypatch) -> None:
    plain, moved = lists_index(files, "IVF16,Flat"), placed(lists_index(files, "IVF16,Flat"), "cuda:0")
    monkeypatch.setattr("unabridged.index.dense.gpu.kinds.CLASSIC_LIMIT", 12)
    with noted() as notes:
        assert_same(moved.search(QUERIES, 5, params={"nprobe": 13}), plain.search(QUERIES, 5, params={"nprobe": 13}))
    assert ["13 lists visited are more than the 12" in note for note in notes] == [True]


def test_a_gpu_that_fails_while_copying_is_an_error_where_it_was_asked_for_and_none_for_auto(
    gpus, files: Path, monkeypatch
) -> None:
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", lambda *_: (_ for _ in ()).throw(RuntimeError("no kernel image")))
    with pytest.raises(RuntimeFailure, match="no kernel image"):
        placed(lists_index(files, "IVF16,Flat"), "cuda:0")
    for module in ("opening", "placement"):
        monkeypatch.setattr(f"unabridged.index.dense.gpu.{module}.SMALL_FLOATS", 10)
    silent = placed(lists_index(files, "IVF16,Flat"), "auto")
    assert not silent.placement.on_gpu
    assert "no kernel image" in silent.placement.reason


# Threads and memory


def test_a_gpu_is_used_by_one_thread_at_a_time(gpus, files: Path) -> None:
    first, second = placed(exact_index(), "cuda:0"), placed(lists_index(files, "IVF16,Flat"), "cuda:0")
    expected = [index.search(QUERIES, 10) for index in (first, second)]
    failures: list[AssertionError] = []

    def work(index: DenseIndex, hits) -> None:
        try:
            for _ in range(20):
                assert_same(index.search(QUERIES, 10), hits)
        except AssertionError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in zip((first, second) * 3, expected * 3, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert gpus.overlaps == 0


def test_memory_of_a_gpu_is_taken_once_and_given_back_with_the_last_index(gpus) -> None:
    gc.collect()
    first = placed(exact_index(), "cuda:0")
    second = placed(exact_index(), "cuda:0")
    assert len(gpus.said("resources")) == 1
    assert held() == [0]
    del first, second
    gc.collect()
    assert held() == []


# Building


@pytest.mark.parametrize("factory", KINDS)
def test_a_build_with_a_gpu_adds_there_and_writes_the_file_of_the_cpu(
    gpus, tmp_path: Path, monkeypatch, factory
) -> None:
    monkeypatch.setattr(training, "PIECE_BYTES", 4_000)
    monkeypatch.setattr("unabridged.index.dense.build.CHUNK_ROWS", 500)
    monkeypatch.setattr("unabridged.index.dense.build.piece_bytes", lambda codes: 2_000)
    x = rows()
    recipe = choose_recipe(factory, n=N, dim=D, ram_bytes=1 << 40, disk_bytes=1 << 40)
    found = {}
    for device in ("cpu", "cuda:1"):
        folder = tmp_path / device.replace(":", "")
        folder.mkdir()
        found[device] = build_base(lambda: iter([x]), N, D, recipe, folder, device=device)
        assert [path.name for path in folder.iterdir()] == ["base.faiss"]
        assert faiss.read_index(str(folder / "base.faiss")).ntotal == N
    assert found["cuda:1"].pop("built_on") == "cuda:1"
    assert found["cuda:1"] == found["cpu"]
    assert sum(call[2] for call in gpus.said("add_with_ids")) == N
    assert len(gpus.said("to_cpu")) > 1
    assert ("OPQ" in factory) or ("flat", 1, False) in gpus.calls
    if "HNSW" not in factory and "OPQ" not in factory:  # lists through a graph are approximate on the CPU
        assert (tmp_path / "cpu/base.faiss").read_bytes() == (tmp_path / "cuda1/base.faiss").read_bytes()


def test_a_build_that_a_gpu_cannot_hold_runs_on_the_cpu_and_the_facts_say_so(gpus, tmp_path: Path) -> None:
    x = rows()
    recipe = choose_recipe("IVF16,SQ8", n=N, dim=D, ram_bytes=1 << 40, disk_bytes=1 << 40)
    gpus.room = 20_000
    facts = build_base(lambda: iter([x]), N, D, recipe, tmp_path, device="cuda:0")
    assert facts["built_on"] == "cpu"
    assert "out of memory" in facts["built_on_reason"]
    assert [path.name for path in tmp_path.iterdir()] == ["base.faiss"]
    plain = tmp_path / "plain"
    plain.mkdir()
    build_base(lambda: iter([x]), N, D, recipe, plain)
    assert (plain / "base.faiss").read_bytes() == (tmp_path / "base.faiss").read_bytes()


@pytest.mark.parametrize(("factory", "words"), [("HNSW8", "HNSW graphs"), ("SQ8", "no lists")])
def test_a_build_that_a_gpu_cannot_help_says_so_and_auto_says_nothing_about_small_ones(
    gpus, tmp_path: Path, factory: str, words: str
) -> None:
    x = rows()
    recipe = choose_recipe(factory, n=N, dim=D, ram_bytes=1 << 40, disk_bytes=1 << 40)
    facts = build_base(lambda: iter([x]), N, D, recipe, tmp_path, device="cuda")
    assert words in facts["built_on_reason"]
    small = build_base(lambda: iter([x]), N, D, recipe, tmp_path, device="auto")
    assert "built_on" not in small


# Graphs


def test_with_cuvs_a_graph_is_built_on_a_gpu_kept_as_the_cpu_s_and_searched_on_either(gpus, tmp_path: Path) -> None:
    x = rows()
    recipe = choose_recipe("HNSW16", n=N, dim=D, ram_bytes=1 << 40, disk_bytes=1 << 40)
    gpus.cuvs = True
    facts = build_base(lambda: iter([x[:1_000], x[1_000:]]), N, D, recipe, tmp_path, device="cuda:1")
    assert (facts["built_on"], facts["graph"]) == ("cuda:1", "cagra")
    assert gpus.said("cagra") == [("cagra", 1, 32)]

    def opened() -> DenseIndex:
        return DenseIndex(FaissBase.open(tmp_path, facts), ExactVectors([x]))

    assert opened().measure_recall(QUERIES, 10, params={"efSearch": 200}) > 0.9
    moved = placed(opened(), "cuda:0", graph=facts["graph"])
    assert moved.placement.kind == "cagra"
    assert moved.measure_recall(QUERIES, 10, params={"efSearch": 200}) > 0.9
    with noted() as notes:
        moved.search(QUERIES, 513)
    assert ["513 hits per query are more than the 512" in note for note in notes] == [True]
    gpus.cuvs = False
    assert placed(opened(), "cuda:0", graph="cagra").placement.reason == "CAGRA needs FAISS with cuVS"


def test_without_being_asked_for_a_gpu_a_graph_is_that_of_the_cpu(gpus, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(training, "SMALL_FLOATS", 10)
    gpus.cuvs = True
    x = rows()
    recipe = choose_recipe("HNSW8", n=N, dim=D, ram_bytes=1 << 40, disk_bytes=1 << 40)
    facts = build_base(lambda: iter([x]), N, D, recipe, tmp_path, device="auto")
    assert "graph" not in facts
    assert gpus.said("cagra") == []
