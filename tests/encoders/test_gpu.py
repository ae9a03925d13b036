"""Encoders on a GPU: the CPU's vectors, a real lack of memory, several devices, and no waiting for the CPU."""

import numpy as np
import pytest

import unabridged
from unabridged.contracts import Document, Level
from unabridged.corpora import ListCorpus
from unabridged.encoders.load import load_encoder
from unabridged.errors import OutOfMemory, ResourceError, UsageError
from unabridged.retrievers.build import build

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.gpu

TEXTS = [f"Sentence {n} of the {n % 7}th annex, signed in 2019. " * (1 + n * 5 % 31) for n in range(200)]
TOLERANCE = {"float32": 1e-4, "bfloat16": 1e-2, "float16": 2e-3}
"""Of the cosine distance to the float32 vectors of a CPU."""


@pytest.fixture(scope="module", autouse=True)
def device():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return "cuda:0"


@pytest.fixture(scope="module")
def exact(minilm):
    return minilm.encode_documents(TEXTS)


@pytest.mark.parametrize("precision", list(TOLERANCE))
@pytest.mark.parametrize("backend", ["torch", "varlen"])
def test_vectors_are_the_cpus_to_the_rounding_of_the_precision(exact, device, backend, precision):
    encoder = load_encoder(device=device, backend=backend, precision=precision)
    found = encoder.encode_documents(TEXTS)
    np.testing.assert_array_equal(found.spans, exact.spans)
    distance = 1 - (found.segments * exact.segments).sum(1)
    assert distance.max() < TOLERANCE[precision]
    np.testing.assert_array_equal(found.segments, encoder.encode_documents(TEXTS).segments)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_packed_attention_gives_a_text_one_vector_in_any_batch(device, precision):
    from unabridged.encoders import _varlen

    encoder = load_encoder(device=device, backend="varlen", precision=precision)
    backend = encoder._runner.backends[0]
    together = encoder.encode(TEXTS)
    assert backend._model._attend is _varlen.flash
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS[:20]])
    assert (1 - (together[:20] * alone).sum(1)).max() < TOLERANCE[precision]


def test_the_compiled_model_is_the_same(exact, device):
    encoder = load_encoder(device=device, backend="compiled", precision="bf16")
    found = encoder.encode_documents(TEXTS)
    assert (1 - (found.segments * exact.segments).sum(1)).max() < TOLERANCE["bfloat16"]


@pytest.fixture
def tight(device):
    """A device of which this process may take 600 MiB."""
    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction((600 << 20) / whole, device)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0, device)
    torch.cuda.empty_cache()


def test_a_huge_batch_really_runs_out_of_memory_and_comes_back_smaller(exact, device, tight, monkeypatch):
    import unabridged.encoders._run as run

    # Free memory would have prevented it.
    monkeypatch.setattr(run, "free_bytes", lambda device: None)
    texts = [f"{n} {text}" for n in range(12) for text in TEXTS]
    encoder = load_encoder(device=device, backend="torch", batch_tokens=4_000_000)
    found = encoder.encode_documents(texts, level=Level.SEGMENT)
    (use,) = encoder.memory_report()
    assert use.halved > 0
    assert use.lowest < use.planned
    calm = load_encoder(device=device, backend="torch", batch_tokens=4096).encode_documents(texts, level=Level.SEGMENT)
    assert np.isfinite(found.segments).all()
    assert (1 - (found.segments * calm.segments).sum(1)).max() < 1e-5


def test_what_batches_took_of_memory_is_learned_before_it_runs_out(device):
    texts = [f"{n} {text}" for n in range(20) for text in TEXTS]
    encoder = load_encoder(device=device, backend="torch", batch_tokens=200_000)
    encoder.encode_documents(texts)
    (use,) = encoder.memory_report()
    assert (use.halved, use.alone) == (0, 0)
    assert use.free_bytes is not None
    assert use.free_bytes > 0


def test_weights_without_room_are_an_error_of_the_device(device):
    whole = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((8 << 20) / whole, device)
    try:
        with pytest.raises(ResourceError, match="weights") as caught:
            load_encoder(device=device, backend="torch").encode(["cat"])
        assert not isinstance(caught.value, OutOfMemory)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def test_several_gpus_give_the_vectors_of_one(exact):
    count = torch.cuda.device_count()
    if count < 2:
        pytest.skip(f"{count} CUDA device")
    encoder = load_encoder(device="cuda:all", batch_tokens=4096)
    found = encoder.encode_documents(TEXTS)
    assert len(encoder.memory_report()) == count
    assert (1 - (found.segments * exact.segments).sum(1)).max() < 1e-4
    np.testing.assert_array_equal(found.segments, encoder.encode_documents(TEXTS).segments)


def test_a_gpu_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(UsageError, match="cuda:0"):
        load_encoder(device="cuda:99").encode(["cat"])


def test_an_index_built_with_a_gpu_opens_on_the_cpu_with_the_same_best_hits(device, tmp_path, minilm):
    corpus = ListCorpus([Document(str(n), text) for n, text in enumerate(TEXTS)])
    report = build(corpus, load_encoder(device=device), tmp_path / "gpu")
    assert report.memory[0]["device"] == device
    build(corpus, minilm, tmp_path / "cpu")
    queries = ["annex signed in 2019", "sentence 17 of the third annex"]
    found = []
    for name in ("gpu", "cpu"):
        with unabridged.open_index(tmp_path / name, encoder=minilm) as index:
            found.append([[hit.doc_id for hit in result.hits] for result in index.search(queries, k=1, mode="dense")])
    assert found[0] == found[1]


def test_the_host_does_not_wait_for_the_device_between_batches(device):
    """Telling a GPU what to do takes less time than doing it: the launches of many batches return before their end."""
    import time

    encoder = load_encoder(device=device, backend="varlen", precision="bf16")
    backend = encoder._runner.backends[0]
    rng = np.random.default_rng(0)
    offsets = np.arange(0, 65_536 + 1, 256, dtype=np.int64)
    ids = rng.integers(1000, 20_000, 65_536).astype(np.int32)
    for _ in range(3):
        backend.hidden(ids, offsets)
    torch.cuda.synchronize()
    started = time.perf_counter()
    kept = [backend.hidden(ids, offsets) for _ in range(20)]
    told = time.perf_counter() - started
    torch.cuda.synchronize()
    done = time.perf_counter() - started
    assert len(kept) == 20
    assert told < 0.9 * done
