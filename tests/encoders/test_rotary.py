"""Rotary positions of extended models against transformers' own models, given those positions or bases by hand."""

import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from tests_extended import LENGTHS, LO, ROTARY, batch, changed, eager, hotter, save, sequences, states

from unabridged.encoders._hf import read_folder
from unabridged.encoders._torch import TorchBackend
from unabridged.encoders.methods import Method
from unabridged.encoders.plan import NO_PLAN, Plan
from unabridged.errors import UsageError, ValidationError

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

PLANS = {
    "gp": Plan(Method.GP, LO, 8 * LO, scale=8),
    "pi": Plan(Method.PI, LO, 8 * LO, scale=8),
    "pi_dynamic": Plan(Method.PI, LO, 8 * LO, scale=8, dynamic=True),
    "ntk": Plan(Method.NTK, LO, 8 * LO, scale=8, base_factor=10.0),
    "ntk_long_only": Plan(Method.NTK, LO, 8 * LO, scale=8, base_factor=10.0, long_only=True),
}
SHORT_STAY = [name for name in PLANS if name != "ntk"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("rotary")
    return {kind: save(kind, root / kind) for kind in ROTARY}


@pytest.fixture(params=ROTARY)
def kind(request):
    return request.param


@functools.cache
def backend(path, plan=NO_PLAN, **settings):
    return TorchBackend(read_folder(path), device="cpu", plan=plan, **settings)


def places_by_hand(name, length):
    stretch = -(-length // LO)
    if name == "gp":
        return [position // stretch for position in range(length)]
    stretch = stretch if name == "pi_dynamic" else 8
    return [position / stretch if length > LO else position for position in range(length)]


@pytest.mark.parametrize("name", ["gp", "pi", "pi_dynamic"])
def test_grouped_and_interpolated_angles_equal_transformers_given_those_positions(folders, kind, name):
    ids, offsets = batch(LENGTHS)
    model = eager(folders[kind])
    expected = [states(model, one, places_by_hand(name, len(one))) for one in sequences(ids, offsets)]
    found = backend(folders[kind], PLANS[name]).hidden(ids, offsets)
    torch.testing.assert_close(found, torch.cat(expected), atol=1e-5, rtol=0)


def test_ntk_equals_transformers_with_a_base_ten_times_as_large(folders, kind, tmp_path):
    ids, offsets = batch(LENGTHS)
    larger = eager(changed(folders[kind], tmp_path / "larger", **hotter(folders[kind], 10.0)))
    every = [states(larger, one) for one in sequences(ids, offsets)]
    found = backend(folders[kind], PLANS["ntk"]).hidden(ids, offsets)
    torch.testing.assert_close(found, torch.cat(every), atol=1e-5, rtol=0)
    own = eager(folders[kind])
    mixed = [states(larger if len(one) > LO else own, one) for one in sequences(ids, offsets)]
    found = backend(folders[kind], PLANS["ntk_long_only"]).hidden(ids, offsets)
    torch.testing.assert_close(found, torch.cat(mixed), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", PLANS)
def test_a_sequence_has_one_vector_alone_and_in_any_batch(folders, kind, name):
    ids, offsets = batch(LENGTHS)
    extended = backend(folders[kind], PLANS[name])
    alone = [extended.hidden(one, np.array([0, len(one)])) for one in sequences(ids, offsets)]
    torch.testing.assert_close(extended.hidden(ids, offsets), torch.cat(alone), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", SHORT_STAY)
def test_short_sequences_are_those_of_the_unextended_model_to_the_bit(folders, kind, name):
    extended, plain = backend(folders[kind], PLANS[name]), backend(folders[kind])
    ids, offsets = batch([LO, 1, LO - 1, 7])
    assert torch.equal(extended.hidden(ids, offsets), plain.hidden(ids, offsets))
    if kind in ("mistral", "qwen2"):
        return  # their unextended form cuts the long neighbour, and takes other kernels for that
    ids, offsets = batch([LO, 5, 2 * LO])
    assert torch.equal(extended.hidden(ids, offsets)[: LO + 5], plain.hidden(ids, offsets)[: LO + 5])


def test_long_sequences_are_not_those_of_the_unextended_model(folders, kind):
    ids, offsets = batch([2 * LO])
    plain = backend(folders[kind]).hidden(ids, offsets)
    for plan in PLANS.values():
        found = backend(folders[kind], plan).hidden(ids, offsets)
        assert float((found - plain).abs().max()) > 1e-2


def test_an_extended_model_leaves_others_in_the_same_process_alone(folders):
    ids, offsets = batch([2 * LO, 9])
    plain = backend(folders["nomic_bert"])
    before = plain.hidden(ids, offsets)
    both = [backend.__wrapped__(folders["nomic_bert"], PLANS[name]) for name in ("pi", "ntk")]
    first = [one.hidden(ids, offsets) for one in both]
    assert torch.equal(plain.hidden(ids, offsets), before)
    assert torch.equal(backend.__wrapped__(folders["nomic_bert"]).hidden(ids, offsets), before)
    for one, expected in zip(both, first, strict=True):
        assert torch.equal(one.hidden(ids, offsets), expected)


def test_one_extended_model_serves_several_threads(folders):
    extended = backend(folders["nomic_bert"], PLANS["pi_dynamic"])
    batches = [batch([length, 5], seed=length) for length in (40, 70, 100, 130) * 4]
    expected = [extended.hidden(*one) for one in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: extended.hidden(*one), batches))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_angles_are_computed_in_float32_whatever_the_precision_of_the_model(folders, precision):
    extended = backend.__wrapped__(folders["nomic_bert"], PLANS["pi"], precision=precision)
    ids, offsets = batch([8 * LO])
    seen = []
    extended.model.rotary_emb.register_forward_hook(lambda _m, _i, output: seen.append(output))
    assert bool(extended.hidden(ids, offsets).isfinite().all())
    cos, sin = seen[0]
    frequencies = 1.0 / 1000.0 ** (np.arange(0, 8, 2) / 8)
    angle = np.concatenate([np.arange(8 * LO)[:, None] / 8 * frequencies] * 2, axis=1)
    step = {"bfloat16": 2**-8, "float16": 2**-11}[precision]
    for table, values in ((cos, np.cos(angle)), (sin, np.sin(angle))):
        assert table.dtype == getattr(torch, precision)
        assert float(np.abs(table[0].float().numpy() - values).max()) <= step


def test_what_was_exchanged_is_counted(folders, kind):
    extended = backend(folders[kind], PLANS["pi"])
    ids, offsets = batch([3])
    extended.hidden(ids, offsets)
    assert extended.extended.facts == {"attention_layers": 0, "rotary_modules": 1, "position_matrices": 0}


def test_a_window_that_cuts_every_layer_goes_and_one_that_is_wide_enough_stays(tmp_path):
    for window, expected in ((LO, None), (8 * LO, 8 * LO)):
        path = save("mistral", tmp_path / str(window), sliding_window=window)
        assert backend(path, PLANS["pi"]).model.config.sliding_window == expected
    assert backend(path, NO_PLAN).model.config.sliding_window == 8 * LO


def test_layers_that_are_local_by_design_stay_local(folders):
    extended = backend(folders["modernbert"], PLANS["pi"])
    assert set(extended.model.config.layer_types) == {"full_attention", "sliding_attention"}
    assert extended.model.config.sliding_window == 8


def test_frequencies_in_memory_that_are_not_the_stated_ones_are_an_error(folders):
    folder = read_folder(folders["nomic_bert"])
    for wrong in ({"rope_theta": 77.0}, {"rope_type": "yarn", "rope_theta": 1000.0, "factor": 4.0}):
        other = replace(folder, config={**folder.config, "rope_parameters": wrong})
        with pytest.raises(ValidationError, match=r"77\.0|yarn"):
            _ = TorchBackend(other, device="cpu", plan=PLANS["pi"]).model


def test_other_kinds_of_frequencies_are_kept_and_stretched(folders, tmp_path):
    linear = {"rope_theta": 10000.0, "rope_type": "linear", "factor": 2.0}
    path = changed(folders["llama"], tmp_path / "linear", rope_parameters=linear)
    ids, _ = batch([2 * LO])
    expected = states(eager(path), ids, np.arange(2 * LO) / 8)
    found = backend(path, PLANS["pi"]).hidden(ids, np.array([0, 2 * LO]))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_frequencies_that_depend_on_the_batch_are_refused(folders, tmp_path):
    dynamic = {"rope_theta": 10000.0, "rope_type": "dynamic", "factor": 2.0}
    path = changed(folders["llama"], tmp_path / "dynamic", rope_parameters=dynamic)
    with pytest.raises(UsageError, match="dynamic"):
        _ = backend(path, PLANS["pi"]).model


def test_rotary_methods_refuse_a_model_without_rotary_positions(tmp_path):
    path = save("bert", tmp_path / "bert")
    with pytest.raises(UsageError, match="'bert'"):
        _ = backend(path, PLANS["ntk"]).model
