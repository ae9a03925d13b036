"""What the kernels are made of: functions against numpy, work against threads, and the path that is chosen."""

import threading

import numpy as np
import pytest

from unabridged.encoders.mamba import path
from unabridged.encoders.mamba.config import MambaConfig
from unabridged.encoders.mamba.finite import NonFinite
from unabridged.encoders.mamba.model import MambaModel, initial
from unabridged.errors import ShapeError, UsageError

torch = pytest.importorskip("torch")
CONFIGS = {
    "mamba": MambaConfig(1, 16, 3, 40, 32, 6, dt_rank=3),
    "mamba2": MambaConfig(2, 16, 3, 40, 32, 8, heads=4, head_dim=8),
}


@pytest.fixture
def kernels():
    pytest.importorskip("numba")
    from unabridged.encoders.mamba import kernels

    return kernels


def apply(function, x):
    return np.array([function(value) for value in x], dtype=np.float64)


def test_exponential_softplus_and_sigmoid_are_exact_to_a_few_roundings(kernels):
    x = np.concatenate((np.linspace(-30, 30, 5001), [0, -1e-9, 1e-9, 88, -100, -1e4, 1e4])).astype(np.float32)
    exact = x.astype(np.float64)
    below = x[x <= 0]
    found = apply(kernels.exp2n, below * kernels.LOG2E)
    assert np.abs(found - np.exp(below.astype(np.float64))).max() < 1.2e-7
    near = below > -8
    np.testing.assert_allclose(found[near], np.exp(below[near].astype(np.float64)), rtol=1e-6)
    np.testing.assert_allclose(apply(kernels.softplus, x), np.logaddexp(0, exact), rtol=3e-6, atol=1e-30)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(apply(kernels.sigmoid, x), 1 / (1 + np.exp(-exact)), rtol=3e-6, atol=1e-30)


def test_nan_stays_nan_in_all_three(kernels):
    for function in (kernels.exp2n, kernels.softplus, kernels.sigmoid):
        assert np.isnan(function(np.float32(np.nan)))


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
def test_every_task_is_done_once_by_any_number_of_threads(threads):
    from unabridged.encoders.mamba.threads import run

    for lengths in ([100], [0, 0], [5, 0, 1000, 1, 1, 1], [1] * 50):
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        done = np.zeros(len(lengths) * 3, dtype=int)

        def kernel(first, last, _offsets, add, done=done):
            done[first:last] += add

        run(kernel, offsets, 3, (1,), threads)
        assert (done == 1).all()


def test_an_error_in_any_thread_is_raised_when_all_are_done():
    from unabridged.encoders.mamba.threads import spread

    done = []

    def work(first, last):
        if first == 1:
            raise ValueError("one")
        done.append(first)

    with pytest.raises(ValueError, match="one"):
        spread(work, [(n, n + 1) for n in range(4)], 4)
    assert sorted(done) == [0, 2, 3]


@pytest.mark.parametrize("name", list(CONFIGS))
def test_thread_counts_are_left_alone_and_change_nothing(kernels, name):
    model = MambaModel(CONFIGS[name], initial(CONFIGS[name], 0))
    ids, offsets = torch.arange(200) % 40, np.array([0, 150, 200])
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            with torch.inference_mode():
                found.append(model.hidden(ids, offsets)[0])
            assert torch.get_num_threads() == threads
            with pytest.raises(ShapeError):
                model.hidden(ids, offsets[:-1])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-5, atol=1e-6)


def test_several_callers_at_a_time_get_their_own_results(kernels):
    model = MambaModel(CONFIGS["mamba"], initial(CONFIGS["mamba"], 0))
    batches = [(torch.arange(n, 300 + n) % 40, np.array([0, 300])) for n in range(6)]
    found = [None] * 6

    def work(row):
        with torch.inference_mode():
            found[row] = model.hidden(*batches[row])[0]

    workers = [threading.Thread(target=work, args=(row,)) for row in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for row, batch in enumerate(batches):
        with torch.inference_mode():
            torch.testing.assert_close(found[row], model.hidden(*batch)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("which", ["numba", "torch"])
@pytest.mark.parametrize("name", list(CONFIGS))
@pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=str)
def test_states_that_are_not_finite_are_named_by_layer_and_sequence(which, name, value):
    if which == "numba":
        pytest.importorskip("numba")
    own = initial(CONFIGS[name], 0)
    own["embeddings.weight"][7] = value
    model = MambaModel(CONFIGS[name], own, path=which)
    ids = torch.tensor([1, 2, 3, 4, 7, 1, 5, 6])
    with pytest.raises(NonFinite, match=r"Layer 0 .* sequence 2") as caught, torch.inference_mode():
        model.hidden(ids, np.array([0, 3, 3, 6, 8]))
    assert (caught.value.layer, caught.value.sequence) == (0, 2)
    own["embeddings.weight"][7] = 0.1
    for parameter in ("A_log", "D", "conv1d.weight", "out_proj.weight"):
        broken = {key: tensor.clone() for key, tensor in own.items()}
        broken[f"layers.1.mixer.{parameter}"].view(-1)[0] = torch.nan
        with pytest.raises(NonFinite, match=r"Layer 1 .* sequence 0"), torch.inference_mode():
            MambaModel(CONFIGS[name], broken, path=which).hidden(ids, np.array([0, 3, 3, 6, 8]))


def test_the_path_and_its_reason_are_told(monkeypatch):
    assert path.scan_path("cuda:0")[0] == "torch"
    assert "mamba_ssm" in path.scan_path("cuda:0")[1]
    assert path.scan_path("mps") == ("torch", "scans in blocks, in plain torch, on mps")
    monkeypatch.setattr(path.importlib.util, "find_spec", lambda name: None)
    assert path.scan_path() == (
        "torch",
        'numba is not installed, so that scans are slow: pip install "unabridged[mamba]"',
    )
    with pytest.raises(UsageError, match="no path 'fast'"):
        path.operations("fast")


def test_parameters_that_do_not_fit_are_named():
    own = initial(CONFIGS["mamba"], 0)
    with pytest.raises(ShapeError, match=r"norm_f.weight has shape \(3,\), expected \(16,\)"):
        MambaModel(CONFIGS["mamba"], {**own, "norm_f.weight": torch.ones(3)})
    own.pop("layers.2.mixer.D")
    with pytest.raises(ShapeError, match=r"layers\.2\.mixer\.D"):
        MambaModel(CONFIGS["mamba"], own)


def test_states_of_several_texts_are_taken_and_joined():
    model = MambaModel(CONFIGS["mamba2"], initial(CONFIGS["mamba2"], 0))
    with torch.inference_mode():
        _, state = model.hidden(torch.arange(30) % 40, np.array([0, 10, 12, 30]))
    joined = state.join([state.take([2]), state.take([0, 1])])
    for found, expected in zip((*joined.conv, *joined.scan), (*state.conv, *state.scan), strict=True):
        assert torch.equal(found, expected[[2, 0, 1]])
    assert len(joined) == 3
    assert joined.nbytes == 3 * model.state(1).nbytes == 3 * 3 * 4 * (48 * 3 + 4 * 8 * 8)
