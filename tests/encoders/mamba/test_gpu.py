"""The scans around the kernels of mamba_ssm: on any machine with the kernels' arithmetic, on a GPU with themselves."""

import sys
import types

import numpy as np
import pytest

from unabridged.encoders.mamba.config import MambaConfig
from unabridged.encoders.mamba.model import MambaModel, initial
from unabridged.encoders.mamba.parts import Scan1, Scan2, Tokens

torch = pytest.importorskip("torch")
OFFSETS = np.array([0, 70, 70, 71, 200])


def selective_scan_fn(u, delta, A, B, C, D, return_last_state):
    """What the documentation of mamba_ssm says of its kernel: (B, I, L) in and out, from a state of zero."""
    assert return_last_state
    h, out = A.new_zeros(len(u), *A.shape), []
    for t in range(u.shape[2]):
        h = torch.exp(delta[:, :, t, None] * A) * h + (delta[:, :, t] * u[:, :, t])[..., None] * B[:, None, :, t]
        out.append((h * C[:, None, :, t]).sum(2) + D * u[:, :, t])
    return torch.stack(out, 2), h


def mamba_chunk_scan_combined(x, dt, A, B, C, chunk_size, D, initial_states, return_final_states):
    """Likewise: x (B, L, J, P), dt (B, L, J), B and C (B, L, G, N)."""
    assert chunk_size == 256
    assert return_final_states
    h, out = initial_states, []
    B, C = (tensor.repeat_interleave(x.shape[2] // tensor.shape[2], 2) for tensor in (B, C))
    for t in range(x.shape[1]):
        h = torch.exp(dt[:, t] * A)[..., None, None] * h
        h = h + (dt[:, t, :, None] * x[:, t])[..., None] * B[:, t, :, None, :]
        out.append((h @ C[:, t, :, :, None])[..., 0] + D[:, None] * x[:, t])
    return torch.stack(out, 1), h


@pytest.fixture
def arithmetic(monkeypatch):
    """The kernels' arithmetic in the place of the kernels."""
    for name, function in (
        ("mamba_ssm.ops.selective_scan_interface", selective_scan_fn),
        ("mamba_ssm.ops.triton.ssd_combined", mamba_chunk_scan_combined),
    ):
        module = types.ModuleType(name)
        setattr(module, function.__name__, function)
        monkeypatch.setitem(sys.modules, name, module)
    root = types.ModuleType("mamba_ssm")
    root.__spec__ = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "mamba_ssm", root)


def draws(variant, carried):
    torch.manual_seed(0)
    tokens, sequences = int(OFFSETS[-1]), len(OFFSETS) - 1
    if variant == 1:
        weights = Scan1(-torch.exp(torch.randn(12, 5)), torch.randn(12), torch.randn(12))
        sizes, shape = (12, 12, 5, 5, 12), (12, 5)
    else:
        weights = Scan2(-torch.exp(torch.randn(4)), torch.randn(4), torch.randn(4), (0.02, 1.5), 2)
        sizes, shape = (12, 4, 10, 10, 12), (4, 3, 5)
    state = torch.randn(sequences, *shape) if carried else torch.zeros(sequences, *shape)
    return weights, Tokens(*(torch.randn(tokens, size) for size in sizes)), state


@pytest.mark.parametrize("carried", [True, False])
@pytest.mark.parametrize("variant", [1, 2])
def test_padding_and_carried_states_around_the_kernels_change_nothing(arithmetic, variant, carried):
    from unabridged.encoders.mamba import ops_ssm, ops_torch

    weights, tokens, state = draws(variant, carried)
    with torch.inference_mode():
        found = getattr(ops_ssm, f"scan{variant}")(weights, tokens, state, OFFSETS)
        expected = getattr(ops_torch, f"scan{variant}")(weights, tokens, state, OFFSETS)
    for ours, exact in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", [1, 2])
def test_gradients_around_the_kernels_are_those_of_plain_torch(arithmetic, variant):
    from unabridged.encoders.mamba import ops_ssm, ops_torch

    weights, tokens, state = draws(variant, carried=True)
    found = []
    for module in (ops_ssm, ops_torch):
        own = Tokens(*(tensor.clone().requires_grad_() for tensor in tokens))
        made, _ = getattr(module, f"scan{variant}")(weights, own, state, OFFSETS)
        made.square().sum().backward()
        found.append([tensor.grad for tensor in own])
    for ours, exact in zip(*found, strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("path", ["torch", "mamba_ssm"])
@pytest.mark.parametrize("variant", [1, 2])
def test_a_gpu_gives_the_hidden_states_of_the_cpu(variant, path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    if path == "mamba_ssm":
        pytest.importorskip("mamba_ssm")
    extra = {"dt_rank": 4} if variant == 1 else {"heads": 2, "head_dim": 64}
    config = MambaConfig(variant, 64, 3, 40, 128, 16, **extra)
    own = initial(config, 0)
    ids = torch.arange(200) % 40
    expected, end = MambaModel(config, own, path="torch").hidden(ids, OFFSETS)
    model = MambaModel(config, {name: tensor.cuda() for name, tensor in own.items()}, path=path)
    with torch.inference_mode():
        _, state = model.hidden(ids[:50].cuda(), np.array([0, 50, 50, 50, 50]))
        cuts = np.array([0, 20, 20, 21, 150])
        found, state = model.hidden(ids[50:].cuda(), cuts, state)
    torch.testing.assert_close(found.cpu(), expected[50:].detach(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(state.scan[-1].cpu(), end.scan[-1].detach(), rtol=1e-3, atol=1e-3)
