"""Killed anywhere, run again: the bytes are those of an uninterrupted run, and finished work is not done twice."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

import unabridged as ub
from unabridged.encoders.hashing import HashingEncoder
from unabridged.errors import DiskFull, ManifestMismatch
from unabridged.manifest import load_manifest
from unabridged.retrievers import fill, staging

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked children"),
    pytest.mark.usefixtures("small_units"),
]


def items(count: int = 40) -> list[dict[str, object]]:
    rng = random.Random(7)
    made = []
    for n in range(count):
        size = rng.choice([5, 40, 160])
        made.append({"_id": f"d {n}", "text": " ".join(f"w{rng.randrange(300)}" for _ in range(size))})
    made[11]["text"] = made[30]["text"]
    made[17]["text"] = "POISON " + str(made[17]["text"])
    made[23]["text"] = ""
    return made


def run(folder: Path) -> None:
    ub.build_index(items(), HashingEncoder(window=32, fail_on="POISON"), folder)


def in_child(action: Callable[[], None]) -> int:
    """Runs ``action`` in a forked child and returns the signal or exit code that ended it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            action()
            code = 0
        except Exception:  # noqa: BLE001 - the child must never return into pytest
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def files(folder: Path) -> dict[str, bytes]:
    """Every file by name; the list of failed items without its order, which is that of their discovery."""
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    found.pop(".verified", None)  # times and inodes
    failed = found.pop("failed.jsonl", b"")
    return {**found, "failed.jsonl": b"".join(sorted(failed.splitlines(keepends=True)))}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole") / "ix"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fill, "UNIT_CHARACTERS", 1500)
        patch.setattr(staging, "SHARD_DOCUMENTS", 9)
        run(folder)
    return files(folder)


def dying_at(name: str, number: int, action: Callable[[], None]) -> Callable[[], None]:
    """``action``, killed at the ``number``-th call of a function of ``os`` or ``Path`` that makes things durable."""

    def act() -> None:
        owner = os if name == "fsync" else Path
        real = getattr(owner, name)
        calls = [0]

        def counted(*arguments, **options):
            calls[0] += 1
            if calls[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        setattr(owner, name, counted)
        action()

    return act


@pytest.mark.parametrize("name", ["fsync", "rename", "replace"])
def test_a_kill_at_any_durable_step_leaves_a_build_that_continues_to_the_same_bytes(name, tmp_path, uninterrupted):
    number, killed, step = 1, 0, 23 if name == "fsync" else 1
    while True:
        folder = tmp_path / str(number)
        ended = in_child(dying_at(name, number, lambda folder=folder: run(folder)))
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        killed += 1
        assert in_child(lambda folder=folder: run(folder)) == 0
        assert files(folder) == uninterrupted
        number += step
    assert killed >= 3


def random_kills(folder: Path, kills: int, seed: int) -> int:
    """SIGKILLs builds of ``folder`` after random times until ``kills`` hit a living child; returns how many did."""
    rng = random.Random(seed)
    hits = 0
    while hits < kills:
        child = os.fork()
        if child == 0:
            try:
                run(folder)
            finally:
                os._exit(0)
        time.sleep(rng.uniform(0.0, 0.12))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        hits += os.WIFSIGNALED(status)
        if not os.WIFSIGNALED(status):
            break
    return hits


def test_random_kills_in_a_row_end_in_the_same_bytes(tmp_path, uninterrupted):
    total = 0
    for seed in range(4):
        folder = tmp_path / str(seed)
        total += random_kills(folder, 5, seed)
        run(folder)
        assert files(folder) == uninterrupted
    assert total >= 4


@pytest.mark.slow
def test_fifty_random_kills_end_in_the_same_bytes(tmp_path, uninterrupted):
    total = seed = 0
    while total < 50:
        folder = tmp_path / str(seed)
        total += random_kills(folder, 10, 100 + seed)
        run(folder)
        assert files(folder) == uninterrupted
        seed += 1
    sys.stdout.write(f"{total} kills, {seed} builds, all manifests equal\n")


def test_work_that_was_finished_before_the_kill_is_not_encoded_again(tmp_path):
    folder = tmp_path / "ix"
    assert in_child(dying_at("fsync", 200, lambda: run(folder))) == -signal.SIGKILL
    journal = (folder / "work/journal.jsonl").read_text().splitlines()
    entries = [json.loads(line[9:]) for line in journal]
    done = sum(entry["documents"] for entry in entries if "shard" in entry)
    last = entries[-1]
    done += 0 if "shard" in last else last["documents"]
    assert done > 5
    seen: list[str] = []

    class Watching(HashingEncoder):
        def encode_documents(self, texts, **options):
            seen.extend(texts)
            return super().encode_documents(texts, **options)

    ub.build_index(items(), Watching(window=32, fail_on="POISON"), folder)
    assert len(set(seen)) <= len(items()) - 2 - done + 1


def test_a_corpus_that_changed_between_kill_and_restart_ends_like_a_fresh_build_of_the_new_one(tmp_path):
    folder = tmp_path / "ix"
    assert in_child(dying_at("fsync", 180, lambda: run(folder))) == -signal.SIGKILL
    changed = [dict(item) for item in items() if item["_id"] not in ("d 2", "d 17")]
    changed[0]["text"] = "entirely new words"
    encoder = HashingEncoder(window=32)
    index = ub.build_index(changed, HashingEncoder(window=32, fail_on="POISON"), folder)
    assert {line.doc_id for line in index.ledger()} == {str(i["_id"]) for i in changed}
    fresh = ub.build_index(changed, encoder, tmp_path / "fresh")
    for query in ("w1 w2 w3", "entirely new"):
        a = {(h.doc_id, round(h.score, 5)) for h in index.search_one(query, k=50, mode="bm25")}
        assert a == {(h.doc_id, round(h.score, 5)) for h in fresh.search_one(query, k=50, mode="bm25")}


def test_an_interrupted_build_is_no_index_and_says_how_to_go_on(tmp_path):
    folder = tmp_path / "ix"
    assert in_child(dying_at("fsync", 100, lambda: run(folder))) == -signal.SIGKILL
    with pytest.raises(ManifestMismatch, match="continues"):
        ub.open_index(folder)


def test_a_kill_during_an_update_leaves_the_old_index_searchable(tmp_path):
    folder = tmp_path / "ix"
    run(folder)
    old = load_manifest(folder)

    def update() -> None:
        more = [*items(), {"_id": "later", "text": "a later document " * 50}]
        ub.build_index(more, HashingEncoder(window=32, fail_on="POISON"), folder, delete_missing=True)

    for number in (3, 15, 30, 45):
        in_child(dying_at("fsync", number, update))
        assert load_manifest(folder)["generation"] in (old["generation"], old["generation"] + 1)
        assert len(ub.open_index(folder, verify=True).search_one("w1 w2")) > 0
    update()
    assert ub.open_index(folder).search_one("later document", mode="bm25")[0].doc_id == "later"


def test_a_full_disk_stops_with_a_typed_error_and_the_work_continues_later(tmp_path, monkeypatch, uninterrupted):
    folder = tmp_path / "ix"
    real = os.fsync
    calls = [0]

    def full(descriptor: int) -> None:
        calls[0] += 1
        if calls[0] > 150:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match="same command"):
        run(folder)
    monkeypatch.setattr(os, "fsync", real)
    run(folder)
    assert files(folder) == uninterrupted


