"""Building the base: bytes against FAISS's own writer, refusals, silence, and the doors to FAISS itself."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest

from unabridged.errors import MissingExtra, RuntimeFailure, ShapeError, UsageError, ValidationError
from unabridged.index.dense import DenseIndex, ExactVectors, FaissBase, _faiss, build_base, tune
from unabridged.index.dense import build as module
from unabridged.index.dense._lists import PieceWriter
from unabridged.index.recipe import Recipe, choose_recipe

D = 16


def rows(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    x = random.standard_normal((30, D))[random.integers(0, 30, count)] + 0.5 * random.standard_normal((count, D))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def recipe(name: str, count: int) -> Recipe:
    return choose_recipe(name, n=count, dim=D, ram_bytes=1 << 40, disk_bytes=1 << 40)


@pytest.mark.parametrize("count", [5, 3000], ids=["most lists empty", "most lists filled"])
@pytest.mark.parametrize("factory", ["IVF20,Flat", "IVF20,SQ8", "IVF20_HNSW8,SQfp16", "IVF20,PQ4x4np", "IVF20,RaBitQ"])
def test_joined_pieces_are_the_bytes_that_faiss_writes(factory: str, count: int, tmp_path: Path) -> None:
    x = rows(3000)
    index = faiss.index_factory(D, factory, faiss.METRIC_INNER_PRODUCT)
    with _faiss.training_kernels():
        index.train(x)
    ids = np.arange(count, dtype=np.int64)
    index.add_with_ids(x[:count], ids)
    faiss.write_index(index, str(tmp_path / "whole"))
    index.reset()
    writer = PieceWriter(index, tmp_path, piece_bytes=2000)
    for at in range(0, count, 170):
        writer.add(x[at : min(at + 170, count)], ids[at : at + 170])
    writer.finish(tmp_path / "pieces")
    assert (tmp_path / "pieces").read_bytes() == (tmp_path / "whole").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pieces", "whole"]


@pytest.mark.parametrize("name", ["ivf", "hnsw"])
def test_the_size_of_incoming_blocks_changes_no_byte(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_ROWS", 256)
    x, found = rows(1000), []
    for size in (1, 300, 1000):
        folder = tmp_path / str(size)
        folder.mkdir()

        def blocks(size: int = size) -> Iterator[np.ndarray]:
            return (x[at : at + size] for at in range(0, len(x), size))

        facts = build_base(blocks, 1000, D, recipe(name, 1000), folder)
        found.append((folder / facts["file"]).read_bytes())
    assert found[0] == found[1] == found[2]


def test_a_build_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    x = rows(400)
    for name in ("ivf-pq", "rabitq", "IVF16_HNSW8,SQ8"):
        facts = build_base(lambda: iter([x]), 400, D, recipe(name, 400), tmp_path)
        FaissBase.open(tmp_path, facts).search(x[:2], 3)
    out = capfd.readouterr()
    assert (out.out, out.err) == ("", "")


def test_the_seed_decides_the_sample_and_the_sample_is_spread_over_all_rows() -> None:
    x = np.arange(40_000, dtype=np.float32)[:, None] * np.ones((1, D), np.float32)
    first, again, other = (module._sample(lambda: iter([x]), len(x), D, 4000, seed)[:, 0] for seed in (0, 0, 1))
    assert (first == again).all()
    assert len(first) != len(other) or (first != other).any()
    assert abs(len(first) - 4000) < 300
    quarters = np.histogram(first, 4, (0, 40_000))[0]
    assert quarters.min() > 800


def test_a_half_precision_sample_becomes_float32_where_a_value_is_too_large_for_it() -> None:
    x = np.arange(40_000, dtype=np.float32)[:, None] * np.ones((1, D), np.float32)
    exact = module._sample(lambda: iter([x]), len(x), D, 4000, 0)
    small, large = (
        module._sample(lambda rows=rows: iter([rows]), len(x), D, 4000, 0, np.float16) for rows in (x / 8192, x)
    )
    assert (small.dtype, large.dtype) == (np.float16, np.float32)
    np.testing.assert_allclose(small, exact / 8192, rtol=1e-3)
    np.testing.assert_allclose(large, exact, rtol=1e-3)


def test_wrong_blocks_are_refused(tmp_path: Path) -> None:
    x = rows(600)
    poisoned = x.copy()
    poisoned[500, 3] = np.nan
    for blocks, words in (([x[:500]], "500 rows, expected 600"), ([x, x], "1,200 rows"), ([poisoned], "NaN")):
        with pytest.raises(ShapeError, match=words):
            build_base(lambda blocks=blocks: iter(blocks), 600, D, recipe("ivf", 600), tmp_path)
    with pytest.raises(ShapeError, match="expected \\(rows, 16\\)"):
        build_base(lambda: iter([x[:, :8]]), 600, D, recipe("ivf", 600), tmp_path)


def test_a_flat_recipe_and_too_few_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to build"):
        build_base(lambda: iter([rows(10)]), 10, D, recipe("flat", 10), tmp_path)
    with pytest.raises(UsageError, match="at least 64 rows, found 10"):
        build_base(lambda: iter([rows(10)]), 10, D, recipe("IVF64,SQ8", 100), tmp_path)


def test_a_base_that_does_not_belong_to_the_vectors_is_refused(tmp_path: Path) -> None:
    x = rows(500)
    base = FaissBase.open(tmp_path, build_base(lambda: iter([x]), 500, D, recipe("SQ8", 500), tmp_path))
    for exact in (ExactVectors([x[:499]]), ExactVectors([x[:, :8].copy()] * 2), ExactVectors([x], "l2")):
        with pytest.raises(ShapeError, match="the base has"):
            DenseIndex(base, exact)


def test_tuning_takes_the_cheapest_setting_that_reaches_the_target(tmp_path: Path) -> None:
    x = rows(3000)
    queries = rows(60, 1)
    base = FaissBase.open(tmp_path, build_base(lambda: iter([x]), 3000, D, recipe("IVF64,Flat", 3000), tmp_path))
    index = DenseIndex(base, ExactVectors([x]))
    before = dict(base.settings)
    low, high = tune(index, queries, 0.5), tune(index, queries, 1.0)
    assert low.reached
    assert low.recall >= 0.5
    assert high.reached
    assert low.search["nprobe"] <= high.search["nprobe"]
    assert index.measure_recall(queries, params=high.search) == high.recall
    if low.search["nprobe"] > 1:
        assert index.measure_recall(queries, params={"nprobe": low.search["nprobe"] // 2}) < 0.5
    assert base.settings == before
    assert tune(DenseIndex(None, ExactVectors([x])), queries).recall == 1.0
    with pytest.raises(UsageError, match="at least one query"):
        tune(index, queries[:0])


def test_an_unreachable_target_gives_the_best_setting_and_says_so(tmp_path: Path) -> None:
    x = rows(2000)
    facts = build_base(lambda: iter([x]), 2000, D, recipe("IVF8,PQ1np,Refine(SQ4)", 2000), tmp_path)
    index = DenseIndex(FaissBase.open(tmp_path, facts), ExactVectors([x]))
    best = tune(index, rows(40, 1), 1.0)
    assert not best.reached
    assert 0 < best.recall < 1
    assert best.recall >= index.measure_recall(rows(40, 1))


def test_training_kernels_and_threads_are_restored_after_an_error() -> None:
    before = (faiss.cvar.distance_compute_blas_threshold, faiss.omp_get_max_threads())
    inside = []

    def fail() -> None:
        with _faiss.training_kernels(), _faiss.threads(before[1] + 1):
            inside.append((faiss.cvar.distance_compute_blas_threshold, faiss.omp_get_max_threads()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert inside == [(min(20, before[0]), before[1] + 1)]
    assert (faiss.cvar.distance_compute_blas_threshold, faiss.omp_get_max_threads()) == before
    with pytest.raises(UsageError, match="threads"), _faiss.threads(0):
        pass


@pytest.fixture
def fresh_door() -> Iterator[None]:
    _faiss.load_faiss.cache_clear()
    yield
    _faiss.load_faiss.cache_clear()


@pytest.mark.usefixtures("fresh_door")
def test_two_wheels_of_one_module_name_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_faiss, "installed_wheels", lambda: ["faiss-cpu", "faiss-gpu"])
    with pytest.raises(ValidationError, match="faiss-cpu, faiss-gpu"):
        _faiss.load_faiss()


@pytest.mark.usefixtures("fresh_door")
def test_a_missing_broken_or_old_faiss_is_a_typed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise RuntimeError("no loader for this CPU")

    with monkeypatch.context() as patch:
        patch.setattr(_faiss.util, "find_spec", lambda name: None)
        with pytest.raises(MissingExtra, match=r'pip install "unabridged\[cpu\]"'):
            _faiss.load_faiss()
    with monkeypatch.context() as patch:
        patch.setattr(importlib, "import_module", broken)
        with pytest.raises(RuntimeFailure, match="no loader for this CPU"):
            _faiss.load_faiss()
    with monkeypatch.context() as patch:
        patch.setattr(faiss, "__version__", "1.14.3")
        with pytest.raises(MissingExtra, match=r"1\.14\.3 was found"):
            _faiss.load_faiss()


def test_facts_for_the_doctor_name_version_and_owner() -> None:
    facts = _faiss.faiss_facts()
    assert facts["version"] == faiss.__version__
    assert "faiss" in facts["owner"]
    assert facts["blas_threshold"] > 0
