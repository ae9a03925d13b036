"""What a GPU is to hold, decided by numbers: requests, drivers, wheels, kinds, limits, memory and places."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unabridged.errors import MissingExtra, ResourceError, UsageError
from unabridged.index.dense.factory import parse
from unabridged.index.dense.gpu.driver import NO_DEVICE, Driver, Gpu, read_driver
from unabridged.index.dense.gpu.kinds import CLASSIC_LIMIT, PQ_CODES, Kind, kind_of, refusal, to_ask
from unabridged.index.dense.gpu.machine import Machine, gpu_facts, usable
from unabridged.index.dense.gpu.memory import Batches, DeviceFull, is_full
from unabridged.index.dense.gpu.placement import Load, placements, room_on
from unabridged.index.dense.gpu.request import DeviceRequest, parse_device
from unabridged.index.dense.gpu.sizes import (
    GIB,
    MARGIN,
    MIB,
    MOST_PART,
    device_bytes,
    part_bytes,
    temporary_bytes,
)
from unabridged.index.dense.gpu.trail import Trail, noted
from unabridged.index.dense.gpu.training import chosen
from unabridged.index.dense.gpu.wheel import KNOWN, cannot_run, too_old

H200 = Gpu(0, "NVIDIA H200", (9, 0), 139 * GIB, 138 * GIB)
T4 = Gpu(0, "Tesla T4", (7, 5), 15 * GIB, 14 * GIB)
CUDA = parse_device("cuda")
META = Machine(Driver(12_040, (H200,)), ("faiss-gpu",), frozenset({"GPU", "OPTIMIZE"}))


def numbered(gpu: Gpu, number: int, free: int | None = None) -> Gpu:
    return Gpu(number, gpu.name, gpu.capability, gpu.total, gpu.free if free is None else free)


# Requests


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("auto", DeviceRequest("auto")),
        ("cpu", DeviceRequest("cpu")),
        (" CUDA ", DeviceRequest("cuda")),
        ("cuda:3", DeviceRequest("cuda", (3,))),
        ("cuda:1,0", DeviceRequest("cuda", (0, 1))),
        ("cuda:0,1+shard+float16", DeviceRequest("cuda", (0, 1), "shard", "float16")),
        ("cuda+float32", DeviceRequest("cuda", (), "", "float32")),
    ],
)
def test_a_request_is_read_and_written_again(text: str, expected: DeviceRequest) -> None:
    assert parse_device(text) == expected
    assert parse_device(str(expected)) == expected
    assert parse_device(expected) is expected


@pytest.mark.parametrize(
    "text",
    ["", "gpu", "cuda:", "cuda:a", "cuda:-1", "cuda:0,0", "cpu:0", "auto+shard", "cuda+half", "cuda+shard+replicate",
     "cuda:0;1", "cuda:12345", "cuda+float16+float32", None, 3],
)  # fmt: skip
def test_another_text_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(UsageError, match=r"index device.*(expected auto, cpu, cuda|choose one of)"):
        parse_device(text)


# The driver


class FakeCuda:
    """The driver's library as C functions see it: results are written through pointers, codes are returned."""

    def __init__(self, gpus: list[Gpu], *, version: int = 12_040, init: int = 0, memory: bool = True) -> None:
        self.gpus, self.version, self.init, self.memory = gpus, version, init, memory
        self.pushed: list[int] = []
        self.retained: list[int] = []

    def cuDriverGetVersion(self, out):
        out._obj.value = self.version
        return 0

    def cuInit(self, flags):
        return self.init

    def cuDeviceGetCount(self, out):
        out._obj.value = len(self.gpus)
        return 0

    def cuDeviceGet(self, out, number):
        out._obj.value = number
        return 0

    def cuDeviceGetName(self, buffer, size, device):
        buffer.value = self.gpus[device.value].name.encode()
        return 0

    def cuDeviceTotalMem_v2(self, out, device):
        out._obj.value = self.gpus[device.value].total
        return 0

    def cuDeviceGetAttribute(self, out, which, device):
        gpu = self.gpus[device.value]
        out._obj.value = {75: gpu.capability[0], 76: gpu.capability[1], 8: gpu.shared}[which]
        return 0

    def cuDevicePrimaryCtxRetain(self, out, device):
        self.retained.append(device.value)
        out._obj.value = device.value + 1
        return 0

    def cuCtxPushCurrent_v2(self, context):
        self.pushed.append(context.value)
        return 0

    def cuMemGetInfo_v2(self, free, total):
        if not self.memory:
            return 2
        free._obj.value = self.gpus[self.pushed[-1] - 1].free
        return 0

    def cuCtxPopCurrent_v2(self, out):
        self.pushed.pop()
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, device):
        self.retained.remove(device.value)
        return 0


