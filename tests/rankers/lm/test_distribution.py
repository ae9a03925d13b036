"""Entropies of next tokens against transformers' own logits, on tiny random weights."""

import threading

import numpy as np
import pytest

from unabridged.errors import ContextOverflow, ModelCancelled, RuntimeFailure, UsageError
from unabridged.rankers.lm.contracts import Distributions, Message
from unabridged.rankers.lm.distribution import entropy
from unabridged.rankers.lm.local import LocalModel

TEXTS = ["the cat", "a", "é漢🙂 " * 20, "x " * 300, "the end of it " * 9, "the cat"]


def ask(text):
    return [Message("user", text)]


def fresh(model, **options):
    return LocalModel(model.model, model.tokenizer, name="fresh", folder=model._folder, **options)


def naive(model, prompt, steps):
    """One full forward pass per token, with torch's own entropy."""
    import torch

    ids, found = list(model.ids(prompt)), []
    for _ in range(steps):
        with torch.inference_mode():
            logits = model.model(torch.tensor([ids])).logits[0, -1].double()
        found.append(float(torch.distributions.Categorical(logits=logits).entropy()))
        token = int(logits.argmax())
        if token in model.ends:
            break
        ids.append(token)
    return found


@pytest.fixture(scope="module")
def models(tiny_model, tiny_lms, tmp_path_factory):
    folder = tmp_path_factory.mktemp("more")
    others = {
        "sliding": tiny_lms.sliding_mistral(folder / "sliding"),
        "mamba": tiny_lms.mamba(folder / "mamba"),
    }
    return {"llama": tiny_model} | {name: LocalModel.load(path, device="cpu") for name, path in others.items()}


@pytest.mark.parametrize("name", ["llama", "sliding", "mamba"])
@pytest.mark.parametrize("steps", [1, 4])
def test_entropies_are_those_of_transformers_logits(models, name, steps):
    model = models[name]
    prompts = [ask(text) for text in TEXTS if len(text) < 500]
    for prompt, found in zip(prompts, model.entropies(prompts, steps=steps), strict=True):
        expected = naive(model, prompt, steps)
        assert len(found) == len(expected)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 3])
def test_a_batch_says_what_each_prompt_says_alone(tiny_model, steps):
    prompts = [ask(text) for text in TEXTS]
    together = fresh(tiny_model, batch_tokens=100_000).entropies(prompts, steps=steps)
    turned = fresh(tiny_model, batch_tokens=700).entropies(prompts[::-1], steps=steps)[::-1]
    alone = [fresh(tiny_model).entropies([prompt], steps=steps)[0] for prompt in prompts]
    for one, other, third in zip(together, alone, turned, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
        np.testing.assert_allclose(third, other, atol=1e-5)
    assert together[0] == together[-1]


def test_equal_prompts_are_read_once_and_logits_are_made_where_rows_end_only(tiny_model, monkeypatch):
    model, shapes = fresh(tiny_model, batch_tokens=100_000), []
    real = model.model.lm_head.forward
    monkeypatch.setattr(model.model.lm_head, "forward", lambda x: shapes.append(tuple(x.shape)) or real(x))
    model.entropies([ask("the cat"), ask("the dog"), ask("the cat"), ask("something longer")])
    assert shapes == [(3, 2, 32)]


def test_prompts_that_do_not_fit_are_told_and_the_others_read(tiny_model):
    long, short = tiny_model.entropies([ask("x" * 3000), ask("fits")])
    assert isinstance(long, ContextOverflow)
    assert long.limit == 2048
    assert len(short) == 1
    with pytest.raises(UsageError, match="steps=0"):
        tiny_model.entropies([ask("x")], steps=0)


def test_a_batch_that_memory_does_not_hold_is_halved(tiny_model, monkeypatch):
    model, sizes = fresh(tiny_model, batch_tokens=100_000), []
    real = model._reader._last

    def last(rows):
        sizes.append(len(rows))
        if len(rows) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(rows)

    monkeypatch.setattr(model._reader, "_last", last)
    prompts = [ask(text) for text in TEXTS[:4]]
    found = model.entropies(prompts)
    assert sizes == [4, 2, 1, 1, 2, 1, 1]
    expected = [naive(model, prompt, 1) for prompt in prompts]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_cancelled_call_reads_nothing(tiny_model):
    cancel = threading.Event()
    cancel.set()
    found = tiny_model.entropies([ask("one"), ask("two")], cancel=cancel)
    assert all(isinstance(one, ModelCancelled) for one in found)


def test_entropy_of_logits_by_hand():
    assert entropy(np.zeros(8, dtype=np.float32)) == pytest.approx(np.log(8))
    assert entropy(np.array([0.0, -np.inf, 0.0], dtype=np.float32)) == pytest.approx(np.log(2))
    assert entropy(np.array([1000.0, 0.0], dtype=np.float32)) == 0.0
    p = np.array([0.5, 0.25, 0.125, 0.125])
    assert entropy(np.log(p).astype(np.float32) + 7) == pytest.approx(1.75 * np.log(2), abs=1e-6)
    with pytest.raises(RuntimeFailure, match="float32"):
        entropy(np.array([np.nan, 1.0], dtype=np.float32))


def test_local_models_have_distributions(tiny_model):
    assert isinstance(tiny_model, Distributions)
