"""The exact scan against brute force on small integers, where every score is exact and ties are everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unabridged.contracts import NO_HIT
from unabridged.errors import ShapeError, UsageError
from unabridged.index.dense import ExactVectors
from unabridged.index.dense import exact as module


def integers(rows: int, dim: int, seed: int, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1, 2, (rows, dim)).astype(dtype)


def oracle(q: np.ndarray, x: np.ndarray, k: int, metric: str, allow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    q, x = q.astype(np.float64), x.astype(np.float64)
    scores = q @ x.T if metric == "ip" else -((q[:, None] - x[None]) ** 2).sum(axis=2)
    scores[:, ~allow] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, axis=1)
    rows = np.where(np.isfinite(best), order, NO_HIT)
    missing = ((0, 0), (0, k - rows.shape[1]))
    return np.pad(rows, missing, constant_values=NO_HIT), np.pad(best, missing, constant_values=-np.inf)


@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("rows", [0, 1, 2, 63, 257, 1500])
def test_any_split_into_shards_equals_brute_force_with_ties_by_row(
    rows: int, dtype: type, metric: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 4 * 5 * 100)
    x = integers(rows, 5, rows, dtype)
    q = integers(9, 5, 1)
    random = np.random.default_rng(2)
    for cuts in ([], [rows // 2], sorted(random.integers(0, rows + 1, 6).tolist())):
        shards = ExactVectors(np.split(x, cuts), metric)
        for share in (1.0, 0.5, 0.02):
            allow = random.random(rows) < share
            for k in (1, 7, 100, rows + 3):
                for part in (q, q[:1]):
                    hits = shards.search(part, k, None if share == 1.0 else allow)
                    wanted = oracle(part, x, k, metric, allow if share < 1.0 else np.ones(rows, bool))
                    assert (hits.rows == wanted[0]).all()
                    assert (hits.scores == wanted[1]).all()


def test_the_lowest_of_many_equal_rows_stay_at_the_cut() -> None:
    x = np.zeros((5000, 4), np.float32)
    x[:, 0] = 1
    x[4000, 0] = 2
    hits = ExactVectors([x[:123], x[123:]]).search(np.eye(1, 4, dtype=np.float32), 5)
    assert hits.rows.tolist() == [[4000, 0, 1, 2, 3]]
    allow = np.arange(5000) >= 3000
    hits = ExactVectors([x[:123], x[123:]]).search(np.eye(1, 4, dtype=np.float32), 5, allow)
    assert hits.rows.tolist() == [[4000, 3000, 3001, 3002, 3003]]


def test_rows_within_a_range_are_searched_alone() -> None:
    x, q = integers(300, 6, 3), integers(4, 6, 4)
    index = ExactVectors([x[:90], x[90:200], x[200:]])
    allow = np.zeros(300, bool)
    allow[50:250] = True
    assert (index.search(q, 9, within=(50, 250)).rows == index.search(q, 9, allow).rows).all()
    assert (index.search(q, 9, within=(50, 50)).rows == NO_HIT).all()
    with pytest.raises(UsageError, match="do not lie within"):
        index.search(q, 9, within=(0, 301))


def test_more_queries_than_a_group_holds_give_the_results_of_each() -> None:
    x, q = integers(400, 8, 5), integers(600, 8, 6)
    index = ExactVectors([x])
    whole = index.search(q, 3)
    for at in (0, 255, 256, 599):
        assert (index.search(q[at : at + 1], 3).rows[0] == whole.rows[at]).all()


def test_mapped_files_are_searched_and_never_written(tmp_path: Path) -> None:
    x = np.random.default_rng(7).standard_normal((500, 16)).astype(np.float32)
    np.save(tmp_path / "a.npy", x)
    before = (tmp_path / "a.npy").read_bytes()
    q = x[:20].copy()
    index = ExactVectors([np.load(tmp_path / "a.npy", mmap_mode="r")])
    assert (index.search(q, 1, np.ones(500, bool)).rows == ExactVectors([x]).search(q, 1).rows).all()
    assert (tmp_path / "a.npy").read_bytes() == before
    assert (q == x[:20]).all()


def test_chosen_rows_have_the_bits_that_the_search_gave_them() -> None:
    x = np.random.default_rng(8).standard_normal((400, 37)).astype(np.float32)
    q = x[:12] + np.float32(0.1)
    for metric in ("ip", "l2"):
        index = ExactVectors([x[:150], x[150:]], metric)
        hits = index.search(q, 30)
        assert (index.score(q, hits.rows) == hits.scores).all()
        half = ExactVectors([x[:150].astype(np.float16), x[150:].astype(np.float16)], metric)
        hits = half.search(q, 30)
        assert (half.score(q, hits.rows) == hits.scores).all()
    rows = np.array([[3, NO_HIT, 399]])
    assert np.isneginf(index.score(q[:1], rows)).tolist() == [[False, True, False]]


def test_gathered_rows_are_copies_in_the_order_asked_for() -> None:
    x = integers(50, 4, 9, np.float16)
    index = ExactVectors([x[:20], x[20:]])
    rows = np.array([49, 0, 20, 19, 0])
    got = index.gather(rows)
    assert got.dtype == np.float32
    assert (got == x[rows]).all()
    got[:] = 9
    assert (index.gather(rows) == x[rows]).all()
    for bad in ([50], [-1], [-2]):
        with pytest.raises(UsageError, match="row"):
            index.gather(np.array(bad))


@pytest.mark.parametrize(
    "shards",
    [
        [np.zeros((3, 4), np.float64)],
        [np.zeros(3, np.float32)],
        [np.zeros((4, 6), np.float32).T],
        [np.zeros((3, 4), np.float32), np.zeros((3, 5), np.float32)],
        [[[1.0, 2.0]]],
    ],
    ids=["float64", "one dimension", "not contiguous", "two widths", "a list"],
)
def test_shards_of_another_form_are_refused(shards: list) -> None:
    with pytest.raises(ShapeError, match="shard"):
        ExactVectors(shards)


def test_an_unknown_metric_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'ip', 'l2'"):
        ExactVectors([], "cosine")


def test_an_index_without_shards_finds_nothing() -> None:
    hits = ExactVectors([]).search(np.ones((2, 3), np.float32), 4)
    assert (hits.rows == NO_HIT).all()
    assert np.isneginf(hits.scores).all()