def test_the_driver_tells_version_names_capability_and_memory_and_contexts_are_given_back() -> None:
    cuda = FakeCuda([H200, numbered(T4, 1)])
    assert read_driver(cuda) == Driver(12_040, (H200, numbered(T4, 1)))
    assert (cuda.pushed, cuda.retained) == ([], [])
    quick = read_driver(FakeCuda([H200], memory=False), memory=False)
    assert quick.gpus[0].free == quick.gpus[0].total


def test_a_driver_without_answers_is_no_crash() -> None:
    cuda = FakeCuda([H200], memory=False)
    assert read_driver(cuda).gpus[0].free == H200.total
    assert (cuda.pushed, cuda.retained) == ([], [])
    assert read_driver(FakeCuda([], init=NO_DEVICE)) == Driver(12_040)
    assert read_driver(FakeCuda([], init=803)) == Driver(12_040, (), "cuInit failed with CUDA error 803")


# Wheels


@pytest.mark.parametrize(
    ("wheel", "capability", "runs"),
    [
        ("faiss-gpu", (7, 0), True), ("faiss-gpu", (7, 5), True), ("faiss-gpu", (8, 9), True),
        ("faiss-gpu", (9, 0), True), ("faiss-gpu", (10, 0), True), ("faiss-gpu", (12, 0), True),
        ("faiss-gpu", (6, 1), False), ("faiss-gpu-cuvs", (7, 0), False), ("faiss-gpu-cuvs", (9, 0), True),
        ("faiss-gpu-cu12", (8, 0), True), ("faiss-gpu-cu12", (8, 6), True), ("faiss-gpu-cu12", (9, 0), False),
        ("faiss-gpu-cu12", (10, 0), False), ("faiss-gpu-cu11", (9, 0), False), ("faiss-cuda", (9, 0), True),
        ("faiss-cuda", (10, 0), False),
    ],
)  # fmt: skip
def test_compiled_code_runs_on_its_major_version_and_portable_code_on_later_ones(wheel, capability, runs) -> None:
    assert KNOWN[wheel].runs_on(capability) is runs
    assert (cannot_run([wheel], "card", capability) == "") is runs


def test_a_community_wheel_on_an_h200_is_told_with_the_way_out() -> None:
    said = cannot_run(["faiss-gpu-cu12"], "NVIDIA H200", (9, 0))
    assert "7.0, 8.0 only" in said
    assert 'pip uninstall -y faiss-gpu-cu12 && pip install "faiss-gpu>=1.15"' in said
    assert cannot_run(["somebody-elses-faiss"], "NVIDIA H200", (9, 0)) == ""


def test_a_driver_must_serve_the_cuda_of_the_wheel() -> None:
    assert too_old(["faiss-gpu"], 12_000) == ""
    assert "CUDA 11.8" in too_old(["faiss-gpu"], 11_080)
    assert "CUDA 13.0" in too_old(["faiss-gpu-cuvs"], 12_090)


# A machine


def machine(**changes) -> Machine:
    facts = {"driver": META.driver, "wheels": META.wheels, "compiled": META.compiled}
    return Machine(**{**facts, **changes})


