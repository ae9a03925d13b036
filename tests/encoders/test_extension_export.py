"""Saved encoders: the same fingerprint and vectors here, the same vectors in sentence-transformers."""

import json
import logging
import shutil

import numpy as np
import pytest

from unabridged.encoders._extension_file import SavedExtension, write_extension
from unabridged.encoders.extension import Extension, Method
from unabridged.encoders.load import encoder_from_passport, load_encoder
from unabridged.errors import UsageError

torch = pytest.importorskip("torch")

LO, LT = 64, 512
TEXTS = ["the cat", "", "the cat sat on the mat. " * 3, "the cat sat on mat. " * 12]
OPTIONS = [
    {},
    {"extend": "pi", "target_tokens": LT},
    {"extend": "pcw", "target_tokens": LT},
    {"extend": "gp", "target_tokens": LT, "temperature": 0.8, "logn": "per_sequence", "max_tokens": 300},
    {"temperature": 0.9},
]


@pytest.fixture(params=OPTIONS, ids=str)
def options(request):
    return {"device": "cpu", **request.param}


@pytest.fixture(params=["bert", "roberta"])
def encoder(request, options):
    """A folder with prompts and a default one, and one with cls pooling and a dense layer."""
    return load_encoder(request.getfixturevalue(f"{request.param}_folder"), **options)


def test_a_saved_encoder_loads_again_by_the_same_fingerprint(encoder, tmp_path):
    again = load_encoder(encoder.save(tmp_path / "saved"), device="cpu")
    assert again.passport.fingerprint == encoder.passport.fingerprint
    assert again.passport.facts == encoder.passport.facts
    assert again.plan == encoder.plan
    np.testing.assert_array_equal(again.encode_documents(TEXTS).segments, encoder.encode_documents(TEXTS).segments)
    np.testing.assert_array_equal(again.encode_queries(TEXTS), encoder.encode_queries(TEXTS))
    assert encoder_from_passport(again.passport, device="cpu").passport == again.passport


def test_saving_again_writes_the_same_bytes(encoder, tmp_path):
    first = encoder.save(tmp_path / "first")
    second = load_encoder(first, device="cpu").save(tmp_path / "second")
    names = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(second) for path in second.rglob("*") if path.is_file())
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_prompts_that_were_taken_away_stay_away(bert_folder, tmp_path):
    bare = load_encoder(bert_folder, device="cpu", query_prompt="", document_prompt="read: ")
    again = load_encoder(bare.save(tmp_path / "saved"), device="cpu")
    assert again.passport.facts["prompts"] == {"query": "", "document": "read: "}
    assert again.folder.default_prompt == bare.folder.default_prompt


def test_a_folder_that_is_there_is_never_written_over(bert_folder, tmp_path):
    encoder = load_encoder(bert_folder, device="cpu")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        encoder.save(tmp_path / "mine")
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "note.txt"]


def test_a_save_that_fails_leaves_nothing(bert_folder, tmp_path):
    source = shutil.copytree(bert_folder, tmp_path / "source")
    encoder = load_encoder(source, device="cpu", extend="pi", target_tokens=LT)
    (source / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError):
        encoder.save(tmp_path / "out" / "saved")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_asked_goes_on_top_of_what_was_saved(bert_folder, tmp_path):
    saved = load_encoder(bert_folder, extend="pi", target_tokens=LT, original_tokens=48).save(tmp_path / "saved")
    assert load_encoder(saved, temperature=0.8).plan == load_encoder(saved).plan.changed(temperature=0.8)
    assert load_encoder(saved, extend="gp", target_tokens=96).plan.original == 48
    assert load_encoder(saved, extension=Extension()).plan.is_none
    plain = load_encoder(saved, extension=Extension())
    assert encoder_from_passport(plain.passport).passport == plain.passport


@pytest.fixture(scope="module")
def tuned_folder(tmp_path_factory, plain_bert_folder):
    """A folder as training writes it: a row for every target position, anchors as they were."""
    from transformers import AutoModel

    folder = shutil.copytree(plain_bert_folder, tmp_path_factory.mktemp("tuned") / "model")
    model = AutoModel.from_pretrained(folder)
    old = model.embeddings.position_embeddings.weight.detach()
    rows = torch.randn(LT, 32, generator=torch.Generator().manual_seed(3))
    rows[::8] = old
    model.embeddings.position_embeddings = torch.nn.Embedding.from_pretrained(rows)
    model.config.max_position_embeddings = LT
    model.save_pretrained(folder)
    asked = Extension(Method.PI, LT, original_tokens=LO, rows_per_position=8)
    write_extension(folder, SavedExtension(asked))
    return folder


