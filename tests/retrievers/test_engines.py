"""A pool of processes builds the folder of one process, byte for byte, whatever happens to workers or to the build."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest
import tests_engines as tools
from tests_engines import files, gone, items, noted, stored, until
from typer.testing import CliRunner

import unabridged as ub
from unabridged.apps.cli import app
from unabridged.contracts import Failure, OverflowPolicy
from unabridged.corpora import ListCorpus
from unabridged.encoders.hashing import HashingEncoder
from unabridged.errors import MissingExtra, PassportMismatch, RuntimeFailure, UsageError
from unabridged.retrievers import fill, staging
from unabridged.retrievers.build import build
from unabridged.retrievers.engines import pool as crew_pool
from unabridged.retrievers.engines import spec
from unabridged.retrievers.engines.choice import Engine

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes by /proc"),
    pytest.mark.usefixtures("small_units"),
]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[str, bytes]:
    """The files of a build in one process."""
    folder = tmp_path_factory.mktemp("alone") / "ix"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fill, "UNIT_CHARACTERS", 1500)
        patch.setattr(staging, "SHARD_DOCUMENTS", 9)
        build(ListCorpus(items()), tools.plain(), folder)
    return files(folder)


def pool(factory: str | None, workers: int = 2) -> Engine:
    return Engine("pool", workers=workers, factory=None if factory is None else f"tests_engines:{factory}")


def run(folder: Path, factory: str, corpus=None, **options):
    encoder = getattr(tools, factory)()
    return build(ListCorpus(corpus or items()), encoder, folder, engine=pool(factory), **options)


def test_a_pool_builds_the_bytes_of_one_process_and_leaves_no_process(tmp_path, alone, log):
    report = run(tmp_path / "ix", "noting")
    assert files(tmp_path / "ix") == alone
    assert (report.documents, report.failed, report.failed_reasons) == (38, 2, {"encoder-error": 2})
    assert len(list(log.glob("*.log"))) == 2  # both worked
    assert tools.children(os.getpid()) == []
    assert not (tmp_path / "ix" / "work").exists()


def test_the_one_call_takes_the_engine_by_name_and_makes_the_encoder_from_its_passport(tmp_path):
    plain = [item for item in items() if "POISON" not in str(item["text"])]
    pooled = ub.build_index(plain, "hashing:32", tmp_path / "a", engine="pool", workers=2)
    assert pooled.report["documents"] == 38
    ub.build_index(plain, "hashing:32", tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_a_text_that_does_not_fit_is_one_line_and_all_other_rows_are_there(tmp_path):
    encoder = ub.load_encoder("hashing:16", max_tokens=100)
    settings = {"overflow": OverflowPolicy.ERROR}
    engine = Engine("pool", workers=2)
    report = build(ListCorpus(items()), encoder, tmp_path / "a", options=settings, engine=engine)
    build(ListCorpus(items()), encoder, tmp_path / "b", options=settings)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert report.failed_reasons["overflow"] == report.failed > 3
    assert report.documents + report.failed == len(items())


def test_workers_that_are_killed_in_the_middle_of_units_cost_these_units_only(tmp_path, alone, log):
    run(tmp_path / "ix", "once")
    assert {path.name for path in log.glob("killed-*")} == {"killed-0", "killed-1"}
    assert files(tmp_path / "ix") == alone
    lines = noted(log)
    again = len(lines) - len(set(lines))
    assert again <= 2 + 2  # halves of the units that fail may be equal; a killed call was not noted


@pytest.mark.slow
def test_a_worker_killed_from_outside_is_replaced(tmp_path, alone, log):
    killed: list[int] = []

    def kill(event) -> None:
        if not killed:
            killed.append(tools.children(os.getpid())[0])
            os.kill(killed[0], signal.SIGKILL)

    run(tmp_path / "ix", "slow", listener=kill)
    assert killed
    assert files(tmp_path / "ix") == alone
    assert len(list(log.glob("*.log"))) == 3


def test_a_text_that_kills_every_worker_is_one_failure_and_all_other_rows_are_there(tmp_path):
    corpus = items()
    corpus[21]["text"] = "DEADLY"
    folder = tmp_path / "ix"
    report = run(folder, "deadly", corpus)
    assert report.documents == 37
    assert report.failed_reasons == {"encoder-error": 2, "worker-lost": 1}
    lines = [json.loads(line) for line in (folder / "failed.jsonl").read_text().splitlines()]
    lost = next(Failure(**line) for line in lines if line["reason"] == "worker-lost")
    assert (lost.id, lost.stage) == ("d 21", "encode")
    assert "SIGKILL" in lost.message
    index = ub.open_index(folder, encoder=tools.plain())
    assert {line.doc_id for line in index.ledger()} == {str(i["_id"]) for i in corpus} - {"d 17", "d 21", "d 33"}


def in_child(folder: Path, factory: str) -> int:
    child = os.fork()
    if child == 0:
        try:
            run(folder, factory)
        finally:
            os._exit(0)
    return child


def test_a_killed_build_leaves_no_worker_and_continues_from_the_units_that_were_done(tmp_path, alone, log):
    folder = tmp_path / "ix"
    child = in_child(folder, "slow")
    units = folder / "work" / "units"
    until(lambda: stored(folder) >= 3)
    workers = tools.children(child)
    assert len(workers) == 2
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert gone(workers)
    assert not (folder / "manifest.json").exists()
    done = stored(folder) + len(list(units.glob("*.unit"))) - 1  # one may be stored and not yet deleted
    before = len(noted(log))
    run(folder, "slow")
    assert files(folder) == alone
    again = len(noted(log)) - before
    build(ListCorpus(items()), tools.noting(), tmp_path / "whole")
    whole = len(noted(log)) - before - again
    assert again <= whole + 1 - done  # one text fails twice, and is wanted once for nothing
    assert done >= 2


def test_unit_files_that_cannot_be_read_or_are_of_other_work_are_done_again(tmp_path, alone, log):
    folder = tmp_path / "ix"
    child = in_child(folder, "slow")
    units = folder / "work" / "units"
    until(lambda: stored(folder) >= 1 and list(units.glob("*.unit")))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    found = sorted(units.glob("*.unit"))
    assert found
    for number, path in enumerate(found):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2] if number % 2 else data[:-1] + bytes([data[-1] ^ 1]))
    (units / ("0" * 32 + ".unit")).write_bytes(b"of other work")
    (units / "torn.machine.1.tmp").write_bytes(b"half")
    run(folder, "slow")
    assert files(folder) == alone


def test_an_interrupt_ends_the_workers_and_keeps_what_is_done(tmp_path, alone, log):
    folder = tmp_path / "ix"
    seen: list[int] = []
    before = threading.active_count()

    def interrupt(event) -> None:
        seen.extend(tools.children(os.getpid()))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, "slow", listener=interrupt)
    assert len(seen) == 2
    assert gone(seen, 1.0)
    assert threading.active_count() <= before
    assert stored(folder) == 1
    run(folder, "slow")
    assert files(folder) == alone


@pytest.mark.slow
def test_an_update_by_a_pool_has_the_bytes_of_one_by_one_process(tmp_path):
    changed = [{**item, "text": f"{item['text']} and more"} if n % 3 else item for n, item in enumerate(items())][:35]
    for name, engine in (("a", pool("noting")), ("b", Engine())):
        build(ListCorpus(items()), tools.noting(), tmp_path / name, engine=Engine())
        report = build(ListCorpus(changed), tools.noting(), tmp_path / name, delete_missing=True, engine=engine)
        assert report.updated > 10
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_what_stops_one_process_stops_a_pool_with_the_same_words(tmp_path):
    with pytest.raises(RuntimeFailure) as alone:
        build(ListCorpus(items()), tools.broken(), tmp_path / "a")
    with pytest.raises(RuntimeFailure) as pooled:
        build(ListCorpus(items()), tools.broken(), tmp_path / "b", engine=pool("broken"))
    assert str(pooled.value).startswith(str(alone.value))
    assert tools.children(os.getpid()) == []


@pytest.mark.parametrize(
    ("factory", "error", "said"),
    [
        ("lacking", MissingExtra, "a_package_that_is_not_here cannot be imported on "),
        ("other", PassportMismatch, "window was 32 and is 33"),
    ],
)
def test_a_worker_that_cannot_make_the_encoder_says_what_is_missing_and_where(
    factory, error, said, tmp_path, monkeypatch
):
    monkeypatch.setattr(spec.EncoderSpec, "load", lambda self: None)  # this process has it, and the workers do not
    with pytest.raises(error, match=said):
        build(ListCorpus(items()), tools.plain(), tmp_path / "ix", engine=pool(factory))
    assert tools.children(os.getpid()) == []


def test_a_worker_that_cannot_be_started_ends_the_build_and_nobody_waits_for_ever(tmp_path, monkeypatch):
    def full(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(crew_pool.subprocess, "Popen", full)
    with pytest.raises(RuntimeFailure, match=r"cannot be started: .*temporarily unavailable.*fewer workers"):
        run(tmp_path / "ix", "plain")


def test_a_fault_in_a_thread_of_the_pool_ends_the_build(tmp_path, monkeypatch):
    def fault(*_):
        raise MemoryError("no room for a message")

    monkeypatch.setattr(crew_pool, "receive", fault)
    with pytest.raises(RuntimeFailure, match="MemoryError: no room for a message"):
        run(tmp_path / "ix", "plain")
    assert tools.children(os.getpid()) == []


def test_what_an_interpreter_says_at_its_start_is_no_message(tmp_path, alone, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import os\nos.write(1, b'welcome, there are some news\\nbye')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    run(tmp_path / "ix", "plain")
    assert files(tmp_path / "ix") == alone


def test_a_worker_that_ends_by_itself_points_to_what_it_wrote(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import os\nos._exit(4)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RuntimeFailure, match=r"before it had its model \(exit code 4\): what it wrote to stderr"):
        run(tmp_path / "ix", "plain")


@pytest.mark.parametrize(
    "encoder",
    [HashingEncoder(window=32, fail_on="POISON"), tools.noting(), tools.Homeless()],
    ids=["state that no name holds", "a class of a user's own", "a passport of a user's own"],
)
def test_an_encoder_that_workers_cannot_make_is_refused_before_anything_is_written(encoder, tmp_path):
    with pytest.raises(UsageError, match="factory='module:function'"):
        build(ListCorpus(items()), encoder, tmp_path / "ix", engine=Engine("pool"))
    assert not (tmp_path / "ix").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "spark"}, "one of local, pool, ray, got 'spark'"),
        ({"kind": "pool", "workers": 0}, "workers is a whole number from 1, got 0"),
        ({"kind": "pool", "workers": True}, "got True"),
        ({"kind": "pool", "threads": -1}, "threads is a whole number"),
        ({"kind": "pool", "address": "auto"}, "address is for engine='ray'"),
        ({"kind": "pool", "shared": True}, "shared is for engine='ray'"),
        ({"kind": "ray", "address": "ray://host:10001"}, "does not run through a Ray Client"),
        ({"workers": 2}, "workers is for the engines pool and ray"),
        ({"factory": "a:b"}, "factory is for the engines pool and ray"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, said):
    with pytest.raises(UsageError, match=said):
        Engine(**options)


@pytest.mark.parametrize("factory", ["nothing", "tests_engines:absent", "no_such_module:f", "tests_engines:items"])
def test_a_factory_that_makes_no_encoder_is_refused(factory, tmp_path):
    with pytest.raises(UsageError, match="factory"):
        build(ListCorpus(items()), tools.plain(), tmp_path / "ix", engine=Engine("pool", factory=factory))


def test_the_command_line_takes_the_engine_and_builds_the_same_folder(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    for n in range(5):
        (texts / f"{n}.txt").write_text(f"text number {n} about birds " * (n + 1))
    line = ["index", str(texts), "--encoder", "hashing:32", "--quiet", "--out"]
    for name, more in (("a", ["--engine", "pool", "--workers", "2"]), ("b", [])):
        assert CliRunner().invoke(app, [*line, str(tmp_path / name), *more]).exit_code == 0
    assert files(tmp_path / "a") == files(tmp_path / "b")
    refused = CliRunner().invoke(app, [*line, str(tmp_path / "c"), "--engine", "pool", "--address", "auto"])
    assert refused.exit_code == 2
    assert "address is for engine='ray'" in refused.stderr
