"""SEA over a real base: vectors, folders, refusals, and a search over its index."""

import json
import shutil

import numpy as np
import pytest

import unabridged as ub
from unabridged.contracts import Document, Level, OverflowPolicy
from unabridged.corpora import ListCorpus
from unabridged.encoders._resolve import SEA_NAME, resolve
from unabridged.encoders.hashing import HashingEncoder
from unabridged.encoders.load import encoder_from_passport, load_encoder
from unabridged.encoders.sea.aggregators import Aggregator
from unabridged.encoders.sea.encoder import SeaEncoder
from unabridged.encoders.sea.folder import WEIGHTS_NAME
from unabridged.errors import MissingFile, PassportMismatch, UsageError, ValidationError
from unabridged.retrievers.evidence import blocks_of

TEXTS = ["the cat", "", "the cat sat on the mat. " * 30, "naïve 🙂 " * 20, "  \n"]


def attention(width, kind="attention", seed=0):
    weight = np.random.default_rng(seed).standard_normal(width).astype(np.float32)
    return Aggregator(kind, {"weight": weight, "bias": np.zeros(1, np.float32)})


@pytest.fixture(scope="module")
def base(bert_folder):
    pytest.importorskip("torch")
    return load_encoder(bert_folder, device="cpu", max_tokens=24, overlap=3)


@pytest.fixture(scope="module")
def sea(base):
    return SeaEncoder(base, attention(base.dim))


@pytest.fixture
def folder(sea, tmp_path):
    return sea.save(tmp_path / "saved")


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_blocks_spans_coverage_and_queries_are_the_base_encoders_own(base, sea):
    mine, theirs = sea.encode_documents(TEXTS), base.encode_documents(TEXTS)
    for field in ("offsets", "spans", "tokens", "segments"):
        np.testing.assert_array_equal(getattr(mine, field), getattr(theirs, field))
    np.testing.assert_array_equal(mine.coverage.seen, theirs.coverage.seen)
    np.testing.assert_array_equal(sea.encode_queries(TEXTS), base.encode_queries(TEXTS))
    assert not np.allclose(mine.documents[2], theirs.documents[2], atol=1e-3)


def test_a_document_is_the_aggregate_of_its_blocks_with_norm_one(sea):
    read = sea.encode_documents(TEXTS)
    raw = sea.aggregator(read.segments, read.offsets)
    np.testing.assert_allclose(read.documents, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-6)
    weights = sea.block_weights(read.segments, read.offsets)
    assert int(np.diff(read.offsets)[2]) > 3
    np.testing.assert_allclose(np.add.reduceat(weights, read.offsets[:-1]), 1, rtol=1e-5)


def test_policies_levels_and_verbs_give_the_same_vectors(sea):
    read = sea.encode_documents(TEXTS)
    whole = sea.encode_documents(TEXTS, level=Level.DOC, overflow=OverflowPolicy.AGGREGATE)
    assert whole.segments is None
    np.testing.assert_array_equal(whole.documents, read.documents)
    for verb in (sea.encode, sea.encode_document, lambda texts: sea.encode(texts, prompt_name="document")):
        np.testing.assert_array_equal(verb(TEXTS), read.documents)
        np.testing.assert_allclose(verb(TEXTS[2]), read.documents[2], atol=2e-6)
    np.testing.assert_array_equal(sea.encode(TEXTS, prompt_name="query"), sea.encode_queries(TEXTS))
    np.testing.assert_allclose(sea.encode_query("the cat"), sea.encode_queries(["the cat"])[0], atol=2e-6)
    cut = sea.encode_documents(TEXTS, overflow=OverflowPolicy.TRUNCATE)
    np.testing.assert_array_equal(cut.documents, cut.segments)
    assert cut.coverage.truncated == 2
    with pytest.raises(UsageError, match="document vectors only"):
        sea.encode_documents(TEXTS, level=Level.SEGMENT, overflow=OverflowPolicy.AGGREGATE)
    with pytest.raises(UsageError, match="got 'other'"):
        sea.encode(TEXTS, prompt_name="other")


