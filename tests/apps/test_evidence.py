"""A repository indexed by a SEA encoder, searched on the command line: lines and weights of blocks."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from unabridged.apps.cli import app
from unabridged.encoders.hashing import HashingEncoder
from unabridged.encoders.sea.aggregators import Aggregator
from unabridged.encoders.sea.encoder import SeaEncoder

CODE = "def first(a):\n    return a + 1\n\n\ndef second(b):\n    total = b * 2\n    return total\n\n\n" + "\n".join(
    f"def other{n}(c):\n    value{n} = c - {n}\n    return value{n}\n\n" for n in range(6)
)


@pytest.fixture
def index(tmp_path):
    pytest.importorskip("tree_sitter_python")
    source = tmp_path / "src"
    source.mkdir()
    (source / "a.py").write_text(CODE)
    (source / "b.py").write_text("x = 1\n")
    weight = np.random.default_rng(0).standard_normal(32).astype(np.float32)
    aggregator = Aggregator("attention", {"weight": weight, "bias": np.zeros(1, np.float32)})
    sea = SeaEncoder(HashingEncoder(32, 24, split="syntax"), aggregator).save(tmp_path / "sea")
    done = CliRunner().invoke(
        app, ["index", str(source), "--out", str(tmp_path / "index"), "--encoder", str(sea), "--output", "json"]
    )
    assert done.exit_code == 0, done.output
    return tmp_path / "index"


def search(index, *options):
    done = CliRunner().invoke(app, ["search", str(index), "second total", *options])
    assert done.exit_code == 0, done.output
    return done.output


def test_json_has_the_blocks_of_a_hit_with_lines_and_weights(index):
    hits = json.loads(search(index, "--mode", "dense", "--output", "json"))["hits"]
    assert [hit["doc_id"] for hit in hits] == ["a.py", "b.py"]
    blocks = hits[0]["blocks"]
    assert len(blocks) == 3
    assert sum(block["weight"] for block in blocks) == pytest.approx(1, abs=1e-3)
    source = f"a.py {CODE}"
    assert "".join(source[block["start"] : block["end"]] for block in blocks) == source
    for block in blocks:
        first, last = block["lines"]
        text = source[block["start"] : block["end"]].strip()
        assert "\n".join(source.split("\n")[first - 1 : last]).strip().startswith(text.split("\n")[0])
        assert last - first == text.count("\n")
    assert len(hits[1]["blocks"]) == 1


def test_people_see_the_heaviest_blocks_and_words_alone_show_none(index):
    text = search(index, "--mode", "dense")
    assert "blocks by weight: " in text
    assert text.count("blocks by weight") == 1
    assert "blocks by weight" not in search(index, "--mode", "bm25")