@pytest.mark.parametrize(
    ("found", "request_text", "error", "words"),
    [
        (machine(driver=Driver()), "cuda", ResourceError, "no NVIDIA driver"),
        (machine(driver=Driver(12_040)), "cuda", ResourceError, "CUDA 12.4.*shows no GPU.*CUDA_VISIBLE_DEVICES"),
        (machine(driver=Driver(12_040, (), "cuInit failed with CUDA error 803")), "cuda", ResourceError, "803"),
        (machine(compiled=frozenset(), wheels=("faiss-cpu",)), "cuda", MissingExtra,
         "H200 and faiss-cpu.*pip uninstall -y faiss-cpu && pip install .faiss-gpu>=1.15"),
        (machine(driver=Driver(11_080, (H200,))), "cuda", ResourceError, "CUDA 11.8.*update the driver"),
        (machine(), "cuda:1", UsageError, "names cuda:1, and there are 1 GPUs"),
        (machine(wheels=("faiss-gpu-cu12",)), "cuda", MissingExtra, "7.0, 8.0 only.*faiss-gpu>=1.15"),
    ],
)  # fmt: skip
def test_a_gpu_that_cannot_be_used_is_a_typed_error_with_the_next_step(found, request_text, error, words) -> None:
    with pytest.raises(error, match=words):
        usable(found, parse_device(request_text))


def test_gpus_without_code_for_them_are_left_out_unless_they_are_named() -> None:
    both = machine(driver=Driver(12_040, (numbered(T4, 0), numbered(H200, 1))), wheels=("faiss-gpu-cu12",))
    assert [gpu.number for gpu in usable(both, CUDA)] == [0]
    with pytest.raises(MissingExtra, match="H200"):
        usable(both, parse_device("cuda:0,1"))


def test_doctor_warns_of_wheels_that_cannot_run_and_of_unused_gpus() -> None:
    assert gpu_facts(META)["usable"] is True
    assert gpu_facts(META)["warnings"] == []
    community = gpu_facts(machine(wheels=("faiss-gpu-cu12",)))
    assert community["usable"] is False
    assert "7.0, 8.0 only" in community["warnings"][0]
    plain = gpu_facts(machine(wheels=("faiss-cpu",), compiled=frozenset({"OPTIMIZE"})))
    assert "faiss-cpu is built without GPU code" in plain["warnings"][0]
    double = gpu_facts(machine(wheels=("faiss-cpu", "faiss-gpu")))
    assert "2 packages install a module named faiss: faiss-cpu, faiss-gpu" in double["warnings"][0]
    assert gpu_facts(machine(driver=Driver()))["warnings"] == []


# Kinds and limits


@pytest.mark.parametrize(
    ("factory", "dim", "cuvs", "kind", "words"),
    [
        (None, 384, False, "flat", ""),
        ("SQ8", 384, False, "flat", ""),
        ("PQ48np", 384, False, "flat", ""),
        ("IVF16,Flat", 384, False, "ivf-flat", ""),
        ("IVF16_HNSW32,SQfp16", 384, False, "ivf-sq", ""),
        ("IVF16,SQ8", 384, False, "ivf-sq", ""),
        ("IVF16,SQ6", 384, False, "ivf-sq", ""),
        ("IVF16,SQbf16", 384, False, "cpu", "SQbf16"),
        ("IVF16,SQ8", 6_143, False, "ivf-sq", ""),
        ("IVF16,SQ8", 6_144, False, "cpu", "at most 6,143 dimensions"),
        ("IVF16,SQfp16", 9_000, False, "ivf-sq", ""),
        ("IVF16,PQ48np", 384, False, "ivf-pq", ""),
        ("IVF16,PQ96np", 384, False, "ivf-pq", ""),
        ("IVF16,PQ128np", 384, False, "cpu", "8 bits and one of"),
        ("IVF16,PQ128np", 384, True, "ivf-pq", ""),
        ("IVF16,PQ48x4np", 384, False, "cpu", "48 of 4 bits"),
        ("IVF16,PQ48x4np", 384, True, "ivf-pq", ""),
        ("IVF16,PQ48x10np", 384, True, "cpu", "48 of 10 bits"),
        ("OPQ48,IVF16,PQ48np", 384, False, "ivf-pq", ""),
        ("IVF16,PQ48np,Refine(SQ8)", 384, False, "ivf-pq", ""),
        ("IVF16,PQ48x4fs", 384, True, "cpu", "fast-scan"),
        ("IVF16,RaBitQ", 384, True, "cpu", "RaBitQ"),
        ("IVF16,RaBitQfs,Refine(SQ8)", 384, True, "cpu", "fast-scan"),
        ("HNSW32", 384, True, "cpu", "HNSW graphs"),
    ],
)
def test_the_kind_that_a_gpu_has_for_each_factory_string(factory, dim, cuvs, kind, words) -> None:
    found = kind_of(None if factory is None else parse(factory, dim), dim, cuvs=cuvs)
    assert found.name == kind
    assert words in found.reason
    assert (found.name == "cpu") == bool(found.reason)


