"""Hidden states against transformers' own models, one text at a time."""

from itertools import pairwise

import numpy as np
import pytest

from unabridged.encoders.mamba.config import MambaConfig
from unabridged.encoders.mamba.model import MambaModel, initial
from unabridged.errors import ShapeError

torch = pytest.importorskip("torch")

LENGTHS = [1, 2, 3, 63, 64, 65, 1000]
SHAPE = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 3, "initializer_range": 0.4}
MODELS = {
    "mamba": ("MambaConfig", "MambaModel", {**SHAPE, "state_size": 5}),
    "biases": ("MambaConfig", "MambaModel", {**SHAPE, "state_size": 16, "use_bias": True, "conv_kernel": 3}),
    "no bias": ("MambaConfig", "MambaModel", {**SHAPE, "use_conv_bias": False, "expand": 1}),
    "mamba2": ("Mamba2Config", "Mamba2Model", {**SHAPE, "state_size": 16, "head_dim": 8, "num_heads": 6,
               "n_groups": 1}),
    "mamba2 in groups": (
        "Mamba2Config",
        "Mamba2Model",
        {**SHAPE, "state_size": 7, "head_dim": 12, "num_heads": 4, "n_groups": 2, "chunk_size": 16,
         "time_step_limit": (0.01, 0.9), "use_bias": True},
    ),
}  # fmt: skip


@pytest.fixture(
    scope="module", params=[(name, path) for name in MODELS for path in ("numba", "torch")], ids=" by ".join
)
def pair(request):
    """transformers' model, and ours with its parameters."""
    import transformers

    name, path = request.param
    config, model, shape = MODELS[name]
    torch.manual_seed(0)
    theirs = getattr(transformers, model)(getattr(transformers, config)(**shape)).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if name.endswith(("norm.weight", "norm_f.weight", ".bias", "mixer.D", "A_log")):
                parameter.add_(torch.randn_like(parameter) * 0.3)
    ours = MambaConfig.from_json(theirs.config.to_dict(), "config.json")
    return theirs, MambaModel(ours, {name: tensor.detach() for name, tensor in theirs.named_parameters()}, path=path)


def hidden(theirs, ids):
    with torch.inference_mode():
        return theirs(input_ids=ids[None]).last_hidden_state[0]


def near(found, expected, limit):
    scale = expected.abs().max()
    assert float((found - expected).abs().max() / scale) < limit


def ragged(lengths, seed=0, vocab=50):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, vocab, sum(lengths))), np.concatenate(([0], np.cumsum(lengths)))


def test_a_ragged_batch_has_the_hidden_states_of_transformers(pair):
    theirs, ours = pair
    ids, offsets = ragged(LENGTHS)
    with torch.inference_mode():
        found, _ = ours.hidden(ids, offsets)
    for start, end in pairwise(offsets):
        near(found[start:end], hidden(theirs, ids[start:end]), 1e-4)


@pytest.mark.parametrize("block", [1, 7, 64, 200], ids=str)
def test_blocks_of_any_size_equal_one_pass(pair, block):
    _, ours = pair
    ids, offsets = ragged([200, 0, 1, 130, 64])
    with torch.inference_mode():
        once, end = ours.hidden(ids, offsets)
        state, parts = None, [[] for _ in range(5)]
        for start in range(0, 200, block):
            rows = [np.arange(*np.clip((a + start, a + start + block), a, b)) for a, b in
                    pairwise(offsets)]  # fmt: skip
            cuts = np.concatenate(([0], np.cumsum([len(row) for row in rows])))
            made, state = ours.hidden(ids[np.concatenate(rows)], cuts, state)
            for b in range(5):
                parts[b].append(made[cuts[b] : cuts[b + 1]])
    near(torch.cat([torch.cat(part) for part in parts]), once, 1e-5)
    for found, expected in zip((*state.conv, *state.scan), (*end.conv, *end.scan), strict=True):
        near(found, expected, 1e-5)
    assert float(state.scan[0][1].abs().max()) == 0


def test_no_sequence_sees_another(pair):
    _, ours = pair
    ids, offsets = ragged([5, 70, 33, 1])
    with torch.inference_mode():
        together, after = ours.hidden(ids, offsets)
        for b, (start, end) in enumerate(pairwise(offsets)):
            alone, state = ours.hidden(ids[start:end], np.array([0, end - start]))
            near(together[start:end], alone, 1e-5)
            near(after.scan[-1][b], state.scan[-1][0], 1e-5)


def test_an_empty_batch_and_empty_texts_give_no_rows_and_keep_their_states(pair):
    _, ours = pair
    ids, offsets = ragged([9, 4])
    with torch.inference_mode():
        _, state = ours.hidden(ids, offsets)
        none, same = ours.hidden(ids[:0], np.zeros(3, dtype=np.int64), state)
    assert none.shape == (0, 24)
    for found, expected in zip((*same.conv, *same.scan), (*state.conv, *state.scan), strict=True):
        assert torch.equal(found, expected)


def test_offsets_and_states_that_do_not_fit_are_refused(pair):
    _, ours = pair
    ids, offsets = ragged([9, 4])
    with pytest.raises(ShapeError, match="rise from 0 to 13"):
        ours.hidden(ids, offsets[:-1])
    with pytest.raises(ShapeError, match="of 1 sequences, and offsets of 2"):
        ours.hidden(ids, offsets, ours.state(1))


def test_bfloat16_weights_are_near_float32_and_their_states_stay_float32(pair):
    _, ours = pair
    ids, offsets = ragged([40, 3])
    half = MambaModel(
        ours.config, {name: tensor.bfloat16() for name, tensor in ours.parameters.items()}, path=ours.path
    )
    with torch.inference_mode():
        found, state = half.hidden(ids, offsets)
        expected, _ = ours.hidden(ids, offsets)
    assert found.dtype == torch.bfloat16
    assert {tensor.dtype for tensor in state.scan} == {torch.float32}
    assert float(torch.cosine_similarity(found.float(), expected, dim=1).min()) > 0.97


def test_fresh_parameters_are_those_of_their_seed_and_give_finite_states():
    for extra in ({"variant": 1, "dt_rank": 2}, {"variant": 2, "heads": 4, "head_dim": 8}):
        config = MambaConfig(width=16, layers=2, vocab=30, inner=32, state=8, **extra)
        first, again, other = initial(config, 1), initial(config, 1), initial(config, 2)
        assert {name: tuple(tensor.shape) for name, tensor in first.items()} == config.shapes()
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not torch.equal(first["embeddings.weight"], other["embeddings.weight"])
        bias = first["layers.0.mixer.dt_proj.bias" if config.variant == 1 else "layers.0.mixer.dt_bias"]
        steps = torch.nn.functional.softplus(bias)
        assert float(steps.min()) >= 1e-4
        assert float(steps.max()) <= 0.1 + 1e-6
        ids, offsets = ragged([70, 2], vocab=30)
        assert bool(torch.isfinite(MambaModel(config, first).hidden(ids, offsets)[0]).all())
