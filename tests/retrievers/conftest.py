"""Fixtures of tests that interrupt builds or divide them among processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import tests_engines as tools

from unabridged.retrievers import fill, staging


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units and shards of few documents."""
    monkeypatch.setattr(fill, "UNIT_CHARACTERS", 1500)
    monkeypatch.setattr(staging, "SHARD_DOCUMENTS", 9)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where encoders of ``tests_engines`` note what they are given."""
    folder = tmp_path / "log"
    folder.mkdir()
    monkeypatch.setenv(tools.LOG, str(folder))
    return folder
