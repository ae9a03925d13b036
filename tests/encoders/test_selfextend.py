"""SelfExtend against its formula written cell by cell: as a function, and inside models of transformers."""

import functools
import math
import sys

import numpy as np
import pytest
from tests_extended import BIDIRECTIONAL, LENGTHS, LO, ROTARY, batch, eager, save, sequences, states

from unabridged.encoders import _selfextend
from unabridged.encoders._hf import read_folder
from unabridged.encoders._torch import TorchBackend
from unabridged.encoders.methods import LogN, Method
from unabridged.encoders.plan import NO_PLAN, Plan
from unabridged.encoders.positions import self_extended

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

GROUP, NEAR = 9, 4
PLAN = Plan(Method.SELFEXTEND, LO, 8 * LO, scale=8, group=GROUP, neighbours=NEAR)


def scores_by_cell(query, key, frequencies, group, w, seen):
    """``(H, L, L)`` float64: one cell after the other, from the formula; -inf where ``seen`` ``(L, L)`` is False.

    ``query`` and ``key`` are ``(H, L, D)``, not turned.  Halves of D are complex numbers here, so that turning by an
    angle is a product and only the difference of two positions is left.
    """
    heads, length, width = query.shape
    q = query[..., : width // 2] + 1j * query[..., width // 2 :]
    k = (key[..., : width // 2] + 1j * key[..., width // 2 :]).conj()
    out = np.full((heads, length, length), -np.inf)
    for i in range(length):
        for j in range(length):
            if not seen[i, j]:
                continue
            if abs(i - j) < w:
                distance = i - j
            elif j <= i:
                distance = (i // group + w - w // group) - j // group
            else:
                distance = i // group - (j // group + w - w // group)
            out[:, i, j] = (q[:, i] * k[:, j] * np.exp(1j * distance * frequencies)).real.sum(axis=1)
    return out


def softmax(scores):
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def visible(length, shape):
    i, j = np.mgrid[:length, :length]
    return {"both": i >= 0, "causal": j <= i, "window": abs(i - j) <= 6, "causal_window": (j <= i) & (i - j < 6)}[shape]


@pytest.mark.parametrize("rows", [1, 7, 16, 128])
@pytest.mark.parametrize("shape", ["both", "causal", "window", "causal_window"])
@pytest.mark.parametrize(("length", "w", "group"), [(1, 4, 9), (5, 4, 9), (60, 1, 2), (63, 4, 9), (63, 20, 3)])
def test_blocks_equal_the_formula_cell_by_cell(monkeypatch, rows, shape, length, w, group):
    from unabridged.encoders._rotary import turns

    monkeypatch.setattr(_selfextend, "BLOCK", rows)
    rng = np.random.default_rng(length)
    query, key, value = rng.standard_normal((3, 2, length, 8))
    frequencies = 100.0 ** -(np.arange(4) / 4)
    seen = visible(length, shape)
    expected = softmax(scores_by_cell(query, key, frequencies, group, w, seen) * 0.5) @ value
    tensors = [torch.from_numpy(x.astype(np.float32))[None] for x in (query, key, value)]
    found = _selfextend.self_extend(
        *tensors,
        turns(torch.from_numpy(frequencies.astype(np.float32)), length, group, w),
        None if shape in ("both", "causal") else torch.from_numpy(seen)[None, None],
        scale=0.5,
        causal=shape.startswith("causal"),
        window=7 if shape.endswith("window") else None,
    )
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["bool", "float"])
def test_padding_that_sees_nothing_stays_finite_and_changes_nobody(kind):
    from unabridged.encoders._rotary import turns

    rng = np.random.default_rng(0)
    query, key, value = torch.from_numpy(rng.standard_normal((3, 1, 2, 20, 8)).astype(np.float32))
    seen = torch.ones(20, 20, dtype=torch.bool)
    seen[:, 15:] = False
    seen[15:] = False
    mask = seen if kind == "bool" else torch.zeros(20, 20).masked_fill(~seen, -torch.inf)
    table = turns(torch.ones(4), 20, 3, 2)
    whole = _selfextend.self_extend(query, key, value, table, mask[None, None], scale=0.3, causal=False)
    assert bool(whole.isfinite().all())
    parts = (x[..., :15, :] for x in (query, key, value))
    alone = _selfextend.self_extend(*parts, turns(torch.ones(4), 15, 3, 2), None, scale=0.3, causal=False)
    torch.testing.assert_close(whole[..., :15, :], alone, atol=1e-6, rtol=0)


def test_published_parameters_end_exactly_at_the_trained_length_and_never_jump():
    for scale, group, w in ((2, 3, 256), (4, 5, 128), (8, 9, 64)):
        far, near = self_extended(512 * scale, group, w)
        assert far[-1] - near[0] == 512
        at_w = far[w:] - near[: len(near) - w]
        assert set(at_w.tolist()) <= {w, w + 1}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("selfextend")
    return {kind: save(kind, root / kind) for kind in ROTARY}


@pytest.fixture(params=ROTARY)
def kind(request):
    return request.param


@functools.cache
def backend(path, plan=PLAN, **settings):
    return TorchBackend(read_folder(path), device="cpu", plan=plan, **settings)


def frequencies_by_hand(module):
    settings = module.config.rope_parameters
    if "rope_theta" not in settings:
        settings = settings[module.config.layer_types[module.layer_idx]]
    return float(settings["rope_theta"]) ** -(np.arange(0, 8, 2) / 8)


def by_hand(monkeypatch, model, *, factor=None):
    """Makes transformers' plain attention the formula: no turning before it, cells one by one inside it.

    ``factor`` of a length multiplies queries.
    """
    code = sys.modules[type(model).__module__]

    def attention(module, query, key, value, mask, scaling, **_):
        length, groups = query.shape[2], query.shape[1] // key.shape[1]
        key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
        q, k, v = (x[0].double().numpy() for x in (query, key, value))
        seen = np.ones((length, length), bool) if mask is None else mask[0, 0].numpy() > -1
        q = q * (1.0 if factor is None else factor(length)) * scaling
        cells = scores_by_cell(q, k, frequencies_by_hand(module), GROUP, NEAR, seen)
        out = torch.from_numpy(softmax(cells) @ v)[None].to(query.dtype)
        return out.transpose(1, 2).contiguous(), None

    monkeypatch.setattr(code, "apply_rotary_pos_emb", lambda q, k, *_, **__: (q, k))
    monkeypatch.setattr(code, "eager_attention_forward", attention)


@pytest.mark.parametrize("length", [LO + 1, 2 * LO, pytest.param(8 * LO, marks=pytest.mark.slow)])
def test_hidden_states_equal_the_formula_inside_the_models_own_code(folders, kind, length, monkeypatch):
    ids, offsets = batch([length])
    found = backend(folders[kind]).hidden(ids, offsets)
    model = eager(folders[kind])
    by_hand(monkeypatch, model)
    torch.testing.assert_close(found, states(model, ids), atol=1e-5, rtol=0)


def test_log_n_and_temperature_go_with_it(folders, kind, monkeypatch):
    ids, offsets = batch([2 * LO])
    plan = PLAN.changed(logn=LogN.PER_SEQUENCE, temperature=0.8)
    found = backend(folders[kind], plan).hidden(ids, offsets)
    model = eager(folders[kind])
    by_hand(monkeypatch, model, factor=lambda length: math.log(length) / math.log(LO) / 0.8)
    torch.testing.assert_close(found, states(model, ids), atol=1e-5, rtol=0)


def test_a_sequence_has_one_vector_alone_and_in_any_batch(folders, kind):
    ids, offsets = batch([*LENGTHS, 3, 100])
    extended = backend(folders[kind])
    alone = [extended.hidden(one, np.array([0, len(one)])) for one in sequences(ids, offsets)]
    torch.testing.assert_close(extended.hidden(ids, offsets), torch.cat(alone), atol=1e-5, rtol=0)


def test_short_sequences_are_those_of_the_unextended_model_to_the_bit(folders, kind):
    extended, plain = backend(folders[kind]), backend(folders[kind], NO_PLAN)
    ids, offsets = batch([LO, 1, LO - 1, 7])
    expected = plain.hidden(ids, offsets)
    assert torch.equal(extended.hidden(ids, offsets), expected)
    long, _ = batch([3 * LO], seed=1)
    mixed = np.concatenate((ids[: LO + 1], long, ids[LO + 1 :]))
    found = extended.hidden(mixed, np.cumsum([0, LO, 1, 3 * LO, LO - 1, 7]))
    assert torch.equal(torch.cat((found[: LO + 1], found[4 * LO + 1 :])), expected)


def test_long_sequences_are_not_those_of_the_unextended_model(folders, kind):
    ids, offsets = batch([2 * LO])
    found, plain = (backend(folders[kind], plan).hidden(ids, offsets) for plan in (PLAN, NO_PLAN))
    assert float((found - plain).abs().max()) > 1e-2


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", BIDIRECTIONAL)
def test_half_precision_stays_near_float32(folders, kind, precision):
    ids, offsets = batch([8 * LO, 40, 3])
    exact = backend(folders[kind]).hidden(ids, offsets)
    found = backend(folders[kind], precision=precision).hidden(ids, offsets)
    other = backend(folders[kind], NO_PLAN).hidden(ids, offsets)
    assert float((found - exact).norm() / exact.norm()) < 0.05 < float((other - exact).norm() / exact.norm())


def test_every_attention_layer_was_exchanged(folders, kind):
    extended = backend(folders[kind])
    layers = 3 if kind == "modernbert" else 2
    ids, offsets = batch([3])
    extended.hidden(ids, offsets)
    assert extended.extended.facts["attention_layers"] == layers
