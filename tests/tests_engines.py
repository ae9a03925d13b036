"""Encoders that workers of other processes make by name, a corpus for them, and what a test can see of processes."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from unabridged.contracts import Encoded, Passport
from unabridged.encoders.hashing import HashingEncoder

LOG = "UNABRIDGED_TEST_LOG"
"""Where encoders note what they encode: a folder, with a file for each process."""
WINDOW = 32


def items(count: int = 40) -> list[dict[str, object]]:
    """Documents with an empty one, two equal ones far apart and two equal ones that fail."""
    rng = random.Random(7)
    made = []
    for n in range(count):
        size = rng.choice([5, 40, 160])
        made.append({"_id": f"d {n}", "text": " ".join(f"w{rng.randrange(300)}" for _ in range(size))})
    made[11]["text"] = made[30]["text"]
    made[17]["text"] = "POISON " + str(made[17]["text"])
    made[33]["text"] = made[17]["text"]
    made[23]["text"] = ""
    return made


def plain() -> HashingEncoder:
    return HashingEncoder(window=WINDOW, fail_on="POISON")


class Noting(HashingEncoder):
    """Appends the first word of each text to a file of its process, one line a call; takes some time."""

    seconds = 0.0

    def encode_documents(self, texts, **options) -> Encoded:
        if LOG in os.environ:
            with (Path(os.environ[LOG]) / f"{os.getpid()}.log").open("a") as file:
                file.write(f"{len(texts)} {hashlib.sha256(repr(list(texts)).encode()).hexdigest()}\n")
        time.sleep(self.seconds)
        return super().encode_documents(texts, **options)


def noting() -> Noting:
    return Noting(window=WINDOW, fail_on="POISON")


def slow() -> Noting:
    made = noting()
    made.seconds = 0.15
    return made


class Deadly(HashingEncoder):
    """Kills its process at a text with the word DEADLY in it, as a text does that takes all memory."""

    def encode_documents(self, texts, **options) -> Encoded:
        if any("DEADLY" in text for text in texts):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode_documents(texts, **options)


def deadly() -> Deadly:
    return Deadly(window=WINDOW, fail_on="POISON")


class Once(Noting):
    """Kills its process at the third unit, the first two times that this happens to any process."""

    calls = 0

    def encode_documents(self, texts, **options) -> Encoded:
        self.calls += 1
        if self.calls == 4:  # the first is the word with which a worker starts
            for n in range(2):
                try:
                    (Path(os.environ[LOG]) / f"killed-{n}").touch(exist_ok=False)
                except FileExistsError:
                    continue
                os.kill(os.getpid(), signal.SIGKILL)
        return super().encode_documents(texts, **options)


def once() -> Once:
    return Once(window=WINDOW, fail_on="POISON")


def lacking() -> HashingEncoder:
    import a_package_that_is_not_here  # noqa: F401

    return plain()


def other() -> HashingEncoder:
    return HashingEncoder(window=WINDOW + 1)


class Broken(HashingEncoder):
    """Fails on every text but the one with which a worker starts."""

    def encode_documents(self, texts, **options) -> Encoded:
        if list(texts) != ["a text"]:
            raise ValueError("nothing works")
        return super().encode_documents(texts, **options)


def broken() -> Broken:
    return Broken(window=WINDOW)


class Homeless(HashingEncoder):
    """An encoder of a user's own, with another passport kind."""

    @property
    def passport(self) -> Passport:
        return Passport("mine", self.dim, {"kind": "mine"}, "0" * 64)


def noted(folder: Path) -> list[str]:
    """The calls that encoders noted in ``folder``, without the word with which workers start."""
    lines = [line for path in sorted(folder.glob("*.log")) for line in path.read_text().splitlines()]
    start = "1 " + hashlib.sha256(repr(["a text"]).encode()).hexdigest()
    return [line for line in lines if line != start]


def children(parent: int, word: str = "engines.process") -> list[int]:
    """Living processes below ``parent`` whose command has ``word`` in it."""
    found, below = [], {parent}
    table = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
                command = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            except OSError:
                continue
            state, ppid = stat.rpartition(")")[2].split()[:2]
            if state != "Z":
                table[int(entry.name)] = (int(ppid), command)
    while True:
        more = {pid for pid, (ppid, _) in table.items() if ppid in below} - below
        if not more:
            break
        below |= more
    found = [pid for pid in below - {parent} if word in table[pid][1]]
    return sorted(found)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int], seconds: float = 10.0) -> bool:
    """Whether all of these end within some time."""
    until = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(alive, pids))


def files(folder: Path) -> dict[str, bytes]:
    """Every file of an index by name; the list of failed items without its order."""
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    found.pop(".verified", None)  # times and inodes
    failed = found.pop("failed.jsonl", b"")
    return {**found, "failed.jsonl": b"".join(sorted(failed.splitlines(keepends=True)))}


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Waits until ``condition`` holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def stored(folder: Path) -> int:
    """Units in the journal."""
    path = folder / "work" / "journal.jsonl"
    return sum(b'"shard"' not in line for line in path.read_bytes().splitlines()) if path.exists() else 0
