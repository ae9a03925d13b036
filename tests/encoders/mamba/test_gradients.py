"""Gradients of whole models: of every path against plain torch in float64, and in every layer."""

import numpy as np
import pytest

from unabridged.encoders.mamba.config import MambaConfig
from unabridged.encoders.mamba.model import MambaModel, initial

torch = pytest.importorskip("torch")
CONFIGS = {
    "mamba": MambaConfig(1, 16, 3, 40, 32, 6, dt_rank=3, bias=True),
    "mamba2": MambaConfig(2, 16, 3, 40, 32, 8, heads=4, head_dim=8, groups=2),
    "mamba2 clamped": MambaConfig(
        2, 16, 2, 40, 32, 8, heads=4, head_dim=8, conv_bias=False, time_step_limit=(0.01, 0.03)
    ),
}
LENGTHS = (70, 1, 2, 0, 33)


@pytest.fixture(params=list(CONFIGS))
def config(request):
    return CONFIGS[request.param]


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, 40, sum(LENGTHS))), np.concatenate(([0], np.cumsum(LENGTHS)))


def parameters(config, kind):
    torch.manual_seed(0)
    made = initial(config, 0)
    made["embeddings.weight"] *= 30
    return {name: (tensor + 0.1 * torch.randn(tensor.shape)).to(kind).requires_grad_() for name, tensor in made.items()}


def gradients(config, kind, batch, *, blocks=1, **options):
    """Of a loss that reads every hidden state, and the end state."""
    own = parameters(config, kind)
    model = MambaModel(config, own, **options)
    ids, offsets = batch
    if blocks == 1:
        hidden, state = model.hidden(ids, offsets)
    else:
        hidden, state = two_blocks(model, ids, offsets)
    weights = torch.linspace(-1, 1, hidden.numel(), dtype=torch.float64).view(hidden.shape).to(kind)
    loss = (hidden * weights).sum() + sum(tensor.sum() for tensor in (*state.conv, *state.scan)) * 0.1
    loss.backward()
    return float(loss.detach()), {name: tensor.grad for name, tensor in own.items()}


def two_blocks(model, ids, offsets):
    lengths = np.diff(offsets)
    first = lengths // 3
    early = np.concatenate([np.arange(a, a + n) for a, n in zip(offsets[:-1], first, strict=True)])
    late = np.setdiff1d(np.arange(len(ids)), early)
    cuts = [np.concatenate(([0], np.cumsum(part))) for part in (first, lengths - first)]
    one, state = model.hidden(ids[early], cuts[0])
    two, state = model.hidden(ids[late], cuts[1], state)
    order = np.argsort(np.concatenate((early, late)))
    return torch.cat((one, two))[order], state


@pytest.mark.parametrize("path", ["numba", "torch"])
@pytest.mark.parametrize("extra", [{}, {"checkpoint": True}, {"blocks": 2}], ids=["plain", "checkpoint", "two blocks"])
def test_every_gradient_is_that_of_plain_torch_in_float64(config, batch, path, extra):
    if path == "numba":
        pytest.importorskip("numba")
    loss, expected = gradients(config, torch.float64, batch, path="torch")
    found_loss, found = gradients(config, torch.float32, batch, path=path, **extra)
    assert abs(found_loss - loss) < 1e-4 * max(1.0, abs(loss))
    for name, exact in expected.items():
        scale = float(exact.abs().max())
        assert float((found[name].double() - exact).abs().max()) < 1e-4 * max(scale, 1e-3), name


@pytest.mark.parametrize("path", ["numba", "torch"])
def test_every_parameter_of_every_layer_has_a_gradient(batch, path):
    if path == "numba":
        pytest.importorskip("numba")
    for name in ("mamba", "mamba2"):
        _, found = gradients(CONFIGS[name], torch.float32, batch, path=path)
        assert set(found) == set(CONFIGS[name].shapes())
        for parameter, gradient in found.items():
            assert bool(torch.isfinite(gradient).all()), parameter
            share = 0.3 if parameter == "embeddings.weight" else 0.9
            assert float((gradient != 0).double().mean()) > share, parameter


def test_float64_models_are_computed_exactly_and_by_plain_torch(batch):
    model = MambaModel(CONFIGS["mamba2"], parameters(CONFIGS["mamba2"], torch.float64))
    assert model.path == "torch"
    with torch.no_grad():
        once, _ = model.hidden(*batch)
        again, _ = two_blocks(model, *batch)
    assert float((once - again).abs().max()) < 1e-12
