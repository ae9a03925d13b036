"""The memory that this process holds, and the most that it has held."""

from __future__ import annotations

import sys
from pathlib import Path


def reset_peak() -> None:
    """Makes :func:`peak_ram` start anew where the system can; elsewhere it stays the peak of the whole process."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def peak_ram() -> int:
    """The most bytes of memory that this process has held; 0 where the system does not say."""
    return _status("VmHWM") or _usage()


def resident_ram() -> int:
    """Bytes of memory that this process holds; its peak where the system says no more."""
    return _status("VmRSS") or _usage()


def _status(name: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)


def _usage() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most if sys.platform == "darwin" else most * 1024)
