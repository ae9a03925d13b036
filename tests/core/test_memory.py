"""Memory goes back to the system when a phase ends."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from unabridged.memory import give_back


def resident_kb() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_what_was_freed_below_a_living_object_is_given_back() -> None:
    held = [bytearray(b"x") * 60_000 for _ in range(1000)]
    full = resident_kb()
    pin = held.pop()
    held.clear()
    give_back()
    assert full - resident_kb() > 40_000
    assert len(pin) == 60_000


def test_it_may_be_called_anywhere_at_any_time() -> None:
    give_back()
    give_back()
