"""Hard negatives are what an index finds and nobody calls right."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from unabridged.apps.cli import app
from unabridged.contracts import Document
from unabridged.encoders.hashing import HashingEncoder
from unabridged.errors import UsageError
from unabridged.retrievers.api import build_index
from unabridged.training.mining import Miner, Mining, write_mined
from unabridged.training.pairs import Pair, Source

TEXTS = {
    "right": "apples grow on old trees in the garden behind our house",
    "other": "pears and apples grow well in this part of the country",
    "again": "Apples grow on old  trees in the garden behind our house",
    "near": "apples grow on old trees in the garden behind our house since spring",
    "hard": "the trees in the garden of our house are old oaks",
    "third": "we sold the house because the garden was small",
    "far": "compilers turn source into machine code",
}
QUERY = "where do apples grow on trees near the house"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    documents = [Document(name, text) for name, text in TEXTS.items()]
    with build_index(documents, HashingEncoder(64), tmp_path_factory.mktemp("mined") / "index", level="both") as found:
        yield found


def names(pair):
    return [next(name for name, text in TEXTS.items() if text == one) for one in pair.negatives]


@pytest.mark.parametrize("mode", ["dense", "hybrid"])
def test_what_is_judged_or_nearly_so_is_never_taken(index, mode):
    miner = Miner(index, Mining(k=7, mode=mode, margin=None), None)
    by_text = Pair(QUERY, (TEXTS["right"],))
    by_id = Pair(QUERY, (TEXTS["right"],), right=frozenset({"right", "other"}))
    first, second = miner.mine([by_text, by_id])
    assert set(names(first)) == {"other", "hard", "third", "far"}
    assert set(names(second)) == {"hard", "third", "far"}
    assert (miner.found.queries, miner.found.negatives, miner.found.without) == (2, 7, 0)
    assert (miner.found.judged, miner.found.duplicates) == (2 + 3, 2)


def test_the_best_ranked_are_kept_in_order_and_given_ones_stay_in_front(index):
    ranking = [name for name in index.rank([QUERY], 7, mode="dense")[0].doc_ids if name in ("other", "hard", "third")]
    miner = Miner(index, Mining(k=7, keep=2, mode="dense", margin=None), None)
    (found,) = miner.mine([Pair(QUERY, (TEXTS["right"],), (TEXTS["far"],))])
    assert names(found) == ["far", *ranking[:2]]
    skipping = Miner(index, Mining(k=7, skip=6, mode="dense", margin=None), None)
    (last,) = skipping.mine([Pair(QUERY, (TEXTS["right"],))])
    assert names(last) == list(index.rank([QUERY], 7, mode="dense")[0].doc_ids)[6:]


def test_what_is_as_like_the_query_as_a_right_answer_is_left_out(index):
    encoder = index.encoder
    query = encoder.encode_queries([QUERY])[0]
    cosine = {name: float(query @ encoder.encode_documents([text]).documents[0]) for name, text in TEXTS.items()}
    for margin in (0.3, 0.6, 0.9):
        miner = Miner(index, Mining(k=7, mode="dense", margin=margin), encoder)
        (found,) = miner.mine([Pair(QUERY, (TEXTS["right"],))])
        expected = {name for name in ("other", "hard", "third", "far") if cosine[name] <= margin * cosine["right"]}
        assert set(names(found)) == expected
        assert miner.found.too_similar == 4 - len(expected)
    with pytest.raises(UsageError, match="measured by an encoder"):
        Miner(index, Mining(), None)


class Scaled:
    """An encoder whose vectors have any norm, by the number of letters."""

    def __init__(self, encoder):
        self.encoder = encoder

    def encode_queries(self, texts):
        return self.encoder.encode_queries(texts) * 7

    def encode_documents(self, texts, **options):
        found = self.encoder.encode_documents(texts, **options)
        return replace(found, documents=found.documents * np.array([[len(text)] for text in texts], np.float32))


def test_norms_of_vectors_do_not_change_what_is_too_like_the_query(index):
    for margin in (0.3, 0.6, 0.9):
        miners = [Miner(index, Mining(k=7, mode="dense", margin=margin), one)
                  for one in (index.encoder, Scaled(index.encoder))]  # fmt: skip
        first, second = (names(next(iter(miner.mine([Pair(QUERY, (TEXTS["right"],))])))) for miner in miners)
        assert first == second


def test_impossible_numbers_are_usage_errors():
    for options in ({"k": 0}, {"keep": 0}, {"skip": 50}, {"margin": 0.0}, {"margin": 1.5}):
        with pytest.raises(UsageError):
            Mining(**options)


def test_what_is_written_is_what_training_reads(index, tmp_path):
    pairs = [Pair(QUERY, (TEXTS["right"],)), Pair("caf\u00e9", (TEXTS["far"],), (TEXTS["hard"],))]
    mined = list(Miner(index, Mining(k=7, mode="dense", margin=None), None).mine(pairs))
    path = tmp_path / "mined.jsonl"
    assert write_mined(path, mined) == 2
    found = [(pair.query, pair.positives, pair.negatives) for pair in Source(path)]
    assert found == [(pair.query, pair.positives, pair.negatives) for pair in mined]
    with pytest.raises(UsageError, match="exists already"):
        write_mined(path, mined)


def test_the_command_mines_from_an_index_folder(index, tmp_path):
    data = tmp_path / "pairs.jsonl"
    data.write_text(json.dumps({"query": QUERY, "positive": TEXTS["right"]}) + "\n")
    line = ["train", "mine", str(data), "--index", str(index.folder), "--out", str(tmp_path / "mined.jsonl")]
    found = CliRunner().invoke(app, [*line, "--mode", "dense", "--k", "7", "--margin", "0", "--output", "json"])
    assert found.exit_code == 0, found.output
    report = json.loads(found.stdout.splitlines()[-1])
    assert report["negatives"] == 4
    assert report["duplicates"] == 1
    (pair,) = Source(tmp_path / "mined.jsonl")
    assert set(names(pair)) == {"other", "hard", "third", "far"}