def test_a_base_without_norm_one_gives_blocks_and_queries_of_norm_one(tiny, tmp_path):
    base = load_encoder(tiny.bert(tmp_path / "m", normalize=False), device="cpu")
    assert abs(np.linalg.norm(base.encode_queries(["the cat"])) - 1) > 0.1
    sea = SeaEncoder(base, Aggregator("mean"))
    read = sea.encode_documents(TEXTS)
    for vectors in (read.segments, read.documents, sea.encode_queries(TEXTS)):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda tiny, tmp: load_encoder(tiny.bert(tmp / "m"), device="cpu", max_tokens=20, overlap=2, truncate_dim=16),
        lambda tiny, tmp: load_encoder(tiny.mamba(tmp / "m"), device="cpu", max_tokens=20, carry=False),
        lambda tiny, tmp: HashingEncoder(32, 20, overlap=3),
        lambda tiny, tmp: load_encoder(device="cpu", max_tokens=48),
    ],
    ids=["bert", "mamba", "hashing", "embedded"],
)
@pytest.mark.parametrize("kind", ["attention_plus_mean", "max"])
def test_a_saved_encoder_loads_again_by_the_same_fingerprint_without_its_first_folder(tiny, tmp_path, make, kind):
    base = make(tiny, tmp_path)
    sea = SeaEncoder(base, attention(base.dim, kind) if "attention" in kind else Aggregator(kind))
    wanted = sea.encode_documents(TEXTS)
    saved = sea.save(tmp_path / "saved")
    shutil.rmtree(tmp_path / "m", ignore_errors=True)
    moved = saved.rename(tmp_path / "moved")
    again = load_encoder(moved, device="cpu")
    assert again.passport.facts == sea.passport.facts
    assert again.passport.fingerprint == sea.passport.fingerprint
    assert again.passport.source == str(moved)
    np.testing.assert_array_equal(again.encode_documents(TEXTS).documents, wanted.documents)
    assert encoder_from_passport(again.passport, device="cpu").passport == again.passport
    second = again.save(tmp_path / "second")
    names = sorted(path.relative_to(second) for path in second.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(moved) for path in moved.rglob("*") if path.is_file())
    assert all((moved / name).read_bytes() == (second / name).read_bytes() for name in names)
    with pytest.raises(UsageError, match="exists already"):
        again.save(second)


def test_formula_parameters_and_base_are_in_the_fingerprint(base, bert_folder):
    other = load_encoder(bert_folder, device="cpu", max_tokens=25, overlap=3)
    made = [
        SeaEncoder(base, attention(base.dim)),
        SeaEncoder(base, attention(base.dim, seed=1)),
        SeaEncoder(base, attention(base.dim, "attention_plus_mean")),
        SeaEncoder(base, Aggregator("mean")),
        SeaEncoder(other, Aggregator("mean")),
    ]
    assert len({one.passport.fingerprint for one in made} | {base.passport.fingerprint}) == 6


def test_precision_can_be_chosen_and_the_passport_remembers_it(folder):
    exact, rough = load_encoder(folder, device="cpu"), load_encoder(folder, device="cpu", dtype="bfloat16")
    assert exact.passport.fingerprint != rough.passport.fingerprint
    assert encoder_from_passport(rough.passport, device="cpu").passport == rough.passport
    one, other = (encoder.encode_documents(TEXTS).documents for encoder in (exact, rough))
    assert 0 < np.abs(one - other).max() < 0.1


def test_an_aggregator_of_another_encoder_is_refused_and_both_are_named(tiny, folder, tmp_path):
    shutil.rmtree(folder / "base")
    tiny.bert(folder / "base", seed=1, prompts={"query": "query: ", "document": "passage: "})
    with pytest.raises(PassportMismatch, match=r"aggregates blocks of 'base' with fingerprint .* was .* and is "):
        load_encoder(folder, device="cpu")
    with pytest.raises(ValidationError, match=r"blocks of width 31, and .* width 32"):
        SeaEncoder(load_encoder(folder / "base", device="cpu"), attention(31))
    shutil.rmtree(folder / "base")
    with pytest.raises(MissingFile, match="base"):
        load_encoder(folder, device="cpu")


def test_an_aggregator_over_an_aggregator_is_refused(sea):
    with pytest.raises(UsageError, match="aggregates blocks already"):
        SeaEncoder(sea, Aggregator("mean"))


@pytest.mark.parametrize(
    "options",
    [{"max_tokens": 9}, {"overlap": 1}, {"truncate_dim": 8}, {"late_tokens": 9}, {"extend": "pi"}, {"carry": True},
     {"backend": "torch"}, {"query_prompt": "a"}],
    ids=str,
)  # fmt: skip
def test_settings_of_the_base_cannot_be_changed_behind_its_aggregator(folder, options):
    with pytest.raises(UsageError, match="aggregates blocks of one encoder"):
        load_encoder(folder, **options)


