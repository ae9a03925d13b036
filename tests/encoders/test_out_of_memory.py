"""Batches under a memory that runs out now and then: the same vectors, each text once, an end, and a record of it."""

import itertools
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unabridged.contracts import Document, Level, OverflowPolicy
from unabridged.corpora import read_corpus
from unabridged.encoders._hf import read_folder
from unabridged.encoders._torch import TorchBackend
from unabridged.encoders.batching import batch_cost, in_batches, plan_batches, room, token_bytes
from unabridged.encoders.transformer import Settings, TransformerEncoder
from unabridged.errors import OutOfMemory, ResourceError
from unabridged.halving import TokenCap
from unabridged.index.shard import Record
from unabridged.manifest import load_manifest
from unabridged.retrievers.build import build
from unabridged.retrievers.units import encode_unit, encode_with

torch = pytest.importorskip("torch")

ERRORS = (
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 apples"),
    lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    MemoryError,
)
LENGTHS = st.lists(st.integers(0, 90), min_size=1, max_size=60).map(lambda x: np.array(x, dtype=np.int64))
CALLS = st.sets(st.integers(0, 40), max_size=25)


class Device:
    """Doubles lengths; refuses the calls numbered ``calls``, batches over ``most`` tokens, and the rows ``never``."""

    def __init__(self, lengths, calls=(), most=10**9, never=(), kind=0):
        self.lengths, self.calls, self.most, self.never, self.kind = lengths, set(calls), most, set(never), kind
        self.count = 0

    def __call__(self, rows):
        self.count += 1
        refuse = self.count - 1 in self.calls or batch_cost(self.lengths, rows) > self.most
        if refuse or self.never & set(rows.tolist()):
            raise ERRORS[self.kind]()
        return self.lengths[rows] * 2


@given(LENGTHS, CALLS, st.integers(1, 400), st.integers(1, 400), st.sets(st.integers(0, 60), max_size=3), st.data())
def test_every_row_comes_once_with_its_own_result_whatever_runs_out_of_memory(lengths, calls, asked, most, never, data):
    device = Device(lengths, calls, most, never, data.draw(st.integers(0, 2)))
    cap = TokenCap(asked)
    found = list(
        in_batches(
            plan_batches(lengths, asked), lengths, cap, device, lambda row, error: np.array([-1], dtype=np.int64)
        )
    )
    rows = np.concatenate([rows for rows, _ in found])
    values = np.concatenate([value for _, value in found])
    assert sorted(rows.tolist()) == list(range(len(lengths)))
    lost = rows[values < 0]
    np.testing.assert_array_equal(values[values >= 0], lengths[rows[values >= 0]] * 2)
    surely = {row for row in range(len(lengths)) if row in never or max(1, int(lengths[row])) > most}
    assert surely <= set(lost.tolist())
    # A row without an own reason fails only if two calls one after the other were refused.
    if not any(call + 1 in calls for call in calls):
        assert surely == set(lost.tolist())
    assert cap.use.alone == len(lost)
    # Each batch that did not fit is parted into smaller ones, and a single row is tried twice.
    assert device.count <= 4 * len(lengths) + 2


def never(row, lack):
    raise AssertionError(row)


@given(LENGTHS, st.integers(1, 400))
def test_without_a_lack_of_memory_the_plan_is_carried_out_as_it_is(lengths, asked):
    plan = plan_batches(lengths, asked)
    found = [rows for rows, _ in in_batches(plan, lengths, TokenCap(asked), Device(lengths), never)]
    assert [rows.tolist() for rows in found] == [rows.tolist() for rows in plan]


def test_any_other_error_passes_unchanged_and_at_once():
    lengths, error, calls = np.array([3, 2, 1]), RuntimeError("shapes do not match"), []

    def run(rows):
        calls.append(rows)
        raise error

    with pytest.raises(RuntimeError) as caught:
        list(in_batches(plan_batches(lengths, 9), lengths, TokenCap(9), run, lambda row, lack: None))
    assert caught.value is error
    assert len(calls) == 1


class Leaky(TorchBackend):
    """A CPU whose memory runs out at the calls ``calls`` and over ``most`` tokens, padding included."""

    def __init__(self, folder, calls=(), most=10**9, kind=0):
        super().__init__(folder, device="cpu")
        self.calls, self.most, self.kind, self.count = set(calls), most, kind, 0

    def hidden(self, ids, offsets):
        self.count += 1
        lengths = np.diff(offsets)
        if self.count - 1 in self.calls or lengths.max() * len(lengths) > self.most:
            raise ERRORS[self.kind]()
        return super().hidden(ids, offsets)


