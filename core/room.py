"""How much memory is free on a device, and giving unused memory back before more is asked for."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from unabridged.memory import give_back

MEMINFO = Path("/proc/meminfo")
ROOT = Path("/sys/fs/cgroup")
GROUP_FILES = {
    "": ("memory.max", "memory.current", "memory.stat"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"),
}
"""Limit, use and details of a control group: by the second version, and by the first, where memory has its own tree."""
GROUPS = tuple(tuple(ROOT / tree / name for name in names) for tree, names in GROUP_FILES.items())
"""Where a container sees its own group: at the root."""
OWN_GROUPS = Path("/proc/self/cgroup")
"""Where this process is told its groups; elsewhere than in a container they lie below the roots (a job of a scheduler,
a service of systemd)."""


def free_bytes(device: str = "cpu") -> int | None:
    """Bytes that can still be allocated on ``device``; None where nobody tells.

    On a GPU what torch holds for later counts as free.  On a CPU it is what the system calls available, or what the
    control group of this process leaves, whichever is less.
    """
    kind, _, _ = device.partition(":")
    if kind == "cpu":
        known = [found for found in (_available(), _left_of_group()) if found is not None]
        return min(known) if known else None
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    if kind == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    if kind == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return None


def release(device: str = "cpu") -> None:
    """Gives back what nobody uses any more on ``device``, as far as that is possible."""
    kind, _, _ = device.partition(":")
    torch = sys.modules.get("torch")
    if kind == "cpu" or torch is None:
        give_back()
        return
    gc.collect()  # a tensor in a cycle of references holds scarce memory there
    if kind == "cuda":
        with torch.cuda.device(device):
            torch.cuda.empty_cache()
    elif kind == "mps":
        torch.mps.empty_cache()


@dataclass(frozen=True, slots=True)
class Peak:
    """A stretch of work on a GPU, whose highest use of memory is asked for afterwards.

    Torch's own record is read and not reset, since it may be somebody else's: a stretch that stays below what was
    recorded before says nothing.
    """

    device: str
    held: int
    record: int

    @classmethod
    def start(cls, device: str) -> Peak | None:
        """From now on; None where torch keeps no record."""
        torch = sys.modules.get("torch")
        if torch is None or not device.startswith("cuda"):
            return None
        return cls(device, torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device))

    def bytes(self) -> int | None:
        """Bytes above what was held at the start, at most; None if the record stands."""
        highest = int(sys.modules["torch"].cuda.max_memory_allocated(self.device))
        return highest - self.held if highest > self.record else None


def _available() -> int | None:
    """What the system can give without swapping."""
    if MEMINFO.is_file():
        for line in MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _left_of_group() -> int | None:
    """What the control group and those above it leave, pages of files that can be dropped included; None: no limit."""
    known = [left for group in (*GROUPS, *_own_groups()) if (left := _left_of(*group)) is not None]
    return min(known) if known else None


def _own_groups() -> Iterator[tuple[Path, ...]]:
    """The files of the groups of this process, and of all groups that these are in."""
    try:
        lines = OWN_GROUPS.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return
    for _, tree, place in (line.split(":", 2) for line in lines if line.count(":") >= 2):
        kind = "memory" if "memory" in tree.split(",") else tree
        parts = PurePosixPath(place).parts[1:]
        if kind in GROUP_FILES and ".." not in parts:
            for length in range(len(parts), 0, -1):
                folder = Path(ROOT, kind, *parts[:length])
                yield tuple(folder / name for name in GROUP_FILES[kind])


def _left_of(limit: Path, used: Path, details: Path) -> int | None:
    try:
        most, now = limit.read_text(encoding="ascii").strip(), int(used.read_text(encoding="ascii"))
        lines = details.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return None
    if not most.isdecimal():
        return None
    stats = dict(line.split() for line in lines if len(line.split()) == 2)
    return max(0, int(most) - now + int(stats.get("total_inactive_file", stats.get("inactive_file", 0))))
