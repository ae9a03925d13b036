"""Laws of caps that memory teaches, and of telling a lack of memory from any other error."""

import itertools
import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unabridged.halving import PATIENCE, MemoryUse, TokenCap, memory_report, ran_out
from unabridged.room import Peak, free_bytes, release


class Refusal(Exception):
    """As onnxruntime's errors: its own type, and words."""


Refusal.__module__ = "onnxruntime.capi.onnxruntime_pybind11_state"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError(
            "StandardGpuResources: alloc fail type TemporaryMemoryOverflow (cudaMalloc error out of memory [2])"
        ),
        Refusal("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : MatMul node. bad_alloc"),
        Refusal("Failed to allocate memory for requested buffer of size 17179869184"),
    ],
    ids=str,
)
def test_a_lack_of_memory_is_known_by_its_type_or_by_its_words(error):
    assert ran_out(error)


def test_torchs_own_type_is_a_lack_of_memory():
    torch = pytest.importorskip("torch")
    assert ran_out(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        RuntimeError("out of memory, says the author of this test"),
        RuntimeError("CUDA error: device-side assert triggered"),
        Refusal("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions"),
        ValueError("DefaultCPUAllocator: can't allocate memory"),
        OSError(12, "Cannot allocate memory"),
    ],
    ids=str,
)
def test_no_other_error_is_one(error):
    assert not ran_out(error)


OUTCOMES = st.lists(st.tuples(st.integers(1, 5_000), st.booleans()), max_size=200)


@given(st.integers(1, 4_000), OUTCOMES)
def test_the_cap_stays_between_one_and_its_limit_and_falls_below_what_did_not_fit(limit, outcomes):
    cap = TokenCap(limit)
    for cost, fits in outcomes:
        before = cap.value
        if fits:
            cap.fitted(cost)
            assert before <= cap.value <= limit
        else:
            cap.ran_out(cost)
            assert cap.value <= max(1, min(before, cost - 1))
        assert 1 <= cap.use.lowest <= cap.value <= cap.limit == limit


