"""Index folders on a stand-in for GPUs: the same hits; reasons in results, in info and in builds.

The oracle is the same folder on the CPU.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests_gpu import FakeGpus, install
from typer.testing import CliRunner

from unabridged.apps.cli import app
from unabridged.contracts import Document
from unabridged.encoders.load import load_encoder
from unabridged.errors import ResourceError, UsageError
from unabridged.index.dense.gpu.driver import Driver, Gpu, read_driver
from unabridged.index.dense.gpu.machine import Machine
from unabridged.index.dense.gpu.sizes import GIB
from unabridged.retrievers.api import build_index, open_index
from unabridged.retrievers.result import SearchResult

WORDS = [
    "harbour",
    "contract",
    "annex",
    "engine",
    "survey",
    "valley",
    "market",
    "signal",
    "orchard",
    "ledger",
    "copper",
]


def documents(count: int = 900) -> list[Document]:
    texts = [" ".join(WORDS[(n * 7 + i * (1 + n % 11)) % len(WORDS)] for i in range(6 + n % 9)) for n in range(count)]
    return [Document(f"d{n}", text, metadata={"even": n % 2 == 0}) for n, text in enumerate(texts)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("gpu") / "index"
    build_index(documents(), load_encoder("hashing"), out).close()
    return out


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> FakeGpus:
    return install(monkeypatch, FakeGpus(40 * GIB, 40 * GIB))


def bare(result: SearchResult) -> list[tuple[str, float, int, int]]:
    return [(hit.doc_id, hit.score, hit.span.start, hit.span.end) for hit in result]


@pytest.mark.parametrize("device", ["cuda", "cuda:0,1", "cuda:0,1+shard+float16"])
@pytest.mark.parametrize("level", ["doc", "segment"])
def test_a_folder_gives_the_same_hits_on_a_gpu(gpus, folder: Path, device: str, level: str) -> None:
    queries = ["copper ledger of the valley", "winter market signal"]
    with open_index(folder) as plain, open_index(folder, device=device) as moved:
        for mode in ("dense", "hybrid"):
            for chosen in (None, {"even": True}):
                found = moved.search(queries, 7, mode=mode, level=level, filter=chosen)
                expected = plain.search(queries, 7, mode=mode, level=level, filter=chosen)
                assert [bare(one) for one in found] == [bare(one) for one in expected]
        assert {place.kind for place in moved.placements.values()} == {"flat"}
        assert {place.kind for place in plain.placements.values()} == {"cpu"}
    assert gpus.said("search")


def test_a_small_set_stays_on_the_cpu_by_default_and_nothing_is_said(gpus, folder: Path) -> None:
    with open_index(folder) as index:
        result = index.search_one("copper ledger", mode="dense")
        assert result.notes == ()
        assert "notes" not in result.as_json()
        assert "milliseconds" in index.placements["segments"].reason
    assert gpus.calls == []


def test_what_a_gpu_could_not_do_stands_in_the_result_and_in_its_json(gpus, folder: Path) -> None:
    gpus.most = 0
    with open_index(folder, device="cuda") as index:
        result = index.search_one("copper ledger", mode="dense")
        assert any("the memory of the GPU was full" in note for note in result.notes)
        assert result.as_json()["notes"] == list(result.notes)
        [ranked] = index.rank(["copper ledger"], mode="dense")
        assert ranked.notes == result.notes
        assert index.search_one("copper ledger", mode="bm25").notes == ()


def test_a_set_that_no_gpu_holds_is_told_where_a_gpu_was_asked_for(monkeypatch, folder: Path) -> None:
    install(monkeypatch, FakeGpus(GIB))
    with open_index(folder, device="cuda") as index:
        notes = index.search_one("copper ledger", mode="dense").notes
    assert len(notes) == 2
    assert all("searched on the CPU" in note and "GPUs have free (1.0 GiB)" in note for note in notes)


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_read_or_encoded(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="index device cuda was asked for"):
        open_index(folder, device="cuda")
    with pytest.raises(ResourceError, match="index device cuda:0 was asked for"):
        build_index(documents(3), load_encoder("hashing"), tmp_path / "new", index_device="cuda:0")
    assert not (tmp_path / "new").exists()
    with pytest.raises(UsageError, match="expected auto, cpu, cuda"):
        open_index(folder, device="gpu")


def test_a_build_says_where_lists_were_found_and_info_shows_it_and_the_places(gpus, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("unabridged.index.recipe.FLAT_ROWS", 10)
    out = tmp_path / "index"
    build_index(documents(200), load_encoder("hashing"), out, recipe="IVF2,SQ8", index_device="cuda:1").close()
    with open_index(out, device="cuda:1") as index:
        assert index.state.dense["segments"]["facts"]["built_on"] == "cuda:1"
        assert {place.kind for place in index.placements.values()} == {"ivf-sq"}
        found = index.search_one("copper ledger", mode="dense")
        with open_index(out, device="cpu") as plain:
            assert bare(found) == bare(plain.search_one("copper ledger", mode="dense"))
    shown = CliRunner().invoke(app, ["info", str(out), "--index-device", "cuda:1"])
    assert "segments built on cuda:1" in shown.output
    assert "segments searched on cuda:1 ivf-sq" in shown.output
    body = json.loads(CliRunner().invoke(app, ["info", str(out), "--index-device", "cpu", "--output", "json"]).output)
    assert body["placements"]["segments"]["reason"] == "asked for"


def test_the_command_line_searches_on_a_gpu_and_prints_notes(gpus, folder: Path) -> None:
    asked = ["search", str(folder), "copper ledger", "--mode", "dense"]
    plain = json.loads(CliRunner().invoke(app, [*asked, "--output", "json"]).output)
    moved = json.loads(CliRunner().invoke(app, [*asked, "--output", "json", "--index-device", "cuda"]).output)
    assert moved["hits"] == plain["hits"]
    gpus.most = 0
    told = CliRunner().invoke(app, [*asked, "--index-device", "cuda"])
    assert told.exit_code == 0
    assert "note: segments: the memory of the GPU was full for a single query" in told.output


def test_the_command_line_refuses_a_gpu_that_is_not_there_with_its_exit_code(folder: Path) -> None:
    refused = CliRunner().invoke(app, ["search", str(folder), "x", "--index-device", "cuda"])
    assert refused.exit_code == ResourceError.exit_code
    both = ["--backend", "milvus:///tmp/none.db", "--index-device", "cuda"]
    contradicting = CliRunner().invoke(app, ["search", str(folder), "x", "--mode", "dense", *both])
    assert contradicting.exit_code == UsageError.exit_code
    assert "not both" in contradicting.output
    wrong = CliRunner().invoke(app, ["search", str(folder), "x", "--index-device", "cuda:x"])
    assert wrong.exit_code == UsageError.exit_code


def test_doctor_names_the_one_wheel_and_what_it_can_do_for_the_gpus(monkeypatch) -> None:
    from unabridged.apps import doctor

    report = doctor._gpu_search()
    assert report["faiss"] in ("CPU only", "GPU", "GPU with cuVS")
    card = Gpu(0, "NVIDIA H200", (9, 0), 139 * GIB, 130 * GIB)
    found = Machine(Driver(12_040, (card,)), ("faiss-gpu-cu12",), frozenset({"GPU"}))
    monkeypatch.setattr("unabridged.index.dense.gpu.machine.find_machine", lambda: found)
    report = doctor._gpu_search()
    assert len(report["warnings"]) == 1
    assert report["driver"] == "12.4"
    assert report["gpus"] == ["cuda:0 NVIDIA H200, compute capability 9.0, 130.0 of 139.0 GiB free"]
    assert "faiss-gpu-cu12 holds code for compute capability 7.0, 8.0 only" in report["warnings"][0]


@pytest.mark.parametrize("level", ["doc", "segment"])
def test_the_queries_of_one_search_go_to_the_gpu_together_and_hits_are_those_of_each_alone(gpus, folder, level) -> None:
    queries = ["copper ledger of the valley", "winter market signal", "annex", "annex", "survey engine"]
    with open_index(folder, device="cuda:0") as index:
        for mode in ("dense", "hybrid"):
            alone = [index.search_one(query, 7, mode=mode, level=level) for query in queries]
            gpus.calls.clear()
            found = index.search(queries, 7, mode=mode, level=level)
            assert [bare(one) for one in found] == [bare(one) for one in alone]
            assert [call[2] for call in gpus.said("search")] == [4] * (2 if level == "doc" else 1)
            ranked = index.rank(queries, 7, mode=mode, level=level)
            assert [one.doc_ids for one in ranked] == [tuple(hit.doc_id for hit in one) for one in alone]
        assert all(one.timings["dense_ms"] >= 0 for one in found)


def test_a_note_on_a_batch_stands_with_each_of_its_results(gpus, folder: Path) -> None:
    gpus.most = 0
    with open_index(folder, device="cuda:0") as index:
        for result in index.search(["copper ledger", "annex"], mode="dense"):
            assert sum("the memory of the GPU was full" in note for note in result.notes) == 2
            assert len(set(result.notes)) == len(result.notes)


def test_the_benchmark_without_a_gpu_says_so_with_the_exit_code_and_writes_nothing(tmp_path: Path) -> None:
    if read_driver(memory=False).gpus:
        pytest.skip("there is a GPU")
    script = Path(__file__).parents[2] / "benchmarks" / "bench_gpu_search.py"
    command = [sys.executable, str(script), "--smoke", "--out", str(tmp_path / "found.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == ResourceError.exit_code
    assert "No GPU to measure: index device cuda was asked for" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_doctor_tells_of_a_wheel_that_is_too_old_to_load_and_cannot_run_on_the_gpu(monkeypatch) -> None:
    from unabridged.apps import doctor
    from unabridged.index.dense import _faiss
    from unabridged.index.dense.gpu import machine

    monkeypatch.setattr(_faiss.load_faiss(), "__version__", "1.14.1")
    _faiss.load_faiss.cache_clear()
    for module in (_faiss, machine):
        monkeypatch.setattr(module, "installed_wheels", lambda: ["faiss-gpu-cu12"])
    card = Gpu(0, "NVIDIA H200", (9, 0), 139 * GIB, 130 * GIB)
    monkeypatch.setattr(machine, "read_driver", lambda: Driver(12_040, (card,)))
    try:
        report = doctor._gpu_search()
    finally:
        _faiss.load_faiss.cache_clear()
    way = 'pip uninstall -y faiss-gpu-cu12 && pip install "faiss-gpu>=1.15"'
    assert report["usable"] is False
    assert ["1.14.1 was found (faiss-gpu-cu12)" in report["warnings"][0], way in report["warnings"][0]] == [True, True]
    assert "7.0, 8.0 only, and NVIDIA H200 has 9.0" in report["warnings"][1]
    assert way in report["warnings"][1]