def test_look_up_tables_are_halved_only_where_they_do_not_fit_shared_memory() -> None:
    halved = {m: kind_of(parse(f"IVF16,PQ{m}np", 96 * 7 * 5 * 4), 13_440).half_tables for m in (48, 56, 96)}
    assert halved == {48: False, 56: True, 96: True}
    roomy = kind_of(parse("IVF16,PQ96np", 384), 384, shared=2 * 49_152)
    assert (roomy.name, roomy.half_tables) == ("ivf-pq", False)


def test_a_graph_lies_on_a_gpu_only_where_cagra_built_it_and_is_there() -> None:
    plan = parse("HNSW32", 64)
    assert kind_of(plan, 64, cuvs=True, graph="cagra").name == "cagra"
    assert kind_of(plan, 64, cuvs=False, graph="cagra").reason == "CAGRA needs FAISS with cuVS"


@pytest.mark.parametrize(
    ("kind", "k", "probes", "words"),
    [
        (Kind("flat"), 2_048, 1, ""),
        (Kind("flat"), 2_049, 1, "2,049 hits per query are more than the 2,048"),
        (Kind("ivf-sq"), 10, 2_049, "2,049 lists visited"),
        (Kind("ivf-pq", cuvs=True), 16_384, 16_384, ""),
        (Kind("ivf-pq", cuvs=True), 16_385, 1, "16,384"),
    ],
)
def test_calls_beyond_the_limits_are_refused_with_a_reason(kind, k, probes, words) -> None:
    found = refusal(kind, k, probes)
    assert words in found
    assert bool(found) == bool(words)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 100_000), st.integers(1, 100_000), st.integers(0, 200))
def test_what_is_asked_for_is_never_less_than_wanted_nor_more_than_there_is(wanted, allowed, rows, spare) -> None:
    allowed = min(allowed, rows)
    wanted = min(wanted, allowed)
    ask = to_ask(wanted, allowed, rows, spare=spare)
    assert wanted <= ask <= rows
    assert ask >= to_ask(wanted, rows, rows, spare=spare) or ask == rows


def test_rows_allowed_at_random_are_nearly_always_enough() -> None:
    random = np.random.default_rng(0)
    short = 0
    for _ in range(400):
        allow = random.random(5_000) < 0.3
        ask = to_ask(20, int(allow.sum()), 5_000, spare=32)
        short += int(allow[random.permutation(5_000)[:ask]].sum() < 20)
    assert short == 0


# Memory


@pytest.mark.parametrize(
    ("total", "expected"), [(3 * GIB, 512 * MIB), (4 * GIB, 512 * MIB), (8 * GIB, GIB), (9 * GIB, 1536 * MIB)]
)
def test_what_faiss_takes_for_itself_depends_on_the_gpu(total: int, expected: int) -> None:
    assert temporary_bytes(total) == expected


def test_sizes_are_those_of_the_specification() -> None:
    flat = Kind("flat")
    assert device_bytes(flat, None, 10**6, 1024, float16=False) == pytest.approx(4.1e9, rel=0.01)
    assert device_bytes(flat, None, 10**6, 1024, float16=True) == pytest.approx(2.05e9, rel=0.01)
    lists = parse("IVF1000,SQfp16", 384)
    assert device_bytes(Kind("ivf-sq"), lists, 10**6, 384, float16=False) == pytest.approx(776e6, rel=0.03)
    codes = parse("IVF1000,PQ48np", 384)
    assert device_bytes(Kind("ivf-pq"), codes, 10**6, 384, float16=False) == pytest.approx(56e6, rel=0.1)


def test_a_part_is_never_larger_than_what_stays_free_for_its_copy() -> None:
    assert part_bytes(7 * GIB, 136 * GIB) == MOST_PART
    assert part_bytes(130 * GIB, 136 * GIB) == 6 * GIB
    assert part_bytes(GIB, GIB) == 64 * MIB


