"""Vector sets on real GPUs, against the CPU: run with ``pytest -m gpu tests/index/test_gpu_device.py``.

Needs a FAISS wheel with GPU code; tests for two GPUs are skipped where there is one.
"""

from __future__ import annotations

import ctypes
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from unabridged.errors import UnabridgedError
from unabridged.index.dense import DenseIndex, ExactVectors, FaissBase, build_base
from unabridged.index.dense.gpu import noted, parse_device, placed
from unabridged.index.dense.gpu.devices import alone_on, device
from unabridged.index.dense.gpu.driver import LIBRARY
from unabridged.index.dense.gpu.flat import ROUNDING
from unabridged.index.dense.gpu.lists import copying_options, flat_centres
from unabridged.index.dense.gpu.machine import find_machine, usable
from unabridged.index.dense.gpu.sizes import MIB, temporary_bytes
from unabridged.index.recipe import choose_recipe

pytestmark = pytest.mark.gpu

N, D = 30_000, 96
LISTS = [
    "IVF64,Flat",
    "IVF64,SQfp16",
    "IVF64,SQ8",
    "IVF64,SQ6",
    "IVF64,SQ4",
    "IVF64,PQ48np",
    "IVF64,PQ96np",
    "OPQ48,IVF64,PQ48np",
]


def gpu_count() -> int:
    try:
        return len(usable(find_machine(), parse_device("cuda")))
    except UnabridgedError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module", autouse=True)
def _gpu() -> None:
    gpu_count()


two = pytest.mark.parametrize("device_text", ["cuda:0,1", "cuda:0,1+shard"])


def rows(count: int = N, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((300, D))
    x = centres[random.integers(0, 300, count)] + 0.8 * random.standard_normal((count, D))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


QUERIES = rows(200, 1)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lists")


def lists_index(files: Path, factory: str, metric: str = "ip", device_text: str = "cpu") -> DenseIndex:
    folder = files / f"{factory.replace(',', '_')}-{metric}-{device_text.replace(':', '')}"
    x = rows()
    if folder.is_dir():
        facts = json.loads((folder / "facts.json").read_text())
    else:
        folder.mkdir()
        recipe = choose_recipe(factory, n=N, dim=D, ram_bytes=1 << 40, disk_bytes=1 << 40)
        facts = build_base(lambda: iter([x]), N, D, recipe, folder, metric=metric, device=device_text)
        (folder / "facts.json").write_text(json.dumps(facts))
    return DenseIndex(FaissBase.open(folder, facts), ExactVectors([x], metric))


def assert_same_but_for_rounding(found, expected, tolerance: float) -> None:
    """Equal scores rank by rank within ``tolerance``: a row may change places with another of nearly its score."""
    np.testing.assert_allclose(found.scores, expected.scores, atol=tolerance)
    differing = found.rows != expected.rows
    assert differing.mean() < 0.02
    close = np.abs(found.scores - expected.scores) <= tolerance
    assert close[differing].all()


@pytest.mark.parametrize("words", ["", "+float16"])
@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_flat_vectors_give_the_top_k_of_the_cpu(words: str, metric: str) -> None:
    x = rows()
    plain = DenseIndex(None, ExactVectors([x[:20_000], x[20_000:]], metric))
    moved = placed(plain, f"cuda:0{words}")
    assert moved.placement.kind == "flat"
    for k in (1, 10, 100, 1_000):
        found, expected = moved.search(QUERIES, k), plain.search(QUERIES, k)
        assert_same_but_for_rounding(found, expected, 4 * ROUNDING[bool(words)])
    assert moved.base.trail.reasons == {}


def test_flat_float32_vectors_give_the_very_rows_of_the_cpu() -> None:
    plain = DenseIndex(None, ExactVectors([rows()]))
    moved = placed(plain, "cuda:0+float32")
    found, expected = moved.search(QUERIES, 50), plain.search(QUERIES, 50)
    np.testing.assert_array_equal(found.rows, expected.rows)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_a_flat_set_in_many_parts_is_one_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unabridged.index.dense.gpu.flat.part_bytes", lambda need, free: 1 << 20)
    plain = DenseIndex(None, ExactVectors([rows()]))
    found, expected = placed(plain, "cuda:0+float32").search(QUERIES, 20), plain.search(QUERIES, 20)
    np.testing.assert_array_equal(found.rows, expected.rows)


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("factory", LISTS)
def test_lists_give_the_top_k_of_the_cpu(files: Path, factory: str, metric: str) -> None:
    plain, moved = lists_index(files, factory, metric), placed(lists_index(files, factory, metric), "cuda:0")
    assert moved.placement.kind.startswith("ivf")
    params = {"nprobe": 16, "k_factor": 4}
    found, expected = moved.search(QUERIES, 10, params=params), plain.search(QUERIES, 10, params=params)
    overlap = np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found.rows, expected.rows, strict=True)])
    assert overlap >= (0.99 if "PQ" not in factory else 0.95)
    both = found.rows == expected.rows
    np.testing.assert_array_equal(found.scores[both], expected.scores[both])
    assert moved.base.trail.reasons == {}


