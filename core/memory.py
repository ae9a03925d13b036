"""Memory that a program holds and does not use."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any


@cache
def _trim() -> Any:
    """Glibc's ``malloc_trim``, or None where the C library is another one."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back() -> None:
    """Returns pages that the C allocator keeps for later to the system; does nothing without glibc.

    For the ends of phases whose buffers the next one does not need: what was freed between live objects stays
    resident otherwise, tens of MB after a shard was written or lists were trained.
    """
    trim = _trim()
    if trim is not None:
        trim(0)
