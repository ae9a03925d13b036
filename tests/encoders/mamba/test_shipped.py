"""The trained Mamba that comes with the package."""

import numpy as np
import pytest

import unabridged as ub
from unabridged.contracts import Level
from unabridged.encoders._resolve import SHIPPED
from unabridged.encoders.load import load_encoder

PAIRS = {
    "how to open a database connection": "connect(path) opens a connection to the SQLite file at path and returns it.",
    "sort a list of numbers": "Sorting puts the elements of an array into ascending order by comparing them.",
    "render a template as HTML": "The view fills the template with the context and answers with the page in HTML.",
    "shortest path in a graph": "Dijkstra's algorithm finds the way of least weight between two nodes of a network.",
    "password of a user": "Accounts are protected by a secret word, which is stored as a salted hash.",
    "compress a file": "The archive module writes data in a smaller form with the deflate method.",
    "large African animal with a trunk": "An elephant is a very big mammal with tusks and a long flexible nose.",
    "differentiate an expression": "diff(f, x) gives the symbolic derivative of f with respect to x.",
}


@pytest.fixture(scope="module")
def shipped():
    return load_encoder("mamba", device="cpu")


def test_it_is_small_and_says_how_it_was_made():
    files = [path for path in SHIPPED["mamba"].rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 40 << 20
    card = (SHIPPED["mamba"] / "README.md").read_text(encoding="utf-8")
    for said in ("unabridged train mamba", "SHA-256", "nDCG@10"):
        assert said in card


def test_it_finds_what_a_question_means(shipped):
    queries = shipped.encode_queries(list(PAIRS))
    documents = shipped.encode_documents(list(PAIRS.values()), level=Level.DOC).documents
    assert documents is not None
    right = (queries @ documents.T).argmax(axis=1) == np.arange(len(PAIRS))
    assert right.sum() >= len(PAIRS) - 2, dict(zip(PAIRS, right, strict=True))


def test_a_long_document_is_read_to_its_end(shipped):
    filler = "Nothing of importance happened on that day, and the weather was fair. " * 200
    texts = [filler + answer for answer in PAIRS.values()]
    read = shipped.encode_documents(texts)
    assert read.coverage.truncated == 0
    assert read.segments is not None
    similar = shipped.encode_queries(list(PAIRS)) @ read.segments.T
    best = np.maximum.reduceat(similar, read.offsets[:-1], axis=1).argmax(axis=1)
    assert (best == np.arange(len(PAIRS))).sum() >= len(PAIRS) - 2


def test_an_index_is_searched_by_its_name_alone(shipped, tmp_path):
    documents = [ub.Document(str(i), text) for i, text in enumerate(PAIRS.values())]
    ub.build_index(documents, out=tmp_path / "idx", encoder="mamba")
    index = ub.open_index(tmp_path / "idx")
    assert index.encoder.passport.fingerprint == shipped.passport.fingerprint
    found = [index.search_one(query, k=3)[0].doc_id for query in PAIRS]
    assert sum(doc_id == str(i) for i, doc_id in enumerate(found)) >= len(PAIRS) - 2
