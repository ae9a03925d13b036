"""Shared fixtures: small corpora with hostile ids, and builds that need no weights."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

HOSTILE_IDS = ["plain", "with space", "with\ttab", "per%pcent", "naïve-é", "newline\nid"]


def words(start: int, count: int) -> str:
    """Deterministic prose: sentences of twelve words out of a vocabulary of 997."""
    out = []
    for n in range(start, start + count):
        word = f"w{(n * n * 31 + n * 7) % 997}"
        out.append(word.capitalize() + "" if n % 12 == 0 else word)
        if n % 12 == 11:
            out[-1] += "."
    return " ".join(out)


@pytest.fixture
def records() -> list[dict[str, object]]:
    """Six documents with hostile ids, 50 to 3,000 words each."""
    sizes = [50, 900, 300, 3000, 120, 700]
    return [
        {
            "_id": name,
            "title": f"Title {row}",
            "text": words(row * 5000, size),
            "metadata": {"row": row, "even": row % 2 == 0},
        }
        for row, (name, size) in enumerate(zip(HOSTILE_IDS, sizes, strict=True))
    ]


def write_jsonl(path: Path, items: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return path


@pytest.fixture
def corpus_file(tmp_path: Path, records: list[dict[str, object]]) -> Path:
    return write_jsonl(tmp_path / "corpus.jsonl", records)