def test_where_a_model_folder_is_needed_a_sea_folder_is_refused_by_name(folder):
    with pytest.raises(UsageError, match="is a SEA encoder"):
        resolve(folder)


def rewrite(folder, tensors):
    from safetensors.numpy import save_file

    save_file(tensors, str(folder / WEIGHTS_NAME))


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda f: edit(f / SEA_NAME, lambda c: c.update(format=2)), ValidationError, "has format 2"),
        (lambda f: edit(f / SEA_NAME, lambda c: c.pop("base")), ValidationError, "should hold"),
        (lambda f: edit(f / SEA_NAME, lambda c: c["aggregator"].pop("kind")), ValidationError, "aggregator should be"),
        (lambda f: edit(f / SEA_NAME, lambda c: c["aggregator"].update(kind="x")), ValidationError, "no aggregator"),
        (lambda f: edit(f / SEA_NAME, lambda c: c["base"]["facts"].update(window=9)), ValidationError, "fingerprint"),
        (lambda f: (f / SEA_NAME).write_text("{"), ValidationError, "is not JSON"),
        (lambda f: (f / WEIGHTS_NAME).unlink(), MissingFile, "holds the parameters"),
        (lambda f: (f / WEIGHTS_NAME).write_bytes(b"nothing"), ValidationError, "no safetensors"),
        (lambda f: rewrite(f, {"weight": np.zeros(3, np.float32)}), ValidationError, "Restore the files"),
        (lambda f: rewrite(f, {"weight": np.full(32, np.inf, np.float32), "bias": np.zeros(1, np.float32)}),
         ValidationError, "not finite"),
    ],
    ids=range(10),
)  # fmt: skip
def test_a_damaged_folder_says_what_is_wrong(folder, change, error, said):
    change(folder)
    with pytest.raises(error, match=said):
        load_encoder(folder, device="cpu")


def test_a_base_that_lies_nowhere_and_cannot_be_saved_is_refused(tmp_path, base):
    class Unsaved:
        dim = base.dim
        passport = base.passport

    sea = SeaEncoder(Unsaved(), Aggregator("mean"))
    with pytest.raises(UsageError, match="cannot be saved"):
        sea.save(tmp_path / "saved")
    assert not any(tmp_path.iterdir())


def test_an_index_is_built_and_opened_again_with_the_encoder_of_its_passport(folder, tmp_path):
    documents = [
        Document(f"d{n}", text) for n, text in enumerate(["the cat sat " * 40, "a long document " * 30, "mat"])
    ]
    index = ub.build_index(ListCorpus(documents), load_encoder(folder, device="cpu"), tmp_path / "index")
    hits = ub.open_index(tmp_path / "index").search_one("mat", mode="dense")
    assert len(hits) == 3
    assert index.state.passport.facts["kind"] == "sea"
    segments = ub.open_index(tmp_path / "index").search_one("mat", mode="dense", level="segment")
    assert len(segments) > 3


def test_blocks_of_a_document_are_weighed_again_from_what_the_index_keeps(folder, base, tmp_path):
    documents = [Document(f"d{n}", text, title="t") for n, text in enumerate(TEXTS)]
    encoder = load_encoder(folder, device="cpu")
    ub.build_index(ListCorpus(documents), encoder, tmp_path / "index", vector_dtype="float16")
    index = ub.open_index(tmp_path / "index")
    sources = [document.source for document in documents]
    read = encoder.encode_documents(sources)
    wanted = encoder.block_weights(read.segments, read.offsets)
    for n, document in enumerate(documents):
        rows = slice(*read.offsets[n : n + 2])
        blocks = blocks_of(index, document.id)
        assert [[block.start, block.end] for block in blocks] == read.spans[rows].tolist()
        np.testing.assert_allclose([block.weight for block in blocks], wanted[rows], atol=2e-3)
    with pytest.raises(UsageError, match="no document with id 'd9'"):
        blocks_of(index, "d9")
    ub.build_index(ListCorpus(documents), base, tmp_path / "plain")
    assert blocks_of(ub.open_index(tmp_path / "plain"), "d0") == ()
    ub.build_index(ListCorpus(documents), encoder, tmp_path / "whole", level="doc")
    assert blocks_of(ub.open_index(tmp_path / "whole"), "d0") == ()
