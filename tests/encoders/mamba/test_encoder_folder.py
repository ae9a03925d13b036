"""Mamba folders: what they say, what is saved, what is refused."""

import json
import shutil

import numpy as np
import pytest

from unabridged.encoders.load import encoder_from_passport, load_encoder
from unabridged.encoders.mamba.folder import SEGMENT_TOKENS, SETTINGS_NAME
from unabridged.errors import MissingFile, Overflow, PassportMismatch, ShapeError, UsageError, ValidationError

TEXTS = ["the cat", "", "the cat sat on the mat. " * 9, "é"]
PROMPTS = {"query": "query: ", "document": "passage: ", "other": "the cat "}


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    return tiny.mamba(tmp_path_factory.mktemp("mamba") / "m", prompts=PROMPTS, default="other")


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("variant", [1, 2], ids=["mamba", "mamba2"])
def test_a_published_checkpoint_has_the_state_of_the_closing_token_carried_on(tiny, tmp_path, variant):
    hf = tiny.mamba(tmp_path / "hf", variant=variant, published=True)
    original = tiny.original_layout(hf, tmp_path / "original", variant=variant)
    found = [load_encoder(path, device="cpu") for path in (hf, original)]
    for encoder in found:
        facts = encoder.passport.facts
        assert (facts["kind"], facts["pooling"], facts["normalize"], facts["carry"]) == ("mamba", "last", True, True)
        assert (facts["prompts"], facts["closing"]) == ({"query": "", "document": ""}, [0])
        assert encoder.window == facts["window"] == SEGMENT_TOKENS
        assert encoder.dim == 32
    np.testing.assert_allclose(*[encoder.encode_documents(TEXTS).documents for encoder in found], atol=1e-6)


OPTIONS = [
    {},
    {"carry": False, "max_tokens": 40, "pooling": "mean", "query_prompt": "", "document_prompt": "read: "},
    {"truncate_dim": 7, "normalize": False},
]