def test_a_lowered_cap_is_raised_in_small_steps_and_comes_back_to_its_limit():
    cap = TokenCap(1000)
    cap.ran_out(1000)
    assert cap.value == 500
    seen = []
    for _ in range(100 * PATIENCE):
        cap.fitted(cap.value)
        seen.append(cap.value)
    assert seen[PATIENCE - 2] == 500 < seen[PATIENCE - 1] <= 625
    assert seen[-1] == 1000
    assert all(b <= a * 5 // 4 for a, b in itertools.pairwise(seen))


@given(st.integers(10, 3_000), st.integers(100, 3_000))
def test_where_memory_stays_short_the_limit_is_met_a_few_times_only(room, batches):
    """The twin: a device that holds ``room`` tokens and no more, and batches as large as the cap."""
    cap, refused, at = TokenCap(4_096), 0, 0
    while at < batches:
        cost = cap.value
        if cost > room:
            cap.ran_out(cost)
            refused += 1
        else:
            cap.fitted(cost)
            at += 1
    assert refused <= 12 + 2 * batches.bit_length()
    assert cap.value >= room // 4


def test_small_batches_say_nothing_about_the_cap():
    cap = TokenCap(1000)
    cap.ran_out(1000)
    for _ in range(1000):
        cap.fitted(100)
    assert cap.value == 500


def test_a_moment_without_memory_at_a_small_batch_is_soon_forgotten_where_large_ones_had_fitted():
    cap = TokenCap(16_384)
    cap.fitted(16_000)
    cap.ran_out(10)
    assert cap.value == 5
    for _ in range(13 * PATIENCE):
        cap.fitted(cap.value)
    assert cap.value > 10_000


def test_a_failed_step_goes_back_to_what_had_fitted_and_waits_twice_as_long():
    cap = TokenCap(1000)
    cap.ran_out(1000)
    for _ in range(PATIENCE):
        cap.fitted(500)
    cap.ran_out(cap.value)
    assert cap.value == 500
    for _ in range(2 * PATIENCE - 1):
        cap.fitted(500)
    assert cap.value == 500
    cap.fitted(500)
    assert cap.value > 500


def test_a_measured_bound_lowers_the_limit_and_never_lifts_it_over_the_plan():
    cap = TokenCap(1000, "cuda:0", 5)
    cap.bound(300)
    assert (cap.value, cap.limit, cap.use.planned, cap.use.lowest) == (300, 300, 1000, 300)
    cap.bound(10**9)
    assert (cap.value, cap.limit) == (300, 1000)
    assert TokenCap(0).value == 1


def test_the_report_says_what_happened_in_numbers_and_in_words():
    cap = TokenCap(64, "cuda:1", 7)
    cap.ran_out(64)
    cap.failed_alone()
    use = cap.use
    assert use == MemoryUse("cuda:1", 64, 32, 32, 1, 0, 1, 7)
    assert use.as_json()["halved"] == 1
    assert "cuda:1: 1 batches" in str(use)
    assert "64 tokens down to 32" in str(use)
    assert "1 items" in str(use)
    assert memory_report(types.SimpleNamespace(memory_report=lambda: [use])) == (use,)
    assert memory_report(object()) == ()


def test_the_free_memory_of_this_machine_is_a_part_of_what_it_has(monkeypatch, tmp_path):
    import unabridged.room as room

    found = free_bytes()
    assert found is not None
    assert 1 << 20 < found < 1 << 46
    info = tmp_path / "meminfo"
    info.write_text("MemTotal:  900 kB\nMemAvailable:  500 kB\n")
    monkeypatch.setattr(room, "MEMINFO", info)
    monkeypatch.setattr(room, "GROUPS", ())
    assert free_bytes() == 500 * 1024
    group = [tmp_path / name for name in ("max", "current", "stat")]
    for path, text in zip(group, ("400000", "150000", "anon 1\ninactive_file 50000"), strict=True):
        path.write_text(text)
    monkeypatch.setattr(room, "GROUPS", (tuple(group),))
    assert free_bytes() == 300_000
    group[0].write_text("max")
    assert free_bytes() == 500 * 1024
    info.unlink()
    assert free_bytes() is not None


@pytest.mark.parametrize(
    ("own", "folder", "names"),
    [
        ("0::/system.slice/job_7/step_0", "system.slice", ("memory.max", "memory.current", "memory.stat")),
        (
            "9:name=systemd:/x\n4:cpu,memory:/slurm/job_7/step_0\n0::/",
            "memory/slurm",
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"),
        ),
    ],
    ids=["second version", "first version"],
)
def test_a_limit_on_a_group_above_that_of_this_process_counts(own, folder, names, monkeypatch, tmp_path):
    import unabridged.room as room

    (tmp_path / "meminfo").write_text("MemAvailable:  500 kB\n")
    monkeypatch.setattr(room, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(room, "GROUPS", ())
    monkeypatch.setattr(room, "ROOT", tmp_path)
    monkeypatch.setattr(room, "OWN_GROUPS", tmp_path / "own")
    assert free_bytes() == 500 * 1024  # nobody tells of groups
    (tmp_path / "own").write_text(own + "\n")
    assert free_bytes() == 500 * 1024  # groups without files
    job, step = tmp_path / folder / "job_7", tmp_path / folder / "job_7" / "step_0"
    for group, limit in ((job, "300000"), (step, "max")):
        group.mkdir(parents=True)
        for name, text in zip(names, (limit, "100000", "inactive_file 5000"), strict=True):
            (group / name).write_text(text)
    assert free_bytes() == 205_000
    (step / names[0]).write_text("100001")
    assert free_bytes() == 5_001
    (tmp_path / "own").write_text("0::/../elsewhere\nnonsense\n")
    assert free_bytes() == 500 * 1024


class FakeCuda:
    """What is asked of torch.cuda, with numbers."""

    highest = 700

    def mem_get_info(self, device):
        return 1000, 5000

    def memory_reserved(self, device):
        return 300

    def memory_allocated(self, device):
        return 100

    def max_memory_allocated(self, device):
        return self.highest


def test_on_a_gpu_what_torch_holds_for_later_is_free_and_a_peak_is_told_once(monkeypatch):
    cuda = FakeCuda()
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=cuda, OutOfMemoryError=MemoryError))
    assert free_bytes("cuda:0") == 1200
    peak = Peak.start("cuda:0")
    assert peak is not None
    assert peak.bytes() is None
    cuda.highest = 900
    assert peak.bytes() == 800
    assert Peak.start("cpu") is None
    assert free_bytes("tpu:0") is None


def test_giving_memory_back_does_no_harm_without_torch(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    release()
    release("cuda:0")
    assert free_bytes("cuda:0") is None