TEXTS = [f"the cat {n} sat on the mat " * (1 + n * 7 % 23) for n in range(24)]


@pytest.fixture(scope="module")
def folder(bert_folder):
    return read_folder(bert_folder)


@pytest.fixture(scope="module")
def undisturbed(folder):
    return TransformerEncoder(folder, [TorchBackend(folder, device="cpu")]).encode_documents(TEXTS)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(0, 30).map(lambda n: 2 * n), max_size=12), st.integers(0, 2), st.integers(64, 2048))
def test_vectors_are_those_of_the_undisturbed_run(folder, undisturbed, calls, kind, most):
    backend = Leaky(folder, calls, most, kind)
    encoder = TransformerEncoder(folder, [backend])
    found = encoder.encode_documents(TEXTS)
    np.testing.assert_allclose(found.segments, undisturbed.segments, atol=1e-6)
    np.testing.assert_array_equal(found.spans, undisturbed.spans)
    (use,) = encoder.memory_report()
    assert use.device == "cpu"
    assert use.alone == 0
    assert (use.halved > 0) <= (use.lowest < use.planned)


def test_where_sequences_do_not_see_their_batch_the_vectors_are_the_same_to_the_bit(minilm):
    pytest.importorskip("onnxruntime")
    from unabridged.encoders._onnx import OnnxBackend

    class LeakyOnnx(OnnxBackend):
        count = 0

        def hidden(self, ids, offsets):
            LeakyOnnx.count += 1
            if LeakyOnnx.count in (1, 2, 5):
                raise MemoryError
            return super().hidden(ids, offsets)

    folder = minilm.folder
    texts = ["one of many", "the quick brown fox " * 30, "a", "words and words " * 9]
    plain = TransformerEncoder(folder, [OnnxBackend(folder)]).encode_documents(texts)
    encoder = TransformerEncoder(folder, [LeakyOnnx(folder)])
    found = encoder.encode_documents(texts)
    np.testing.assert_array_equal(found.segments, plain.segments)
    assert encoder.memory_report()[0].halved == 3


def test_a_moment_without_memory_does_not_cost_a_text_that_is_alone(folder):
    encoder = TransformerEncoder(folder, [Leaky(folder, calls=[0])])
    assert encoder.encode_documents(["the cat"]).segments.shape == (1, 32)
    with pytest.raises(OutOfMemory, match="Text 0"):
        TransformerEncoder(folder, [Leaky(folder, calls=[0, 1])]).encode_documents(["the cat"])


def test_each_device_learns_for_itself(folder, undisturbed):
    tight, free = Leaky(folder, most=150), Leaky(folder)
    encoder = TransformerEncoder(folder, [tight, free], Settings(batch_tokens=300))
    np.testing.assert_allclose(encoder.encode_documents(TEXTS).segments, undisturbed.segments, atol=1e-6)
    first, second = encoder.memory_report()
    assert first.halved > 0 == second.halved
    assert first.lowest <= 150 < second.cap == 300


def test_a_text_that_does_not_fit_is_a_failure_of_its_own_and_the_others_are_kept(folder, tmp_path):
    for number in range(9):
        (tmp_path / f"{number}.txt").write_text("the cat sat on the mat " * (40 if number == 4 else number + 1))
    encoder = TransformerEncoder(folder, [Leaky(folder, most=63)])
    report = build(read_corpus(str(tmp_path)), encoder, tmp_path / "out", options={"recipe": "flat"})
    assert (report.documents, report.failed, report.failed_reasons) == (8, 1, {"out-of-memory": 1})
    (use,) = report.memory
    assert use["device"] == "cpu"
    assert use["halved"] > 0 < use["alone"]
    assert use["lowest"] < use["planned"]


class OneByOne(Leaky):
    """A batch is as many forward passes as it has sequences, so that no vector depends on its neighbours' number."""

    def hidden(self, ids, offsets):
        self.count += 1
        if self.count - 1 in self.calls:
            raise MemoryError
        parts = [ids[a:b] for a, b in itertools.pairwise(offsets)]
        return torch.cat([TorchBackend.hidden(self, part, np.array([0, len(part)])) for part in parts])


