"""Ray Data builds the folder of one process, byte for byte, whatever happens to workers or to the build.

Every test starts Ray on the loopback address, for itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import tests_engines as tools
from tests_engines import files, gone, items, until

from unabridged.corpora import ListCorpus
from unabridged.errors import MissingExtra, MissingFile, RuntimeFailure, UsageError
from unabridged.retrievers.build import build
from unabridged.retrievers.engines.choice import Engine

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("small_units"),
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

SCRIPT = """
import sys
import tests_engines as tools
from unabridged.corpora import ListCorpus
from unabridged.retrievers import fill, staging
from unabridged.retrievers.build import build
from unabridged.retrievers.engines.choice import Engine

fill.UNIT_CHARACTERS, staging.SHARD_DOCUMENTS = 1500, 9
kind, factory, folder = sys.argv[1:]
engine = Engine(kind, workers=2, factory="tests_engines:" + factory)
build(ListCorpus(tools.items()), getattr(tools, factory)(), folder, engine=engine)
"""


@pytest.fixture
def alone(tmp_path) -> dict[str, bytes]:
    """The files of a build in one process."""
    build(ListCorpus(items()), tools.plain(), tmp_path / "alone")
    return files(tmp_path / "alone")


def ray(factory: str | None, **options: object) -> Engine:
    return Engine("ray", factory=None if factory is None else f"tests_engines:{factory}", **{"workers": 2, **options})


def run(folder: Path, factory: str, corpus=None, **options):
    return build(ListCorpus(corpus or items()), getattr(tools, factory)(), folder, engine=ray(factory), **options)


def listening(pids: list[int]) -> set[str]:
    """Addresses, as the kernel writes them, on which some processes wait for connections."""
    links = [link for pid in pids for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
    sockets = {str(link.readlink()) for link in links}
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets}


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}


def test_actors_build_the_bytes_of_one_process_on_loopback_alone_and_leave_no_process_or_setting(
    tmp_path, alone, log, capfd
):
    before, seen = dict(os.environ), set()

    def look(event) -> None:
        with contextlib.suppress(OSError):  # a process that has just ended
            seen.update(listening([os.getpid(), *tools.children(os.getpid(), "")]))

    report = run(tmp_path / "ix", "noting", listener=look)
    assert files(tmp_path / "ix") == alone
    assert (report.documents, report.failed_reasons) == (38, {"encoder-error": 2})
    assert gone(tools.children(os.getpid(), "ray"), 60)
    assert dict(os.environ) == before
    assert capfd.readouterr().out == ""
    assert seen
    assert {address for address in seen if address not in LOOPBACK} == set()


def test_a_text_that_kills_every_worker_is_one_failure_and_all_other_rows_are_there(tmp_path):
    corpus = items()
    corpus[21]["text"] = "DEADLY"
    report = run(tmp_path / "ix", "deadly", corpus)
    assert report.documents == 37
    assert report.failed_reasons == {"encoder-error": 2, "worker-lost": 1}


@pytest.mark.parametrize("kind", ["pool", "ray"])
def test_one_of_two_workers_killed_and_then_the_build_and_started_again_gives_the_manifest_of_one_process(
    kind, tmp_path, alone, log
):
    folder, word = tmp_path / "ix", "engines.process" if kind == "pool" else "MapWorker"
    units = folder / "work" / "units"
    environment = {**os.environ, "PYTHONPATH": str(Path(tools.__file__).parent)}
    command = [sys.executable, "-c", SCRIPT, kind, "slow", str(folder)]
    first = subprocess.Popen(command, env=environment)
    until(lambda: tools.stored(folder) >= 1 and len(tools.children(first.pid, word)) == 2, 120)
    victim = tools.children(first.pid, word)[0]
    os.kill(victim, signal.SIGKILL)
    reached = tools.stored(folder)
    until(lambda: tools.stored(folder) >= reached + 2 and list(units.glob("*.unit")), 120)
    workers = [pid for name in (word, "raylet/raylet", "gcs_server") for pid in tools.children(first.pid, name)]
    first.kill()
    first.wait()
    assert gone(workers, 60)  # two helpers of Ray without work take a minute to see that it is gone
    assert not (folder / "manifest.json").exists()
    kept = tools.stored(folder)
    assert 3 <= kept < 10
    subprocess.run(command, env=environment, check=True)
    assert files(folder) == alone
    sys.stdout.write(f"{kind}: worker {victim} and the build killed after {kept} units; all bytes equal\n")


def test_a_machine_of_a_cluster_that_does_not_see_the_folder_or_lacks_a_package_is_named(
    tmp_path, alone, log, monkeypatch
):
    import ray as engine

    from unabridged.retrievers.engines import cluster, connection, nodes

    connection.connect("local", 2)  # what runs here already is a cluster like any other
    try:
        here = socket.gethostname()
        monkeypatch.setitem(cluster.NEEDED, "hashing", ("numpy", "a_package_that_is_not_here"))
        with pytest.raises(MissingExtra, match=f"machine {here} .* has no a_package_that_is_not_here"):
            run(tmp_path / "lacking", "noting")
        monkeypatch.setitem(cluster.NEEDED, "hashing", ("numpy",))
        with pytest.raises(UsageError, match="99 workers need 99 cores"):
            build(ListCorpus(items()), tools.plain(), tmp_path / "many", engine=ray("plain", workers=99))
        monkeypatch.setattr(nodes.Path, "touch", lambda self: None)  # as where nobody else sees the file
        with pytest.raises(MissingFile, match=f"machine {here} .* does not see"):
            build(ListCorpus(items()), tools.plain(), tmp_path / "strict", engine=ray("plain", shared=True))
        run(tmp_path / "ix", "noting")  # units come back over the network
        assert files(tmp_path / "ix") == alone
        assert engine.is_initialized()  # it was not ours to end
    finally:
        engine.shutdown()


def test_an_address_without_ray_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(RuntimeFailure, match=r"no Ray at address '127\.0\.0\.1:1'"):
        build(ListCorpus(items()), tools.plain(), tmp_path / "ix", engine=ray("plain", address="127.0.0.1:1"))