@pytest.mark.parametrize("factory", ["IVF64,Flat", "IVF64,SQfp16", "IVF64,SQ8", "IVF64,PQ48np"])
def test_a_cpu_file_comes_back_from_the_gpu_bit_by_bit(files: Path, factory: str) -> None:
    import faiss

    folder = files / f"{factory.replace(',', '_')}-ip-cpu"
    lists_index(files, factory)
    index = faiss.read_index(str(folder / "base.faiss"))
    on, half = device(0), False
    with flat_centres(index), alone_on([on]):
        options = copying_options(faiss.GpuClonerOptions(), cuvs=False, half_tables=half)
        moved = faiss.index_cpu_to_gpu(on.resources, 0, index, options)
        back = faiss.index_gpu_to_cpu(moved)
    assert back.ntotal == index.ntotal
    for number in range(index.nlist):
        size = index.invlists.list_size(number)
        assert back.invlists.list_size(number) == size
        for get, width in (("get_codes", index.code_size), ("get_ids", 1)):
            if size:
                a, b = (faiss.rev_swig_ptr(getattr(one.invlists, get)(number), size * width) for one in (index, back))
                np.testing.assert_array_equal(a, b)
    whole = faiss.read_index(str(folder / "base.faiss"))
    whole.own_invlists = False
    whole.replace_invlists(back.invlists, False)
    assert faiss.serialize_index(whole).tobytes() == (folder / "base.faiss").read_bytes()
    centres = [one.quantizer.reconstruct_n(0, one.nlist) for one in (index, back)]
    np.testing.assert_array_equal(*centres)
    params = faiss.SearchParametersIVF(nprobe=16)
    for a, b in zip(index.search(QUERIES, 10, params=params), back.search(QUERIES, 10, params=params), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "factory", ["IVF64,SQfp16", "IVF64,SQ8", "IVF64,PQ48np", "IVF64_HNSW16,SQ8", "OPQ48,IVF64,PQ48np"]
)
def test_a_build_on_the_gpu_is_as_good_as_one_on_the_cpu_and_opens_on_either(files: Path, factory: str) -> None:
    plain = lists_index(files, factory)
    built = lists_index(files, factory, device_text="cuda:0")
    moved = placed(lists_index(files, factory, device_text="cuda:0"), "cuda:0")
    params = {"nprobe": 16, "k_factor": 8}
    expected = plain.measure_recall(QUERIES, 10, params=params)
    assert built.measure_recall(QUERIES, 10, params=params) >= expected - 0.02
    assert moved.measure_recall(QUERIES, 10, params=params) >= expected - 0.02
    assert len(built.base) == N


def test_the_limit_of_hits_is_where_it_is_said_to_be(files: Path) -> None:
    plain = DenseIndex(None, ExactVectors([rows()]))
    moved = placed(plain, "cuda:0+float32", name="segments")
    for k, told in ((2_016, 0), (2_017, 1)):
        with noted() as notes:
            found = moved.search(QUERIES[:3], k)
        np.testing.assert_array_equal(found.rows, plain.search(QUERIES[:3], k).rows)
        assert len(notes) == told
    lists = placed(lists_index(files, "IVF64,Flat"), "cuda:0")
    for k, told in ((2_048, 0), (2_049, 1)):
        with noted() as notes:
            lists.search(QUERIES[:3], k, params={"nprobe": 64, "k_factor": 1})
        assert len(notes) == told


@pytest.mark.parametrize("words", ["+float32", "+float16"])
def test_ties_nan_and_filters_are_as_on_the_cpu(words: str) -> None:
    from unabridged.errors import ShapeError

    x = rows()
    x[100:130] = x[7]
    x[500:900] = x[8]
    x[40] = 0.0
    plain = DenseIndex(None, ExactVectors([x]))
    moved = placed(plain, f"cuda:0{words}")
    for k in (5, 29, 200):
        np.testing.assert_array_equal(moved.search(x[[7, 8]], k).rows[:, :5], plain.search(x[[7, 8]], k).rows[:, :5])
    poisoned = QUERIES.copy()
    poisoned[0, 0] = np.nan
    with pytest.raises(ShapeError, match="NaN"):
        moved.search(poisoned, 5)
    for share in (0.9, 0.3, 0.05, 0.001):
        allow = np.random.default_rng(5).random(N) < share
        found, expected = moved.search(QUERIES, 10, allow), plain.search(QUERIES, 10, allow)
        assert allow[found.rows[found.rows >= 0]].all()
        assert_same_but_for_rounding(found, expected, 4 * ROUNDING[words == "+float16"])


