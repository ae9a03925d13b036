"""Every path's operations against a naive twin in float64, token by token: values and gradients."""

import importlib

import numpy as np
import pytest

from unabridged.encoders.mamba.parts import Scan1, Scan2, Tokens
from unabridged.encoders.mamba.path import PATHS

torch = pytest.importorskip("torch")
LENGTHS = {"one token": [1], "short": [2, 3, 1, 5], "ragged": [0, 63, 1, 0, 130, 64, 17], "long": [700]}
LIMIT = (0.02, 1.5)


HERE = ["numba", "torch"]


@pytest.fixture(params=HERE)
def path(request):
    if request.param == "numba":
        pytest.importorskip("numba")
    return importlib.import_module(PATHS[request.param])


@pytest.fixture(params=list(LENGTHS))
def offsets(request):
    return np.concatenate(([0], np.cumsum(LENGTHS[request.param]))).astype(np.int64)


class Naive:
    """What the papers say, line by line."""

    @staticmethod
    def conv_silu(x, weight, bias, tail, offsets):
        out, after = [x[:0]], []
        for b, before in enumerate(tail):
            seen = torch.cat((before.T, x[offsets[b] : offsets[b + 1]]))
            for t in range(offsets[b + 1] - offsets[b]):
                total = (seen[t : t + weight.shape[1]].T * weight).sum(1) + (0 if bias is None else bias)
                out.append((total * torch.sigmoid(total))[None])
            after.append(seen[len(seen) - before.shape[1] :].T)
        return torch.cat(out), torch.stack(after)

    @staticmethod
    def rms_norm(x, weight, eps, groups):
        parts = [part / torch.sqrt((part * part).mean(1, keepdim=True) + eps) for part in x.chunk(groups, 1)]
        return torch.cat(parts, 1) * weight

    @staticmethod
    def scan1(weights, tokens, state, offsets):
        out, after = [tokens.x[:0]], []
        for b, h in enumerate(state):
            for t in range(offsets[b], offsets[b + 1]):
                x, raw, before, behind, z = (tensor[t] for tensor in tokens)
                step = torch.log1p(torch.exp(raw + weights.bias))
                h = torch.exp(step[:, None] * weights.a) * h + (step * x)[:, None] * before
                out.append(((h @ behind + weights.skip * x) * z * torch.sigmoid(z))[None])
            after.append(h)
        return torch.cat(out), torch.stack(after)

    @staticmethod
    def scan2(weights, tokens, state, offsets):
        out, after = [tokens.x[:0]], []
        heads, width, size = state.shape[1:]
        for b, h in enumerate(state):
            for t in range(offsets[b], offsets[b + 1]):
                x, raw, before, behind, z = (tensor[t] for tensor in tokens)
                x = x.view(heads, width)
                before, behind = (
                    v.view(weights.groups, size).repeat_interleave(heads // weights.groups, 0) for v in (before, behind)
                )
                step = torch.log1p(torch.exp(raw + weights.bias)).clamp(*weights.limit)
                h = torch.exp(step * weights.a)[:, None, None] * h
                h = h + (step[:, None] * x)[:, :, None] * before[:, None, :]
                y = (h @ behind[:, :, None])[:, :, 0] + weights.skip[:, None] * x
                out.append((y.view(-1) * z * torch.sigmoid(z))[None])
            after.append(h)
        return torch.cat(out), torch.stack(after)


def draw(*shape, shift=0.0, scale=1.0):
    return torch.randn(*shape, dtype=torch.float64) * scale + shift


def conv_inputs(offsets, width, bias):
    tokens, sequences, channels = int(offsets[-1]), len(offsets) - 1, 133
    made = [draw(tokens, channels), draw(channels, width), draw(channels), draw(sequences, channels, width - 1)]
    return made if bias else [made[0], made[1], None, made[3]]


def scan1_inputs(offsets, inner=140, size=5):
    tokens, sequences = int(offsets[-1]), len(offsets) - 1
    weights = [-torch.exp(draw(inner, size)), draw(inner), draw(inner)]
    rows = [draw(tokens, n, shift=s) for n, s in ((inner, 0), (inner, -1), (size, 0), (size, 0), (inner, 0))]
    return [*weights, *rows, draw(sequences, inner, size)]


def scan2_inputs(offsets, heads=6, width=9, size=7, groups=2):
    tokens, sequences, inner = int(offsets[-1]), len(offsets) - 1, heads * width
    weights = [-torch.exp(draw(heads)), draw(heads), draw(heads)]
    sizes = ((inner, 0), (heads, -1), (groups * size, 0), (groups * size, 0), (inner, 0))
    rows = [draw(tokens, n, shift=s) for n, s in sizes]
    return [*weights, *rows, draw(sequences, heads, width, size)]


def conv_call(module, given, offsets):
    return module.conv_silu(*given, offsets)


def scan1_call(module, given, offsets):
    return module.scan1(Scan1(*given[:3]), Tokens(*given[3:8]), given[8], offsets)


def scan2_call(module, given, offsets):
    return module.scan2(Scan2(*given[:3], LIMIT, 2), Tokens(*given[3:8]), given[8], offsets)


def norm_call(groups):
    return lambda module, given, offsets: [module.rms_norm(*given, 1e-5, groups)]


CASES = {
    "norm": (norm_call(1), lambda o: [draw(int(o[-1]), 96, scale=0.01), draw(96)]),
    "norm in groups": (norm_call(3), lambda o: [draw(int(o[-1]), 96), draw(96)]),
    "conv": (conv_call, lambda o: conv_inputs(o, 4, True)),
    "conv of 3": (conv_call, lambda o: conv_inputs(o, 3, True)),
    "conv of 1 without bias": (conv_call, lambda o: conv_inputs(o, 1, False)),
    "scan1": (scan1_call, scan1_inputs),
    "scan2": (scan2_call, scan2_inputs),
}


def near(found, expected, limit):
    scale = max(1e-3, float(expected.detach().abs().max())) if expected.numel() else 1.0
    assert found.shape == expected.shape
    assert bool(torch.isfinite(found).all())
    assert float((found.double() - expected).detach().abs().max() if found.numel() else 0) / scale < limit


def gradients(call, module, given, offsets, probes):
    given = [None if tensor is None else tensor.clone().requires_grad_() for tensor in given]
    made = call(module, given, offsets)
    sum((out * probe.to(out.dtype)).sum() for out, probe in zip(made, probes, strict=True)).backward()
    return made, [torch.zeros_like(x) if x.grad is None else x.grad for x in given if x is not None]


@pytest.mark.parametrize("case", list(CASES))
def test_values_and_gradients_of_every_input_are_those_of_the_naive_twin(path, offsets, case):
    call, inputs = CASES[case]
    torch.manual_seed(0)
    given = inputs(offsets)
    single = [None if tensor is None else tensor.float() for tensor in given]
    probes = [torch.randn_like(out) for out in call(Naive, given, offsets)]
    expected, expected_gradients = gradients(call, Naive, given, offsets, probes)
    found, found_gradients = gradients(call, path, single, offsets, probes)
    with torch.no_grad():
        plain = call(path, single, offsets)
    for out, same, exact in zip(found, plain, expected, strict=True):
        near(out, exact, 2e-5)
        near(same, exact, 2e-5)
    for gradient, exact in zip(found_gradients, expected_gradients, strict=True):
        near(gradient, exact, 1e-4)


def test_the_scan_in_blocks_is_the_scan_token_by_token(offsets):
    from unabridged.encoders.mamba.ops_torch import blocked_scan, selective_scan

    torch.manual_seed(0)
    a, _, _, x, step, b, c, _, state = scan1_inputs(offsets)
    given = [x, torch.nn.functional.softplus(step), a, b, c, state]
    made = []
    for scan in (blocked_scan, selective_scan):
        own = [tensor.clone().requires_grad_() for tensor in given]
        y, after = scan(*own, offsets)
        (y.square().sum() + after.sin().sum()).backward()
        made.append([y, after, *(tensor.grad for tensor in own)])
    for found, expected in zip(*made, strict=True):
        near(found, expected, 1e-9)


@pytest.mark.parametrize("case", ["norm", "conv", "scan1", "scan2"])
def test_columns_of_a_wider_matrix_are_read_where_they_lie(path, case):
    call, inputs = CASES[case]
    torch.manual_seed(0)
    offsets = np.array([0, 40, 41])
    given = [tensor.float() for tensor in inputs(offsets)]
    views = [torch.cat((tensor, torch.full_like(tensor, torch.nan)), 1)[:, : tensor.shape[1]]
             if tensor.ndim == 2 and len(tensor) == 41 else tensor for tensor in given]  # fmt: skip
    with torch.inference_mode():
        for found, expected in zip(call(path, views, offsets), call(path, given, offsets), strict=True):
            near(found, expected.double(), 1e-6)


def test_states_that_are_given_are_not_written_into(path):
    for case in ("conv", "scan1", "scan2"):
        call, inputs = CASES[case]
        offsets = np.array([0, 3, 3, 9])
        given = [tensor.float() for tensor in inputs(offsets)]
        before = [tensor.clone() for tensor in given]
        with torch.no_grad():
            call(path, given, offsets)
        assert all(torch.equal(found, same) for found, same in zip(given, before, strict=True))


def test_large_decays_next_to_small_ones_lose_nothing(path):
    """Sums of a step's decays over a chunk reach thousands, and those of neighbours may be 1e-3."""
    torch.manual_seed(0)
    offsets = np.array([0, 128])
    given = scan2_inputs(offsets)
    given[0] = torch.tensor([-1e-3, -1.0, -60.0, -400.0, -1e-3, -24.0], dtype=torch.float64)
    given[4] = torch.where(torch.rand(128, 6) < 0.3, 3.0, -9.0).double()
    expected, _ = Naive.scan2(Scan2(*given[:3], (0.0, torch.inf), 2), Tokens(*given[3:8]), given[8], offsets)
    given = [tensor.float() for tensor in given]
    with torch.no_grad():
        found, _ = path.scan2(Scan2(*given[:3], (0.0, torch.inf), 2), Tokens(*given[3:8]), given[8], offsets)
    near(found, expected, 1e-5)