OOM = RuntimeError("StandardGpuResources: alloc fail type X dev 0 (cudaMalloc error out of memory [2])")


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OOM, True),
        (RuntimeError("failed to cudaHostAlloc 268435456 bytes (error 2 out of memory)"), True),
        (RuntimeError("std::bad_alloc: out_of_memory: CUDA error"), True),
        (MemoryError(), True),
        (RuntimeError("Error: 'params' failed: search params not supported"), False),
        (RuntimeError("CUDA error 700 an illegal memory access was encountered"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_only_a_true_lack_of_memory_is_taken_for_one(error: BaseException, full: bool) -> None:
    assert is_full(error) is full


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300))
def test_a_batch_is_halved_until_it_fits_and_the_hits_are_those_of_one_call(count: int, most: int) -> None:
    from unabridged.contracts import Hits

    sizes: list[int] = []

    def search(queries):
        sizes.append(len(queries))
        if len(queries) > most:
            raise OOM
        return Hits(queries.astype(np.int64), queries)

    batches = Batches()
    queries = np.arange(count, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(batches.search(search, queries).scores, queries)
    assert sum(size for size in sizes if size <= most) == count
    fitted = batches.most or count
    assert min(fitted, count) <= most
    assert fitted >= min(count, most) / 2
    before = len(sizes)
    batches.search(search, queries)
    assert all(size <= most for size in sizes[before:])


def test_one_query_that_does_not_fit_and_other_errors_end_the_halving() -> None:
    def full(queries):
        raise OOM

    def broken(queries):
        raise RuntimeError("illegal memory access")

    with pytest.raises(DeviceFull):
        Batches().search(full, np.zeros((4, 2), np.float32))
    with pytest.raises(RuntimeError, match="illegal"):
        Batches().search(broken, np.zeros((4, 2), np.float32))


# Places


def best(load: Load, gpus: list[Gpu], text: str, **options):
    return placements(load, gpus, parse_device(text), **options)[0]


BIG = Load(10_000_000, 384)


@pytest.mark.parametrize(
    ("load", "gpus", "text", "expected"),
    [
        (BIG, [H200], "cpu", ("cpu", (), "", False)),
        (BIG, [], "auto", ("cpu", (), "", False)),
        (Load(87_000, 384), [H200], "auto", ("cpu", (), "", False)),
        (Load(87_000, 384), [H200], "cuda", ("flat", (0,), "one", False)),
        (Load(0, 384), [H200], "cuda", ("cpu", (), "", False)),
        (BIG, [H200], "auto", ("flat", (0,), "one", False)),
        (BIG, [H200], "cuda+float16", ("flat", (0,), "one", True)),
        (Load(10_000_000, 384, half=True), [H200], "auto", ("flat", (0,), "one", True)),
        (BIG, [T4], "auto", ("flat", (0,), "one", True)),
        (BIG, [T4], "cuda+float32", ("cpu", (), "", False)),
        (BIG, [T4, numbered(T4, 1)], "auto", ("flat", (0,), "one", True)),
        (BIG, [T4, numbered(T4, 1)], "cuda+float32", ("flat", (0, 1), "sharded", False)),
        (BIG, [T4, numbered(T4, 1)], "cuda:0,1", ("flat", (0, 1), "replicated", True)),
        (BIG, [T4, numbered(T4, 1)], "cuda:0,1+shard", ("flat", (0, 1), "sharded", False)),
        (BIG, [T4, numbered(T4, 1)], "cuda+replicate+float32", ("cpu", (), "", False)),
        (BIG, [numbered(T4, 0, 2 * GIB), numbered(T4, 1)], "auto", ("flat", (1,), "one", True)),
        (Load(10**6, 384, factory=parse("IVF1000,SQ8", 384)), [T4], "auto", ("ivf-sq", (0,), "one", False)),
        (Load(10**6, 384, factory=parse("HNSW32", 384)), [H200], "cuda", ("cpu", (), "", False)),
    ],
)
def test_the_place_of_a_set_follows_from_sizes_memory_and_request(load, gpus, text, expected) -> None:
    place = best(load, gpus, text)
    assert (place.kind, place.devices, place.spread, place.float16) == expected
    assert place.on_gpu == bool(expected[1])
    assert place.on_gpu or place.reason
    assert str(place)
    pinned, limit = (256 * 2**20 * len(place.devices), 2_048) if place.on_gpu else (0, 0)
    assert (place.host_bytes, place.limit) == (pinned, limit)


def test_every_ladder_ends_on_the_cpu_and_says_why() -> None:
    ladder = placements(BIG, [T4, numbered(T4, 1)], CUDA)
    assert [(p.spread, p.float16) for p in ladder[:-1]] == [("one", True), ("sharded", False), ("sharded", True)]
    assert ladder[-1].kind == "cpu"
    lone = placements(Load(10**8, 1024), [T4], CUDA)
    assert "take 191" in lone[0].reason
    assert "(14.0 GiB)" in lone[0].reason


def test_memory_of_faiss_itself_is_counted_once_per_gpu() -> None:
    need = device_bytes(Kind("flat"), None, BIG.rows, BIG.dim, float16=True) + 64 * MIB
    exact = need + MARGIN + 1536 * MIB
    tight = Gpu(0, "card", (8, 0), 24 * GIB, exact)
    assert best(BIG, [tight], "cuda").on_gpu
    less = Gpu(0, "card", (8, 0), 24 * GIB, exact - 1)
    assert not best(BIG, [less], "cuda").on_gpu
    assert best(BIG, [less], "cuda", held=[0]).on_gpu
    assert room_on([less], [])[0] == need - 1


@settings(max_examples=120, deadline=None)
@given(
    rows=st.integers(1, 10**9),
    dim=st.integers(1, 4096),
    half=st.booleans(),
    frees=st.lists(st.integers(0, 140 * GIB), min_size=1, max_size=4),
    more=st.integers(0, 100 * GIB),
    words=st.sampled_from(["auto", "cuda", "cuda+float16", "cuda+shard", "cuda+replicate"]),
)
def test_places_fit_their_devices_and_more_memory_never_takes_a_set_off_the_gpu(rows, dim, half, frees, more, words):
    gpus = [Gpu(n, "card", (9, 0), 140 * GIB, free) for n, free in enumerate(frees)]
    load = Load(rows, dim, half)
    ladder = placements(load, gpus, parse_device(words))
    room = room_on(gpus, [])
    for place in ladder:
        assert all(place.bytes_per_device <= room[number] for number in place.devices)
        assert place.spread != "one" or len(place.devices) == 1
        assert place.spread in ("one", "") or len(place.devices) > 1
    assert [place.on_gpu for place in ladder] == [True] * (len(ladder) - 1) + [False]
    richer = [Gpu(n, "card", (9, 0), 300 * GIB, free + more) for n, free in enumerate(frees)]
    if ladder[0].on_gpu:
        assert placements(load, richer, parse_device(words))[0].on_gpu


# Builds


@pytest.mark.parametrize(
    ("factory", "room", "reason", "kind"),
    [
        ("IVF1000,SQ8", 100 * GIB, "", "ivf-sq"),
        ("IVF1000,PQ48x4fs", 100 * GIB, "", "cpu"),
        ("IVF1000,PQ48np,Refine(SQ8)", 100 * GIB, "", "cpu"),
        ("HNSW32", 100 * GIB, "HNSW graphs", "cpu"),
        ("SQ8", 100 * GIB, "no lists", "cpu"),
        ("IVF1000,SQ8", 10 * MIB, "the build takes", "ivf-sq"),
    ],
)
def test_what_a_gpu_does_for_a_build(factory: str, room: int, reason: str, kind: str) -> None:
    found, able = chosen(parse(factory, 384), 10**7, 384, H200, room)
    assert reason in found
    assert bool(found) == bool(reason)
    assert able.name == kind


# Notes


def test_notes_reach_whoever_listens_once_each_and_are_counted_for_the_index() -> None:
    trail = Trail("segments")
    trail.note("too many hits", 3)
    with noted() as outer:
        trail.note("too many hits")
        with noted() as inner:
            trail.note("full")
            trail.note("full", 5)
        trail.note("too many hits")
    assert (outer, inner) == (["segments: too many hits"], ["segments: full"])
    assert trail.reasons == {"too many hits": 5, "full": 6}


def test_supported_codes_are_bytes_per_code_of_the_kernels() -> None:
    assert max(PQ_CODES) * 512 <= 49_152 < 128 * 512
    assert CLASSIC_LIMIT == 2_048
