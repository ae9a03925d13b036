"""Laws that every dense index keeps, whatever its recipe.  The oracle is brute force in float64 numpy."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from functools import cache, lru_cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest

from unabridged.contracts import NO_HIT, Hits
from unabridged.errors import ManifestMismatch, ShapeError, UsageError
from unabridged.index.dense import DenseIndex, ExactVectors, FaissBase, build_base, needs_rebuild
from unabridged.index.recipe import choose_recipe

N, D = 2000, 32
RECIPES = [
    "flat",
    "hnsw",
    "ivf",
    "ivf-sq8",
    "ivf-pq",
    "rabitq",
    "SQ8",
    "PQ8",
    "RaBitQfs",
    "HNSW16,SQ8",
    "IVF16,Flat",
    "IVF16_HNSW8,SQ8",
    "IVF16,RaBitQ4",
    "IVF16,PQ16x4fs,RFlat",
]
APPROXIMATE = RECIPES[1:]
slow = pytest.mark.slow


@lru_cache(maxsize=1)
def vectors() -> np.ndarray:
    """Clustered unit rows with 30 duplicates of one row, a zero row, and one far outside."""
    random = np.random.default_rng(7)
    rows = random.standard_normal((40, D))[random.integers(0, 40, N)] + 0.7 * random.standard_normal((N, D))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[100:130] = rows[1500]
    rows[700] = 0.0
    rows[900] *= 25.0
    return rows.astype(np.float32)


def queries(count: int = 40) -> np.ndarray:
    random = np.random.default_rng(8)
    picked = vectors()[random.choice(N, count, replace=False)] + 0.1 * random.standard_normal((count, D))
    return picked.astype(np.float32)


def brute(q: np.ndarray, x: np.ndarray, k: int, metric: str = "ip", allow: np.ndarray | None = None) -> np.ndarray:
    """Rows by (-score, row), scores in float64 of float32 inputs."""
    scores = q.astype(np.float64) @ x.astype(np.float64).T
    if metric == "l2":
        scores = 2 * scores - (q.astype(np.float64) ** 2).sum(1)[:, None] - (x.astype(np.float64) ** 2).sum(1)
    scores = np.round(scores, 12)  # identical rows tie exactly, whatever the order of summation
    if allow is not None:
        scores[:, ~allow] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.where(np.isfinite(np.take_along_axis(scores, order, axis=1)), order, NO_HIT)


def make(name: str, x: np.ndarray, folder: Path, metric: str = "ip", seed: int = 0) -> tuple[dict | None, DenseIndex]:
    recipe = choose_recipe(name, n=len(x), dim=x.shape[1], ram_bytes=1 << 40, disk_bytes=1 << 40)
    exact = ExactVectors([x[:700], x[700:]], metric)
    if recipe.is_flat:
        return None, DenseIndex(None, exact)
    facts = build_base(lambda: iter([x[:999], x[999:]]), len(x), x.shape[1], recipe, folder, metric=metric, seed=seed)
    return facts, DenseIndex(FaissBase.open(folder, facts), exact)


@cache
def built(name: str, metric: str = "ip") -> tuple[Path, dict | None, DenseIndex]:
    folder = Path(mkdtemp(prefix="dense-laws-"))
    return (folder, *make(name, vectors(), folder, metric))


@pytest.fixture(params=RECIPES)
def index(request: pytest.FixtureRequest) -> DenseIndex:
    return built(request.param)[2]


@pytest.fixture(params=APPROXIMATE)
def approximate(request: pytest.FixtureRequest) -> tuple[Path, dict, DenseIndex]:
    return built(request.param)


def check_form(hits: Hits, q: np.ndarray, x: np.ndarray, metric: str = "ip") -> None:
    """Order by (-score, row), no row twice, padding only at the end, and every score the true one."""
    for rows, scores, query in zip(hits.rows, hits.scores, q, strict=True):
        real = rows >= 0
        assert (scores[~real] == -np.inf).all()
        assert np.isfinite(scores[real]).all()
        assert not real[np.argmin(real) :].any() or real.all()
        rows, scores = rows[real], scores[real]
        assert len(set(rows.tolist())) == len(rows)
        assert (np.lexsort((rows, -scores)) == np.arange(len(rows))).all()
        truth = x[rows] @ query if metric == "ip" else -((x[rows] - query) ** 2).sum(axis=1)
        np.testing.assert_allclose(scores, truth, rtol=1e-5, atol=1e-5)


def test_hits_agree_with_brute_force_or_reach_the_recall_of_the_recipe(index: DenseIndex) -> None:
    q = queries()
    hits = index.search(q, 10)
    check_form(hits, q, vectors())
    wanted = brute(q, vectors(), 10)
    if index.base is None:
        assert (hits.rows == wanted).all()
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(hits.rows, wanted, strict=True)])
    assert recall >= 0.9
    assert (index.search(q, 10, exact=True).rows == wanted).all()


@pytest.mark.parametrize("name", ["flat", "hnsw", "ivf", "ivf-sq8", "rabitq"])
def test_l2_scores_are_minus_the_squared_distance_and_each_row_finds_itself(name: str) -> None:
    x = vectors()
    index = built(name, "l2")[2]
    hits = index.search(x[::50], 5)
    check_form(hits, x[::50], x, "l2")
    first = np.where(np.arange(0, N, 50) == 1500, 100, np.arange(0, N, 50))  # the lowest of its duplicates
    assert (hits.rows[:, 0] == first).mean() >= (1.0 if name == "flat" else 0.97)
    assert (hits.scores[:, 0] >= -1e-9).mean() >= (1.0 if name == "flat" else 0.97)


def test_searching_all_lists_of_uncompressed_vectors_is_exact() -> None:
    q = queries()
    hits = built("IVF16,Flat")[2].search(q, 10, params={"nprobe": 16})
    assert (hits.rows == brute(q, vectors(), 10)).all()


def test_a_graph_with_all_nodes_in_sight_is_nearly_exact() -> None:
    assert built("hnsw")[2].measure_recall(queries(), 10, params={"efSearch": N}) >= 0.99


@pytest.mark.parametrize("k", [N - 1, N, N + 1, N + 500])
def test_more_hits_than_rows_are_padded_and_none_is_missing(index: DenseIndex, k: int) -> None:
    hits = index.search(queries(2), k)
    assert hits.rows.shape == (2, k)
    assert ((hits.rows >= 0).sum(axis=1) == min(k, N)).all()
    assert (hits.scores[hits.rows < 0] == -np.inf).all()


def test_more_hits_than_a_list_holds_are_still_all_found(index: DenseIndex) -> None:
    params = {"nprobe": 1} if index.base is not None and "nprobe" in index.base.knobs else None
    hits = index.search(queries(3), 600, params=params)
    assert (hits.rows >= 0).all()
    check_form(hits, queries(3), vectors())


def test_a_query_alone_has_the_bits_it_has_in_any_batch(index: DenseIndex) -> None:
    q = queries(30)
    whole = index.search(q, 10)
    for part in (q[:1], q[3:10], q[29:]):
        at = int(np.flatnonzero((q == part[0]).all(axis=1))[0])
        alone = index.search(part, 10)
        assert (alone.rows == whole.rows[at : at + len(part)]).all()
        assert (alone.scores == whole.scores[at : at + len(part)]).all()
    assert index.search(q[:0], 10).rows.shape == (0, 10)


@pytest.mark.parametrize("k", [5, 29, 200])
def test_equal_scores_come_in_ascending_rows(index: DenseIndex, k: int) -> None:
    q = vectors()[1500:1501]
    twins = [*range(100, 130), 1500]
    hits = index.search(q, k)
    check_form(hits, q, vectors())
    found = [row for row in hits.rows[0].tolist() if row in twins]
    assert found == sorted(found)
    if index.base is None:
        assert (hits.rows == brute(q, vectors(), k)).all()


def test_rows_that_are_not_allowed_never_return_and_the_rest_is_complete(index: DenseIndex) -> None:
    q, random = queries(12), np.random.default_rng(3)
    for share in (0.0, 0.001, 0.2, 0.9):
        allow = random.random(N) < share
        hits = index.search(q, 10, allow)
        check_form(hits, q, vectors())
        assert allow[hits.rows[hits.rows >= 0]].all()
        assert ((hits.rows >= 0).sum(axis=1) == min(10, int(allow.sum()))).all()
        wanted = brute(q, vectors(), 10, allow=allow)
        if index.base is None or share <= 0.01:
            assert (hits.rows == wanted).all()
        else:
            assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(hits.rows, wanted, strict=True)]) >= 0.8


def test_an_index_without_the_deleted_rows_equals_one_built_of_the_rest() -> None:
    q, allow = queries(), np.random.default_rng(4).random(N) < 0.7
    kept = np.flatnonzero(allow)
    fresh = ExactVectors([vectors()[kept]]).search(q, 20)
    masked = built("flat")[2].search(q, 20, allow)
    assert (kept[fresh.rows] == masked.rows).all()
    assert (fresh.scores == masked.scores).all()


def test_rows_added_after_the_base_are_found_exactly(approximate: tuple[Path, dict, DenseIndex]) -> None:
    base = approximate[2].base
    later = np.random.default_rng(5).standard_normal((150, D)).astype(np.float32)
    later *= 40 / np.linalg.norm(later, axis=1, keepdims=True)  # longer than any other row
    index = DenseIndex(base, ExactVectors([vectors(), later[:40], later[40:]]))
    hits = index.search(later, 3)
    assert (hits.rows[:, 0] == np.arange(N, N + 150)).all()
    check_form(hits, later, np.concatenate([vectors(), later]))


@pytest.mark.parametrize(
    ("m", "n", "dead", "rebuild"),
    [(0, 100, 90, False), (90, 100, 0, False), (89, 100, 0, True), (100, 100, 20, False), (100, 100, 21, True)],
)
def test_a_long_tail_or_many_deleted_rows_ask_for_a_rebuild(m: int, n: int, dead: int, rebuild: bool) -> None:
    assert needs_rebuild(m, n, dead) is rebuild


BAD = {
    "one dimension": np.zeros(D, np.float32),
    "wrong width": np.zeros((1, D + 1), np.float32),
    "NaN": np.full((1, D), np.nan, np.float32),
    "infinity": np.full((1, D), np.inf, np.float32),
    "float64 beyond float32": np.full((1, D), 1e300),
    "integers": np.zeros((1, D), np.int64),
    "text": np.array([["a"] * D]),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_queries_are_refused_by_shape(index: DenseIndex, what: str) -> None:
    with pytest.raises(ShapeError, match=r"queries|query 0"):
        index.search(BAD[what], 3)


@pytest.mark.parametrize("k", [0, -1, 2.5, True])
def test_a_senseless_number_of_hits_is_refused(index: DenseIndex, k: int) -> None:
    with pytest.raises(UsageError, match="k must be"):
        index.search(queries(1), k)


def test_an_allow_mask_of_another_length_or_type_is_refused(index: DenseIndex) -> None:
    for mask in (np.ones(N - 1, bool), np.ones(N, np.uint8)):
        with pytest.raises(ShapeError, match="allow must be"):
            index.search(queries(1), 3, mask)


def test_float64_queries_are_cast(index: DenseIndex) -> None:
    q = queries(5)
    assert (index.search(q.astype(np.float64), 5).scores == index.search(q, 5).scores).all()


def test_unknown_settings_are_refused(approximate: tuple[Path, dict, DenseIndex]) -> None:
    for params in ({"nprobes": 3}, {"nprobe": 0}, {"efSearch": 1.5}):
        with pytest.raises(UsageError, match="search setting"):
            approximate[2].search(queries(1), 3, params=params)


def test_a_moved_index_gives_the_same_bits_mapped_or_loaded(
    approximate: tuple[Path, dict, DenseIndex], tmp_path: Path
) -> None:
    folder, facts, index = approximate
    moved = tmp_path / "another place %p ü"
    moved.mkdir()
    (moved / facts["file"]).write_bytes((folder / facts["file"]).read_bytes())
    wanted = index.search(queries(), 10)
    for mmap in (True, False):
        again = DenseIndex(FaissBase.open(moved, facts, mmap=mmap), index.exact).search(queries(), 10)
        assert (again.rows == wanted.rows).all()
        assert (again.scores == wanted.scores).all()


def test_two_builds_in_two_folders_have_equal_bytes(approximate: tuple[Path, dict, DenseIndex], tmp_path: Path) -> None:
    folder, facts, _ = approximate
    longer = tmp_path / "a much longer folder name"
    longer.mkdir()
    name = {"PQ8np": "PQ8"}.get(facts["factory"], facts["factory"])
    again, _ = make(name, vectors(), longer)
    assert {**again, "search": None} == {**facts, "search": None}
    digests = {hashlib.sha256((where / facts["file"]).read_bytes()).hexdigest() for where in (folder, longer)}
    assert len(digests) == 1
    assert [path.name for path in longer.iterdir()] == [facts["file"]]


OPEN = """
import json, sys
from pathlib import Path
import numpy as np
from unabridged.errors import ManifestMismatch
from unabridged.index.dense import FaissBase
for line in sys.stdin:
    folder, facts = json.loads(line)
    path = Path(folder) / facts["file"]
    whole = path.read_bytes()
    for data in (b"", whole[:4], whole[: len(whole) // 2], whole[:-1], whole + b"x", b"JUNK" + whole[4:], None):
        path.unlink() if data is None else path.write_bytes(data)
        try:
            FaissBase.open(Path(folder), facts).search(np.ones((1, facts["dim"]), np.float32), 5)
        except ManifestMismatch:
            print("refused")
"""


def test_a_damaged_file_is_refused_and_never_kills_the_process(tmp_path: Path) -> None:
    lines, names = [], ["hnsw", "ivf", "ivf-pq", "rabitq"]
    for name in names:
        folder, facts, _ = built(name)
        (tmp_path / name).mkdir()
        (tmp_path / name / facts["file"]).write_bytes((folder / facts["file"]).read_bytes())
        lines.append(json.dumps([str(tmp_path / name), facts]))
    child = subprocess.run(
        [sys.executable, "-O", "-c", OPEN], input="\n".join(lines), capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr
    assert child.stdout.count("refused") == 7 * len(names), child.stdout


@pytest.mark.parametrize("key", ["dim", "rows", "metric"])
def test_facts_of_another_index_are_refused(key: str) -> None:
    folder, facts, _ = built("ivf")
    other = {**facts, key: "l2" if key == "metric" else facts[key] + 1}
    with pytest.raises(ManifestMismatch, match="found"):
        FaissBase.open(folder, other)


def test_no_call_changes_the_threads_or_thresholds_of_the_process(index: DenseIndex, tmp_path: Path) -> None:
    import faiss

    def state() -> tuple[int, int, int]:
        limit = faiss.get_deserialization_vector_byte_limit()
        return faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_threshold, limit

    before = state()
    index.search(queries(3), 5)
    index.measure_recall(queries(3))
    with pytest.raises(ShapeError):
        index.search(BAD["NaN"], 5)
    with pytest.raises(ShapeError):
        make("ivf", np.full((900, D), np.nan, np.float32), tmp_path)
    with pytest.raises(ManifestMismatch):
        FaissBase.open(tmp_path, {"file": "none", "bytes": 1, "factory": "SQ8", "dim": D})
    assert state() == before


def test_eight_threads_with_settings_of_their_own_give_the_serial_results(index: DenseIndex) -> None:
    q = queries()
    name = "nprobe" if index.base is not None and "nprobe" in index.base.knobs else "k_factor"
    settings = [None] * 8 if index.base is None else [{name: 1 + i} for i in range(8)]
    serial = [index.search(q, 10, params=one) for one in settings]
    wrong: list[int] = []

    def work(number: int) -> None:
        for at in range(25):
            hits = index.search(q[at : at + 1], 10, params=settings[number])
            if (hits.rows != serial[number].rows[at]).any() or (hits.scores != serial[number].scores[at]).any():
                wrong.append(number)

    team = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for one in team:
        one.start()
    for one in team:
        one.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("refined", "bare"), [("IVF16,RaBitQfs,Refine(SQ8)", "IVF16,RaBitQfs"), ("IVF16,PQ8np,RFlat", "IVF16,PQ8np")]
)
def test_refined_codes_recall_at_least_as_much(refined: str, bare: str) -> None:
    q, truth = queries(), brute(queries(), vectors(), 10)

    def recall(name: str, **params: int) -> float:
        rows = built(name)[2].base.search(q, 10, params=params).rows
        return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows, truth, strict=True)]))

    assert recall(refined, nprobe=16) >= recall(bare, nprobe=16)
    if refined.endswith("RFlat"):
        assert recall(refined, nprobe=16, k_factor=200) == 1.0


def test_importing_the_package_loads_no_faiss() -> None:
    code = (
        "import sys, unabridged.index, unabridged.index.dense, unabridged.index.recipe\n"
        "sys.exit(any(name.split('.')[0] in ('faiss', 'torch', 'transformers') for name in sys.modules))"
    )
    environment = {**os.environ, "PYTHONWARNINGS": ""}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


@slow
@pytest.mark.parametrize("name", ["OPQ8,IVF16,PQ8", "OPQ8_16,IVF16,PQ8"])
def test_rotated_codes_are_repeatable_and_found(name: str, tmp_path: Path) -> None:
    folder, facts, index = built(name)
    make(name, vectors(), tmp_path)
    assert (folder / facts["file"]).read_bytes() == (tmp_path / facts["file"]).read_bytes()
    assert index.measure_recall(queries(), 10, params={"nprobe": 16, "k_factor": 64}) >= 0.9
