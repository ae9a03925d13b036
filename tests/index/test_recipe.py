"""Recipes: predicted bytes against real files, choice by size and memory, and refusals."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unabridged.errors import ResourceError, UnabridgedError, UsageError
from unabridged.index.dense import build_base
from unabridged.index.dense.factory import parse
from unabridged.index.recipe import NAMES, choose_recipe, predicted_bytes

PLENTY = {"ram_bytes": 1 << 50, "disk_bytes": 1 << 50}
TABLE = [
    "Flat",
    "SQfp16",
    "SQ8",
    "SQ4",
    "RaBitQ",
    "RaBitQ4",
    "RaBitQfs,Refine(SQ8)",
    "HNSW16",
    "HNSW32",
    "HNSW32_SQ8",
    "IVF32,Flat",
    "IVF32,SQfp16",
    "IVF32,SQ8",
    "IVF32,RaBitQ",
    "IVF32,RaBitQ4",
    "IVF32,RaBitQfs,Refine(SQ8)",
    "IVF32,PQ8x4fs",
    "IVF32,PQ16x4fs,RFlat",
    "IVF32,PQ8np",
    "IVF32,PQ8np,Refine(SQ8)",
    "IVF32_HNSW32,SQ8",
    pytest.param("OPQ8,IVF32,PQ8np", marks=pytest.mark.slow),
]
"""Every row of the table of measured sizes, with lists and sub-vectors scaled to 4,000 x 64."""


@lru_cache(maxsize=1)
def sample() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4000, 64)).astype(np.float32)


@pytest.mark.parametrize("factory", TABLE)
def test_predicted_bytes_are_within_a_tenth_of_the_file(factory: str, tmp_path: Path) -> None:
    if factory == "Flat":
        index = faiss.IndexFlatIP(64)
        index.add(sample())
        faiss.write_index(index, str(tmp_path / "flat"))
        real = (tmp_path / "flat").stat().st_size
    else:
        recipe = choose_recipe(factory, n=4000, dim=64, **PLENTY)
        real = build_base(lambda: iter([sample()]), 4000, 64, recipe, tmp_path)["bytes"]
        assert recipe.file_bytes == predicted_bytes(factory, 4000, 64)
    assert predicted_bytes(factory, 4000, 64) == pytest.approx(real, rel=0.1)


@pytest.mark.parametrize(
    ("factory", "measured"),
    [
        ("HNSW32", 1808),
        ("IVF256,SQfp16", 789),
        ("IVF256,SQ8", 405),
        ("IVF256,RaBitQfs,Refine(SQ8)", 468),
        ("IVF256,RaBitQ4", 233),
        ("IVF256,PQ96x4fs,RFlat", 1612),
        ("OPQ48,IVF256,PQ48np", 102),
        ("RaBitQ", 56),
    ],
)
def test_predictions_agree_with_sizes_measured_at_30_000_rows_of_384(factory: str, measured: int) -> None:
    assert predicted_bytes(factory, 30_000, 384) / 30_000 == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize(
    ("rows", "factory"),
    [
        (0, ""),
        (65_536, ""),
        (65_537, "IVF1024,SQfp16"),
        (1_000_000, "IVF4000,SQfp16"),
        (10_000_000, "IVF12649,SQfp16"),
        (10_000_001, "IVF12649,SQ8"),
        (50_000_000, "IVF28284_HNSW32,SQ8"),
        (1_000_000_000, "IVF126491_HNSW32,RaBitQfs,Refine(SQ8)"),
    ],
)
def test_auto_grows_from_an_exact_scan_to_compressed_lists(rows: int, factory: str) -> None:
    assert choose_recipe("auto", n=rows, dim=768, **PLENTY).factory == factory


@given(
    st.integers(0, 3_000_000_000),
    st.sampled_from([64, 101, 384, 1024]),
    st.integers(20, 45),
    st.integers(0, 8),
    st.integers(20, 50),
)
def test_more_memory_or_disk_never_lowers_the_recall_to_expect(
    rows: int, dim: int, ram: int, more: int, disk: int
) -> None:
    def expected(ram_bytes: int, disk_bytes: int) -> float:
        try:
            recipe = choose_recipe("auto", n=rows, dim=dim, ram_bytes=ram_bytes, disk_bytes=disk_bytes)
        except ResourceError:
            return 0.0
        assert recipe.build_ram <= ram_bytes
        assert recipe.build_disk <= disk_bytes
        return recipe.expected_recall or 0.0

    assert expected(2 ** (ram + more), 2**disk) >= expected(2**ram, 2**disk)
    assert expected(2**ram, 2 ** (disk + more)) >= expected(2**ram, 2**disk)


def test_a_recipe_is_pure_and_can_be_stored_as_json() -> None:
    first, second = (choose_recipe("auto", n=3_000_000, dim=384, **PLENTY) for _ in range(2))
    assert first == second
    assert json.loads(json.dumps(first.as_json())) == first.as_json()


def test_short_memory_takes_a_smaller_variant_and_too_little_is_refused_with_the_need() -> None:
    rich = choose_recipe("auto", n=5_000_000, dim=768, **PLENTY)
    tight = choose_recipe("auto", n=5_000_000, dim=768, ram_bytes=rich.build_ram - 1, disk_bytes=1 << 50)
    assert tight.build_ram < rich.build_ram
    assert tight.factory != rich.factory
    with pytest.raises(ResourceError, match=r"needs at least .* found 1,000 and"):
        choose_recipe("auto", n=5_000_000, dim=768, ram_bytes=1000, disk_bytes=1 << 50)
    assert choose_recipe("flat", n=5_000_000, dim=768, ram_bytes=0, disk_bytes=0).is_flat


@given(st.sampled_from(NAMES), st.integers(256, 2_000_000), st.integers(1, 2000))
def test_every_name_fits_every_width(name: str, rows: int, dim: int) -> None:
    recipe = choose_recipe(name, n=rows, dim=dim, **PLENTY)
    if recipe.factory:
        plan = parse(recipe.factory, dim)
        assert plan.text == recipe.factory
        assert not plan.subvectors or dim % plan.subvectors == 0
        assert plan.trained_on <= recipe.train_points <= rows or plan.links


def test_eight_bit_product_codes_always_skip_the_annealing() -> None:
    assert choose_recipe("ivf-pq", n=100_000, dim=384, **PLENTY).factory == "IVF1265,PQ48np"
    for text in ("IVF64,PQ48", "IVF64,PQ48x8", "IVF64,PQ48np"):
        assert choose_recipe(text, n=100_000, dim=384, **PLENTY).factory == "IVF64,PQ48np"
    assert parse("IVF64,PQ48x4fs", 384).text == "IVF64,PQ48x4fs"


@pytest.mark.parametrize("name", ["", "best", "IVF", "IVF0,SQ8", "IVF64", "PQ8;rm", "LSH", "IVF64,SQ8,Refine(PQ8)"])
def test_unknown_names_are_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match="auto, flat, hnsw, ivf, ivf-sq8, ivf-pq, rabitq"):
        choose_recipe(name, n=100_000, dim=64, **PLENTY)


def test_numbers_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="7 sub-vectors do not divide width 64"):
        choose_recipe("IVF64,PQ7", n=100_000, dim=64, **PLENTY)
    with pytest.raises(UsageError, match="at least 256 rows, found 100"):
        choose_recipe("ivf-pq", n=100, dim=64, **PLENTY)
    for wrong in ({"n": -1}, {"dim": 0}, {"recall_target": 0}, {"recall_target": 1.1}):
        with pytest.raises(UnabridgedError, match="found"):
            choose_recipe("auto", **{"n": 10, "dim": 8, **PLENTY, **wrong})


def test_a_higher_target_starts_with_more_work() -> None:
    probes = [choose_recipe("ivf", n=10**6, dim=64, **PLENTY, recall_target=t).search["nprobe"] for t in (0.9, 0.99, 1)]
    assert probes == sorted(set(probes))