def test_what_memory_did_is_in_the_report_and_not_in_the_index(folder, tmp_path):
    (tmp_path / "texts").mkdir()
    for number in range(6):
        (tmp_path / "texts" / f"{number}.txt").write_text(TEXTS[number])
    corpus = read_corpus(str(tmp_path / "texts"))
    for name, calls in (("calm", ()), ("leaky", (0, 2))):
        report = build(corpus, TransformerEncoder(folder, [OneByOne(folder, calls)]), tmp_path / name)
        assert [use["halved"] for use in report.memory] == [len(calls)]
    assert load_manifest(tmp_path / "calm") == load_manifest(tmp_path / "leaky")


def test_weights_without_room_stop_the_run_and_are_no_failure_of_a_text(folder):
    class Heavy(TorchBackend):
        def load(self):
            raise torch.OutOfMemoryError("CUDA out of memory")

    encoder = TransformerEncoder(folder, [Heavy(folder, device="cpu")])
    with pytest.raises(ResourceError, match="weights") as caught:
        encode_unit(
            [Record.of(Document("a", "cat"), bytes(32))],
            encode_with(encoder, Level.BOTH, OverflowPolicy.SPLIT),
            lambda record: "a.txt",
        )
    assert not isinstance(caught.value, OutOfMemory)


def test_little_free_memory_makes_small_batches_from_the_start(folder, undisturbed, monkeypatch):
    import unabridged.encoders._run as module

    monkeypatch.setattr(module, "free_bytes", lambda device: 2 * 200 * token_bytes(folder.config))
    backend = Leaky(folder, most=200)
    encoder = TransformerEncoder(folder, [backend])
    np.testing.assert_allclose(encoder.encode_documents(TEXTS).segments, undisturbed.segments, atol=1e-6)
    (use,) = encoder.memory_report()
    assert (use.halved, use.planned, use.cap) == (0, 2048, 200)


def test_room_is_a_share_of_what_is_free_and_unknown_where_nobody_tells():
    assert token_bytes({"hidden_size": 384, "intermediate_size": 1536}) == (8 * 384 + 2 * 1536) * 4 + 4 * 384
    assert token_bytes({"n_embd": 8}, half=True) == (64 + 64) * 2 + 32
    assert token_bytes({"model_type": "odd"}) is None
    assert room(1000, 5, "cpu") == 100
    assert room(1000, 5, "cuda:0") == 160
    assert room(1000, 10**6, "cpu") == 1
    assert room(None, 5, "cpu") is None is room(5, None, "cpu")


@pytest.mark.parametrize("error", ERRORS)
def test_vectors_that_cannot_be_put_together_on_their_device_are_copied_one_by_one(error, monkeypatch):
    from unabridged.encoders._run import _Gathered

    class OnDevice:
        device, nbytes = torch.device("cuda"), 8

        def __init__(self, value):
            self.value = torch.full((1, 2), value)

        def cpu(self):
            return self.value

    def refuse(vectors):
        raise error()

    monkeypatch.setattr(torch, "cat", refuse)
    gathered = _Gathered(np.zeros((3, 2), dtype=np.float32))
    for row, value in ((2, 5.0), (0, 7.0)):
        gathered.add(np.array([row]), OnDevice(value))
    gathered.copy()
    np.testing.assert_array_equal(gathered.out, [[7, 7], [0, 0], [5, 5]])
    gathered.copy()  # nothing waits any more


@pytest.mark.slow
def test_a_process_with_little_address_space_really_runs_out_and_ends_with_the_same_vectors(minilm):
    """The CPU allocator's own refusal: batches far over what the process may have, of the reference backend."""
    code = f"""
        import resource
        import numpy as np
        from unabridged.encoders.load import load_encoder
        texts = ["the quick brown fox jumps over it " * 31] * 3 + [
            f"the quick {{n}} brown fox jumps over the lazy dog " * 22 for n in range(120)
        ]
        folder = {str(minilm.folder.path)!r}
        small = load_encoder(folder, device="cpu", backend="torch", batch_tokens=2048)
        wanted = small.encode_documents(texts).segments
        large = load_encoder(folder, device="cpu", backend="torch", batch_tokens=1_000_000)
        large.encode(["weights are read before memory is short"])
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (160 << 20), used + (160 << 20)))
        found = large.encode_documents(texts).segments
        (use,) = large.memory_report()
        assert use.halved > 0, use
        assert np.abs(found - wanted).max() < 1e-5
        print(use)
    """
    env = {"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300, env=env
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "made smaller" in done.stdout
