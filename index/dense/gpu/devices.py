"""FAISS's memory and streams on each GPU, once for the whole process, and one user at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Lock, RLock
from typing import Any
from weakref import WeakValueDictionary

from unabridged.index.dense._faiss import load_faiss


@dataclass(slots=True, weakref_slot=True, eq=False)
class Device:
    """One GPU with FAISS's resources there.  They are not safe to share by threads: hold ``lock`` for every call."""

    number: int
    resources: Any
    lock: Any = field(default_factory=RLock)


_DEVICES: WeakValueDictionary[int, Device] = WeakValueDictionary()
_OPENING = Lock()


def device(number: int) -> Device:
    """The device of that number; its first index takes memory for intermediate results, its last one gives it back."""
    with _OPENING:
        found = _DEVICES.get(number)
        if found is None:
            found = _DEVICES[number] = Device(number, load_faiss().StandardGpuResources())
        return found


def held() -> list[int]:
    """The GPUs on which FAISS has its memory already."""
    with _OPENING:
        return sorted(_DEVICES)


@contextmanager
def alone_on(devices: Sequence[Device]) -> Iterator[None]:
    """Holds the locks of all ``devices``, taken in the order of their numbers: no two holders wait for each other."""
    with ExitStack() as stack:
        for one in sorted(devices, key=lambda one: one.number):
            stack.enter_context(one.lock)
        yield