@two
def test_two_gpus_give_what_one_gives(files: Path, device_text: str) -> None:
    if gpu_count() < 2:
        pytest.skip("there is one GPU")
    plain = DenseIndex(None, ExactVectors([rows()]))
    found, expected = placed(plain, device_text + "+float32").search(QUERIES, 20), plain.search(QUERIES, 20)
    np.testing.assert_array_equal(found.rows, expected.rows)
    lists, one = (placed(lists_index(files, "IVF64,SQ8"), text) for text in (device_text, "cuda:0"))
    params = {"nprobe": 8}
    a, b = lists.search(QUERIES, 10, params=params), one.search(QUERIES, 10, params=params)
    assert (a.rows == b.rows).mean() > 0.99


@contextmanager
def filled(number: int, leave: int) -> Iterator[None]:
    """All memory of a GPU but ``leave`` bytes is taken, through the driver itself."""
    cuda = ctypes.CDLL(LIBRARY)
    handle, context, pointer = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    assert cuda.cuDeviceGet(ctypes.byref(handle), number) == 0
    assert cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle) == 0
    assert cuda.cuCtxPushCurrent_v2(context) == 0
    try:
        assert cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0
        assert cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(free.value - leave)) == 0
        yield
    finally:
        if pointer.value:
            cuda.cuMemFree_v2(pointer)
        cuda.cuCtxPopCurrent_v2(ctypes.byref(context))
        cuda.cuDevicePrimaryCtxRelease_v2(handle)


def test_a_full_gpu_gets_fewer_queries_at_a_time_and_the_hits_are_the_same() -> None:
    plain = DenseIndex(None, ExactVectors([rows()]))
    moved = placed(plain, "cuda:0+float32")
    many = np.tile(QUERIES, (200, 1))  # 500 MB of hits, where 320 MB are free
    expected = plain.search(QUERIES, 1_000)
    resources, total = device(0).resources, find_machine().driver.gpus[0].total
    resources.setTempMemory(64 * MIB)
    try:
        with filled(0, 256 * MIB):
            found = moved.search(many, 1_000)
    finally:
        resources.setTempMemory(temporary_bytes(total))
    np.testing.assert_array_equal(found.rows[:200], expected.rows)
    np.testing.assert_array_equal(found.rows[-200:], expected.rows)
    assert moved.base._batches.most is not None
    assert moved.base._batches.most < len(many)


def test_vectors_that_no_gpu_holds_stay_on_the_cpu_and_are_searched() -> None:
    free = min(gpu.free for gpu in find_machine().driver.gpus)
    from unabridged.index.dense.gpu.placement import Load, placements

    gpus = find_machine().driver.gpus
    place = placements(Load(free // 256, 1_024), gpus, parse_device("cuda+float32"))[0]
    assert not place.on_gpu
    assert "GPUs have free" in place.reason


def test_searches_of_many_threads_are_those_of_one(files: Path) -> None:
    flat = placed(DenseIndex(None, ExactVectors([rows()])), "cuda:0+float32")
    lists = placed(lists_index(files, "IVF64,SQ8"), "cuda:0")
    expected = [one.search(QUERIES, 10).rows for one in (flat, lists)]
    wrong: list[int] = []

    def work(number: int) -> None:
        index = (flat, lists)[number % 2]
        for _ in range(50):
            if not np.array_equal(index.search(QUERIES, 10).rows, expected[number % 2]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_two_equal_runs_give_equal_bits(files: Path) -> None:
    for index in (
        placed(lists_index(files, "IVF64,PQ48np"), "cuda:0"),
        placed(lists_index(files, "IVF64,SQ8"), "cuda:0"),
    ):
        first, again = (index.search(QUERIES, 10) for _ in range(2))
        np.testing.assert_array_equal(first.rows, again.rows)
        np.testing.assert_array_equal(first.scores, again.scores)


def test_a_graph_of_cagra_is_served_by_the_cpu(tmp_path: Path) -> None:
    if not find_machine().cagra:
        pytest.skip("this FAISS has no cuVS")
    x = rows()
    recipe = choose_recipe("HNSW32", n=N, dim=D, ram_bytes=1 << 40, disk_bytes=1 << 40)
    facts = build_base(lambda: iter([x]), N, D, recipe, tmp_path, device="cuda:0")
    assert facts["graph"] == "cagra"
    plain = DenseIndex(FaissBase.open(tmp_path, facts), ExactVectors([x]))
    assert plain.measure_recall(QUERIES, 10, params={"efSearch": 256}) > 0.9
    moved = placed(DenseIndex(FaissBase.open(tmp_path, facts), ExactVectors([x])), "cuda:0", graph="cagra")
    assert moved.placement.kind == "cagra"
    assert moved.measure_recall(QUERIES, 10, params={"efSearch": 256}) > 0.9
