"""Temperature and log-n against transformers' own models, their query weights (and relative positions) divided."""

import functools
import math

import numpy as np
import pytest
from tests_extended import LENGTHS, LO, batch, eager, save, sequences, states

from unabridged.encoders._hf import read_folder
from unabridged.encoders._torch import TorchBackend
from unabridged.encoders.methods import LogN, Method
from unabridged.encoders.plan import NO_PLAN, Plan
from unabridged.errors import UsageError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

QUERIES = {
    "bert": ".query",
    "roberta": ".query",
    "mpnet": ".attn.q",
    "t5": ".SelfAttention.q",
    "modernbert": ".Wqkv",
    "nomic_bert": ".q_proj",
    "llama": ".q_proj",
}
LOGN = Plan(None, LO, LO, logn=LogN.PER_SEQUENCE)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("temperature")
    return {kind: save(kind, root / kind) for kind in QUERIES}


@pytest.fixture(params=QUERIES)
def kind(request):
    return request.param


@functools.cache
def backend(path, plan=NO_PLAN, **settings):
    return TorchBackend(read_folder(path), device="cpu", plan=plan, **settings)


def sharpened(path, kind, factor, temperature=1.0):
    """transformers' own model with queries ``factor`` times as long and relative positions over ``temperature``."""
    model, count = eager(path), 0
    with torch.no_grad():
        for name, module in model.named_modules():
            if name.endswith(QUERIES[kind]):
                rows = slice(0, 32)  # ModernBERT's one matrix begins with queries
                module.weight[rows] *= factor
                if module.bias is not None:
                    module.bias[rows] *= factor
                count += 1
            elif name.endswith("relative_attention_bias"):
                module.weight /= temperature
    assert count == model.config.num_hidden_layers
    return model


@pytest.mark.parametrize("temperature", [0.5, 0.8, 1.5])
def test_temperature_equals_divided_weights(folders, kind, temperature):
    ids, offsets = batch(LENGTHS[:-1])
    model = sharpened(folders[kind], kind, 1 / temperature, temperature)
    expected = torch.cat([states(model, one) for one in sequences(ids, offsets)])
    found = backend(folders[kind], Plan(None, 0, 0, temperature=temperature)).hidden(ids, offsets)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    plain = backend(folders[kind]).hidden(ids, offsets)
    assert float((found - plain).abs().max()) > 1e-2


def test_log_n_depends_on_each_sequences_own_length_and_goes_with_temperature(folders, kind):
    ids, offsets = batch(LENGTHS[:-1])
    for temperature in (1.0, 0.7):
        expected = []
        for one in sequences(ids, offsets):
            factor = max(1.0, math.log(len(one)) / math.log(LO)) / temperature
            expected.append(states(sharpened(folders[kind], kind, factor, temperature), one))
        found = backend(folders[kind], LOGN.changed(temperature=temperature)).hidden(ids, offsets)
        torch.testing.assert_close(found, torch.cat(expected), atol=1e-5, rtol=0)


def test_temperature_one_is_the_model_as_it_was_to_the_bit(folders, kind):
    ids, offsets = batch(LENGTHS[:-1])
    plain = backend(folders[kind])
    assert torch.equal(
        backend(folders[kind], Plan(None, 0, 0, temperature=1.0)).hidden(ids, offsets), plain.hidden(ids, offsets)
    )
    # Our attention, with nothing to change.
    ids, offsets = batch([LO, 3, 1, LO - 1])
    assert torch.equal(backend(folders[kind], LOGN).hidden(ids, offsets), plain.hidden(ids, offsets))


def test_log_n_by_position_reads_a_text_as_far_as_it_has_come(folders):
    plan = Plan(None, LO, LO, logn=LogN.PER_POSITION)
    ids, _ = batch([4 * LO])
    extended, plain = backend(folders["llama"], plan), backend(folders["llama"])
    whole = extended.hidden(ids, np.array([0, 4 * LO]))
    for length in (LO, LO + 1, 2 * LO):
        part = extended.hidden(ids[:length], np.array([0, length]))
        torch.testing.assert_close(whole[:length], part, atol=1e-5, rtol=0)
    torch.testing.assert_close(whole[:LO], plain.hidden(ids, np.array([0, 4 * LO]))[:LO], atol=1e-6, rtol=0)


def test_log_n_by_position_equals_queries_that_were_multiplied_by_hand(folders):
    plan = Plan(None, LO, LO, logn=LogN.PER_POSITION, temperature=0.9)
    ids, offsets = batch([40, 90, 7])
    model = eager(folders["llama"])
    factors = [max(1.0, math.log(place + 1) / math.log(LO)) / 0.9 for place in range(90)]
    for name, module in model.named_modules():
        if name.endswith(".q_proj"):
            module.register_forward_hook(lambda _m, _i, out: out * torch.tensor(factors)[None, : out.shape[1], None])
    expected = torch.cat([states(model, one) for one in sequences(ids, offsets)])
    torch.testing.assert_close(backend(folders["llama"], plan).hidden(ids, offsets), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["nomic_bert", "modernbert", "llama"])
def test_temperature_goes_with_other_positions(folders, kind):
    plan = Plan(Method.PI, LO, 8 * LO, scale=8, temperature=0.7, logn=LogN.PER_SEQUENCE)
    ids, offsets = batch([LO, 3 * LO])
    expected = []
    for one in sequences(ids, offsets):
        places = np.arange(len(one)) / (8 if len(one) > LO else 1)
        factor = max(1.0, math.log(len(one)) / math.log(LO)) / 0.7
        expected.append(states(sharpened(folders[kind], kind, factor), one, places))
    torch.testing.assert_close(
        backend(folders[kind], plan).hidden(ids, offsets), torch.cat(expected), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_stays_near_float32(folders, kind, precision):
    ids, offsets = batch([2 * LO, 9])
    plan = LOGN.changed(temperature=0.8)
    exact = backend(folders[kind], plan).hidden(ids, offsets)
    found = backend(folders[kind], plan, precision=precision).hidden(ids, offsets)
    assert float((found - exact).norm() / exact.norm()) < 0.05


def test_every_attention_layer_was_changed_and_others_keep_theirs(folders, kind):
    ids, offsets = batch([50, 3])
    plain = backend(folders[kind])
    before = plain.hidden(ids, offsets)
    extended = backend.__wrapped__(folders[kind], Plan(None, 0, 0, temperature=0.5))
    extended.hidden(ids, offsets)
    assert extended.extended.facts["attention_layers"] == (3 if kind == "modernbert" else 2)
    assert torch.equal(plain.hidden(ids, offsets), before)
    assert torch.equal(backend.__wrapped__(folders[kind]).hidden(ids, offsets), before)


def test_a_model_of_unknown_attention_is_an_error_that_names_it(tmp_path):
    path = save("deberta-v2", tmp_path / "model")
    with pytest.raises(UsageError, match=r"Unknown attention: 0 of 2 .*'deberta-v2'.*modernbert"):
        _ = backend(path, Plan(None, 0, 0, temperature=0.9)).model


def test_one_layer_that_does_not_take_part_is_an_error(folders, monkeypatch):
    from transformers.models.bert.modeling_bert import BertSelfAttention

    own = BertSelfAttention.forward

    def forward(self, hidden_states, *args, **kwargs):
        return (hidden_states, None) if self.layer_idx == 1 else own(self, hidden_states, *args, **kwargs)

    monkeypatch.setattr(BertSelfAttention, "forward", forward)
    with pytest.raises(UsageError, match="1 of 2 attention layers"):
        _ = backend.__wrapped__(folders["bert"], Plan(None, 0, 0, temperature=0.9)).model