@pytest.mark.parametrize("layout", ["hf", "original"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_saved_encoder_loads_again_by_the_same_fingerprint(folder, tiny, tmp_path, options, layout):
    source = folder if layout == "hf" else tiny.original_layout(folder, tmp_path / "original")
    encoder = load_encoder(source, device="cpu", **options)
    again = load_encoder(encoder.save(tmp_path / "saved"), device="cpu")
    assert again.passport.facts == encoder.passport.facts
    assert again.passport.fingerprint == encoder.passport.fingerprint
    np.testing.assert_array_equal(again.encode_documents(TEXTS).segments, encoder.encode_documents(TEXTS).segments)
    assert encoder_from_passport(again.passport, device="cpu").passport == again.passport
    assert encoder_from_passport(encoder.passport, device="cpu").passport == encoder.passport
    second = again.save(tmp_path / "second")
    names = sorted(path.relative_to(second) for path in second.rglob("*") if path.is_file())
    assert all((tmp_path / "saved" / name).read_bytes() == (second / name).read_bytes() for name in names)
    with pytest.raises(UsageError, match="exists already"):
        encoder.save(tmp_path / "saved")


def test_a_passport_has_every_setting_and_another_one_is_refused(folder):
    encoder = load_encoder(folder, device="cpu", max_tokens=40, carry=False, overlap=3, dtype="bfloat16")
    again = encoder_from_passport(encoder.passport, device="cpu")
    assert again.passport == encoder.passport
    assert again.passport.facts["backend"]["precision"] == "bfloat16"
    others = [{}, {"carry": False}, {"max_tokens": 39}, {"pooling": "mean"}, {"normalize": False}, {"truncate_dim": 31}]
    others += [{"query_prompt": ""}, {"document_prompt": ""}, {"dtype": "bfloat16"}]
    assert len({load_encoder(folder, **other).passport.fingerprint for other in others}) == len(others)


def test_other_weights_are_another_encoder(folder, tiny, tmp_path):
    passport = load_encoder(folder).passport
    with pytest.raises(PassportMismatch, match="weights"):
        encoder_from_passport(passport, name=tiny.mamba(tmp_path / "m", seed=1, prompts=PROMPTS, default="other"))


def test_counting_and_the_passport_load_neither_torch_nor_transformers(folder):
    import subprocess
    import sys

    code = (
        "import sys; from unabridged.encoders.load import load_encoder; "
        f"e = load_encoder({str(folder)!r}); assert e.count_tokens(['hello']).tolist() == [5]; e.passport; e.dim; "
        "print(sorted({'torch', 'transformers', 'numba', 'safetensors.torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_verbs_of_sentence_transformers_take_the_prompts_of_the_folder(folder):
    encoder = load_encoder(folder, device="cpu")
    bare = load_encoder(folder, device="cpu", query_prompt="", document_prompt="")
    text = "sat on the mat"
    for vector, prompt in (
        (encoder.encode(text), "the cat "),
        (encoder.encode(text, prompt_name="query"), "query: "),
        (encoder.encode(text, prompt="any "), "any "),
        (encoder.encode_query(text), "query: "),
        (encoder.encode_document(text), "passage: "),
    ):
        assert vector.shape == (32,)
        np.testing.assert_allclose(vector, bare.encode_queries([prompt + text])[0], atol=1e-6)
    assert encoder.encode([text, text]).shape == (2, 32)
    with pytest.raises(UsageError, match="no prompt called 'none'"):
        encoder.encode(text, prompt_name="none")


def test_sentence_transformers_computes_a_saved_encoder_with_this_package(folder, tmp_path):
    st = pytest.importorskip("sentence_transformers")
    encoder = load_encoder(folder, device="cpu", max_tokens=40, document_prompt="")
    saved = encoder.save(tmp_path / "saved")
    model = st.SentenceTransformer(str(saved), trust_remote_code=True, device="cpu")
    np.testing.assert_allclose(model.encode_document(TEXTS), encoder.encode_document(TEXTS), atol=1e-6)
    np.testing.assert_allclose(model.encode_query(TEXTS), encoder.encode_query(TEXTS), atol=1e-6)
    model.save(str(tmp_path / "again"))
    assert load_encoder(tmp_path / "again").passport.fingerprint == encoder.passport.fingerprint


def test_the_shipped_name_is_no_folder_of_the_user(tmp_path, monkeypatch, folder):
    from unabridged.encoders import _resolve

    monkeypatch.setattr(_resolve, "SHIPPED", {"mamba": folder})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mamba").mkdir()
    assert load_encoder("mamba").passport.source == "mamba"
    assert load_encoder("mamba").passport.fingerprint == load_encoder(folder).passport.fingerprint
    with pytest.raises(MissingFile, match=r"config\.json"):
        load_encoder("./mamba")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"extend": "pi", "target_tokens": 1024}, "no positions"),
        ({"temperature": 0.9}, "nothing to extend"),
        ({"late_tokens": 32}, "one pass"),
        ({"landmark_tokens": 4}, "max_tokens"),
        ({"backend": "onnx"}, "'onnx'"),
        ({"precision": "int8"}, "'int8'"),
        ({"pooling": "cls"}, "last or mean"),
        ({"overlap": 3}, "carry=False"),
        ({"overlap": 30, "carry": False, "max_tokens": 40}, "half of the window"),
        ({"max_tokens": 0}, "room for 0"),
        ({"truncate_dim": 33}, "from 1 to 32"),
        ({"batch_tokens": 0}, "at least 1 token"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_refused_before_anything_is_loaded(folder, options, words):
    with pytest.raises(UsageError, match=words):
        load_encoder(folder, **options)


def test_carry_is_refused_where_nothing_is_carried(bert_folder):
    for options in ({"carry": True}, {"normalize": True}):
        with pytest.raises(UsageError, match="Mamba"):
            load_encoder(bert_folder, **options)


def test_a_tokenizer_without_a_closing_token_is_refused_and_says_what_to_add(copy):
    edit(copy / "tokenizer_config.json", lambda c: c.pop("eos_token"))
    with pytest.raises(ValidationError, match=r'"eos_token".*tokenizer_config\.json'):
        load_encoder(copy)


def test_a_closing_token_may_stand_as_transformers_writes_it(copy):
    edit(copy / "tokenizer_config.json", lambda c: c.update(eos_token={"content": "<|endoftext|>", "lstrip": False}))
    assert load_encoder(copy).frame[1].tolist() == [0]


def test_a_closing_token_that_the_vocabulary_lacks_is_refused(copy):
    edit(copy / "tokenizer_config.json", lambda c: c.update(eos_token="</none>"))
    with pytest.raises(ValidationError, match=r"</none>.*vocabulary lacks"):
        load_encoder(copy).encode_queries(["a"])


def test_a_closing_token_that_the_tokenizer_puts_itself_is_not_put_twice(copy):
    from tokenizers import Tokenizer, processors

    path = str(copy / "tokenizer.json")
    tokenizer = Tokenizer.from_file(path)
    plain = load_encoder(copy, device="cpu").encode_queries(TEXTS)
    template = processors.TemplateProcessing(single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)])
    tokenizer.post_processor = template
    tokenizer.save(path)
    np.testing.assert_array_equal(load_encoder(copy, device="cpu").encode_queries(TEXTS), plain)


