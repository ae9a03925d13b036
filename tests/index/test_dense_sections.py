"""Searching a base section by section: the hits of one whole search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unabridged.index.dense import FaissBase, build_base, sections
from unabridged.index.dense.sections import SectionedBase
from unabridged.index.recipe import choose_recipe

D = 16


def vectors(count: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((count, D)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def built(factory: str, metric: str, folder: Path) -> dict:
    recipe = choose_recipe(factory, n=3000, dim=D, ram_bytes=1 << 40, disk_bytes=1 << 40)
    return build_base(lambda: iter([vectors(3000, 0)]), 3000, D, recipe, folder, metric=metric)


@pytest.mark.parametrize("size", [1, 3000, 1 << 30], ids=["a list each", "several", "one"])
@pytest.mark.parametrize("metric", ["ip", "l2"])
@pytest.mark.parametrize(
    "factory", ["IVF20,SQfp16", "IVF20,PQ4x4np", "IVF20_HNSW8,SQ8", "IVF20,RaBitQ", "OPQ4_16,IVF20,PQ4x4np", "HNSW8"]
)
def test_a_search_by_sections_finds_what_one_search_finds(
    factory: str, metric: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sections, "SECTION_BYTES", size)
    monkeypatch.setattr(sections, "PROBES", 70)  # three queries at a time when all lists are visited
    facts = built(factory, metric, tmp_path)
    whole, parts = FaissBase.open(tmp_path, facts), SectionedBase(tmp_path, facts)
    queries = vectors(9, 1)
    for probes in (1, 5, 20):
        params = {} if factory == "HNSW8" else {"nprobe": probes}
        expected, found = (base.search(queries, 12, params=params) for base in (whole, parts))
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6, atol=1e-6)
        same = np.isclose(expected.scores[:, :-1], expected.scores[:, 1:]).any(axis=1)  # equal codes may change places
        assert (found.rows == expected.rows)[~same].all()


def test_the_file_is_opened_again_for_each_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sections, "SECTION_BYTES", 1)
    facts = built("IVF20,SQfp16", "ip", tmp_path)
    base, opened = SectionedBase(tmp_path, facts), []
    original = FaissBase.open.__func__
    monkeypatch.setattr(
        FaissBase, "open", classmethod(lambda cls, *args, **kw: opened.append(1) or original(cls, *args, **kw))
    )
    base.search(vectors(50, 2), 5, params={"nprobe": 20})
    assert len(opened) == 20