def test_an_interrupt_keeps_finished_units(tmp_path, uninterrupted):
    folder = tmp_path / "ix"
    calls = [0]

    class Interrupted(HashingEncoder):
        def encode_documents(self, texts, **options):
            calls[0] += 1
            if calls[0] == 6:
                raise KeyboardInterrupt
            return super().encode_documents(texts, **options)

    with pytest.raises(KeyboardInterrupt):
        ub.build_index(items(), Interrupted(window=32, fail_on="POISON"), folder)
    run(folder)
    assert files(folder) == uninterrupted


@pytest.mark.parametrize("delete_missing", [False, True])
def test_an_update_killed_anywhere_ends_in_the_bytes_of_one_that_was_not(tmp_path, delete_missing):
    changed = [{**item, "text": f"{item['text']} and more"} if n % 2 else item for n, item in enumerate(items())][:35]

    def update(folder: Path) -> None:
        encoder = HashingEncoder(window=32, fail_on="POISON")
        ub.build_index(changed, encoder, folder, delete_missing=delete_missing)

    whole = tmp_path / "whole"
    run(whole)
    update(whole)
    expected = files(whole)
    number = 4
    while True:
        folder = tmp_path / str(number)
        run(folder)
        if in_child(dying_at("fsync", number, lambda folder=folder: update(folder))) == 0:
            break
        update(folder)
        assert files(folder) == expected
        number += 31
    assert number > 4


def test_a_text_that_was_mended_between_kill_and_restart_is_tried_again(tmp_path):
    folder = tmp_path / "ix"
    assert in_child(dying_at("fsync", 180, lambda: run(folder))) == -signal.SIGKILL
    mended = items()
    mended[17]["text"] = "no poison any more".replace("poison", "harm")
    index = ub.build_index(mended, HashingEncoder(window=32, fail_on="POISON"), folder)
    assert "d 17" in {line.doc_id for line in index.ledger()}
    assert (index.report["failed_reasons"], index.report["empty"]) == ({}, 1)