def test_a_tokenizer_of_another_model_is_refused_by_the_token_that_is_too_many(copy):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(copy / "tokenizer.json"))
    tokenizer.add_tokens([f"<{n}>" for n in range(20)])
    tokenizer.save(str(copy / "tokenizer.json"))
    encoder = load_encoder(copy, device="cpu")
    encoder.encode_documents(["fine"])
    with pytest.raises(ValidationError, match=r"Text 1 has token 27.*knows 264"):
        encoder.encode_documents(["fine", "<19>"])


def test_a_published_folder_without_a_tokenizer_takes_its_authors_or_says_which(copy):
    def original(config):
        config.clear()
        config.update(d_model=32, n_layer=2, vocab_size=50277, ssm_cfg={}, pad_vocab_size_multiple=8)

    for path in copy.glob("*token*"):
        path.unlink()
    with pytest.raises(MissingFile, match=r"no tokenizer. Put"):
        load_encoder(copy)
    edit(copy / "config.json", original)
    with pytest.raises(MissingFile, match="EleutherAI/gpt-neox-20b"):
        load_encoder(copy)


def test_a_variant_that_is_not_supported_is_refused_by_name(copy):
    edit(copy / "config.json", lambda c: c.update(model_type="falcon_mamba"))
    with pytest.raises(ValidationError, match=r"falcon_mamba.*mamba2"):
        load_encoder(copy)


def test_a_policy_may_be_given_by_its_word_and_is_then_that_policy(folder):
    encoder = load_encoder(folder, device="cpu", max_tokens=5)
    text = ["the cat sat on the mat"]
    with pytest.raises(Overflow):
        encoder.encode_documents(text, overflow="error")
    with pytest.raises(Overflow):
        encoder.encode(text, overflow="error")
    cut = encoder.encode_documents(text, level="doc", overflow="truncate")
    assert cut.segments is None
    assert cut.coverage.seen[0] == 5 < cut.coverage.total[0]
    with pytest.raises(ValueError, match="nonsense"):
        encoder.encode_documents(text, overflow="nonsense")


@pytest.mark.parametrize("width", ["wide", 3.5, -32, None], ids=str)
def test_a_width_that_is_no_number_is_named_by_its_field(copy, width):
    edit(copy / "config.json", lambda c: c.update(hidden_size=width))
    with pytest.raises(ValidationError, match=r"config\.json: hidden_size should be a whole number above 0"):
        load_encoder(copy)


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there_is_a_usage_error(folder, device):
    with pytest.raises(UsageError, match=f"'{device}' cannot be used"):
        load_encoder(folder, device=device).encode_queries(["the cat"])


@pytest.mark.parametrize(
    "content",
    [{"format": 2}, {"format": 1, "shape": 3}, {"format": 1, "carry": "yes"}, {"format": 1, "max_tokens": 0},
     {"format": 1, "max_tokens": 1 << 70}, {"format": 1, "truncate_dim": 1.5}],
    ids=str,
)  # fmt: skip
def test_settings_that_are_not_understood_are_refused(copy, content):
    (copy / SETTINGS_NAME).write_text(json.dumps(content))
    with pytest.raises(ValidationError, match=SETTINGS_NAME):
        load_encoder(copy)


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_states_that_are_not_finite_are_named_with_their_text_and_not_returned(copy, pooling):
    from safetensors.torch import load_file, save_file

    path = str(copy / "model.safetensors")
    state = load_file(path)
    encoder = load_encoder(copy, device="cpu", pooling=pooling, max_tokens=10)
    token = int(encoder.tokenizer.encode(["z"])[0].ids[0])
    state["embeddings.weight"][token] = float("nan")
    save_file(state, path, metadata={"format": "pt"})
    damaged = load_encoder(copy, device="cpu", pooling=pooling, max_tokens=10)
    assert np.isfinite(damaged.encode_documents(["fine", "well"]).documents).all()
    with pytest.raises(ShapeError, match=r"Text 1, characters \d+ to \d+, gives states with NaN"):
        damaged.encode_documents(["fine", "well, well, the puzzle", "fine"])


def test_a_version_without_a_trained_mamba_says_how_to_get_one(tmp_path, monkeypatch):
    from unabridged.encoders import _resolve

    monkeypatch.setattr(_resolve, "SHIPPED", {"mamba": tmp_path / "none"})
    with pytest.raises(MissingFile, match="unabridged train mamba"):
        load_encoder("mamba")