@pytest.mark.parametrize("backend", ["packed", "torch"])
def test_tuned_positions_are_read_without_an_option(tuned_folder, plain_bert_folder, backend):
    """Short inputs take the anchors, bit for bit the untuned model; long ones take every row."""
    from transformers import AutoModel

    encoder = load_encoder(tuned_folder, device="cpu", backend=backend)
    untuned = load_encoder(plain_bert_folder, device="cpu", backend=backend)
    assert encoder.window == LT
    short = ["the cat", "", " ".join(["mat"] * (LO - 2))]
    np.testing.assert_array_equal(encoder.encode_documents(short).documents, untuned.encode_documents(short).documents)
    model = AutoModel.from_pretrained(tuned_folder, attn_implementation="eager").eval()
    for words in (LO - 1, LT - 2):
        ids = torch.tensor([[2, *encoder.tokenizer.encode([" ".join(["mat"] * words)])[0].ids.tolist(), 3]])
        places = torch.arange(ids.shape[1])[None]
        with torch.inference_mode():
            states = model(ids, position_ids=places, token_type_ids=torch.zeros_like(ids)).last_hidden_state[0]
        found = encoder.encode_documents([" ".join(["mat"] * words)]).documents[0]
        np.testing.assert_allclose(found, states.mean(0).numpy(), atol=1e-5)


def test_a_tuned_folder_read_by_another_method_still_finds_its_anchors(tuned_folder, plain_bert_folder):
    options = {"device": "cpu", "extend": "gp", "target_tokens": LT}
    tuned = load_encoder(tuned_folder, **options).encode_documents(TEXTS).documents
    untuned = load_encoder(plain_bert_folder, **options).encode_documents(TEXTS).documents
    np.testing.assert_allclose(tuned, untuned, atol=2e-6)
    plain = load_encoder(tuned_folder, device="cpu", extension=Extension())
    assert plain.window == LO
    np.testing.assert_array_equal(
        plain.encode_documents(TEXTS).segments,
        load_encoder(plain_bert_folder, device="cpu").encode_documents(TEXTS).segments,
    )


@pytest.fixture(scope="module")
def library():
    return pytest.importorskip("sentence_transformers")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_sentence_transformers_gives_the_same_vectors(encoder, tmp_path, library):
    saved = encoder.save(tmp_path / "saved")
    model = library.SentenceTransformer(str(saved), device="cpu", trust_remote_code=True)
    assert (model.max_seq_length, model.get_embedding_dimension()) == (encoder.window, encoder.dim)
    fits = [text for text in TEXTS if encoder.count_tokens([text])[0] <= encoder.window - 8]
    assert encoder.window == LO or fits == TEXTS
    kwargs = {"normalize_embeddings": True}
    np.testing.assert_allclose(model.encode_document(fits, **kwargs), encoder.encode_document(fits), atol=3e-6)
    np.testing.assert_allclose(model.encode_query(fits, **kwargs), encoder.encode_query(fits), atol=3e-6)
    single = model.encode("the cat", prompt="passage: ")
    np.testing.assert_allclose(single, encoder.encode("the cat", prompt="passage: "), atol=3e-6)


def test_sentence_transformers_reads_to_the_target_and_says_so(bert_folder, tmp_path, library, caplog):
    encoder = load_encoder(bert_folder, device="cpu", extend="pi", target_tokens=2 * LO)
    model = library.SentenceTransformer(str(encoder.save(tmp_path / "s")), device="cpu", trust_remote_code=True)
    words = " ".join(["mat"] * 500)
    with caplog.at_level(logging.WARNING):
        found = model.encode([words], prompt="")
    assert "tokens not read" in caplog.text
    kept = encoder.encode(" ".join(["mat"] * (2 * LO - 2)), prompt="")
    np.testing.assert_allclose(found[0], kept, atol=3e-6)


def test_sentence_transformers_saves_what_loads_again_here(bert_folder, tmp_path, library):
    encoder = load_encoder(bert_folder, device="cpu", extend="pcw", target_tokens=LT)
    model = library.SentenceTransformer(str(encoder.save(tmp_path / "one")), device="cpu", trust_remote_code=True)
    model.save_pretrained(str(tmp_path / "two"))
    modules = json.loads((tmp_path / "two" / "modules.json").read_text())
    assert [module["type"] for module in modules] == ["unabridged.encoders.st.ExtendedTransformer"]
    assert load_encoder(tmp_path / "two", device="cpu").passport.fingerprint == encoder.passport.fingerprint


def test_only_texts_are_taken(bert_folder, tmp_path, library):
    encoder = load_encoder(bert_folder, device="cpu", extend="pi", target_tokens=LT)
    model = library.SentenceTransformer(str(encoder.save(tmp_path / "one")), device="cpu", trust_remote_code=True)
    with pytest.raises(UsageError, match="dict"):
        model[0].preprocess([{"text": "the cat"}])
